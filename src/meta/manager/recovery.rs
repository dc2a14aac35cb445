//! How a meta role comes to its state: a new cluster, or checkpoint and deltas of an old one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::recent_keys::RecentKeys;
use super::recent_moves::RecentMoves;
use super::writer::Writer;
use super::{Manager, Published, QUEUE_LENGTH, Request};
use crate::backup::{BackupError, Manifest, OpenLocation};
use crate::catalog::{CatalogChange, PUBLIC, Schema};
use crate::epoch::{Clock, Epoch, Lifetime, Timeline};
use crate::hummock::HummockError;
use crate::hummock::checkpoint::{self, Checkpoint};
use crate::hummock::lease::{KnownLocation, Lease, LeaseError, LeaseKeeper, Reserved, Tenure};
use crate::hummock::version::{Version, VersionDelta};
use crate::id::{ObjectId, VersionId};
use crate::meta::keys;
use crate::meta::state::{NextIds, State, StateError, decode_value, json_pair, put};
use crate::meta::store::{MetaStore, Operation, Pair, Precondition, StoreError, Txn};
use crate::params::{self, Params};
use crate::storage::{Capability, Storage, StorageError, StorageLocation};
use crate::storage_url::{self, StorageUrl, StorageUrlError};

/// What a cluster that does not exist yet starts with, and how any is opened.
#[derive(Clone, Debug)]
pub struct NewCluster {
    pub params: Params,
    /// Whether a store will do that does not honour conditional writes.
    pub allow_unfenced: bool,
    /// What [`MetaStore::lead`] returned.
    pub leader: u64,
}

impl NewCluster {
    pub fn new(params: Params) -> Self {
        Self { params, allow_unfenced: false, leader: 0 }
    }
}

/// Why the meta role did not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Hummock(#[from] HummockError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Url(#[from] StorageUrlError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the meta store {store} belongs to {name} {kept}, but {given} was asked for")]
    OtherPlace { store: String, name: &'static str, kept: String, given: String },
}

impl OpenError {
    /// A way out, if there is one to tell.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Lease(error) => error.hint(),
            Self::Backup(BackupError::OtherCluster { .. }) => Some(
                "Restore one of them with risectl meta restore-meta, or start with another \
                 --backup-storage-directory."
                    .to_owned(),
            ),
            Self::Backup(error) => error.hint(),
            Self::OtherPlace { name, .. } => Some(format!(
                "Start with the {name} the meta store was made for, or with another meta store."
            )),
            Self::Store(error) => error.hint(),
            Self::Storage(error) | Self::Hummock(HummockError::Storage(error)) => error.hint(),
            Self::State(StateError::Format { .. }) => {
                Some("Use a build that is at least as new as the one that wrote it.".to_owned())
            }
            _ => None,
        }
    }
}

/// Opens the cluster that `store` holds, or makes a new one there.
pub async fn open(
    store: Arc<dyn MetaStore>,
    new: NewCluster,
    clock: Arc<dyn Clock>,
) -> Result<Manager, OpenError> {
    let pairs = store.list("").await?;
    let params =
        if pairs.is_empty() { new.params.clone() } else { kept_params(&pairs, &*store, &new)? };
    let url = StorageUrl::parse(storage_url::without_hummock(params.value(params::STATE_STORE)))?;
    let state_store = Storage::open(&url)?;
    let data_directory = params.value(params::DATA_DIRECTORY).to_owned();
    if url.is_far() {
        prove(&state_store, &data_directory, new.allow_unfenced).await?;
    }
    let (state, mut lease, checkpointed) = if pairs.is_empty() {
        create(&*store, &state_store, &data_directory, params, &*clock, new.leader).await?
    } else {
        recover(&*store, &pairs, &state_store, &data_directory, new.leader).await?
    };
    let location = state.params.backup_location();
    lease.note_backup_location(KnownLocation { location, manifest_id: 0 }).await?;
    let published = Arc::new(Published::new(Arc::clone(&state)));
    let (requests, queue) = mpsc::channel::<Request>(QUEUE_LENGTH);
    let timeline = Arc::new(Timeline::starting_after(clock, state.newest_epoch()));
    let lease = Arc::new(LeaseKeeper::new(lease, Arc::clone(&timeline)));
    tokio::spawn(Manager::watch_lease(Arc::clone(&lease), requests.downgrade()));
    let writer = Writer {
        store,
        state_store: state_store.clone(),
        data_directory,
        lease: Arc::clone(&lease),
        recent_keys: RecentKeys::since(state.version.max_committed_epoch),
        recent_moves: RecentMoves::default(),
        timeline: Arc::clone(&timeline),
        state,
        published: Arc::clone(&published),
        checkpointed,
        checkpoint_running: false,
        halted: None,
        requests: requests.downgrade(),
    };
    let watched = Arc::clone(&published);
    tokio::spawn(async move {
        if AssertUnwindSafe(writer.run(queue)).catch_unwind().await.is_err() {
            error!("the task that commits failed; no more writes");
            watched.give_up();
        }
    });
    Ok(Manager { requests, published, timeline, state_store, lease })
}

