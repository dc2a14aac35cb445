//! The task that owns the right to change the state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::recent_keys::RecentKeys;
use super::recent_moves::RecentMoves;
use super::writes::{self, Group};
use super::{Published, Reply, Request};
use crate::meta::command::{CatalogCommand, Committed, Compaction, TableWrite, Write};
use tidemark_ledger::checkpoint::{self, Checkpoint};
use tidemark_ledger::epoch::{Epoch, Timeline};
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId, VersionId};
use tidemark_ledger::lease::{LeaseError, LeaseKeeper, Reserved};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::meta_store::{
    Head, MetaStore, Operation, Pair, Precondition, StoreError, Txn,
};
use tidemark_ledger::sst_ids::Staging;
use tidemark_ledger::state::seal::{Seal, checkpoint_pair};
use tidemark_ledger::state::{Change, State, json_pair, put};
use tidemark_ledger::storage::Storage;
use tidemark_ledger::version::Replaced;
use tidemark_ledger::{keys, metrics};

/// Minimum number of deltas between two checkpoints of the version.
const DELTAS_PER_CHECKPOINT: u64 = 1000;
/// Maximum number of data commits that share one transaction.
const GROUP_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    pub store: Arc<dyn MetaStore>,
    pub state_store: Storage,
    pub data_directory: String,
    pub lease: Arc<LeaseKeeper>,
    pub recent_keys: RecentKeys,
    pub recent_moves: RecentMoves,
    pub timeline: Arc<Timeline>,
    pub state: Arc<State>,
    pub published: Arc<Published>,
    /// Version of the newest checkpoint; the deltas after it are still stored.
    pub checkpointed: VersionId,
    pub checkpoint_running: bool,
    /// The checksum in the delta that led to the version of the checkpoint being written.
    pub checkpoint_link: String,
    /// The checksum over the contents of the store.
    pub seal: Seal,
    /// Why nothing is written any more, once this is so.
    pub halted: Option<String>,
    pub requests: mpsc::WeakSender<Request>,
}

