//! Repairing a data file that is damaged or gone, from a copy that a backup has.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::MetaNode;
use tidemark_ledger::backup::OpenLocation;
use tidemark_ledger::id::SstId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst::SstInfo;
use tidemark_ledger::storage::{Storage, StorageError};
use tidemark_ledger::{layout, params};

/// What came of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// The object, by its whole name.
    pub object: String,
    /// The copy it was made from; none where nothing was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
}

impl MetaNode {
    /// Puts a copy that is as it was written in the place of a data file that is not.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when no backup has such a copy. Then nothing has changed.
    pub async fn repair_object(&self, sst: SstId) -> Result<Repaired, MetaError> {
        // Nothing deletes the file or the copies meanwhile.
        let _job = self.job.lock().await;
        let state = self.manager.state();
        let file = state.version.find(sst).filter(|file| file.sst.is_object());
        let file = file.ok_or_else(|| unknown(sst))?;
        let storage = self.manager.state_store();
        let path = layout::sst(state.params.value(params::DATA_DIRECTORY), sst);
        let object = storage.name_of(&path);
        if is_whole(storage, &path, &file.sst).await? {
            return Ok(Repaired { object, copy: None });
        }
        let mut looked_at = vec![];
        for copies in self.copies().await? {
            let from = layout::sst(&copies.directory, sst);
            let copy = copies.storage.name_of(&from);
            self.manager.standing().await?;
            let expected = file.sst.expected();
            match copies.storage.copy_over(&from, storage, &path, expected).await {
                Ok(()) => {
                    info!(%object, %copy, "a data file was repaired");
                    return Ok(Repaired { object, copy: Some(copy) });
                }
                Err(StorageError::NotFound { .. }) => {}
                Err(error) => {
                    warn!(%error, %copy, "a copy of a data file is of no use");
                    looked_at.push(copy);
                }
            }
        }
        Err(no_good_copy(&object, &looked_at))
    }

    /// Every place where snapshots have copies of data files. A backup location that cannot be read has none
    /// to offer.
    async fn copies(&self) -> Result<Vec<OpenLocation>, MetaError> {
        let mut places = vec![];
        for location in self.locations().await? {
            match self.listed_in(&location).await {
                Ok((opened, listed)) => {
                    let with_copies = listed.iter().filter(|entry| entry.info.copy_data);
                    let lives: BTreeSet<&str> =
                        with_copies.map(|entry| entry.info.life.as_str()).collect();
                    places.extend(lives.into_iter().map(|life| opened.copies(life)));
                }
                Err(error) => warn!(%error, %location, "no copies are looked for there"),
            }
        }
        Ok(places)
    }
}

/// Whether the object is there, as it was written.
async fn is_whole(
    storage: &Storage,
    path: &object_store::path::Path,
    sst: &SstInfo,
) -> Result<bool, MetaError> {
    match storage.is_whole(path, sst.expected()).await {
        Ok(whole) => Ok(whole),
        Err(StorageError::NotFound { .. }) => Ok(false),
        Err(error) => Err(MetaError::storage(&error)),
    }
}

fn unknown(sst: SstId) -> MetaError {
    let message = format!("there is no data file {sst} in the newest version");
    MetaError::new(ErrorKind::UndefinedRelation, message)
        .hint("rw_catalog.rw_hummock_sstables lists the data files.")
}

fn no_good_copy(object: &str, looked_at: &[String]) -> MetaError {
    let message = format!("{object} is damaged or gone, and no backup has a good copy of it");
    let error = MetaError::new(ErrorKind::Damaged, message).hint(
        "Put the file back from a copy of the store, and run this again to prove it; or restore a meta \
         snapshot, or write the table anew. BACKUP WITH (copy_data = true) makes copies.",
    );
    match looked_at {
        [] => error,
        some => error.detail(format!("Damaged copies: {}.", some.join(", "))),
    }
}
