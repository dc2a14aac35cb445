//! The client side of the RPC, and the replica of the metadata that it feeds.

use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};
use tracing::warn;

use super::convert::{from_json, from_status, to_json};
use super::dial::{Dial, LocalMeta, NotConnected, Present};
use super::limits::LARGE_BYTES_MAX;
use super::proto::followed::Part;
use super::proto::meta_client::MetaClient as Grpc;
use super::proto::{
    AlterSystemRequest, BackupRequest, CompactRequest, DeleteSnapshotsRequest, Empty,
    ExplainObjectRequest, FlushRequest, Json, ListSnapshotsRequest, ReleaseCompactionRequest,
    RepairObjectRequest, ReserveObjectRequest, ReserveSstsRequest, VacuumRequest, WorkerRequest,
};
use crate::compaction::Task;
use crate::meta::command::{BackupOptions, CatalogCommand, Committed, Compaction, Pins, Write};
use crate::meta::compaction::CompactionReport;
use crate::meta::maintenance::SnapshotUsage;
use crate::meta::manager::{Published, SharedState};
use crate::meta::workers::{PinnedVersion, WorkerNode};
use crate::meta::{MetaNode, Repaired};
use tidemark_ledger::backup::{ManifestCache, ManifestEntry, ReadManifest, verify};
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::{ObjectId, SnapshotId, SstId};
use tidemark_ledger::meta_error::{MetaError, RpcError};
use tidemark_ledger::meta_store::Pair;
use tidemark_ledger::state::{Change, State};
use tidemark_ledger::storage::{ChunkReader, StorageLocation};
use tidemark_ledger::vacuum::{Holder, Plan};
use tidemark_ledger::version::{Version, encoding};

/// The URI of all requests. The connector finds the address of the meta role.
const META_URI: &str = "http://meta";
/// Buffer size in each direction of an in-process connection.
const LOCAL_BUFFER_BYTES: usize = 256 << 10;
/// How long the meta role may be silent before the first state is complete.
const FIRST_STATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of keep-alive pings, and the timeout of each.
const PING_PAUSE: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a session waits to see its own commit, which is durable anyway.
const SEE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before following a lost meta role again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// A connection to the meta role. Cheap to clone; reconnects automatically.
#[derive(Clone, Debug)]
pub struct MetaClient {
    addr: String,
    /// The name under which this client stages files and follows; empty if it does neither.
    worker: String,
    /// The meta role of this process, which is present only while it leads.
    local: Option<LocalMeta>,
    /// The manifest that was listed last.
    manifests: Arc<ManifestCache>,
    grpc: Grpc<Channel>,
}

impl MetaClient {
    /// Connects to `host:port` or `http://host:port`. Of several addresses, separated by commas, picks
    /// the one that has the meta role.
    pub async fn connect(addrs: &str) -> Result<Self, RpcError> {
        let dial = Dial::parse(addrs);
        let connector = tower::service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { dial.connect().await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static(META_URI)
            .http2_keep_alive_interval(PING_PAUSE)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        Self::over(endpoint.connect_with_connector(connector).await, addrs)
    }

    /// Connects to the meta role of this process: the same calls, without a socket. `addr` names it in
    /// errors.
    pub async fn connect_local(local: &LocalMeta, addr: &str) -> Result<Self, RpcError> {
        let (local, kept) = (local.clone(), local.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let local = local.clone();
            async move { local.connect(LOCAL_BUFFER_BYTES).await.map(TokioIo::new) }
        });
        let connected = Endpoint::from_static(META_URI).connect_with_connector(connector).await;
        Ok(Self { local: Some(kept), ..Self::over(connected, addr)? })
    }

    fn over(
        connected: Result<Channel, tonic::transport::Error>,
        addr: &str,
    ) -> Result<Self, RpcError> {
        let addr = addr.to_owned();
        match connected {
            Ok(channel) => {
                let grpc = Grpc::new(channel)
                    .max_decoding_message_size(LARGE_BYTES_MAX)
                    .max_encoding_message_size(LARGE_BYTES_MAX);
                Ok(Self {
                    addr,
                    worker: String::new(),
                    local: None,
                    manifests: Arc::default(),
                    grpc,
                })
            }
            Err(error) => Err(RpcError::Unreachable { addr, reason: deepest(&error).to_string() }),
        }
    }