/// Makes sure that the store can do what is needed of it. One that does not honour conditional writes lets
/// two clusters take one directory.
async fn prove(
    storage: &Storage,
    directory: &str,
    allow_unfenced: bool,
) -> Result<(), StorageError> {
    for probed in storage.probe_each(directory).await? {
        match probed.outcome {
            Err(error) if allow_unfenced && is_fence(&error) => {
                warn!(%error, "nothing keeps a second cluster from this data directory");
            }
            outcome => outcome?,
        }
    }
    Ok(())
}

fn is_fence(error: &StorageError) -> bool {
    let fences = [Capability::ConditionalCreate, Capability::ConditionalReplace];
    matches!(error, StorageError::NotHonoured { capability, .. } if fences.contains(capability))
}

/// The parameters the store holds, which must not contradict what was asked for.
fn kept_params(
    pairs: &[Pair],
    store: &dyn MetaStore,
    new: &NewCluster,
) -> Result<Params, OpenError> {
    let mut kept = Params::default();
    for pair in pairs {
        if let Some(name) = pair.key.strip_prefix(keys::PARAM_PREFIX) {
            kept.set(name, &decode_value::<String>(pair)?);
        }
    }
    // Credentials may have been changed since; those that were given are used.
    let given = new.params.value(params::STATE_STORE);
    if storage_url::is_same_place(kept.value(params::STATE_STORE), given) {
        kept.set(params::STATE_STORE, given);
    }
    for name in [params::STATE_STORE, params::DATA_DIRECTORY] {
        if kept.value(name) != new.params.value(name) {
            return Err(OpenError::OtherPlace {
                store: store.name().to_owned(),
                name,
                kept: kept.shown(name),
                given: new.params.shown(name),
            });
        }
    }
    Ok(kept)
}

