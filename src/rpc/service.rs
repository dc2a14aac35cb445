//! The meta role's side of the RPC.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::convert::{from_json, to_json, to_status};
use super::dial::{LocalMeta, Present};
use super::proto::followed::Part;
use super::proto::meta_server::{Meta, MetaServer};
use super::proto::{
    AlterSystemRequest, BackupRequest, CompactRequest, DeleteSnapshotsRequest,
    DeleteSnapshotsResponse, Empty, ExplainObjectRequest, FlushRequest, Followed, Json,
    ListSnapshotsRequest, ReleaseCompactionRequest, ReportResponse, ReserveObjectRequest,
    ReserveObjectResponse, ReserveSstsRequest, ReserveSstsResponse, VacuumRequest, WorkerRequest,
};
use crate::backup::verify;
use crate::hummock::version::encoding;
use crate::id::{ObjectId, SnapshotId, SstId};
use crate::meta::MetaNode;
use crate::meta::command::{BackupOptions, CatalogCommand, Compaction, Write};
use crate::meta::error::{ErrorKind, MetaError};
use crate::meta::state::State;

/// Largest message either side takes. A statement's staged files are well below it.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How often a silent connection is asked whether somebody is there, and how long that may take.
const PING_PAUSE: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is asked already may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A running RPC server.
#[derive(Debug)]
pub struct Served {
    pub addr: SocketAddr,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    local: LocalMeta,
    /// Closes connections, and sends followers away: a connection ends only when nothing is on its way on
    /// it.
    followers: CancellationToken,
    local_task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    /// Stops taking requests and closes every connection; followers are sent away. What is asked already is
    /// waited for a little while.
    pub async fn stop(mut self) {
        self.local.set(None);
        self.followers.cancel();
        let until = tokio::time::Instant::now() + STOP_GRACE;
        for task in [&mut self.task, &mut self.local_task] {
            // One that has ended is not to be waited for again.
            if !task.is_finished() && tokio::time::timeout_at(until, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }

    /// Resolves when the server ends by itself, which it never should.
    pub async fn ended(&mut self) -> String {
        let ended = tokio::select! {
            ended = &mut self.task => ended,
            ended = &mut self.local_task => ended,
        };
        match ended {
            Ok(Ok(())) => "the meta service ended".to_owned(),
            Ok(Err(error)) => format!("the meta service failed: {error}"),
            Err(error) => format!("the meta service failed: {error}"),
        }
    }
}

/// Serves the meta role on a bound listener, and to clients in this process through `local`.
pub fn serve(listener: TcpListener, local: &LocalMeta, node: Arc<MetaNode>) -> io::Result<Served> {
    let addr = listener.local_addr()?;
    let followers = CancellationToken::new();
    let (connections, connected) = mpsc::channel(1);
    let leaving = followers.clone();
    local.set(Some(Present { connections, node: Arc::clone(&node), leaving }));
    let service = MetaServer::new(Service { node, followers: followers.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let connected = ReceiverStream::new(connected).map(Ok::<_, io::Error>);
    let local_server = tonic::transport::Server::builder().add_service(service.clone());
    let closed = followers.clone().cancelled_owned();
    let local_task = tokio::spawn(local_server.serve_with_incoming_shutdown(connected, closed));
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_PAUSE))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(service);
    let task = tokio::spawn(server.serve_with_incoming_shutdown(
        // Requests are small and somebody waits for each: no packet is held back.
        TcpIncoming::from(listener).with_nodelay(Some(true)),
        followers.clone().cancelled_owned(),
    ));
    Ok(Served { addr, task, local: local.clone(), followers, local_task })
}

struct Service {
    node: Arc<MetaNode>,
    followers: CancellationToken,
}

#[tonic::async_trait]
impl Meta for Service {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Followed, Status>> + Send>>;
    type VerifyStream = Pin<Box<dyn Stream<Item = Result<Json, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<WorkerRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (to_follower, stream) = mpsc::channel(64);
        let (state, mut changes) = self.node.follow(&request.into_inner().worker);
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
        tokio::spawn(self.followers.clone().run_until_cancelled_owned(sending));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn write(&self, request: Request<Json>) -> Result<Response<Json>, Status> {
        let Json { json, worker } = request.into_inner();
        let writes: Vec<Write> = from_json(&json)?;
        respond(Ok(self.node.write_all(&worker, writes).await))
    }

    async fn change_catalog(&self, request: Request<Json>) -> Result<Response<Json>, Status> {
        let Json { json, worker } = request.into_inner();
        let command: CatalogCommand = from_json(&json)?;
        if let CatalogCommand::CreateTable(create) = &command {
            let staged = self.check_staged(&worker, create.rows.iter().map(|sst| sst.id));
            staged.map_err(|e| to_status(&e))?;
        }
        respond(self.node.manager.change_catalog(command).await)
    }

    async fn alter_system(
        &self,
        request: Request<AlterSystemRequest>,
    ) -> Result<Response<Json>, Status> {
        let AlterSystemRequest { name, value } = request.into_inner();
        respond(self.node.alter_system(&name, value.as_deref()).await)
    }

    async fn flush(&self, _request: Request<FlushRequest>) -> Result<Response<Json>, Status> {
        respond(self.node.manager.flush().await)
    }

    async fn reserve_ssts(
        &self,
        request: Request<ReserveSstsRequest>,
    ) -> Result<Response<ReserveSstsResponse>, Status> {
        let first = self.node.manager.reserve_ssts(request.into_inner().count).await;
        let first = first.map_err(|e| to_status(&e))?.0;
        Ok(Response::new(ReserveSstsResponse { first }))
    }

    async fn reserve_object(
        &self,
        _request: Request<ReserveObjectRequest>,
    ) -> Result<Response<ReserveObjectResponse>, Status> {
        let id = self.node.manager.reserve_object().await.map_err(|e| to_status(&e))?.0;
        Ok(Response::new(ReserveObjectResponse { id }))
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Json>, Status> {
        let BackupRequest { remarks, copy_data } = request.into_inner();
        let (node, options) = (Arc::clone(&self.node), BackupOptions { remarks, copy_data });
        respond(job(async move { node.backup(options).await }).await)
    }

    async fn list_snapshots(
        &self,
        _request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<Json>, Status> {
        respond(self.node.list_snapshots().await)
    }

    /// Goes on as long as the caller listens: what was found until then is written down.
    async fn verify(&self, request: Request<Json>) -> Result<Response<Self::VerifyStream>, Status> {
        let asked: verify::Request = from_json(&request.into_inner().json)?;
        let (to_caller, stream) = mpsc::unbounded_channel();
        let node = Arc::clone(&self.node);
        let verifying = async move {
            let told = Told::by(to_caller.clone());
            let report = |event| told.tell(&event);
            let outcome = tokio::select! {
                outcome = Box::pin(node.verify_snapshots(&asked, &report)) => outcome,
                () = to_caller.closed() => return,
            };
            if let Err(error) = outcome {
                drop(to_caller.send(Err(to_status(&error))));
            }
        };
        tokio::spawn(self.followers.clone().run_until_cancelled_owned(verifying));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn delete_snapshots(
        &self,
        request: Request<DeleteSnapshotsRequest>,
    ) -> Result<Response<DeleteSnapshotsResponse>, Status> {
        let ids: Vec<_> = request.into_inner().ids.into_iter().map(SnapshotId).collect();
        let node = Arc::clone(&self.node);
        let deleted = job(async move { node.delete_snapshots(&ids).await }).await;
        deleted.map_err(|e| to_status(&e))?;
        Ok(Response::new(DeleteSnapshotsResponse {}))
    }

    async fn snapshot_usage(&self, _request: Request<Empty>) -> Result<Response<Json>, Status> {
        respond(self.node.snapshot_usage().await)
    }

    async fn report(&self, request: Request<Json>) -> Result<Response<ReportResponse>, Status> {
        let pins = from_json(&request.into_inner().json)?;
        let anew = self.node.report(pins).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(ReportResponse { anew }))
    }

    async fn worker_nodes(&self, _request: Request<Empty>) -> Result<Response<Json>, Status> {
        respond(Ok(self.node.worker_nodes()))
    }

    async fn claim_compaction(
        &self,
        request: Request<WorkerRequest>,
    ) -> Result<Response<Json>, Status> {
        let WorkerRequest { worker } = request.into_inner();
        if worker.is_empty() {
            return Err(Status::invalid_argument("only a worker that has a name may compact"));
        }
        respond(Ok(self.node.claim_for(&worker)))
    }

    async fn commit_compaction(&self, request: Request<Json>) -> Result<Response<Json>, Status> {
        let Json { json, worker } = request.into_inner();
        let compaction: Compaction = from_json(&json)?;
        let staged = self.check_staged(&worker, compaction.born.iter().map(|sst| sst.id));
        staged.map_err(|e| to_status(&e))?;
        respond(self.node.manager.compact(compaction).await)
    }

    async fn release_compaction(
        &self,
        request: Request<ReleaseCompactionRequest>,
    ) -> Result<Response<Empty>, Status> {
        let ReleaseCompactionRequest { worker, table, compacted } = request.into_inner();
        self.node.release(&worker, ObjectId(table), compacted);
        Ok(Response::new(Empty {}))
    }

    async fn pinned_versions(&self, _request: Request<Empty>) -> Result<Response<Json>, Status> {
        respond(Ok(self.node.workers.pinned(self.node.manager.clock().monotonic_ms())))
    }

    async fn compact(&self, request: Request<CompactRequest>) -> Result<Response<Json>, Status> {
        let CompactRequest { schema, table } = request.into_inner();
        let node = Arc::clone(&self.node);
        respond(
            job(async move {
                let table = schema.as_deref().zip(table.as_deref());
                node.compact_all(table).await
            })
            .await,
        )
    }

    async fn vacuum(&self, request: Request<VacuumRequest>) -> Result<Response<Json>, Status> {
        let VacuumRequest { retention_ms, dry_run } = request.into_inner();
        let node = Arc::clone(&self.node);
        respond(job(async move { node.vacuum(retention_ms, dry_run).await }).await)
    }

    async fn explain_object(
        &self,
        request: Request<ExplainObjectRequest>,
    ) -> Result<Response<Json>, Status> {
        respond(self.node.explain_object(&request.into_inner().name).await)
    }

    async fn backup_locations(&self, _request: Request<Empty>) -> Result<Response<Json>, Status> {
        respond(self.node.locations().await)
    }

    async fn forget_backup_location(
        &self,
        request: Request<Json>,
    ) -> Result<Response<Empty>, Status> {
        let location = from_json(&request.into_inner().json)?;
        self.node.forget_location(location).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(Empty {}))
    }
}

impl Service {
    fn check_staged(
        &self,
        worker: &str,
        files: impl Iterator<Item = SstId>,
    ) -> Result<(), MetaError> {
        let now_ms = self.node.manager.clock().monotonic_ms();
        self.node.workers.check_staged(worker, files, now_ms)
    }
}

/// Between two words of how far the files of a snapshot are.
const FILES_PAUSE: Duration = Duration::from_millis(200);

/// Passes on what a verification tells. There is an event for each snapshot, and one now and then of files.
struct Told {
    to: mpsc::UnboundedSender<Result<Json, Status>>,
    files_at: Mutex<Instant>,
}

impl Told {
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
        // A caller that has gone away ends the verification.
        drop(self.to.send(to_json(event)));
    }
}

/// Runs a job that goes on when its caller goes away.
async fn job<T: Send + 'static>(
    work: impl Future<Output = Result<T, MetaError>> + Send + 'static,
) -> Result<T, MetaError> {
    let outcome = tokio::spawn(work).await;
    outcome.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string())).flatten()
}

fn respond<T: serde::Serialize>(outcome: Result<T, MetaError>) -> Result<Response<Json>, Status> {
    to_json(&outcome.map_err(|e| to_status(&e))?).map(Response::new)
}

/// Sends the state, its version as it is encoded.
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

/// Sends what is written, a message for each write.
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
