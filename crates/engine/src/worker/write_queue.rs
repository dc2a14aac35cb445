//! The queue of writes from many sessions to the meta role: those that wait at the same time go in one
//! call, and share a commit there.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::meta::command::{Committed, Write};
use crate::rpc::MetaClient;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::sst_ids::Staging;

/// Maximum number of writes in one call.
const WRITES_MAX: usize = 256;

struct Waiting {
    write: Write,
    /// Vacuum does not delete the files of the write before the reply.
    staged: Vec<Arc<Staging>>,
    answer: oneshot::Sender<Result<Committed, RpcError>>,
}

/// Sends writes, one call at a time: what arrives during a call goes with the next one. A meta role in
/// this process gets each write at once, and groups them itself.
#[derive(Clone, Debug)]
pub struct WriteQueue {
    client: MetaClient,
    waiting: mpsc::Sender<Waiting>,
}

impl WriteQueue {
    /// Starts the queue; it ends when the last handle is dropped.
    pub fn start(client: MetaClient) -> Self {
        let (sender, waiting) = mpsc::channel(WRITES_MAX);
        tokio::spawn(send_batches(client.clone(), waiting));
        Self { client, waiting: sender }
    }

    /// Commits staged rows.
    pub async fn commit(
        &self,
        write: Write,
        staged: Vec<Arc<Staging>>,
    ) -> Result<Committed, RpcError> {
        if let Some(node) = self.client.present() {
            return Ok(node.write(self.client.worker(), write, staged).await?);
        }
        let (answer, answered) = oneshot::channel();
        let gone = || RpcError::Unreachable {
            addr: self.client.addr().to_owned(),
            reason: "the server is stopping".to_owned(),
        };
        let waiting = Waiting { write, staged, answer };
        self.waiting.send(waiting).await.map_err(|_| gone())?;
        answered.await.map_err(|_| RpcError::Lost {
            addr: self.client.addr().to_owned(),
            reason: "the server is stopping".to_owned(),
        })?
    }
}

async fn send_batches(client: MetaClient, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, WRITES_MAX).await > 0 {
        // Nothing is written for a session that was cancelled meanwhile.
        batch.retain(|waiting: &Waiting| !waiting.answer.is_closed());
        let mut writes = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Waiting { write, staged, answer } in batch.drain(..) {
            writes.push(write);
            waiting.push((staged, answer));
        }
        if writes.is_empty() {
            continue;
        }
        let outcomes = match client.write_all(writes).await {
            Ok(outcomes) => outcomes.into_iter().map(|o| o.map_err(RpcError::from)).collect(),
            Err(error) => vec![Err(error); waiting.len()],
        };
        for ((staged, answer), outcome) in waiting.into_iter().zip(outcomes) {
            // A cancelled session no longer waits; the commit stands.
            drop(answer.send(outcome));
            drop(staged);
        }
    }
}
