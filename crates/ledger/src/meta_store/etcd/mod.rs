//! A meta store on etcd, for clusters of several processes.
//!
//! | key | holds |
//! |---|---|
//! | `tidemark/data/<key>` | a pair of the store (see `journal.rs`) |
//! | `tidemark/part/<name>/<n>` | a part of a large value, or of a journal |
//! | `tidemark/pending` | names the journal of a transaction that is committed but not yet applied in full |
//! | `tidemark/last` | the name of the transaction that was committed last |
//! | `tidemark/leader` | the name of the leader, the only one that may write; bound to a lease, and deleted when that ends |
//!
//! A transaction that fits is one transaction of etcd. A larger one is staged in parts that nothing refers
//! to, then committed by the one write of `pending`, and then applied. Whoever finds `pending` first, also
//! after a crash, applies it to the end.
//!
//! Every commit compares `last` with the revision it had after the commit before, and overwrites it. So a
//! commit whose reply is lost is resolved by writing `last` again: either `last` names the commit, or the
//! commit can never happen. And every commit of a leader compares `leader`, so a deposed leader writes
//! nothing, whatever its clock says.

mod connect;
mod journal;
mod keys;
mod leadership;
mod resolve;
#[cfg(test)]
mod tests;

/// Decodes untrusted bytes as a journal, as a stored value and as a `pending` entry.
#[cfg(any(test, fuzzing, feature = "testing"))]
pub(super) fn read_untrusted(bytes: &[u8]) {
    drop(journal::decode(bytes));
    drop((journal::read_stored(bytes), journal::read_pending(bytes)));
}

pub use connect::{EtcdSettings, EtcdTls, EtcdUser};

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, GetResponse, KvClient, Txn as EtcdTxn, TxnOp,
    TxnResponse,
};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::connect::{CallError, call, is_compacted};
use self::journal::{Change, Parts};
use self::keys::{
    DATA, LAST, LEADER, PENDING, all_found, compare_of, data_key, delete_parts, end_of, found,
    operation_of, part_key,
};
use self::leadership::Leadership;
use super::{MetaStore, Operation, Pair, Precondition, StoreError, Txn};
use crate::crash_point;

/// Pairs of one page of a listing.
const PAGE_PAIRS: i64 = 1000;
/// Maximum attempts of an operation that others may interfere with.
const TRIES_MAX: usize = 100;
/// How long a commit is retried while etcd does not reply or changes its own leader.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read is retried, and how long the outcome of an earlier commit is asked for.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Pairs in etcd.
pub struct EtcdStore {
    name: String,
    client: Client,
    kv: KvClient,
    leadership: watch::Sender<Leadership>,
    /// The task that keeps the leader's lease alive.
    keeper: std::sync::Mutex<JoinSet<()>>,
    /// Locked by whoever writes or applies a journal.
    writing: Mutex<Writing>,
}

/// The writer's state between two transactions.
#[derive(Debug, Default)]
struct Writing {
    /// The revision at which `last` was written, if it is known; zero if it never was.
    last: Option<i64>,
    /// The parts of large values, by key.
    parts: HashMap<String, Parts>,
    /// The name of a transaction whose outcome is not known.
    unresolved: Option<String>,
}

/// A transaction that is ready to be sent, several times if needed.
struct Prepared {
    name: String,
    condition: Condition,
    operations: Vec<TxnOp>,
    /// The parts it refers to; it must not be applied without them.
    staged: Vec<Parts>,
    changes: Vec<Change>,
    /// Whether its changes are in a journal, which must be applied after the commit.
    in_journal: bool,
}

/// The condition of a transaction.
enum Condition {
    /// All of these hold.
    All(Vec<Precondition>),
    /// The store is empty.
    Empty,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects, and makes sure that the store can be read.
    pub async fn connect(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let client = connect::connect(settings).await?;
        // A page of a listing is as large as the values in it.
        let kv = client.kv_client().max_decoding_message_size(usize::MAX);
        let store = Self {
            name: settings.to_string(),
            client,
            kv,
            leadership: watch::Sender::new(Leadership::None),
            keeper: std::sync::Mutex::default(),
            writing: Mutex::default(),
        };
        store.get("").await?;
        Ok(store)
    }

    async fn txn(&self, action: &'static str, txn: EtcdTxn) -> Result<TxnResponse, CallError> {
        let mut kv = self.kv.clone();
        let point = crash_point::begin(action, &self.name);
        let answer = call(&self.name, action, kv.txn(txn)).await?;
        point.end();
        Ok(answer)
    }

