//! A meta store with faults like those of etcd, which records what was durably committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::chaos::{Chaos, Fate, INJECTED};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::SstId;
use tidemark_ledger::meta_store::{Head, MemoryStore, MetaStore, Operation, Pair, StoreError, Txn};
use tidemark_ledger::version::VersionDelta;
use tidemark_ledger::{ambient, keys};

/// A durable change.
#[derive(Clone, Debug)]
pub struct Commit {
    pub epoch: Epoch,
    pub born: BTreeSet<SstId>,
    /// Files some of whose rows died in it.
    pub stamped: BTreeSet<SstId>,
    /// Its inputs, if it is a compaction.
    pub replaced: BTreeSet<SstId>,
    /// When it was committed.
    pub at_ms: u64,
}

impl Commit {
    fn of(delta: &VersionDelta, at_ms: u64) -> Self {
        Self {
            epoch: delta.epoch,
            born: delta.born.iter().map(|sst| sst.id).collect(),
            stamped: delta.stamps.iter().map(|stamp| stamp.sst_id).collect(),
            replaced: delta.replaced.iter().map(|replaced| replaced.sst_id).collect(),
            at_ms,
        }
    }
}

/// Shared by all clients of one meta store.
#[derive(Debug)]
pub struct Shared {
    store: Mutex<Arc<MemoryStore>>,
    chaos: Arc<Chaos>,
    leader: AtomicU64,
    /// Whether the store refuses a client that no longer leads. Otherwise only preconditions guard it.
    fenced: bool,
    /// Everything that was committed, in order.
    commits: Mutex<Vec<Commit>>,
    /// The head, which is kept apart from the store and does not go back with it.
    head: Mutex<Option<Head>>,
}

#[derive(Debug)]
enum Request {
    Commit(Txn),
    Fill(Vec<Pair>),
}

impl Shared {
    /// An empty store. `commits` are those in the contents that it is going to be filled with.
    pub fn new(chaos: &Arc<Chaos>, fenced: bool, commits: Vec<Commit>) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::default(),
            chaos: Arc::clone(chaos),
            leader: AtomicU64::new(0),
            fenced,
            commits: Mutex::new(commits),
            head: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Commit>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn commits(&self) -> Vec<Commit> {
        self.lock().clone()
    }

    /// The contents of the store, read without faults.
    pub async fn pairs(&self) -> Vec<Pair> {
        self.store().list("").await.expect("a memory store lists")
    }

    /// Replaces the contents of the store.
    pub async fn put_back(&self, pairs: Vec<Pair>, commits: Vec<Commit>) {
        let store = MemoryStore::new();
        store.fill(pairs).await.expect("it is empty");
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(store);
        *self.lock() = commits;
    }

    async fn do_it(&self, term: u64, deed: Request) -> Result<(), StoreError> {
        let store = self.store();
        if self.fenced && self.leader.load(Ordering::SeqCst) != term {
            let (store, reason) = (store.name().to_owned(), "another leads".to_owned());
            return Err(StoreError::Deposed { store, reason });
        }
        match deed {
            Request::Commit(txn) => {
                let delta = delta_of(&txn);
                store.commit(txn).await?;
                if let Some(delta) = delta {
                    self.lock().push(Commit::of(&delta, self.chaos.times.now_ms()));
                }
                Ok(())
            }
            Request::Fill(pairs) => store.fill(pairs).await,
        }
    }
}

fn delta_of(txn: &Txn) -> Option<VersionDelta> {
    txn.operations.iter().find_map(|operation| match operation {
        Operation::Put { key, value } if key.starts_with(keys::VERSION_DELTA_PREFIX) => {
            Some(serde_json::from_slice(value).expect("the manager writes deltas"))
        }
        _ => None,
    })
}

/// A client of a meta store.
#[derive(Debug)]
pub struct FaultyMeta {
    shared: Arc<Shared>,
    chaos: Arc<Chaos>,
    term: u64,
    in_flight: Arc<Mutex<Option<Request>>>,
}

impl FaultyMeta {
    /// A client that becomes the leader.
    pub fn lead(shared: &Arc<Shared>) -> Arc<Self> {
        let term = shared.leader.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, chaos) = (Arc::clone(shared), Arc::clone(&shared.chaos));
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
        let delay = Duration::from_millis(1_000 + self.chaos.below(40_000));
        tokio::spawn(async move {
            ambient::sleep(delay).await;
            let deed = in_flight.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(deed) = deed {
                drop(shared.do_it(term, deed).await);
            }
        });
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
            Fate::After | Fate::Retried => {
                self.shared.do_it(self.term, deed).await?;
                Err(self.injected(action))
            }
            Fate::Later => {
                self.send_later(deed);
                Err(self.injected(action))
            }
            Fate::CrashAfter => {
                drop(self.shared.do_it(self.term, deed).await);
                std::future::pending().await
            }
            Fate::CrashBefore => std::future::pending().await,
            Fate::Before | Fate::Torn | Fate::Flip => Err(self.injected(action)),
        }
    }

    async fn read(&self, action: &'static str, subject: &str) -> Result<(), StoreError> {
        match self.chaos.turn(action, subject).await {
            Fate::Pass => {
                self.resolve_in_flight().await;
                Ok(())
            }
            Fate::CrashBefore | Fate::CrashAfter => std::future::pending().await,
            _ => Err(self.injected(action)),
        }
    }
}

#[async_trait]
impl MetaStore for FaultyMeta {
    fn name(&self) -> &str {
        "memory"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read("get a key", key).await?;
        self.shared.store().get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        self.read("list pairs", prefix).await?;
        self.shared.store().list(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        let key_of = |operation: &Operation| match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => key.clone(),
        };
        let subject = txn.operations.get(1).map(key_of).unwrap_or_default();
        self.change("commit", &subject, Request::Commit(txn)).await
    }

    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError> {
        self.change("fill", "", Request::Fill(pairs)).await
    }

    fn remember(&self, head: &Head) {
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(*head);
    }

    fn remembered(&self) -> Option<Head> {
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
