//! Repairs a damaged or missing data file from a copy in a backup.

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

/// The result of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// The full name of the object.
    pub object: String,
    /// The copy it was made from; `None` if nothing was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
}

impl MetaNode {
    /// Replaces a damaged or missing data file with an intact copy.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if no backup has such a copy. Then nothing has changed.
    pub async fn repair_object(&self, sst: SstId) -> Result<Repaired, MetaError> {
        // Nothing else deletes the file or its copies meanwhile.
        let _job = self.job.lock().await;
        let state = self.manager.state();
        // What is in the file is the same in each table that has it.
        let file = state.version.entries_of(sst).find(|file| file.sst.is_object());
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

    /// Every location where snapshots have copies of data files. A backup location that cannot be read
    /// is skipped.
    async fn copies(&self) -> Result<Vec<OpenLocation>, MetaError> {
        let mut locations = vec![];
        for location in self.locations().await? {
            match self.listed_in(&location).await {
                Ok((opened, listed)) => {
                    let with_copies =
                        listed.snapshot_metadata.iter().filter(|entry| entry.info.copy_data);
                    let lives: BTreeSet<&str> =
                        with_copies.map(|entry| entry.info.life.as_str()).collect();
                    locations.extend(lives.into_iter().map(|life| opened.copies(life)));
                }
                Err(error) => warn!(%error, %location, "no copies are looked for there"),
            }
        }
        Ok(locations)
    }
}

/// Whether the object exists and is as it was written.
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
