//! How a meta role gets its state: creates a new cluster, or recovers one from its checkpoint and deltas.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use object_store::path::Path;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::promises::{self, Lost, Restorable};
use super::recent_keys::RecentKeys;
use super::recent_moves::RecentMoves;
use super::writer::Writer;
use super::{Manager, Published, QUEUE_LENGTH, Request};
use tidemark_ledger::backup::listing::Listing;
use tidemark_ledger::backup::{BackupError, Manifest, OpenLocation};
use tidemark_ledger::catalog::{CatalogChange, PUBLIC, Schema};
use tidemark_ledger::checkpoint::{self, Checkpoint};
use tidemark_ledger::epoch::{Clock, Epoch, Lifetime, Timeline, rfc3339};
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::{ObjectId, VersionId};
use tidemark_ledger::lease::{
    self, KnownLocation, Lease, LeaseError, LeaseKeeper, LeaseRecord, Reserved, Tenure,
};
use tidemark_ledger::meta_store::{
    Head, MetaStore, Operation, Pair, Precondition, StoreError, Txn,
};
use tidemark_ledger::params::{self, Params};
use tidemark_ledger::state::seal::{self, Seal};
use tidemark_ledger::state::{
    AcceptedLoss, NextIds, State, StateError, decode_value, json_pair, put,
};
use tidemark_ledger::storage::{Capability, Storage, StorageError, StorageLocation};
use tidemark_ledger::storage_url::{self, StorageUrl, StorageUrlError};
use tidemark_ledger::version::{Version, VersionDelta};
use tidemark_ledger::{ambient, keys, layout};

/// The parameters of a cluster to be created, and the options for opening any.
#[derive(Clone, Debug)]
pub struct NewCluster {
    pub params: Params,
    /// Whether to accept a store that does not honour conditional writes.
    pub allow_unfenced: bool,
    /// What [`MetaStore::lead`] returned.
    pub leader: u64,
    /// Accepts the loss of missing acknowledged commits, if the store ends at this epoch.
    pub accept_loss_after: Option<Epoch>,
}

