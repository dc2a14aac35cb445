//! The manager: validates a change, persists it in one transaction, publishes it, and sends it to the
//! followers.
//!
//! One task owns the right to change the state. Callers send it requests; data commits that wait at the
//! same time share one epoch and one transaction. The task continues when a caller goes away, so a
//! commit is never left half done.

mod catalog;
mod promises;
mod recent_keys;
mod recent_moves;
mod recovery;
mod writer;
mod writes;

pub use promises::Lost;
pub use recovery::{NewCluster, OpenError, open};

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::debug;

use super::command::{CatalogCommand, Committed, Compaction, Write};
use tidemark_ledger::checkpoint::Checkpoint;
use tidemark_ledger::epoch::{Clock, Epoch, Timeline};
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId, VersionId};
use tidemark_ledger::lease::{KnownLocation, LeaseError, LeaseKeeper, Reserved};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::sst_ids::Staging;
use tidemark_ledger::state::{Change, State};
use tidemark_ledger::storage::{Storage, StorageError, StorageLocation};
use tidemark_ledger::vacuum::Forgotten;
use tidemark_ledger::version::Replaced;

/// Capacity of the request queue; senders wait while it is full.
const QUEUE_LENGTH: usize = 1024;
/// Pause between two checks of the lease.
const LEASE_PAUSE: Duration = Duration::from_secs(1);
/// A promise is written to the lease once in this many checks of it, if there is anything to promise.
const LOOKS_PER_PROMISE: u64 = 5;
/// Number of changes that a follower may lag behind before it has to start over.
const FOLLOW_LENGTH: usize = 4096;

/// The state as shared with a replica; `None` at first.
pub type SharedState = watch::Sender<Option<Arc<State>>>;

/// Sends the reply to a request.
type Reply<T> = oneshot::Sender<Result<T, MetaError>>;

/// A request to the writing task.
#[derive(Debug)]
enum Request {
    /// Staged files are held until the reply, even if the caller no longer waits for it.
    Write(Write, Vec<Arc<Staging>>, Reply<Committed>),
    Catalog(CatalogCommand, Reply<Committed>),
    SetParam {
        name: String,
        value: String,
        reply: Reply<Committed>,
    },
    /// Takes an epoch; everything before that epoch is then committed.
    Tick {
        reply: Reply<Committed>,
    },
    ReserveSsts {
        count: u32,
        reply: Reply<SstId>,
    },
    ReserveObject {
        reply: Reply<ObjectId>,
    },
    /// An id at or above `least`, consumed even if the job fails.
    ReserveSnapshot {
        least: SnapshotId,
        reply: Reply<SnapshotId>,
    },
    CheckpointWritten(Result<Checkpoint, MetaError>),
    /// Carries, with each input, the rows that the outputs leave out.
    Compact(Compaction, Vec<Replaced>, Reply<Committed>),
    /// Forgets what died at or before this epoch.
    Forget(Epoch, Reply<Committed>),
    /// Asks for the version of the checkpoint that recovery starts from.
    Checkpointed(Reply<VersionId>),
    /// Reports a failed check of the lease. The reply is always an error.
    LeaseFailed(LeaseError, Reply<Infallible>),
}

/// What vacuum needs to know, at a moment when this server held the data directory.
#[derive(Clone, Debug)]
pub struct Standing {
    pub backup_locations: BTreeSet<KnownLocation>,
    /// Version of the checkpoint that recovery starts from.
    pub checkpointed: VersionId,
}

/// Handle to the manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    requests: mpsc::Sender<Request>,
    published: Arc<Published>,
    timeline: Arc<Timeline>,
    state_store: Storage,
    lease: Arc<LeaseKeeper>,
}

/// The newest state and the stream of changes to it. Both under one lock, so that a follower misses
/// nothing between the state it starts from and its first change.
#[derive(Debug)]
pub struct Published {
    state: Mutex<Arc<State>>,
    changes: broadcast::Sender<Arc<Change>>,
    /// Replicas in this process: they receive a state before its commit is acknowledged.
    shared: Mutex<Vec<Arc<SharedState>>>,
    forgotten: Mutex<Forgotten>,
    /// Tables whose files changed since they were last taken. Recorded here, since a task that follows
    /// the changes would be woken by every commit.
    changed: Mutex<BTreeSet<ObjectId>>,
    /// Whether it is unknown what the store holds; opening it again tells.
    unsure: watch::Sender<bool>,
    /// Whether writes are stopped.
    halted: AtomicBool,
}

