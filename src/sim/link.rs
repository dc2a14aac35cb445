//! Messages between a worker and the meta role: they are delayed, reordered, lost in either direction,
//! and doubled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::chaos::Chaos;
use super::meta_store::Shared;
use tidemark_engine::meta::MetaNode;
use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::Process;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};

/// A meta server.
#[derive(Clone, Debug)]
pub struct Server {
    pub process: Arc<Process>,
    pub node: Arc<MetaNode>,
    pub meta: Arc<Shared>,
}

/// The connection to the current meta role.
#[derive(Debug)]
pub struct Link {
    pub chaos: Arc<Chaos>,
    server: Mutex<Option<Server>>,
}

/// The error for a request that may have been carried out.
const LOST: &str = "lost the meta role before it answered";

impl Link {
    pub fn new(chaos: &Arc<Chaos>) -> Arc<Self> {
        Arc::new(Self { chaos: Arc::clone(chaos), server: Mutex::default() })
    }

    pub fn set(&self, server: Option<Server>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    pub fn server(&self) -> Option<Server> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        server.filter(|server| !server.process.is_dead())
    }

    async fn on_the_way(&self) {
        let delay_ms = match self.chaos.below(60) {
            0 => self.chaos.below(5_000),
            _ => self.chaos.below(15),
        };
        ambient::sleep(Duration::from_millis(delay_ms)).await;
    }

    /// Whether `what` happens to this message; logs and counts it if so.
    fn happens(&self, what: &'static str, one_in: u64) -> bool {
        let happens = self.chaos.is_on() && self.chaos.one_in(one_in);
        if happens {
            self.chaos.event(what);
            self.chaos.count(what);
        }
        happens
    }

    /// Sends a request to the meta role.
    pub async fn call<T, F>(
        &self,
        what: &'static str,
        ask: impl Fn(Arc<MetaNode>) -> F,
    ) -> Result<T, MetaError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, MetaError>> + Send + 'static,
    {
        self.chaos.may_crash().await;
        let Some(server) = self.server() else {
            ambient::sleep(Duration::from_millis(500)).await;
            return Err(MetaError::new(ErrorKind::Storage, "cannot reach the meta role"));
        };
        self.chaos.event(&format!("ask {what}"));
        self.on_the_way().await;
        let lost = self.chaos.has("lost");
        if lost && self.happens("message: request lost", 120) {
            return Err(MetaError::new(ErrorKind::Unknown, LOST));
        }
        let asked = |node| tokio::spawn(server.process.run(ask(node)));
        let answer = asked(Arc::clone(&server.node));
        let doubled = self.chaos.has("doubled") && self.happens("message: request doubled", 60);
        if doubled {
            let again = ask(Arc::clone(&server.node));
            let delay = Duration::from_millis(self.chaos.below(3_000));
            tokio::spawn(server.process.run(async move {
                ambient::sleep(delay).await;
                drop(again.await);
            }));
        }
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = server.process.died() => return Err(MetaError::new(ErrorKind::Unknown, LOST)),
        };
        self.on_the_way().await;
        self.chaos.may_crash().await;
        if lost && self.happens("message: answer lost", 120) {
            return Err(MetaError::new(ErrorKind::Unknown, LOST));
        }
        let answer =
            answer.map_err(|e| MetaError::new(ErrorKind::Internal, e.to_string())).flatten();
        // What failed the first time may have been done the second time.
        let answer = answer.map_err(|error| match error.kind {
            ErrorKind::Internal => error,
            _ if doubled => MetaError { kind: ErrorKind::Unknown, ..error },
            _ => error,
        });
        let kind = answer.as_ref().err().map(|error| error.kind);
        self.chaos.event(&format!("{what} answered {kind:?}"));
        answer
    }
}

/// A message as it arrives at the other end.
pub fn through<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let json = serde_json::to_vec(message).expect("a message has a form");
    serde_json::from_slice(&json).expect("what was written reads back")
}