impl NewCluster {
    pub fn new(params: Params) -> Self {
        Self { params, allow_unfenced: false, leader: 0, accept_loss_after: None }
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
    #[error("the meta store {store} is damaged")]
    Damaged {
        store: String,
        restorable: Option<Restorable>,
        #[source]
        source: Box<OpenError>,
    },
    #[error("the checkpoint that the start needs is damaged or gone")]
    Checkpoint {
        name: String,
        restorable: Option<Restorable>,
        #[source]
        source: Box<HummockError>,
    },
    /// Only the data directory of the cluster is left.
    #[error(
        "the meta store {store} is empty, but the data directory belongs to cluster \"{cluster_id}\", as \
         {lease} says"
    )]
    EmptyStore { store: String, cluster_id: String, lease: String, restorable: Option<Restorable> },
    #[error(transparent)]
    Lost(#[from] Box<Lost>),
    #[error("the meta store {store} belongs to {name} {kept}, but {given} was asked for")]
    LocationMismatch { store: String, name: &'static str, kept: String, given: String },
}

impl OpenError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Lease(error) => error.hint(),
            Self::Backup(BackupError::OtherCluster { .. }) => Some(
                "Restore one of them with risectl meta restore-meta, or start with another \
                 --backup-storage-directory."
                    .to_owned(),
            ),
            Self::Backup(error) => error.hint(),
            Self::LocationMismatch { name, .. } => Some(format!(
                "Start with the {name} the meta store was made for, or with another meta store."
            )),
            Self::Lost(lost) => Some(lost.hint()),
            Self::Damaged { restorable, .. } => Some(format!(
                "Put a good copy of the meta store in place, or {}.",
                promises::way_back(*restorable)
            )),
            Self::Checkpoint { name, restorable, .. } => Some(format!(
                "The meta store is not damaged. See whether the storage is the right one, and mounted; put a \
                 good copy of {name} in its place; or {}, and lose what was committed later. No older \
                 checkpoint will do: the changes since are not kept.",
                promises::way_back(*restorable)
            )),
            Self::EmptyStore { restorable, .. } => Some(format!(
                "If this is that cluster, its meta store is lost, or is elsewhere: put it back, or {}. For \
                 a new cluster choose another data directory.",
                promises::way_back(*restorable)
            )),
            Self::Store(error) => error.hint(),
            Self::Storage(error) | Self::Hummock(HummockError::Storage(error)) => error.hint(),
            Self::State(StateError::Format { .. }) => {
                Some("Use a build that is at least as new as the one that wrote it.".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the metadata itself is damaged.
    fn is_damage(&self) -> bool {
        match self {
            Self::State(error) => !matches!(error, StateError::Format { .. }),
            Self::Hummock(error) => matches!(error, HummockError::Corrupt(_)),
            _ => false,
        }
    }
}

/// A cluster as it was recovered or created at the start.
struct Begun {
    state: State,
    lease: Tenure,
    /// Version of the newest checkpoint.
    checkpointed: VersionId,
    seal: Seal,
}

/// Opens the cluster in `store`, or creates a new one there.
pub async fn open(
    store: Arc<dyn MetaStore>,
    new: NewCluster,
    clock: Arc<dyn Clock>,
) -> Result<Manager, OpenError> {
    let pairs = store.list("").await?;
    let params = params_of(&pairs, &*store, &new).await?;
    let url = StorageUrl::parse(storage_url::without_hummock(params.value(params::STATE_STORE)))?;
    let state_store = Storage::open(&url)?;
    let data_directory = params.value(params::DATA_DIRECTORY).to_owned();
    if url.is_far() {
        prove(&state_store, &data_directory, new.allow_unfenced).await?;
    }
    let stores =
        ClusterStores { store: &*store, state_store: &state_store, directory: &data_directory };
    let Begun { state, mut lease, checkpointed, seal } = if pairs.is_empty() {
        stores.create(params, &*clock, new.leader).await?
    } else {
        stores.recover_newest(pairs, &params, &new, &*clock).await?
    };
    for loss in state.accepted_losses() {
        warn!(
            accepted_at = rfc3339(loss.accepted_ms),
            after_epoch = %loss.found.epoch,
            until_epoch = %loss.promised.epoch,
            "commits of this cluster are lost, and that was accepted"
        );
    }
    store.remember(&Head { life: state.life(), end: state.end() });
    let state = Arc::new(state);
    let location = state.params.backup_location();
    lease.note_backup_location(KnownLocation { location, manifest_id: 0 }).await?;
    let published = Arc::new(Published::new(Arc::clone(&state)));
    let (requests, queue) = mpsc::channel::<Request>(QUEUE_LENGTH);
    let timeline = Arc::new(Timeline::starting_after(clock, state.newest_epoch()));
    let lease = Arc::new(LeaseKeeper::new(lease, Arc::clone(&timeline)));
    let watched =
        Manager::watch_lease(Arc::clone(&lease), Arc::clone(&published), requests.downgrade());
    ambient::spawn(watched);
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
        checkpoint_link: String::new(),
        seal,
        halted: None,
        requests: requests.downgrade(),
    };
    let watched = Arc::clone(&published);
    ambient::spawn(async move {
        if AssertUnwindSafe(writer.run(queue)).catch_unwind().await.is_err() {
            error!("the task that commits failed; no more writes");
            watched.give_up();
        }
    });
    Ok(Manager { requests, published, timeline, state_store, lease })
}

/// The parameters of the cluster in the store, or of the one to be created.
async fn params_of(
    pairs: &[Pair],
    store: &dyn MetaStore,
    new: &NewCluster,
) -> Result<Params, OpenError> {
    if pairs.is_empty() {
        return Ok(new.params.clone());
    }
    match kept_params(pairs, store, new) {
        Ok(params) => Ok(params),
        // The error may be a consequence of damage.
        Err(error) => {
            let damage = Seal::verify(pairs).err().map(OpenError::from);
            Err(or_damaged(damage.unwrap_or(error), store, &new.params).await)
        }
    }
}

/// Adds the snapshot to restore to an error for which the metadata or its checkpoint is to blame.
async fn or_damaged(error: OpenError, store: &dyn MetaStore, params: &Params) -> OpenError {
    let is_damage = error.is_damage();
    if !is_damage && !matches!(error, OpenError::Checkpoint { .. }) {
        return error;
    }
    let restorable = promises::restorable_in(&params.backup_location(), None).await;
    match error {
        OpenError::Checkpoint { name, source, .. } => {
            OpenError::Checkpoint { name, restorable, source }
        }
        error => {
            let (store, source) = (store.name().to_owned(), Box::new(error));
            OpenError::Damaged { store, restorable, source }
        }
    }
}

/// Checks that the store supports what is needed. With one that does not honour conditional writes, two
/// clusters could take one directory.
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

/// The parameters in the store, which must not contradict the given ones.
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
    // Credentials may have changed since: the given ones are used.
    let given = new.params.value(params::STATE_STORE);
    if storage_url::is_same_location(kept.value(params::STATE_STORE), given) {
        kept.set(params::STATE_STORE, given);
    }
    for name in [params::STATE_STORE, params::DATA_DIRECTORY] {
        if kept.value(name) != new.params.value(name) {
            return Err(OpenError::LocationMismatch {
                store: store.name().to_owned(),
                name,
                kept: kept.shown(name),
                given: new.params.shown(name),
            });
        }
    }
    Ok(kept)
}

