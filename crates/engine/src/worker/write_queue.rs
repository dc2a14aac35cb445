//! Writes of many sessions on their way to the meta role: those that wait at the same time go in one
//! call, and there share a commit.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::meta::command::{Committed, Write};
use crate::rpc::MetaClient;
use tidemark_ledger::meta_error::RpcError;
use tidemark_ledger::sst_ids::Staging;

/// Writes that one call carries at most.
const WRITES_MAX: usize = 256;

struct Waiting {
    write: Write,
    /// Vacuum leaves the files of the write alone until it is answered.
    staged: Vec<Arc<Staging>>,
    answer: oneshot::Sender<Result<Committed, RpcError>>,
}

/// Hands writes on, one call at a time: what comes while one is under way goes with the next. A meta role
/// of this process gets each at once, and makes groups of them itself.
#[derive(Clone, Debug)]
pub struct WriteQueue {
    client: MetaClient,
    waiting: mpsc::Sender<Waiting>,
}

impl WriteQueue {
    /// Ends with the last handle.
    pub fn start(client: MetaClient) -> Self {
        let (sender, waiting) = mpsc::channel(WRITES_MAX);
        tokio::spawn(hand_on(client.clone(), waiting));
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

async fn hand_on(client: MetaClient, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, WRITES_MAX).await > 0 {
        // Who was cancelled meanwhile has written nothing.
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
            // Who was cancelled no longer waits; the commit stands.
            drop(answer.send(outcome));
            drop(staged);
        }
    }
}