/// Refuses a place of snapshots where another cluster has some.
async fn check_no_snapshots(location: &StorageLocation) -> Result<(), OpenError> {
    // A place that is not there yet, or does not answer, is no reason not to begin.
    let Ok(opened) = OpenLocation::open_existing(location) else { return Ok(()) };
    match Manifest::find(&opened).await {
        Ok(None) => Ok(()),
        // No cluster has the id of one that is yet to be made.
        Ok(Some(manifest)) => Ok(manifest.accepts(&opened, "")?),
        Err(BackupError::Storage(error)) => {
            warn!(%error, "could not look whether another cluster has its meta snapshots there");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn create(
    store: &dyn MetaStore,
    state_store: &Storage,
    data_directory: &str,
    params: Params,
    clock: &dyn Clock,
    leader: u64,
) -> Result<(Arc<State>, Tenure, VersionId), OpenError> {
    let cluster_id = uuid::Uuid::new_v4().to_string();
    Lease::check_free(state_store, data_directory).await?;
    check_no_snapshots(&params.backup_location()).await?;
    let epoch = Epoch::ZERO.next(clock.now_ms());
    let mut state = State::new(cluster_id, params, epoch);
    let public =
        Schema { id: state.next.object, name: PUBLIC.to_owned(), lifetime: Lifetime::since(epoch) };
    state.next.object = ObjectId(public.id.0 + 1);
    state.catalog = Arc::new(state.catalog.apply(&CatalogChange::CreateSchema(public), epoch));
    let checkpoint = checkpoint::write(state_store, data_directory, &state.version).await?;
    let mut pairs = state.encode_without_version();
    pairs.push(json_pair(keys::VERSION_CHECKPOINT.to_owned(), &checkpoint));
    store.fill(pairs).await?;
    // Last, so that a crash before leaves no directory that belongs to a cluster nobody has.
    let (id, life) = (&state.cluster_id, &state.incarnation);
    let lease = Lease::take(state_store, data_directory, id, life, leader).await?;
    info!(cluster = %state.cluster_id, "new cluster");
    let version = state.version.id;
    Ok((Arc::new(state), Tenure::Taken(lease), version))
}

async fn recover(
    store: &dyn MetaStore,
    pairs: &[Pair],
    state_store: &Storage,
    data_directory: &str,
    leader: u64,
) -> Result<(Arc<State>, Tenure, VersionId), OpenError> {
    let pointer = pairs.iter().find(|pair| pair.key == keys::VERSION_CHECKPOINT);
    let pointer = pointer.ok_or(StateError::Missing(keys::VERSION_CHECKPOINT))?;
    let checkpoint: Checkpoint = decode_value(pointer)?;
    // The rest of the state first: its format number says whether this build may read on.
    let state = State::decode(pairs, Version::empty(Epoch::ZERO))?;
    let mut version = checkpoint::read(state_store, &checkpoint).await?;
    for pair in pairs.iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX)) {
        let delta: VersionDelta = decode_value(pair)?;
        if delta.prev_id != version.id {
            return Err(HummockError::Corrupt(format!(
                "delta {} follows version {}, but version {} was reached",
                delta.id, delta.prev_id, version.id
            ))
            .into());
        }
        version = version.apply(&delta);
    }
    version.check()?;
    let state = State { version: Arc::new(version), ..state };
    let (id, life) = (&state.cluster_id, &state.incarnation);
    let lease = Tenure::begin(state_store, data_directory, id, life, leader).await?;
    let (state, checkpoint) =
        above(lease.begun_at(), state, checkpoint, store, pairs, state_store, data_directory)
            .await?;
    info!(cluster = %state.cluster_id, version = %state.version.id, "recovered");
    Ok((Arc::new(state), lease, checkpoint.version_id))
}

/// The state of a restored cluster, moved above every number that the life before it may have used. That
/// one may have gone on after the restore was planned. Nothing is to do but at the first start; should
/// that one fail half way, at the next.
async fn above(
    reserved: Reserved,
    state: State,
    checkpoint: Checkpoint,
    store: &dyn MetaStore,
    pairs: &[Pair],
    state_store: &Storage,
    data_directory: &str,
) -> Result<(State, Checkpoint), OpenError> {
    let next = NextIds {
        object: state.next.object.max(reserved.object),
        sst: state.next.sst.max(reserved.sst),
        snapshot: state.next.snapshot.max(reserved.snapshot),
    };
    let mut version = Version::clone(&state.version);
    version.id = version.id.max(reserved.version);
    let epoch_floor = state.epoch_floor.max(reserved.epoch);
    let is_above = next == state.next && version.id == state.version.id;
    if is_above && epoch_floor == state.epoch_floor {
        return Ok((state, checkpoint));
    }
    let checkpoint = checkpoint::write(state_store, data_directory, &version).await?;
    let revision = json_pair(keys::REVISION.to_owned(), &state.revision);
    let deltas = pairs.iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX));
    let mut operations: Vec<Operation> =
        deltas.map(|pair| Operation::Delete { key: pair.key.clone() }).collect();
    operations.extend([
        put(json_pair(keys::REVISION.to_owned(), &(state.revision + 1))),
        put(json_pair(keys::NEXT_IDS.to_owned(), &next)),
        put(json_pair(keys::EPOCH_FLOOR.to_owned(), &epoch_floor)),
        put(json_pair(keys::VERSION_CHECKPOINT.to_owned(), &checkpoint)),
    ]);
    let same = Precondition::Equals { key: revision.key, value: revision.value };
    store.commit(Txn { preconditions: vec![same], operations }).await?;
    let (version, revision) = (Arc::new(version), state.revision + 1);
    Ok((State { next, version, epoch_floor, revision, ..state }, checkpoint))
}
