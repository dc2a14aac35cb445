//! A meta store with faults like those of etcd: a commit whose response is lost may take effect later,
//! but not after this client has read the store again, nor after another client leads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Chaos, Fate, INJECTED};
use tidemark_ledger::meta_store::{MemoryStore, MetaStore, Operation, Pair, StoreError, Txn};

/// Shared by all clients of one meta store.
#[derive(Debug)]
pub struct Shared {
    pub store: MemoryStore,
    leader: AtomicU64,
    /// Whether the store refuses a client that no longer leads. Otherwise only preconditions guard it.
    fenced: bool,
}

/// A client of a meta store.
#[derive(Debug)]
pub struct FaultyMeta {
    shared: Arc<Shared>,
    chaos: Arc<Chaos>,
    term: u64,
    in_flight: Arc<Mutex<Option<Request>>>,
}

#[derive(Debug)]
enum Request {
    Commit(Txn),
    Fill(Vec<Pair>),
}

impl Shared {
    pub fn new(fenced: bool) -> Arc<Self> {
        Arc::new(Self { store: MemoryStore::new(), leader: AtomicU64::new(0), fenced })
    }

    async fn do_it(&self, term: u64, deed: Request) -> Result<(), StoreError> {
        if self.fenced && self.leader.load(Ordering::SeqCst) != term {
            let (store, reason) = (self.store.name().to_owned(), "another leads".to_owned());
            return Err(StoreError::Deposed { store, reason });
        }
        match deed {
            Request::Commit(txn) => self.store.commit(txn).await,
            Request::Fill(pairs) => self.store.fill(pairs).await,
        }
    }
}

impl FaultyMeta {
    /// A client that becomes the leader.
    pub fn lead(shared: &Arc<Shared>, chaos: &Arc<Chaos>) -> Arc<Self> {
        let term = shared.leader.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, chaos) = (Arc::clone(shared), Arc::clone(chaos));
        Arc::new(Self { shared, chaos, term, in_flight: Arc::default() })
    }

    fn injected(&self, action: &'static str) -> StoreError {
        StoreError::Io { action, store: self.name().to_owned(), source: INJECTED.into() }
    }

    fn take_in_flight(&self) -> Option<Request> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whatever was sent before takes effect now, or never.
    async fn resolve_in_flight(&self) {
        if let Some(deed) = self.take_in_flight()
            && self.chaos.one_in(2)
        {
            drop(self.shared.do_it(self.term, deed).await);
        }
    }

    fn send_later(&self, deed: Request) {
        *self.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = Some(deed);
        let (shared, term) = (Arc::clone(&self.shared), self.term);
        let in_flight = Arc::clone(&self.in_flight);
        self.chaos.later(Box::pin(async move {
            let deed = in_flight.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(deed) = deed {
                drop(shared.do_it(term, deed).await);
            }
        }));
    }

    async fn change(
        &self,
        action: &'static str,
        subject: &str,
        deed: Request,
    ) -> Result<(), StoreError> {
        let fate = self.chaos.turn(action, subject).await;
        if fate != Fate::Before {
            self.resolve_in_flight().await;
        }
        match fate {
            Fate::Pass => self.shared.do_it(self.term, deed).await,
            Fate::Lie => Ok(()),
            Fate::Before => Err(self.injected(action)),
            Fate::After | Fate::Retried => {
                self.shared.do_it(self.term, deed).await?;
                Err(self.injected(action))
            }
            Fate::Later | Fate::Hang { .. } => {
                self.send_later(deed);
                Err(self.injected(action))
            }
        }
    }

    async fn read(&self, action: &'static str, subject: &str) -> Result<(), StoreError> {
        match self.chaos.turn(action, subject).await {
            Fate::Pass => {
                self.resolve_in_flight().await;
                Ok(())
            }
            _ => Err(self.injected(action)),
        }
    }
}

#[async_trait]
impl MetaStore for FaultyMeta {
    fn name(&self) -> &str {
        self.shared.store.name()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read("get a key", key).await?;
        self.shared.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        self.read("list pairs", prefix).await?;
        self.shared.store.list(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        let key_of = |operation: &Operation| match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => key.clone(),
        };
        let keys: Vec<_> = txn.operations.iter().take(8).map(key_of).collect();
        // The last operation is the seal.
        let last: Vec<_> = txn.operations.iter().rev().take(2).map(key_of).collect();
        let subject = format!("{} … {}", keys.join(" "), last.join(" "));
        self.change("commit", &subject, Request::Commit(txn)).await
    }

    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError> {
        self.change("fill", "", Request::Fill(pairs)).await
    }
}
