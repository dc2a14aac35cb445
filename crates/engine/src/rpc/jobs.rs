//! Jobs that continue after the call that began them, in separate tasks.
//!
//! These are plain functions rather than methods of the service: there the compiler proves anew, for
//! each method, that what a task holds may move between threads (`docs/hacking.md`, "Futures that are
//! proven once").

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert::{to_json, to_status};
use super::proto::followed::Part;
use super::proto::{Followed, Json};
use crate::meta::command::BackupOptions;
use crate::meta::compaction::CompactionReport;
use crate::meta::{MetaNode, Repaired};
use tidemark_ledger::backup::{ManifestEntry, verify};
use tidemark_ledger::id::{SnapshotId, SstId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::state::State;
use tidemark_ledger::vacuum::Plan;
use tidemark_ledger::version::encoding;

/// A job that continues when its caller goes away.
struct Job<T>(JoinHandle<Result<T, MetaError>>);

impl<T: Send + 'static> Job<T> {
    fn begin(work: impl Future<Output = Result<T, MetaError>> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    async fn outcome(self) -> Result<T, MetaError> {
        self.0.await.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string())).flatten()
    }
}

pub async fn backup(
    node: &Arc<MetaNode>,
    options: BackupOptions,
) -> Result<ManifestEntry, MetaError> {
    let node = Arc::clone(node);
    Job::begin(async move { node.backup(options).await }).outcome().await
}

pub async fn delete_snapshots(node: &Arc<MetaNode>, ids: Vec<SnapshotId>) -> Result<(), MetaError> {
    let node = Arc::clone(node);
    Job::begin(async move { node.delete_snapshots(&ids).await }).outcome().await
}

/// Compacts a table, given by schema and name, or all.
pub async fn compact(
    node: &Arc<MetaNode>,
    table: Option<(String, String)>,
) -> Result<CompactionReport, MetaError> {
    let node = Arc::clone(node);
    let work = async move {
        let table = table.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
        node.compact_all(table).await
    };
    Job::begin(work).outcome().await
}

pub async fn vacuum(
    node: &Arc<MetaNode>,
    retention_ms: Option<u64>,
    dry_run: bool,
) -> Result<Plan, MetaError> {
    let node = Arc::clone(node);
    Job::begin(async move { node.vacuum(retention_ms, dry_run).await }).outcome().await
}

pub async fn repair_object(node: &Arc<MetaNode>, sst: SstId) -> Result<Repaired, MetaError> {
    let node = Arc::clone(node);
    Job::begin(async move { node.repair_object(sst).await }).outcome().await
}

/// Streams the state, then each change, until the follower is gone or `stop` is cancelled.
pub fn follow(
    node: &Arc<MetaNode>,
    stop: &CancellationToken,
    worker: &str,
) -> BoxStream<'static, Result<Followed, Status>> {
    let (to_follower, stream) = mpsc::channel(64);
    let (state, mut changes) = node.follow(worker);
    let sending = async move {
        let to = to_follower.clone();
        tokio::task::spawn_blocking(move || send_whole(&state, to)).await.ok()??;
        loop {
            let change = match changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None::<()>,
            };
            let part = Part::Change(serde_json::to_vec(&*change).ok()?);
            to_follower.send(Ok(Followed { part: Some(part) })).await.ok()?;
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(sending));
    ReceiverStream::new(stream).boxed()
}

/// Verifies snapshots as long as the caller listens. What was found until then has been recorded.
pub fn verify(
    node: &Arc<MetaNode>,
    stop: &CancellationToken,
    asked: verify::Request,
) -> BoxStream<'static, Result<Json, Status>> {
    let (to_caller, stream) = mpsc::unbounded_channel();
    let node = Arc::clone(node);
    let verifying = async move {
        let told = EventSender::by(to_caller.clone());
        let report = |event| told.tell(&event);
        let outcome = tokio::select! {
            outcome = Box::pin(node.verify_snapshots(&asked, &report)) => outcome,
            () = to_caller.closed() => return,
        };
        if let Err(error) = outcome {
            drop(to_caller.send(Err(to_status(&error))));
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(verifying));
    UnboundedReceiverStream::new(stream).boxed()
}

/// Minimum pause between two events about the files of a snapshot.
const FILES_PAUSE: Duration = Duration::from_millis(200);

/// Sends the events of a verification: one for each snapshot, and one about files now and then.
struct EventSender {
    to: mpsc::UnboundedSender<Result<Json, Status>>,
    files_at: Mutex<Instant>,
}

impl EventSender {
    fn by(to: mpsc::UnboundedSender<Result<Json, Status>>) -> Self {
        Self { to, files_at: Mutex::new(Instant::now()) }
    }

    fn tell(&self, event: &verify::Event) {
        if matches!(event, verify::Event::Files { .. }) {
            let mut last = self.files_at.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < FILES_PAUSE {
                return;
            }
            *last = Instant::now();
        }
        // The verification ends when the caller goes away.
        drop(self.to.send(to_json(event)));
    }
}

/// Sends the state; its version is sent piece by piece as it is encoded.
fn send_whole(state: &State, to: ToFollower) -> Option<()> {
    let pairs: Vec<(String, Vec<u8>)> = state
        .encode_without_version()
        .into_iter()
        .map(|pair| (pair.key, pair.value.to_vec()))
        .collect();
    let mut pieces = Pieces(to);
    pieces.send(Part::Pairs(serde_json::to_vec(&pairs).ok()?)).ok()?;
    encoding::encode(&state.version, &mut pieces).ok()?;
    pieces.send(Part::Complete(true)).ok()
}

type ToFollower = mpsc::Sender<Result<Followed, Status>>;

/// Sends what is written to it, one message per write.
struct Pieces(ToFollower);

impl Pieces {
    fn send(&self, part: Part) -> io::Result<()> {
        let sent = self.0.blocking_send(Ok(Followed { part: Some(part) }));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the follower is gone"))
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.send(Part::Version(bytes.to_vec()))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