impl Published {
    fn new(state: Arc<State>) -> Self {
        let forgotten = Mutex::new(Forgotten::since(state.version.id));
        let changed = Mutex::new(state.version.table_ids().collect());
        Self {
            state: Mutex::new(state),
            changes: broadcast::channel(FOLLOW_LENGTH).0,
            shared: Mutex::default(),
            forgotten,
            changed,
            unsure: watch::Sender::new(false),
            halted: AtomicBool::new(false),
        }
    }

    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, state: Arc<State>, change: Arc<Change>) {
        if let Some(safe_epoch) = change.delta.safe_epoch {
            let files = self.state().version.over_by(safe_epoch).map(|(_, _, sst)| sst.0).collect();
            let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
            forgotten.record(state.version.id, files);
        }
        let born = change.delta.born.iter().map(|sst| sst.written_for);
        let stamped = change.delta.stamps.iter().map(|stamp| stamp.table_id);
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for replica in &*self.shared() {
            replica.send_replace(Some(Arc::clone(&state)));
        }
        *current = state;
        // After the state: whoever takes these tables then reads this state or a newer one.
        self.changed().extend(born.chain(stamped));
        // Having no followers is not an error.
        drop(self.changes.send(change));
    }

    /// Stops writes, since it is not known any more what the store holds.
    fn give_up(&self) {
        self.halted.store(true, Ordering::Relaxed);
        self.unsure.send_replace(true);
    }

    /// Sends a replica in this process the newest state, and each one after it.
    pub fn share(&self, replica: &Arc<SharedState>) {
        let current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared().push(Arc::clone(replica));
        replica.send_replace(Some(Arc::clone(&current)));
    }

    pub fn unshare(&self, replica: &Arc<SharedState>) {
        self.shared().retain(|shared| !Arc::ptr_eq(shared, replica));
    }

    fn changed(&self) -> MutexGuard<'_, BTreeSet<ObjectId>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<Arc<SharedState>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self) -> (Arc<State>, broadcast::Receiver<Arc<Change>>) {
        let current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&current), self.changes.subscribe())
    }
}

impl Manager {
    /// The newest committed state.
    pub fn state(&self) -> Arc<State> {
        self.published.state()
    }

    /// The published state. Holding it does not keep the manager alive.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Takes the tables whose files changed since the last call; the first call returns all that have files.
    pub fn take_changed(&self) -> BTreeSet<ObjectId> {
        std::mem::take(&mut *self.published.changed())
    }

    /// The newest state and every change after it.
    pub fn follow(&self) -> (Arc<State>, broadcast::Receiver<Arc<Change>>) {
        self.published.follow()
    }

    /// Whether commits are accepted.
    pub fn is_writable(&self) -> bool {
        !self.published.halted.load(Ordering::Relaxed)
    }

    /// Resolves when it is unknown what the store holds. From then on nothing is written.
    pub async fn unsure(&self) {
        let mut unsure = self.published.unsure.subscribe();
        if unsure.wait_for(|unsure| *unsure).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.timeline.clock()
    }

    /// The timeline that epochs are taken from.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The oldest epoch within retention: the retention time before now.
    pub fn retained_since(&self) -> Epoch {
        let state = self.state();
        let now = self.timeline.now().max(state.version.max_committed_epoch);
        now.minus_ms(state.params.retention_ms())
    }

    pub fn state_store(&self) -> &Storage {
        &self.state_store
    }

    /// Files that readers of versions older than the newest may still need. Drops those that no reader
    /// of `oldest` or later needs.
    pub fn forgotten(&self, oldest: VersionId) -> Forgotten {
        let forgotten = &self.published.forgotten;
        let mut forgotten = forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.prune(oldest);
        forgotten.clone()
    }

