//! The manager: validate, persist in one transaction, publish, tell the followers.
//!
//! One task owns the right to change the state. Callers send it requests; requests for data commits
//! that wait at the same time share one epoch and one transaction. Because the task runs on when a
//! caller goes away, a commit is never left half way.

mod catalog;
mod recovery;
mod writer;
mod writes;

pub use recovery::{NewCluster, OpenError, open};

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::command::{CatalogCommand, Committed, Write};
use super::error::{ErrorKind, MetaError};
use super::state::{Change, State};
use crate::epoch::Clock;
use crate::hummock::checkpoint::Checkpoint;
use crate::id::{ObjectId, SnapshotId, SstId};
use crate::storage::Storage;

/// Requests that wait before senders do.
const QUEUE_LENGTH: usize = 1024;
/// Changes a slow follower may lag behind before it has to start anew.
const FOLLOW_LENGTH: usize = 4096;

/// Answers a request.
type Reply<T> = oneshot::Sender<Result<T, MetaError>>;

/// What the writing task can be asked.
#[derive(Debug)]
enum Request {
    Write(Write, Reply<Committed>),
    Catalog(CatalogCommand, Reply<Committed>),
    SetParam {
        name: String,
        value: String,
        reply: Reply<Committed>,
    },
    /// Takes an epoch, and with it everything before that epoch is committed.
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
}

/// Handle to the manager. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager {
    requests: mpsc::Sender<Request>,
    published: Arc<Published>,
    clock: Arc<dyn Clock>,
    state_store: Storage,
}

/// The state everybody reads, and the stream of changes to it. Under one lock, so that a follower
/// misses nothing between the state it starts from and its first change.
#[derive(Debug)]
struct Published {
    state: Mutex<Arc<State>>,
    changes: broadcast::Sender<Arc<Change>>,
}

impl Published {
    fn new(state: Arc<State>) -> Self {
        Self { state: Mutex::new(state), changes: broadcast::channel(FOLLOW_LENGTH).0 }
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, state: Arc<State>, change: Arc<Change>) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *current = state;
        // No follower is no error.
        drop(self.changes.send(change));
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

    /// The newest state and every change after it.
    pub fn follow(&self) -> (Arc<State>, broadcast::Receiver<Arc<Change>>) {
        self.published.follow()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub fn state_store(&self) -> &Storage {
        &self.state_store
    }

    pub async fn write(&self, write: Write) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Write(write, reply)).await
    }

    pub async fn change_catalog(&self, command: CatalogCommand) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Catalog(command, reply)).await
    }

    /// Stores a value that [`crate::params::ParamSpec::parse`] made.
    pub async fn set_param(&self, name: String, value: String) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::SetParam { name, value, reply }).await
    }

    pub async fn flush(&self) -> Result<Committed, MetaError> {
        self.ask(|reply| Request::Tick { reply }).await
    }

    /// The first of `count` file ids nobody else gets.
    pub async fn reserve_ssts(&self, count: u32) -> Result<SstId, MetaError> {
        self.ask(|reply| Request::ReserveSsts { count, reply }).await
    }

    pub async fn reserve_object(&self) -> Result<ObjectId, MetaError> {
        self.ask(|reply| Request::ReserveObject { reply }).await
    }

    pub async fn reserve_snapshot(&self, least: SnapshotId) -> Result<SnapshotId, MetaError> {
        self.ask(|reply| Request::ReserveSnapshot { least, reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, MetaError> {
        let (reply, answer) = oneshot::channel();
        let gone = || MetaError::new(ErrorKind::Internal, "the meta role is shutting down");
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests;