impl Writer {
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        while requests.recv_many(&mut waiting, GROUP_MAX).await > 0 {
            let mut writes = Vec::new();
            for request in waiting.drain(..) {
                match request {
                    Request::Write(write, staged, reply) => writes.push((write, staged, reply)),
                    other => {
                        self.commit_writes(std::mem::take(&mut writes)).await;
                        self.serve(other).await;
                    }
                }
            }
            self.commit_writes(writes).await;
            self.checkpoint_if_due().await;
            // A commit may hold the thread: callers that got their reply, and the network, go first.
            if !requests.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Write(write, staged, reply) => {
                self.commit_writes(vec![(write, staged, reply)]).await;
            }
            Request::Catalog(command, reply) => {
                let outcome = self.change_catalog(command).await;
                answer(reply, outcome);
            }
            Request::SetParam { name, value, reply } => {
                let outcome = self.commit(|change, _| change.params = vec![(name, value)]).await;
                answer(reply, outcome);
            }
            Request::Tick { reply } => {
                let outcome = self.commit(|_, _| {}).await;
                answer(reply, outcome);
            }
            Request::ReserveSsts { count, reply } => {
                let first = self.state.next.sst;
                let next = SstId(first.0 + u64::from(count));
                let outcome = self.commit_ids(|ids| ids.sst = next).await;
                answer(reply, outcome.map(|()| first));
            }
            Request::ReserveObject { reply } => {
                let id = self.state.next.object;
                let outcome = self.commit_ids(|ids| ids.object = ObjectId(id.0 + 1)).await;
                answer(reply, outcome.map(|()| id));
            }
            Request::ReserveSnapshot { least, reply } => {
                let id = self.state.next.snapshot.max(least);
                let outcome = self.commit_ids(|ids| ids.snapshot = SnapshotId(id.0 + 1)).await;
                answer(reply, outcome.map(|()| id));
            }
            Request::CheckpointWritten(outcome) => self.adopt_checkpoint(outcome).await,
            Request::Compact(compaction, replaced, reply) => {
                let outcome = self.compact(compaction, replaced).await;
                answer(reply, outcome);
            }
            Request::Forget(safe_epoch, reply) => {
                let outcome = self.forget(safe_epoch).await;
                answer(reply, outcome);
            }
            Request::Checkpointed(reply) => {
                answer(reply, self.refuse_if_halted().map(|()| self.checkpointed));
            }
            Request::LeaseFailed(error, reply) => answer(reply, Err(self.lease_error(error))),
        }
    }

    /// Commits all writes that do not conflict, in one epoch.
    async fn commit_writes(&mut self, writes: Vec<(Write, Vec<Arc<Staging>>, Reply<Committed>)>) {
        if writes.is_empty() {
            return;
        }
        let catalog = self.state.catalog.at(Epoch::LAST);
        let mut group = Group::default();
        let mut accepted = Vec::with_capacity(writes.len());
        for (mut write, staged, reply) in writes {
            // Nothing is written for a request that was cancelled meanwhile.
            if reply.is_closed() {
                continue;
            }
            let is_moved = |table: &TableWrite| {
                let mut born = table.born.iter();
                born.any(|sst| self.recent_moves.knows(table.table_id, sst.id))
            };
            if write.tables.iter().any(is_moved) {
                answer(reply, Err(writes::done_already()));
                continue;
            }
            for table in &mut write.tables {
                self.recent_moves.follow(table, &self.state.version);
            }
            match group.add(&write, &catalog, &self.state.version, &self.recent_keys) {
                Ok(()) => accepted.push((staged, reply)),
                Err(error) => answer(reply, Err(error)),
            }
        }
        if accepted.is_empty() {
            return;
        }
        let keys = group.take_keys();
        let outcome = self.commit(|change, _| group.fill(&mut change.delta)).await;
        if let Ok(committed) = &outcome {
            for (table, keys) in keys {
                self.recent_keys.record(table, committed.epoch, keys);
            }
        }
        for (staged, reply) in accepted {
            answer(reply, outcome.clone());
            drop(staged);
        }
    }

    async fn change_catalog(&mut self, command: CatalogCommand) -> Result<Committed, MetaError> {
        let rows = match &command {
            CatalogCommand::CreateTable(create) => create.rows.clone(),
            _ => vec![],
        };
        let catalog = self.state.catalog.at(Epoch::LAST);
        let mut next_id = self.state.next.object;
        let epoch = self.next_epoch()?;
        let outcome = super::catalog::Context { catalog: &catalog, epoch, next_id: &mut next_id }
            .run(command)?;
        if outcome.changes.is_empty() {
            let notices = outcome.notices;
            return Ok(Committed { notices, ..self.committed(&self.state) });
        }
        let dropped = outcome.dropped_tables.clone();
        let committed = self
            .commit_at(epoch, |change, state| {
                change.next.object = next_id;
                change.catalog = outcome.changes;
                if outcome.created.is_some() {
                    change.delta.born = rows;
                }
                for table in &outcome.dropped_tables {
                    let alive = state.version.open_files(*table);
                    change.delta.died.extend(alive.map(|file| (*table, file.sst.id)));
                }
            })
            .await?;
        dropped.into_iter().for_each(|table| self.recent_keys.forget(table));
        Ok(Committed { notices: outcome.notices, ..committed })
    }

    async fn compact(
        &mut self,
        compaction: Compaction,
        replaced: Vec<Replaced>,
    ) -> Result<Committed, MetaError> {
        writes::check_compaction(&compaction, &self.state.version)?;
        let (table, moved) = (compaction.table_id, Arc::clone(&compaction.moved));
        let fill = |change: &mut Change, _: &State| {
            writes::fill_compaction(compaction, replaced, &mut change.delta);
        };
        let committed = self.commit(fill).await?;
        self.recent_moves.record(table, moved);
        Ok(committed)
    }

    /// Forgets; takes an epoch only if there is something to forget.
    async fn forget(&mut self, safe_epoch: Epoch) -> Result<Committed, MetaError> {
        let version = &self.state.version;
        let safe_epoch = safe_epoch.min(version.max_committed_epoch);
        if version.over_by(safe_epoch).next().is_none() {
            return Ok(self.committed(&self.state));
        }
        self.commit(|change, _| change.delta.safe_epoch = Some(safe_epoch)).await
    }

    async fn commit_ids(
        &mut self,
        edit: impl FnOnce(&mut tidemark_ledger::state::NextIds),
    ) -> Result<(), MetaError> {
        self.commit(|change, _| edit(&mut change.next)).await.map(|_| ())
    }

    async fn commit(
        &mut self,
        edit: impl FnOnce(&mut Change, &State),
    ) -> Result<Committed, MetaError> {
        let epoch = self.next_epoch()?;
        self.commit_at(epoch, edit).await
    }

    /// Persists a change, then publishes it.
    async fn commit_at(
        &mut self,
        epoch: Epoch,
        edit: impl FnOnce(&mut Change, &State),
    ) -> Result<Committed, MetaError> {
        self.refuse_if_halted()?;
        let before = Arc::clone(&self.state);
        let mut change = before.change_at(epoch);
        edit(&mut change, &before);
        let unsound = |e: HummockError| MetaError::new(ErrorKind::Internal, e.to_string());
        before.version.check_deaths(&change.delta).map_err(unsound)?;
        self.reserve(&change).await?;
        let after = Arc::new(before.apply(&change));
        after.version.check_delta(&change.delta).map_err(unsound)?;
        let operations = change.operations(&before, &after);
        let timer = metrics::COMMIT_SECONDS.start_timer();
        self.persist(operations, before.revision, after.revision).await?;
        timer.observe_duration();
        self.store.remember(&Head { life: after.life(), end: after.end() });
        self.state = Arc::clone(&after);
        self.published.publish(Arc::clone(&after), Arc::new(change));
        Ok(self.committed(&after))
    }

    /// Commits the operations that lead from revision `before` to revision `after`, under a new seal.
    async fn persist(
        &mut self,
        mut operations: Vec<Operation>,
        before: u64,
        after: u64,
    ) -> Result<(), MetaError> {
        let step = self.seal.seal(&mut operations, after);
        self.send(operations, before).await?;
        self.seal.advance(step);
        Ok(())
    }

    /// Sends a transaction. If the store fails, finds out whether it happened nevertheless: then all
    /// pairs that the operations put are there, some of which were not there before.
    async fn send(&mut self, operations: Vec<Operation>, before: u64) -> Result<(), MetaError> {
        let Pair { key, value } = json_pair(keys::REVISION.to_owned(), &before);
        let expected = Precondition::Equals { key, value: value.clone() };
        let puts: Vec<Pair> = operations.iter().filter_map(put_by).collect();
        // The adoption of a checkpoint does not change the revision; the precondition on the seal
        // covers it, too.
        let txn = Txn { preconditions: vec![expected, self.seal.precondition()], operations };
        let Err(failure) = self.store.commit(txn).await else { return Ok(()) };
        if let StoreError::Deposed { reason, .. } = &failure {
            self.halt(reason.clone());
            return Err(MetaError::new(ErrorKind::Deposed, failure.to_string()));
        }
        if matches!(failure, StoreError::Precondition(_)) {
            let why = "another server changed the meta store";
            self.halt(why.to_owned());
            return Err(MetaError::new(ErrorKind::Deposed, why));
        }
        match self.has_happened(&puts, &value).await {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => {
                Err(MetaError { hint: failure.hint(), ..MetaError::storage(&failure) })
            }
            outcome => {
                error!(?outcome, "the outcome of a commit is not known; no more writes");
                self.halt(format!("the outcome of a commit is not known ({failure})"));
                self.published.give_up();
                Err(MetaError::unknown(&failure))
            }
        }
    }

    /// Whether a transaction happened that puts these pairs on top of the revision `before`. `None`
    /// (unknown) if neither is there: a revision of the same number may be another server's.
    async fn has_happened(
        &self,
        puts: &[Pair],
        before: &Bytes,
    ) -> Result<Option<bool>, StoreError> {
        let mut all = true;
        for pair in puts {
            all = all && self.store.get(&pair.key).await?.as_ref() == Some(&pair.value);
        }
        if all {
            return Ok(Some(true));
        }
        let found = self.store.get(keys::REVISION).await?;
        Ok((found.as_ref() == Some(before)).then_some(false))
    }

    /// Reserves in the lease every number that this change uses, so that none is used again after a restore.
    async fn reserve(&mut self, change: &Change) -> Result<(), MetaError> {
        let needed = Reserved {
            object: change.next.object,
            sst: change.next.sst,
            version: VersionId(change.delta.id.0 + 1),
            snapshot: change.next.snapshot,
            epoch: Epoch::from_u64(change.delta.epoch.as_u64() + 1),
        };
        let reserved = self.lease.reserve(needed, self.state.end()).await;
        reserved.map_err(|error| self.lease_error(error))
    }

    /// Maps an error of the lease. A server that has lost the data directory stops writing.
    fn lease_error(&mut self, error: LeaseError) -> MetaError {
        match error {
            LeaseError::Deposed { .. }
            | LeaseError::Superseded { .. }
            | LeaseError::OtherCluster { .. } => {
                if self.halted.is_none() {
                    warn!(%error, "no more writes");
                }
                self.halt(error.to_string());
                let deposed = MetaError::new(ErrorKind::Deposed, error.to_string());
                MetaError { hint: error.hint(), ..deposed }
            }
            other => MetaError { hint: other.hint(), ..MetaError::storage(&other) },
        }
    }

    fn next_epoch(&self) -> Result<Epoch, MetaError> {
        let last = self.state.newest_epoch();
        let next = last.next(self.timeline.now_ms());
        (last < next && next < Epoch::LAST).then_some(next).ok_or_else(|| {
            MetaError::new(ErrorKind::Internal, "the clock is past the time of the last epoch")
                .hint("Set the clock of the machine right, then restart the server.")
        })
    }

    fn committed(&self, state: &State) -> Committed {
        Committed {
            epoch: state.version.max_committed_epoch,
            revision: state.revision,
            notices: vec![],
        }
    }

    fn halt(&mut self, reason: impl Into<String>) {
        self.halted = Some(reason.into());
        self.published.halted.store(true, Ordering::Relaxed);
    }

    fn refuse_if_halted(&self) -> Result<(), MetaError> {
        match &self.halted {
            None => Ok(()),
            Some(why) => {
                let hint = match *self.published.unsure.borrow() {
                    true => "Restart the server: it finds out then what was done. Reads go on.",
                    false => {
                        "Stop one of the two servers: a data directory has one writer. Reads go on."
                    }
                };
                let stopped = format!("writes are stopped: {why}");
                Err(MetaError::new(ErrorKind::Deposed, stopped).hint(hint))
            }
        }
    }

    /// Once enough deltas have accumulated, forgets what is past retention and starts to write a
    /// checkpoint. Commits do not wait for the checkpoint.
    async fn checkpoint_if_due(&mut self) {
        let behind = self.state.version.id.0 - self.checkpointed.0;
        // The cost of a checkpoint grows with the version, so a larger one is written less often.
        let due = DELTAS_PER_CHECKPOINT.max(self.state.version.file_count() as u64 / 2);
        if self.checkpoint_running || self.halted.is_some() || behind < due {
            return;
        }
        let Some(requests) = self.requests.upgrade() else { return };
        let retention_ms = self.state.params.retention_ms();
        let forgotten = self.commit(|change, state| {
            let since = change.delta.epoch.minus_ms(retention_ms);
            change.delta.safe_epoch = Some(since.max(state.version.safe_epoch));
        });
        if let Err(error) = forgotten.await {
            warn!(%error, "could not forget what is past retention; it is tried again");
            return;
        }
        self.checkpoint_running = true;
        self.seal.link().clone_into(&mut self.checkpoint_link);
        let (storage, directory) = (self.state_store.clone(), self.data_directory.clone());
        let version = Arc::clone(&self.state.version);
        tidemark_ledger::ambient::spawn(async move {
            let outcome = checkpoint::write(&storage, &directory, &version).await;
            let outcome = outcome.map_err(|e| MetaError::storage(&e));
            // The writing task is gone only if the server stops; the object is then an orphan.
            drop(requests.send(Request::CheckpointWritten(outcome)).await);
        });
    }

    /// Points to the new checkpoint and deletes the deltas it covers.
    async fn adopt_checkpoint(&mut self, outcome: Result<Checkpoint, MetaError>) {
        self.checkpoint_running = false;
        let checkpoint = match outcome {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                warn!(%error, "could not write a checkpoint; it is tried again");
                return;
            }
        };
        let first = self.checkpointed.0 + 1;
        let covered = (first..=checkpoint.version_id.0)
            .map(|id| Operation::Delete { key: keys::version_delta(VersionId(id)) });
        let mut operations: Vec<_> = covered.collect();
        operations.push(put(checkpoint_pair(checkpoint.clone(), self.checkpoint_link.clone())));
        let revision = self.state.revision;
        match self.persist(operations, revision, revision).await {
            Ok(()) => {
                info!(version = %checkpoint.version_id, "checkpoint");
                self.checkpointed = checkpoint.version_id;
            }
            Err(error) => warn!(%error, "could not adopt a checkpoint; it is tried again"),
        }
    }
}

/// The pair that an operation puts; `None` for a deletion.
fn put_by(operation: &Operation) -> Option<Pair> {
    match operation {
        Operation::Put { key, value } => Some(Pair { key: key.clone(), value: value.clone() }),
        Operation::Delete { .. } => None,
    }
}

/// Sends a reply. A caller that has gone away is not an error: its request was served nevertheless.
fn answer<T>(reply: Reply<T>, outcome: Result<T, MetaError>) {
    drop(reply.send(outcome));
}
