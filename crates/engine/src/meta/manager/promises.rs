//! Compares what recovery finds with what was promised elsewhere: in the lease, in the head file next
//! to the store, by checkpoints and by meta snapshots.
//!
//! A meta store that is intact may still be an old one: a copy that was put back, or a journal that
//! SQLite cut at a damaged frame. A server started on it would serve outdated data, and write on. So a
//! store that ends before any of these promises is refused until the operator accepts the loss.

use std::fmt;
use std::time::Duration;

use tracing::debug;

use tidemark_ledger::backup::{Manifest, ManifestEntry, OpenLocation};
use tidemark_ledger::epoch::{Epoch, rfc3339};
use tidemark_ledger::id::{SnapshotId, VersionId};
use tidemark_ledger::lease::{LeaseRecord, Promised};
use tidemark_ledger::meta_store::MetaStore;
use tidemark_ledger::state::State;
use tidemark_ledger::storage::{Storage, StorageLocation, within};
use tidemark_ledger::{checkpoint, layout};

/// Timeout for reading checkpoints and for reading snapshots.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of checkpoints that are read, newest first.
const CHECKPOINTS_MAX: usize = 3;

/// How far the metadata has been, according to one source.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    by: String,
    end: Promised,
}

/// A meta snapshot that can be restored.
#[derive(Clone, Copy, Debug)]
pub struct Restorable {
    id: SnapshotId,
    epoch: Epoch,
}

/// The meta store lacks acknowledged commits.
#[derive(Clone, Debug)]
pub struct Lost {
    pub store: String,
    /// Where the store ends.
    pub found: Promised,
    /// How far it has been, as far as is known.
    pub promised: Promised,
    /// The sources that say so.
    pub by: String,
    pub restorable: Option<Restorable>,
    /// The epoch after which the operator accepted a loss, if the store does not end there.
    pub accepted: Option<Epoch>,
}

impl std::error::Error for Lost {}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, found, promised, by, .. } = self;
        write!(
            f,
            "the meta store {store} lacks acknowledged commits: it ends at {}, but by {by} it was at {}",
            shown(*found),
            shown(*promised)
        )
    }
}

impl Lost {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        let other = self.accepted.map(|accepted| {
            format!("The store does not end at epoch {accepted}, after which a loss was accepted. ")
        });
        format!(
            "{}Put the newest copy of the meta store in place, or {}, or start with \
             --accept-loss-after-epoch {} to go on without what is missing, for ever.",
            other.unwrap_or_default(),
            way_back(self.restorable),
            self.found.epoch
        )
    }
}

/// How to restore, as a part of a sentence.
pub(super) fn way_back(restorable: Option<Restorable>) -> String {
    let which = match restorable {
        Some(Restorable { id, epoch }) => {
            let time = rfc3339(epoch.unix_ms());
            format!("meta snapshot {id}, which ends at epoch {epoch} ({time}),")
        }
        None => "a meta snapshot".to_owned(),
    };
    format!("restore {which} into an empty meta store with risectl meta restore-meta")
}

fn shown(end: Promised) -> String {
    let Promised { revision, epoch } = end;
    let time = rfc3339(epoch.unix_ms());
    match revision {
        0 => format!("epoch {epoch} ({time})"),
        _ => format!("epoch {epoch} ({time}), revision {revision}"),
    }
}

/// What the metadata lacks, if anything. `held` is the lease, if it belongs to this life.
pub(super) async fn lost(
    state: &State,
    store: &dyn MetaStore,
    held: Option<&LeaseRecord>,
    state_store: &Storage,
    data_directory: &str,
) -> Option<Lost> {
    let location = state.params.backup_location();
    let listed = listed_in(&location, Some(state.cluster_id.as_str())).await;
    let mut words = vec![];
    words.extend(held.and_then(|held| of_lease(held, data_directory)));
    words.extend(of_head(state, store));
    words.extend(of_snapshots(state, &listed));
    // Numbers of earlier lives are below where this one began, which only the lease knows.
    if let Some(held) = held {
        let begun = held.begun_at.version;
        words.extend(of_checkpoints(state, begun, state_store, data_directory).await);
    }
    let found = state.end();
    words.retain(|word| !word.end.is_kept_by(found));
    let promised = words.iter().map(|word| word.end).reduce(Promised::max)?;
    let by: Vec<_> = words.into_iter().map(|word| word.by).collect();
    Some(Lost {
        store: store.name().to_owned(),
        found,
        promised,
        by: by.join(" and "),
        restorable: newest(&listed),
        accepted: None,
    })
}