    /// The same connection as a worker, under a unique name.
    #[must_use]
    pub fn as_worker(self) -> Self {
        Self { worker: uuid::Uuid::new_v4().simple().to_string(), ..self }
    }

    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The address of the meta role.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The meta role of this process, while it leads.
    pub(crate) fn present(&self) -> Option<Arc<MetaNode>> {
        Some(self.local.as_ref()?.present()?.node)
    }

    /// Commits staged writes, each on its own; returns the outcomes in order.
    pub async fn write_all(
        &self,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<Committed, MetaError>>, RpcError> {
        let request = self.signed(to_json(&writes).map_err(|e| self.error(&e))?);
        let outcomes: Vec<_> = self.json(self.grpc.clone().write(request).await)?;
        if outcomes.len() == writes.len() {
            return Ok(outcomes);
        }
        let reason = format!("{} outcomes of {} writes", outcomes.len(), writes.len());
        Err(RpcError::Lost { addr: self.addr.clone(), reason })
    }

    pub async fn change_catalog(&self, command: &CatalogCommand) -> Result<Committed, RpcError> {
        let request = self.signed(to_json(command).map_err(|e| self.error(&e))?);
        self.json(self.grpc.clone().change_catalog(request).await)
    }

    /// Changes a cluster parameter; `None` resets it to its default.
    pub async fn alter_system(
        &self,
        name: &str,
        value: Option<String>,
    ) -> Result<Committed, RpcError> {
        let request = AlterSystemRequest { name: name.to_owned(), value };
        self.json(self.grpc.clone().alter_system(request).await)
    }

    pub async fn flush(&self) -> Result<Committed, RpcError> {
        self.json(self.grpc.clone().flush(FlushRequest {}).await)
    }

    /// Reserves `count` file ids for the caller; returns the first.
    pub async fn reserve_ssts(&self, count: u32) -> Result<SstId, RpcError> {
        let answer = self.grpc.clone().reserve_ssts(ReserveSstsRequest { count }).await;
        answer.map(|r| SstId(r.into_inner().first)).map_err(|e| self.error(&e))
    }

    pub async fn reserve_object(&self) -> Result<ObjectId, RpcError> {
        let answer = self.grpc.clone().reserve_object(ReserveObjectRequest {}).await;
        answer.map(|r| ObjectId(r.into_inner().id)).map_err(|e| self.error(&e))
    }

    pub async fn backup(&self, options: BackupOptions) -> Result<ManifestEntry, RpcError> {
        let BackupOptions { remarks, copy_data } = options;
        self.json(self.grpc.clone().backup(BackupRequest { remarks, copy_data }).await)
    }

    /// The manifest of the current backup location. It is sent only if it has changed since the last call.
    pub async fn list_snapshots(&self) -> Result<ReadManifest, RpcError> {
        let last = self.manifests.last();
        let request = ListSnapshotsRequest { known_sha256: last.sha256().to_string() };
        let answer = self.grpc.clone().list_snapshots(request).await;
        let answer = answer.map_err(|e| changes_nothing(self.error(&e)))?.into_inner();
        match answer.manifest {
            None => Ok(last),
            Some(bytes) => self.manifests.decode(bytes.into()).map_err(|what| RpcError::Lost {
                addr: self.addr.clone(),
                reason: format!("manifest: {what}"),
            }),
        }
    }

    /// Verifies snapshots; reports events as they arrive.
    pub async fn verify_snapshots(
        &self,
        request: &verify::Request,
        report: verify::Report<'_>,
    ) -> Result<(), RpcError> {
        let request = to_json(request).map_err(|e| self.error(&e))?;
        let unreachable = |error: Status| changes_nothing(self.error(&error));
        let mut events = self.grpc.clone().verify(request).await.map_err(unreachable)?.into_inner();
        while let Some(event) = events.message().await.map_err(unreachable)? {
            report(from_json(&event.json).map_err(|e| self.error(&e))?);
        }
        Ok(())
    }

    pub async fn delete_snapshots(&self, ids: Vec<SnapshotId>) -> Result<(), RpcError> {
        let ids = ids.into_iter().map(|id| id.0).collect();
        let answer = self.grpc.clone().delete_snapshots(DeleteSnapshotsRequest { ids }).await;
        answer.map(|_| ()).map_err(|e| self.error(&e))
    }

    /// What deleting each of the listed snapshots would free; empty while this is not known.
    pub async fn snapshot_usage(&self) -> Result<Vec<SnapshotUsage>, RpcError> {
        self.query_reply(self.grpc.clone().snapshot_usage(Empty {}).await)
    }

    /// Reports what this worker needs. Returns whether it had been given up before.
    pub async fn report(&self, pins: &Pins) -> Result<bool, RpcError> {
        let request = to_json(pins).map_err(|e| self.error(&e))?;
        let answer = self.grpc.clone().report(request).await;
        answer.map(|r| r.into_inner().anew).map_err(|e| self.error(&e))
    }

    /// The processes of the cluster.
    pub async fn worker_nodes(&self) -> Result<Vec<WorkerNode>, RpcError> {
        self.query_reply(self.grpc.clone().worker_nodes(Empty {}).await)
    }

    /// Claims a table to compact. No other worker gets it until it is released or this one stops reporting.
    pub async fn claim_compaction(&self) -> Result<Option<Task>, RpcError> {
        let request = WorkerRequest { worker: self.worker.clone() };
        self.query_reply(self.grpc.clone().claim_compaction(request).await)
    }

    pub async fn commit_compaction(&self, compaction: &Compaction) -> Result<Committed, RpcError> {
        let request = self.signed(to_json(compaction).map_err(|e| self.error(&e))?);
        self.json(self.grpc.clone().commit_compaction(request).await)
    }

    pub async fn release_compaction(
        &self,
        table: ObjectId,
        compacted: bool,
    ) -> Result<(), RpcError> {
        let worker = self.worker.clone();
        let request = ReleaseCompactionRequest { worker, table: table.0, compacted };
        self.done(self.grpc.clone().release_compaction(request).await)
    }

    pub async fn pinned_versions(&self) -> Result<Vec<PinnedVersion>, RpcError> {
        self.query_reply(self.grpc.clone().pinned_versions(Empty {}).await)
    }

    /// Compacts a table, given by schema and name, or all.
    pub async fn compact(
        &self,
        table: Option<(String, String)>,
    ) -> Result<CompactionReport, RpcError> {
        let (schema, table) = table.unzip();
        self.json(self.grpc.clone().compact(CompactRequest { schema, table }).await)
    }

    pub async fn vacuum(&self, retention_ms: Option<u64>, dry_run: bool) -> Result<Plan, RpcError> {
        self.json(self.grpc.clone().vacuum(VacuumRequest { retention_ms, dry_run }).await)
    }

    /// What holds an object of the data directory.
    pub async fn explain_object(&self, name: String) -> Result<Vec<Holder>, RpcError> {
        self.query_reply(self.grpc.clone().explain_object(ExplainObjectRequest { name }).await)
    }

    /// Replaces a damaged data file with a good copy.
    pub async fn repair_object(&self, sst: SstId) -> Result<Repaired, RpcError> {
        self.json(self.grpc.clone().repair_object(RepairObjectRequest { sst: sst.0 }).await)
    }

    pub async fn backup_locations(&self) -> Result<Vec<StorageLocation>, RpcError> {
        self.query_reply(self.grpc.clone().backup_locations(Empty {}).await)
    }

    pub async fn forget_backup_location(&self, location: &StorageLocation) -> Result<(), RpcError> {
        let request = to_json(location).map_err(|e| self.error(&e))?;
        self.done(self.grpc.clone().forget_backup_location(request).await)
    }

    fn signed(&self, message: Json) -> Json {
        Json { worker: self.worker.clone(), ..message }
    }

    fn done(&self, answer: Result<Response<Empty>, Status>) -> Result<(), RpcError> {
        answer.map(|_| ()).map_err(|e| self.error(&e))
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        answer: Result<Response<Json>, Status>,
    ) -> Result<T, RpcError> {
        let message = answer.map_err(|e| self.error(&e))?.into_inner();
        from_json(&message.json).map_err(|e| self.error(&e))
    }

    /// The reply to a query. It changes nothing, so it does not matter whether it was carried out.
    fn query_reply<T: serde::de::DeserializeOwned>(
        &self,
        answer: Result<Response<Json>, Status>,
    ) -> Result<T, RpcError> {
        self.json(answer).map_err(changes_nothing)
    }

    fn error(&self, status: &Status) -> RpcError {
        match from_status(status) {
            Some(error) => RpcError::Refused(error),
            None => {
                let (addr, cause) = (self.addr.clone(), deepest(status));
                match cause.downcast_ref::<NotConnected>() {
                    Some(cause) => RpcError::Unreachable { addr, reason: cause.to_string() },
                    None if std::error::Error::source(status).is_some() => {
                        RpcError::Lost { addr, reason: cause.to_string() }
                    }
                    None => RpcError::Lost { addr, reason: status.message().to_owned() },
                }
            }
        }
    }

    /// Takes over a whole state, then applies each change, until the stream ends.
    async fn follow(
        &self,
        replica: &Arc<SharedState>,
        followed: &(dyn Fn() + Send + Sync),
        heard: &AtomicU64,
    ) -> Result<(), String> {
        match self.local.as_ref().and_then(LocalMeta::present) {
            Some(present) => self.share(present, replica, followed).await,
            None => self.receive(replica, followed, heard).await?,
        }
        Err("the meta role closed the stream".to_owned())
    }

    /// Shares the state of this process's meta role with the replica: a large one exists only once.
    async fn share(
        &self,
        Present { node, leaving, .. }: Present,
        replica: &Arc<SharedState>,
        followed: &(dyn Fn() + Send + Sync),
    ) {
        drop(node.follow(&self.worker));
        let shared = Sharing { published: node.manager.published(), replica };
        drop(node);
        followed();
        shared.published.share(replica);
        leaving.cancelled().await;
    }

    async fn receive(
        &self,
        replica: &SharedState,
        followed: &(dyn Fn() + Send + Sync),
        heard: &AtomicU64,
    ) -> Result<(), String> {
        let answer = self.grpc.clone().follow(WorkerRequest { worker: self.worker.clone() }).await;
        let mut stream = answer.map_err(|e| e.message().to_owned())?.into_inner();
        followed();
        let (mut pairs, mut version) = (Vec::new(), None);
        let mut state: Option<Arc<State>> = None;
        while let Some(message) = stream.message().await.map_err(|e| e.message().to_owned())? {
            heard.fetch_add(1, Ordering::Relaxed);
            match message.part {
                Some(Part::Pairs(part)) => pairs = decode_pairs(&part)?,
                Some(Part::Version(piece)) => {
                    version.get_or_insert_with(VersionDecoder::start).add(piece).await;
                }
                Some(Part::Complete(_)) => {
                    let whole = version.take().ok_or("the state came without its version")?;
                    let version = whole.complete().await?;
                    let whole = State::decode(&pairs, version).map_err(|e| e.to_string())?;
                    state = Some(Arc::new(whole));
                }
                Some(Part::Change(change)) => {
                    let change: Change =
                        serde_json::from_slice(&change).map_err(|e| e.to_string())?;
                    state = state.map(|state| Arc::new(state.apply(&change)));
                }
                None => {}
            }
            if state.is_some() {
                replica.send_replace(state.clone());
            }
        }
        Ok(())
    }
}

/// Maps the error of a query. It changes nothing, so it does not matter whether it was carried out.
fn changes_nothing(error: RpcError) -> RpcError {
    match error {
        RpcError::Lost { addr, reason } => RpcError::Unreachable { addr, reason },
        other => other,
    }
}

/// Ends the sharing that [`Published::share`] starts, also when the follower is dropped.
struct Sharing<'a> {
    published: Arc<Published>,
    replica: &'a Arc<SharedState>,
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        self.published.unshare(self.replica);
    }
}

