//! The client side of a frontend or compactor: follows the metadata, stages files under its own ids,
//! and reports every second what it reads and which files it has not committed yet.

pub mod pins;
pub mod write_queue;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::meta::command::WorkerInfo;
use crate::rpc::{MetaClient, Replica};
use crate::worker::pins::Pins;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::sst_ids::SstIdPool;

/// Interval of reports to the meta role.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// A worker of the cluster. Its reports end when it is dropped.
#[derive(Debug)]
pub struct Worker {
    pub client: MetaClient,
    pub replica: Replica,
    pub sst_ids: Arc<SstIdPool>,
    pub pins: Arc<Pins>,
    pub info: WorkerInfo,
    _reporting: JoinSet<()>,
}

impl Worker {
    /// Follows the meta role. Returns once the metadata has arrived.
    pub async fn start(client: MetaClient, info: WorkerInfo) -> Result<Self, RpcError> {
        let client = client.as_worker();
        let pool: Arc<OnceLock<Arc<SstIdPool>>> = Arc::default();
        let renewed = Arc::clone(&pool);
        // A meta role that is followed anew does not know the ids that another one handed out.
        let replica = Replica::start(client.clone(), move || {
            if let Some(pool) = renewed.get() {
                pool.renew();
            }
        });
        let replica = replica.await?;
        let reserving = client.clone();
        let sst_ids = SstIdPool::start(move |count| {
            let client = reserving.clone();
            Box::pin(async move { client.reserve_ssts(count).await })
        });
        let sst_ids = sst_ids.await;
        let sst_ids = Arc::clone(pool.get_or_init(|| sst_ids));
        let pins = Arc::new(Pins::default());
        let mut worker = Self { client, replica, sst_ids, pins, info, _reporting: JoinSet::new() };
        let reporter = worker.reporter();
        worker._reporting.spawn(reporter.report_forever());
        Ok(worker)
    }

    /// Reports to the meta role now what is in use.
    pub async fn report(&self) -> Result<(), RpcError> {
        self.reporter().report().await
    }

    fn reporter(&self) -> Reporter {
        Reporter {
            client: self.client.clone(),
            replica: self.replica.clone(),
            sst_ids: Arc::clone(&self.sst_ids),
            pins: Arc::clone(&self.pins),
            info: self.info.clone(),
        }
    }
}

struct Reporter {
    client: MetaClient,
    replica: Replica,
    sst_ids: Arc<SstIdPool>,
    pins: Arc<Pins>,
    info: WorkerInfo,
}

impl Reporter {
    async fn report(&self) -> Result<(), RpcError> {
        let worker = self.client.worker();
        let report = self.pins.report(worker, &self.info, &self.replica, &self.sst_ids);
        if self.client.report(&report).await? {
            // The meta role had given this worker up: files under the reserved ids may be deleted.
            self.sst_ids.renew();
        }
        Ok(())
    }

    async fn report_forever(self) {
        let mut lost = false;
        loop {
            match self.report().await {
                Ok(()) => lost = false,
                Err(error) if !lost => {
                    lost = true;
                    tracing::warn!(%error, "could not tell the meta role what is in use");
                }
                Err(_) => {}
            }
            tokio::time::sleep(REPORT_PAUSE).await;
        }
    }
}