    pub async fn compact(&self, compaction: Compaction) -> Result<Committed, MetaError> {
        // Computed here, and on a blocking thread, so that neither a commit nor a request waits for it.
        let look = move || writes::replaced(&compaction).map(|replaced| (compaction, replaced));
        let looked = tidemark_ledger::ambient::blocking(look).await;
        let looked = looked.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string()))?;
        let (compaction, replaced) = looked?;
        self.ask(|reply| Request::Compact(compaction, replaced, reply)).await
    }

    /// Forgets what no epoch after `safe_epoch` can see.
    pub async fn forget(&self, safe_epoch: Epoch) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Forget(safe_epoch, reply)).await
    }

    /// Checks that this server has the data directory, and returns what vacuum needs to know.
    ///
    /// # Errors
    /// [`ErrorKind::Deposed`] if another server has taken the data directory.
    pub fn standing(&self) -> BoxFuture<'_, Result<Standing, MetaError>> {
        async move {
            // The lease is read here, so that no commit waits for it.
            let checkpointed = self.ask(Request::Checkpointed).await?;
            match self.lease.look().await {
                Ok(record) => {
                    Ok(Standing { backup_locations: record.backup_locations, checkpointed })
                }
                Err(error) => Err(self.lease_failed(error).await),
            }
        }
        .boxed()
    }

    /// The backup locations in the lease, for callers that only read.
    ///
    /// # Errors
    /// Those of [`Manager::standing`], except that a full storage is not an error.
    pub fn backup_locations(&self) -> BoxFuture<'_, Result<BTreeSet<KnownLocation>, MetaError>> {
        async move {
            match self.lease.look_only().await {
                Ok(record) => Ok(record.backup_locations),
                Err(error) => Err(self.lease_failed(error).await),
            }
        }
        .boxed()
    }

    /// Maps a failure of the lease for a caller. A server that has lost the data directory stops writing.
    async fn lease_failed(&self, error: LeaseError) -> MetaError {
        match self.ask(|reply| Request::LeaseFailed(error, reply)).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Checks periodically whether this server still has the data directory: another may have taken it
    /// while this one has reserved numbers left and need not ask for more. Less often, records there
    /// how far the metadata is durable. Returns when the manager is gone.
    async fn watch_lease(
        lease: Arc<LeaseKeeper>,
        published: Arc<Published>,
        requests: mpsc::WeakSender<Request>,
    ) {
        for look in 0_u64.. {
            tidemark_ledger::ambient::sleep(LEASE_PAUSE).await;
            let mut looked = lease.look().await.map(|_| ());
            let Some(requests) = requests.upgrade() else { return };
            if looked.is_ok() && look % LOOKS_PER_PROMISE == 0 {
                looked = lease.promise(published.state().end()).await;
            }
            if let Err(error) = looked {
                let (reply, told) = oneshot::channel();
                drop(requests.send(Request::LeaseFailed(error, reply)).await);
                drop(told.await);
            }
        }
    }

    /// Records in the lease how far the metadata is durable. If that fails, the lease keeps its
    /// previous promise.
    pub async fn promise(&self) {
        if let Err(error) = self.lease.promise(self.state().end()).await {
            debug!(%error, "not promised");
        }
    }

    pub fn note_location(&self, known: KnownLocation) -> BoxFuture<'_, Result<(), MetaError>> {
        async move {
            match self.lease.note_backup_location(known).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.lease_failed(error).await),
            }
        }
        .boxed()
    }

    pub async fn forget_location(&self, location: StorageLocation) -> Result<(), MetaError> {
        match self.lease.forget_backup_location(&location).await {
            Ok(()) => Ok(()),
            Err(LeaseError::Storage(error @ StorageError::Io { .. })) => {
                Err(MetaError::unknown(&error))
            }
            Err(error) => Err(self.lease_failed(error).await),
        }
    }

    /// Commits staged writes. Their files are held until the outcome is known, even if the caller goes
    /// away meanwhile.
    pub async fn write(
        &self,
        write: Write,
        staged: Vec<Arc<Staging>>,
    ) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Write(write, staged, reply)).await
    }

    pub async fn change_catalog(&self, command: CatalogCommand) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Catalog(command, reply)).await
    }

    /// Stores a value that [`tidemark_ledger::params::ParamSpec::parse`] made. A new backup location that
    /// results from it must be noted before.
    pub async fn set_param(&self, name: String, value: String) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::SetParam { name, value, reply }).await
    }

    pub async fn flush(&self) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Tick { reply }).await
    }

    /// Reserves `count` file ids; returns the first.
    pub async fn reserve_ssts(&self, count: u32) -> Result<SstId, MetaError> {
        self.ask(|reply| Request::ReserveSsts { count, reply }).await
    }

    pub async fn reserve_object(&self) -> Result<ObjectId, MetaError> {
        self.ask(|reply| Request::ReserveObject { reply }).await
    }

    pub async fn reserve_snapshot(&self, least: SnapshotId) -> Result<SnapshotId, MetaError> {
        // Reserved in the lease first, where no commit waits for it.
        let next = SnapshotId(self.state().next.snapshot.max(least).0.saturating_add(1));
        let needed = Reserved { snapshot: next, ..Reserved::default() };
        if let Err(error) = self.lease.reserve(needed, self.state().end()).await {
            return Err(self.lease_failed(error).await);
        }
        self.ask(|reply| Request::ReserveSnapshot { least, reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, MetaError> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| MetaError::new(ErrorKind::Internal, "the meta role is shutting down");
        self.requests.send(request(reply)).await.map_err(gone)?;
        // The request was accepted, and may have been carried out.
        answer.await.map_err(|_| {
            let message = "it is not known whether this was done: the meta role ended meanwhile";
            MetaError::new(ErrorKind::Unknown, message)
                .hint("Look whether it was, before you do it again.")
        })?
    }
}

#[cfg(test)]
mod tests;