/// A version that arrives in pieces, and is decoded meanwhile.
struct VersionDecoder {
    pieces: mpsc::Sender<Bytes>,
    decoded: JoinHandle<Result<Version, HummockError>>,
}

impl VersionDecoder {
    fn start() -> Self {
        let (pieces, reader) = ChunkReader::of_chunks();
        let decode = move || encoding::decode(BufReader::new(reader));
        Self { pieces, decoded: tokio::task::spawn_blocking(decode) }
    }

    async fn add(&mut self, piece: Vec<u8>) {
        // A decoder that accepts no more has failed, and returns its error at the end.
        drop(self.pieces.send(piece.into()).await);
    }

    async fn complete(self) -> Result<Version, String> {
        drop(self.pieces);
        self.decoded.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

fn deepest<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest
}

fn decode_pairs(part: &[u8]) -> Result<Vec<Pair>, String> {
    let pairs: Vec<(String, Vec<u8>)> = serde_json::from_slice(part).map_err(|e| e.to_string())?;
    Ok(pairs.into_iter().map(|(key, value)| Pair { key, value: value.into() }).collect())
}

/// A worker's replica of the metadata: always some committed state, soon the newest.
#[derive(Clone, Debug)]
pub struct Replica {
    state: watch::Receiver<Option<Arc<State>>>,
    followed: Arc<AtomicBool>,
    /// Ends the following task when the last handle is dropped.
    follower: Arc<Follower>,
}

#[derive(Debug)]
struct Follower(tokio::task::AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Replica {
    /// Follows the meta role; returns once the first state has arrived. `followed` is called each time
    /// the meta role has accepted this worker.
    pub async fn start(
        client: MetaClient,
        followed: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, RpcError> {
        let sender = Arc::new(SharedState::new(None));
        let mut state = sender.subscribe();
        let addr = client.addr.clone();
        let is_followed = Arc::new(AtomicBool::new(true));
        let known = Arc::clone(&is_followed);
        let heard = Arc::new(AtomicU64::new(0));
        let hearing = Arc::clone(&heard);
        let follower = tokio::spawn(async move {
            let taken_up = || {
                known.store(true, Ordering::Relaxed);
                followed();
            };
            loop {
                if let Err(reason) = client.follow(&sender, &taken_up, &hearing).await
                    && known.swap(false, Ordering::Relaxed)
                {
                    warn!(%reason, "lost the meta role; following it again");
                }
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        });
        let mut heard_before = 0;
        let is_there = loop {
            let first = state.wait_for(Option::is_some);
            if let Ok(first) = tokio::time::timeout(FIRST_STATE_TIMEOUT, first).await {
                break first.is_ok();
            }
            let heard = heard.load(Ordering::Relaxed);
            if heard == heard_before {
                break false;
            }
            heard_before = heard;
        };
        if !is_there {
            follower.abort();
            let reason = "it sent no metadata".to_owned();
            return Err(RpcError::Unreachable { addr, reason });
        }
        Ok(Self {
            state,
            followed: is_followed,
            follower: Arc::new(Follower(follower.abort_handle())),
        })
    }

    /// The newest state in this replica.
    pub fn state(&self) -> Arc<State> {
        let state = self.state.borrow().clone();
        state.expect("a replica starts with a state and never loses it")
    }

    /// Waits until `look` finds something, and returns it; `None` on a timeout.
    pub async fn wait_for<T>(
        &self,
        timeout: Duration,
        look: impl Fn(&State) -> Option<T>,
    ) -> Option<T> {
        let mut watched = self.state.clone();
        let found = |s: &Option<Arc<State>>| s.as_ref().is_some_and(|s| look(s).is_some());
        let waited = tokio::time::timeout(timeout, watched.wait_for(found)).await;
        let state = waited.ok()?.ok()?.clone()?;
        look(&state)
    }

    /// Stops following; the state stays what it is.
    pub fn unfollow(&self) {
        self.follower.0.abort();
    }

    /// Whether the replica follows the meta role at present.
    pub fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Waits until the state has `revision`, as a session does after its own commit, and returns it. On
    /// a timeout, as when the meta role is lost, returns the newest state known here.
    pub async fn at_revision(&self, revision: u64) -> Arc<State> {
        let mut watched = self.state.clone();
        let reached = |s: &Option<Arc<State>>| s.as_ref().is_some_and(|s| s.revision >= revision);
        drop(tokio::time::timeout(SEE_TIMEOUT, watched.wait_for(reached)).await);
        self.state()
    }
}