/// The newest meta snapshot in a backup location: of this cluster, or of any.
pub(super) async fn restorable_in(
    location: &StorageLocation,
    cluster_id: Option<&str>,
) -> Option<Restorable> {
    newest(&listed_in(location, cluster_id).await)
}

fn newest(listed: &[ManifestEntry]) -> Option<Restorable> {
    let newest = listed.iter().max_by_key(|entry| entry.info.max_committed_epoch)?;
    Some(Restorable { id: newest.info.id, epoch: newest.info.max_committed_epoch })
}

fn of_lease(held: &LeaseRecord, data_directory: &str) -> Option<Promise> {
    Some(Promise { by: layout::lease(data_directory).to_string(), end: held.promised? })
}

fn of_head(state: &State, store: &dyn MetaStore) -> Option<Promise> {
    let head = store.remembered().filter(|head| head.life == state.life())?;
    Some(Promise { by: "its head file".to_owned(), end: head.end })
}

/// A snapshot of this life covers only commits that were durable.
fn of_snapshots(state: &State, listed: &[ManifestEntry]) -> Option<Promise> {
    let own = listed.iter().filter(|entry| entry.info.life == state.incarnation.id);
    let newest = own.max_by_key(|entry| entry.info.max_committed_epoch)?;
    let end = Promised { revision: 0, epoch: newest.info.max_committed_epoch };
    Some(Promise { by: format!("meta snapshot {}", newest.info.id), end })
}

/// A checkpoint covers only durable commits, too. One with a later number may also come from a restore
/// on which no server started; it ends earlier.
async fn of_checkpoints(
    state: &State,
    begun: VersionId,
    storage: &Storage,
    data_directory: &str,
) -> Option<Promise> {
    let later =
        within(PATIENCE, later_checkpoints(state, begun, storage, data_directory)).await??;
    for (_, path) in later.into_iter().take(CHECKPOINTS_MAX) {
        let read = within(PATIENCE, checkpoint::read_unproven(storage, &path)).await?;
        match read {
            Ok(version) => {
                let end = Promised { revision: 0, epoch: version.max_committed_epoch };
                return Some(Promise { by: format!("checkpoint {path}"), end });
            }
            Err(error) => debug!(%error, %path, "a checkpoint says nothing"),
        }
    }
    None
}

/// Checkpoints after the state's version, newest first; `None` if they cannot be listed.
async fn later_checkpoints(
    state: &State,
    begun: VersionId,
    storage: &Storage,
    data_directory: &str,
) -> Option<Vec<(VersionId, object_store::path::Path)>> {
    let listed = storage.list(&layout::checkpoints(data_directory)).await;
    let listed = listed.inspect_err(|error| debug!(%error, "checkpoints are not listed")).ok()?;
    let numbered = listed.into_iter().filter_map(|object| {
        let version = layout::parse_checkpoint(data_directory, &object.location)?;
        Some((version, object.location))
    });
    let mut later: Vec<_> =
        numbered.filter(|(version, _)| *version > state.version.id && *version >= begun).collect();
    later.sort_by(|a, b| b.cmp(a));
    Some(later)
}

/// The snapshots in a location, of this cluster or of any; none if they cannot be read.
async fn listed_in(location: &StorageLocation, cluster_id: Option<&str>) -> Vec<ManifestEntry> {
    let Ok(opened) = OpenLocation::open_existing(location) else { return vec![] };
    match within(PATIENCE, Manifest::find(&opened)).await {
        Some(Ok(Some(manifest)))
            if cluster_id.is_none_or(|id| manifest.accepts(&opened, id).is_ok()) =>
        {
            manifest.snapshot_metadata
        }
        found => {
            debug!(?found, %location, "no meta snapshots to compare with");
            vec![]
        }
    }
}
