//! The server side of the RPC: the meta role as a gRPC service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::{from_json, to_json, to_status};
use super::dial::{LocalMeta, Present};
use super::jobs;
use super::limits::{self, BySize, LARGE_BYTES_MAX, SMALL_BYTES_MAX};
use super::proto::meta_server::{Meta, MetaServer};
use super::proto::{
    AlterSystemRequest, BackupRequest, CompactRequest, DeleteSnapshotsRequest,
    DeleteSnapshotsResponse, Empty, ExplainObjectRequest, FlushRequest, Followed, Json,
    ListSnapshotsRequest, ListSnapshotsResponse, ReleaseCompactionRequest, RepairObjectRequest,
    ReportResponse, ReserveObjectRequest, ReserveObjectResponse, ReserveSstsRequest,
    ReserveSstsResponse, VacuumRequest, WorkerRequest,
};
use crate::meta::MetaNode;
use crate::meta::command::{BackupOptions, CatalogCommand, Compaction, Write};
use tidemark_ledger::backup::verify;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId};
use tidemark_ledger::meta_error::MetaError;

/// How long requests in flight may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A running RPC server.
#[derive(Debug)]
pub struct Served {
    pub addr: SocketAddr,
    task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    local: LocalMeta,
    /// Closes connections and disconnects followers: a connection ends only when nothing is in flight on it.
    followers: CancellationToken,
    local_task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    /// Stops accepting requests, closes every connection and disconnects followers. Waits briefly for
    /// requests in flight.
    pub async fn stop(mut self) {
        self.local.set(None);
        self.followers.cancel();
        let until = tokio::time::Instant::now() + STOP_GRACE;
        for task in [&mut self.task, &mut self.local_task] {
            // A task that has ended must not be awaited again.
            if !task.is_finished() && tokio::time::timeout_at(until, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }

    /// Resolves with the reason if the server ends on its own, which it never should.
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
    let service = Arc::new(Service { node, followers: followers.clone() });
    let service = |bytes_max| {
        MetaServer::from_arc(Arc::clone(&service))
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(LARGE_BYTES_MAX)
    };
    let service = BySize { small: service(SMALL_BYTES_MAX), large: service(LARGE_BYTES_MAX) };
    let connected = ReceiverStream::new(connected).map(Ok::<_, io::Error>);
    let local_server = tonic::transport::Server::builder().add_service(service.clone());
    let closed = followers.clone().cancelled_owned();
    let local_task = tokio::spawn(local_server.serve_with_incoming_shutdown(connected, closed));
    let server = limits::server().add_service(service);
    let closed = followers.clone().cancelled_owned();
    let task =
        tokio::spawn(server.serve_with_incoming_shutdown(limits::accepted(listener), closed));
    Ok(Served { addr, task, local: local.clone(), followers, local_task })
}

struct Service {
    node: Arc<MetaNode>,
    followers: CancellationToken,
}

#[tonic::async_trait]
impl Meta for Service {
    type FollowStream = BoxStream<'static, Result<Followed, Status>>;
    type VerifyStream = BoxStream<'static, Result<Json, Status>>;

    async fn follow(
        &self,
        request: Request<WorkerRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let worker = request.into_inner().worker;
        Ok(Response::new(jobs::follow(&self.node, &self.followers, &worker)))
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
        respond(jobs::backup(&self.node, BackupOptions { remarks, copy_data }).await)
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let listed = self.node.list_snapshots().await.map_err(|e| to_status(&e))?;
        let is_known = listed.sha256().to_string() == request.into_inner().known_sha256;
        let manifest = (!is_known).then(|| listed.bytes().to_vec());
        Ok(Response::new(ListSnapshotsResponse { manifest }))
    }

    /// Verifies as long as the caller listens. What was found until then has been recorded.
    async fn verify(&self, request: Request<Json>) -> Result<Response<Self::VerifyStream>, Status> {
        let asked: verify::Request = from_json(&request.into_inner().json)?;
        Ok(Response::new(jobs::verify(&self.node, &self.followers, asked)))
    }

    async fn delete_snapshots(
        &self,
        request: Request<DeleteSnapshotsRequest>,
    ) -> Result<Response<DeleteSnapshotsResponse>, Status> {
        let ids: Vec<_> = request.into_inner().ids.into_iter().map(SnapshotId).collect();
        let deleted = jobs::delete_snapshots(&self.node, ids).await;
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
        respond(Ok(self.node.claim(&worker)))
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
        respond(jobs::compact(&self.node, schema.zip(table)).await)
    }

    async fn vacuum(&self, request: Request<VacuumRequest>) -> Result<Response<Json>, Status> {
        let VacuumRequest { retention_ms, dry_run } = request.into_inner();
        respond(jobs::vacuum(&self.node, retention_ms, dry_run).await)
    }

    async fn explain_object(
        &self,
        request: Request<ExplainObjectRequest>,
    ) -> Result<Response<Json>, Status> {
        respond(self.node.explain_object(&request.into_inner().name).await)
    }

    async fn repair_object(
        &self,
        request: Request<RepairObjectRequest>,
    ) -> Result<Response<Json>, Status> {
        respond(jobs::repair_object(&self.node, SstId(request.into_inner().sst)).await)
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

fn respond<T: serde::Serialize>(outcome: Result<T, MetaError>) -> Result<Response<Json>, Status> {
    to_json(&outcome.map_err(|e| to_status(&e))?).map(Response::new)
}