    /// Sends a read, and retries it when a member of etcd does not reply.
    async fn read<T, F>(
        &self,
        action: &'static str,
        ask: impl Fn(KvClient) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let begun = Instant::now();
        loop {
            match call(&self.name, action, ask(self.kv.clone())).await {
                Err(CallError::Unknown(_)) if begun.elapsed() < READ_PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn read_txn(
        &self,
        action: &'static str,
        gets: Vec<TxnOp>,
    ) -> Result<TxnResponse, CallError> {
        let txn = EtcdTxn::new().and_then(gets);
        self.read(action, |mut kv| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        })
        .await
    }

    async fn read_range(
        &self,
        action: &'static str,
        key: impl Into<Vec<u8>>,
        options: Option<GetOptions>,
    ) -> Result<GetResponse, CallError> {
        let key = key.into();
        self.read(action, |mut kv| {
            let (key, options) = (key.clone(), options.clone());
            async move { kv.get(key, options).await }
        })
        .await
    }

    fn unreadable(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Unreadable { store: self.name.clone(), reason: reason.into() }
    }

    /// The stored value of a key, at a moment when no transaction is applied in part. If this process leads,
    /// or has led, it must have been the leader at that moment: otherwise another leader may have changed the
    /// value.
    async fn get_stored(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..TRIES_MAX {
            let keys = [LEADER.to_owned(), PENDING.to_owned(), data_key(key)];
            let gets = keys.map(|key| TxnOp::get(key, None)).to_vec();
            let answer = self.read_txn("read a key", gets).await;
            let [leader, pending, found] = found(&answer.map_err(CallError::into_store)?);
            if !matches!(*self.leadership.borrow(), Leadership::None) {
                self.check_leading(leader.first())?;
            }
            if pending.is_empty() {
                return Ok(found.first().map(|pair| Bytes::copy_from_slice(pair.value())));
            }
            self.resolve_pending().await?;
        }
        Err(self.contended("read a key"))
    }

    /// Every stored pair whose key begins with `prefix`, as of one point in time.
    async fn list_stored(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        for _ in 0..TRIES_MAX {
            match self.list_once(prefix).await {
                Ok(Some(pairs)) => return Ok(pairs),
                Ok(None) => self.resolve_pending().await?,
                // So slow that this revision has been compacted: start over at a later one.
                Err(error) if is_compacted(&error) => {}
                Err(error) => return Err(error.into_store()),
            }
        }
        Err(self.contended("list keys"))
    }

    /// One attempt to list; `None` when a transaction is applied in part.
    async fn list_once(&self, prefix: &str) -> Result<Option<Vec<(String, Bytes)>>, CallError> {
        let end = end_of(data_key(prefix).as_bytes());
        let page = |revision: i64| {
            GetOptions::new().with_range(end.clone()).with_limit(PAGE_PAIRS).with_revision(revision)
        };
        let first = vec![TxnOp::get(PENDING, None), TxnOp::get(data_key(prefix), Some(page(0)))];
        let answer = self.read_txn("list keys", first).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let [pending, mut pairs] = found(&answer);
        if !pending.is_empty() {
            return Ok(None);
        }
        let mut listed = vec![];
        loop {
            let full = i64::try_from(pairs.len()) == Ok(PAGE_PAIRS);
            let next = pairs.last().map(|pair| [pair.key(), &[0]].concat());
            for pair in pairs {
                let key = String::from_utf8_lossy(&pair.key()[DATA.len()..]).into_owned();
                listed.push((key, Bytes::copy_from_slice(pair.value())));
            }
            let Some(next) = next.filter(|_| full) else { return Ok(Some(listed)) };
            let more = self.read_range("list keys", next, Some(page(revision))).await?;
            pairs = more.kvs().to_vec();
        }
    }

    /// The value behind a stored value, which holds it or names its parts.
    async fn value_of(&self, stored: &[u8]) -> Result<Bytes, StoreError> {
        match journal::read_stored(stored) {
            Some(Ok(value)) => Ok(value),
            Some(Err(parts)) => Ok(self.read_parts(&parts).await?.into()),
            None => Err(self.unreadable("a value is stored in an unknown form")),
        }
    }

    async fn read_parts(&self, parts: &Parts) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![];
        for n in 0..parts.count {
            let part = self.read_range("read a value", part_key(&parts.name, n), None).await;
            let part = part.map_err(CallError::into_store)?;
            let part =
                part.kvs().first().ok_or_else(|| self.unreadable("a part of a value is gone"))?;
            bytes.extend_from_slice(part.value());
        }
        if !journal::is_whole(&parts.name, &bytes) {
            let reason = "the parts of a value do not match their checksum".to_owned();
            return Err(StoreError::Damaged { store: self.name.clone(), reason });
        }
        Ok(bytes)
    }

    /// Writes bytes in parts that nothing refers to yet.
    async fn stage(&self, bytes: &[u8]) -> Result<Parts, StoreError> {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let name = journal::name_of_parts(&nonce, bytes);
        let mut count = 0;
        for part in bytes.chunks(journal::PART_BYTES) {
            let mut kv = self.kv.clone();
            let put = kv.put(part_key(&name, count), part, None);
            let point = crash_point::begin("write a part in", &self.name);
            call(&self.name, "write a value", put).await.map_err(CallError::into_store)?;
            point.end();
            count += 1;
        }
        Ok(Parts { name, count })
    }

    /// Stages what is too large, and makes one etcd transaction of the rest.
    async fn prepare(
        &self,
        condition: Condition,
        operations: Vec<Operation>,
    ) -> Result<Prepared, StoreError> {
        let mut staged = vec![];
        let mut changes: Vec<Change> = vec![];
        for (key, value) in journal::outcome(operations) {
            let stored = match value {
                Some(value) if value.len() > journal::PART_BYTES / 2 => {
                    let parts = self.stage(&value).await?;
                    let stored = journal::stored_in(&parts);
                    staged.push(parts);
                    Some(stored)
                }
                value => value.map(|value| journal::stored_inline(&value)),
            };
            changes.push((key, stored));
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let fits = journal::batches(&changes).len() <= 1;
        let operations = if fits {
            changes.iter().map(operation_of).collect()
        } else {
            let parts = self.stage(&journal::encode(&changes)).await?;
            staged.push(parts.clone());
            vec![TxnOp::put(PENDING, journal::pending(&parts), None)]
        };
        Ok(Prepared { name, condition, operations, staged, changes, in_journal: !fits })
    }

    /// Sends a transaction until it is known to have happened, or never to happen.
    async fn send(&self, prepared: &Prepared, writing: &mut Writing) -> Result<(), StoreError> {
        let until = Instant::now() + PATIENCE;
        for _ in 0..TRIES_MAX {
            let last = match writing.last.take() {
                Some(last) => last,
                None => self.read_last().await?.0,
            };
            let sent = self.txn("commit", self.txn_of(prepared, last)?).await;
            match sent {
                Ok(answer) if answer.succeeded() => {
                    writing.last = answer.header().map(|header| header.revision());
                    return Ok(());
                }
                Ok(answer) => self.why_not(prepared, &answer).await?,
                Err(CallError::Refused(error)) => return Err(error),
                Err(CallError::Unknown(error)) => {
                    writing.unresolved = Some(prepared.name.clone());
                    match self.resolve_outcome(writing, until).await {
                        Ok(true) => return Ok(()),
                        Ok(false) if Instant::now() < until => {}
                        _ => return Err(error),
                    }
                }
            }
        }
        Err(self.contended("commit"))
    }

    fn txn_of(&self, prepared: &Prepared, last: i64) -> Result<EtcdTxn, StoreError> {
        let leader = self.leadership.borrow().compared(&self.name)?;
        let mut compares = vec![
            Compare::create_revision(LEADER, CompareOp::Equal, leader),
            Compare::create_revision(PENDING, CompareOp::Equal, 0),
            Compare::mod_revision(LAST, CompareOp::Equal, last),
        ];
        let mut gets: Vec<TxnOp> = [LEADER, PENDING].map(|key| TxnOp::get(key, None)).to_vec();
        match &prepared.condition {
            Condition::Empty => {
                compares.push(Compare::create_revision(DATA, CompareOp::Equal, 0).with_prefix());
                let some = GetOptions::new().with_prefix().with_limit(1).with_keys_only();
                gets.push(TxnOp::get(DATA, Some(some)));
            }
            Condition::All(preconditions) => {
                compares.extend(preconditions.iter().map(compare_of));
                gets.extend(preconditions.iter().map(|p| TxnOp::get(data_key(p.key()), None)));
            }
        }
        for parts in &prepared.staged {
            compares.push(Compare::create_revision(
                part_key(&parts.name, 0),
                CompareOp::Greater,
                0,
            ));
        }
        let mut operations = prepared.operations.clone();
        operations.push(TxnOp::put(LAST, prepared.name.as_bytes(), None));
        Ok(EtcdTxn::new().when(compares).and_then(operations).or_else(gets))
    }

    /// Finds out which comparison failed. Returns `Ok` when a retry may help.
    async fn why_not(&self, prepared: &Prepared, answer: &TxnResponse) -> Result<(), StoreError> {
        let mut found = all_found(answer).into_iter();
        self.check_leading(found.next().unwrap_or_default().first())?;
        let pending = found.next().unwrap_or_default();
        if !pending.is_empty() {
            return self.apply_pending().await;
        }
        let preconditions = match &prepared.condition {
            Condition::All(preconditions) => preconditions,
            Condition::Empty if found.next().is_some_and(|found| found.is_empty()) => return Ok(()),
            Condition::Empty => return Err(StoreError::NotEmpty { store: self.name.clone() }),
        };
        for (precondition, found) in preconditions.iter().zip(found) {
            let stored = found.first().map(|pair| Bytes::copy_from_slice(pair.value()));
            if !self.holds(precondition, stored).await? {
                return Err(StoreError::Precondition(precondition.key().to_owned()));
            }
        }
        Ok(())
    }

    async fn holds(
        &self,
        precondition: &Precondition,
        stored: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        match (precondition, stored) {
            (Precondition::Absent { .. }, stored) => Ok(stored.is_none()),
            (Precondition::Equals { .. }, None) => Ok(false),
            (Precondition::Equals { value, .. }, Some(stored)) => {
                Ok(self.value_of(&stored).await? == value)
            }
        }
    }

    /// Deletes the parts of values that do not exist any more. Parts that stay behind are deleted when the
    /// next leader starts.
    async fn drop_replaced(&self, changes: &[Change], writing: &mut Writing) {
        for (key, stored) in changes {
            let named = stored.as_deref().and_then(journal::read_stored).and_then(Result::err);
            if writing.parts.get(key) != named.as_ref()
                && let Some(replaced) = writing.parts.remove(key)
            {
                let txn = EtcdTxn::new().and_then(vec![delete_parts(&replaced)]);
                if let Err(error) = self.txn("delete a value", txn).await {
                    tracing::debug!(error = %error.into_store(), "parts of a value stay behind");
                }
            }
            if let Some(parts) = named {
                writing.parts.insert(key.clone(), parts);
            }
        }
    }

    async fn commit_if(
        &self,
        condition: Condition,
        operations: Vec<Operation>,
    ) -> Result<(), StoreError> {
        let mut writing = self.writing.lock().await;
        self.resolve_outcome(&mut writing, Instant::now() + READ_PATIENCE).await?;
        let prepared = self.prepare(condition, operations).await?;
        let sent = self.send(&prepared, &mut writing).await;
        if let Err(error) = sent {
            if writing.unresolved.is_none() {
                self.unstage(&prepared).await;
            }
            return Err(error);
        }
        if prepared.in_journal
            && let Err(error) = self.apply_pending().await
        {
            // It is committed all the same; the next one to find it applies it.
            tracing::warn!(%error, "a large transaction is not carried out in full yet");
        }
        self.drop_replaced(&prepared.changes, &mut writing).await;
        Ok(())
    }

    /// Deletes the parts of a transaction that did not happen.
    async fn unstage(&self, prepared: &Prepared) {
        for parts in &prepared.staged {
            let txn = EtcdTxn::new().and_then(vec![delete_parts(parts)]);
            drop(self.txn("delete a value", txn).await);
        }
    }

    fn contended(&self, action: &'static str) -> StoreError {
        let source = "others change it again and again".into();
        StoreError::Io { action, store: self.name.clone(), source }
    }
}

#[async_trait]
impl MetaStore for EtcdStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.resolve_unresolved().await?;
        match self.get_stored(key).await? {
            Some(stored) => self.value_of(&stored).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError> {
        self.resolve_unresolved().await?;
        let mut pairs = vec![];
        for (key, stored) in self.list_stored(prefix).await? {
            pairs.push(Pair { value: self.value_of(&stored).await?, key });
        }
        Ok(pairs)
    }

    async fn commit(&self, txn: Txn) -> Result<(), StoreError> {
        self.commit_if(Condition::All(txn.preconditions), txn.operations).await
    }

    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError> {
        let puts =
            pairs.into_iter().map(|pair| Operation::Put { key: pair.key, value: pair.value });
        self.commit_if(Condition::Empty, puts.collect()).await
    }

    async fn lead(&self, name: &str) -> Result<u64, StoreError> {
        self.become_leader(name).await?;
        let revision = self.leadership.borrow().compared(&self.name)?;
        Ok(u64::try_from(revision).unwrap_or_default())
    }

    async fn resign(&self) {
        self.give_up_leadership().await;
    }

    async fn deposed(&self) -> String {
        self.leadership_lost().await
    }
}