/// Refuses a backup location where another cluster has snapshots.
async fn check_no_snapshots(location: &StorageLocation) -> Result<(), OpenError> {
    // A location that does not exist yet, or does not respond, is no reason not to start.
    let Ok(opened) = OpenLocation::open_existing(location) else { return Ok(()) };
    match Manifest::find(&opened).await {
        Ok(None) => Ok(()),
        // The cluster to be created has no id yet; the empty id is that of no other cluster.
        Ok(Some(manifest)) => Ok(manifest.accepts(&opened, "")?),
        Err(BackupError::Storage(error)) => {
            warn!(%error, "could not look whether another cluster has its meta snapshots there");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The stores of a cluster.
struct ClusterStores<'a> {
    store: &'a dyn MetaStore,
    state_store: &'a Storage,
    directory: &'a str,
}

/// The contents of the meta store, verified.
struct Found {
    state: State,
    checkpoint: Checkpoint,
    seal: Seal,
    /// The keys of the deltas after the checkpoint.
    deltas: Vec<String>,
}

impl ClusterStores<'_> {
    async fn create(
        &self,
        params: Params,
        clock: &dyn Clock,
        leader: u64,
    ) -> Result<Begun, OpenError> {
        let cluster_id = ambient::uuid().to_string();
        self.check_free(&params).await?;
        check_no_snapshots(&params.backup_location()).await?;
        let epoch = Epoch::ZERO.next(clock.now_ms());
        let mut state = State::new(cluster_id, params, epoch);
        let lifetime = Lifetime::since(epoch);
        let public = Schema { id: state.next.object, name: PUBLIC.to_owned(), lifetime };
        state.next.object = ObjectId(public.id.0 + 1);
        state.catalog = Arc::new(state.catalog.apply(&CatalogChange::CreateSchema(public), epoch));
        let checkpoint =
            checkpoint::write(self.state_store, self.directory, &state.version).await?;
        let mut pairs = state.encode_without_version();
        pairs.push(seal::checkpoint_pair(checkpoint, String::new()));
        let (pairs, seal) = seal::seal_pairs(pairs)?;
        self.store.fill(pairs).await?;
        // Last, so that a crash before it leaves no directory that belongs to a cluster that does not exist.
        let (id, life, end) = (&state.cluster_id, &state.incarnation, state.end());
        let lease = Lease::take(self.state_store, self.directory, id, life, leader, end).await?;
        let lease = Tenure::Taken(lease);
        info!(cluster = %state.cluster_id, "new cluster");
        let checkpointed = state.version.id;
        Ok(Begun { state, lease, checkpointed, seal })
    }

    /// Refuses a data directory that belongs to any cluster: a new one must not start where a meta
    /// store was lost.
    async fn check_free(&self, params: &Params) -> Result<(), OpenError> {
        let Some(held) = lease::read(self.state_store, self.directory).await? else {
            return Ok(());
        };
        let cluster_id = held.cluster_id;
        let location = params.backup_location();
        let restorable = promises::restorable_in(&location, Some(&cluster_id)).await;
        let lease = self.state_store.name_of(&layout::lease(self.directory));
        let store = self.store.name().to_owned();
        Err(OpenError::EmptyStore { store, cluster_id, lease, restorable })
    }

    /// Recovers the state in the store. Another server may have written to the store meanwhile, so that
    /// it seems to lack what was promised: it is then read again.
    async fn recover_newest(
        &self,
        mut pairs: Vec<Pair>,
        params: &Params,
        new: &NewCluster,
        clock: &dyn Clock,
    ) -> Result<Begun, OpenError> {
        loop {
            let error = match self.recover(&pairs, new, clock).await {
                Err(error @ (OpenError::Lost(_) | OpenError::Lease(LeaseError::Behind { .. }))) => {
                    error
                }
                Err(error) => return Err(or_damaged(error, self.store, params).await),
                Ok(begun) => return Ok(begun),
            };
            let again = self.store.list("").await?;
            if again == pairs {
                return Err(error);
            }
            pairs = again;
        }
    }

    async fn recover(
        &self,
        pairs: &[Pair],
        new: &NewCluster,
        clock: &dyn Clock,
    ) -> Result<Begun, OpenError> {
        let mut found = self.read(pairs).await?;
        let held = lease::read(self.state_store, self.directory).await?;
        let held = held.filter(|held| {
            held.cluster_id == found.state.cluster_id && held.incarnation == found.state.incarnation
        });
        let Self { store, state_store, directory } = self;
        let lost =
            promises::lost(&found.state, *store, held.as_ref(), state_store, directory).await;
        match lost {
            Some(lost) if new.accept_loss_after == Some(lost.found.epoch) => {
                self.accept(&mut found, &lost, held.as_ref(), clock.now_ms()).await?;
            }
            Some(lost) => {
                let accepted = new.accept_loss_after;
                return Err(Box::new(Lost { accepted, ..lost }).into());
            }
            None => {}
        }
        let state = &found.state;
        let (id, life, end) = (&state.cluster_id, &state.incarnation, state.end());
        let lease = Tenure::begin(state_store, directory, id, life, new.leader, end).await?;
        self.move_above(lease.begun_at(), &mut found, vec![]).await?;
        let Found { state, checkpoint, seal, .. } = found;
        info!(cluster = %state.cluster_id, version = %state.version.id, "recovered");
        Ok(Begun { state, lease, checkpointed: checkpoint.version_id, seal })
    }

    async fn read(&self, pairs: &[Pair]) -> Result<Found, OpenError> {
        // The rest of the state is decoded first: its format number tells whether this build may read on.
        let state = State::decode(pairs, Version::empty(Epoch::ZERO))?;
        let seal = Seal::verify(pairs)?;
        let checkpoint = seal::checkpoint_of(pairs)?;
        let read = checkpoint::read(self.state_store, &checkpoint).await;
        let mut version = read.map_err(|error| self.or_checkpoint(error, &checkpoint.path))?;
        let mut deltas = vec![];
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
            deltas.push(pair.key.clone());
        }
        version.check()?;
        let state = State { version: Arc::new(version), ..state };
        Ok(Found { state, checkpoint, seal, deltas })
    }

    /// Wraps an error in [`OpenError::Checkpoint`] if the checkpoint object is to blame for it.
    fn or_checkpoint(&self, error: HummockError, path: &str) -> OpenError {
        let is_to_blame = matches!(
            error,
            HummockError::Corrupt(_)
                | HummockError::Storage(
                    StorageError::NotFound { .. } | StorageError::ChecksumMismatch { .. }
                )
        );
        if !is_to_blame {
            return error.into();
        }
        let name = self.state_store.name_of(&Path::from(path));
        OpenError::Checkpoint { name, restorable: None, source: Box::new(error) }
    }

    /// Continues without the lost commits, and records the loss. As after a restore, a new life begins above
    /// every number that may have been used: a server on a store of the previous life can never lead again.
    async fn accept(
        &self,
        found: &mut Found,
        lost: &Lost,
        held: Option<&LeaseRecord>,
        now_ms: u64,
    ) -> Result<(), OpenError> {
        let incarnation = found.state.incarnation.next();
        let loss = AcceptedLoss {
            accepted_ms: now_ms,
            found: lost.found,
            promised: lost.promised,
            by: lost.by.clone(),
        };
        let written_down = json_pair(keys::loss(incarnation.number), &loss);
        let life = json_pair(keys::INCARNATION.to_owned(), &incarnation);
        let mut other = BTreeMap::clone(&found.state.other);
        other.insert(written_down.key.clone(), written_down.value.clone());
        found.state = State { incarnation, other: Arc::new(other), ..found.state.clone() };
        let (storage, directory) = (self.state_store.clone(), self.directory.to_owned());
        let listed = Listing::of(&OpenLocation { storage, directory }).await?;
        let promised = Reserved { epoch: lost.promised.epoch, ..Reserved::default() };
        let reserved = held.map(|held| held.reserved).unwrap_or_default();
        let reserved = reserved.max(listed.reserved()).max(promised);
        self.move_above(reserved, found, vec![put(written_down), put(life)]).await
    }

    /// Moves the state of a restored cluster above every number that the previous life may have used,
    /// which may have continued after the restore was planned. There is only something to do at the
    /// first start, or at the next one if that fails half way. `more` is committed with it in any case.
    async fn move_above(
        &self,
        reserved: Reserved,
        found: &mut Found,
        more: Vec<Operation>,
    ) -> Result<(), OpenError> {
        let state = &found.state;
        let next = NextIds {
            object: state.next.object.max(reserved.object),
            sst: state.next.sst.max(reserved.sst),
            snapshot: state.next.snapshot.max(reserved.snapshot),
        };
        let mut version = Version::clone(&state.version);
        version.id = version.id.max(reserved.version);
        let epoch_floor = state.epoch_floor.max(reserved.epoch);
        let is_above = next == state.next && version.id == state.version.id;
        if is_above && epoch_floor == state.epoch_floor && more.is_empty() {
            return Ok(());
        }
        let checkpoint = checkpoint::write(self.state_store, self.directory, &version).await?;
        let before = json_pair(keys::REVISION.to_owned(), &state.revision);
        let revision = state.revision + 1;
        let deltas = found.deltas.iter();
        let mut operations: Vec<_> =
            deltas.map(|key| Operation::Delete { key: key.clone() }).collect();
        let link = found.seal.link().to_owned();
        operations.extend([
            put(json_pair(keys::REVISION.to_owned(), &revision)),
            put(json_pair(keys::NEXT_IDS.to_owned(), &next)),
            put(json_pair(keys::EPOCH_FLOOR.to_owned(), &epoch_floor)),
            put(seal::checkpoint_pair(checkpoint.clone(), link)),
        ]);
        operations.extend(more);
        let step = found.seal.seal(&mut operations, revision);
        let same = Precondition::Equals { key: before.key, value: before.value };
        let preconditions = vec![same, found.seal.precondition()];
        self.store.commit(Txn { preconditions, operations }).await?;
        found.seal.advance(step);
        found.deltas.clear();
        found.checkpoint = checkpoint;
        let version = Arc::new(version);
        found.state = State { next, version, epoch_floor, revision, ..found.state.clone() };
        Ok(())
    }
}
