//! Finds out whether a transaction whose reply was lost has happened, and applies one that is only in its
//! journal.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};
use tokio::time::Instant;

use super::connect::CallError;
use super::keys::{LAST, LEADER, PENDING, delete_parts, found, operation_of};
use super::{EtcdStore, PAUSE, READ_PATIENCE, Writing, journal};
use crate::meta_store::StoreError;

impl EtcdStore {
    /// The revision at which `last` was written, and the transaction it names; zero and `None` if it does not
    /// exist.
    pub(super) async fn read_last(&self) -> Result<(i64, Option<String>), StoreError> {
        let answer = self.read_range("read a key", LAST, None).await;
        let answer = answer.map_err(CallError::into_store)?;
        let found = answer.kvs().first();
        let name = found.map(|pair| String::from_utf8_lossy(pair.value()).into_owned());
        Ok((found.map_or(0, KeyValue::mod_revision), name))
    }

    /// Whether a transaction whose reply was lost has happened. Overwrites `last` if not, so that it cannot
    /// happen any more. As long as this process leads, no other one writes `last`.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] when another process has led since: its transactions hide whether this one
    /// happened.
    pub(super) async fn has_happened(
        &self,
        name: &str,
        until: Instant,
    ) -> Result<bool, StoreError> {
        loop {
            let (revision, last) = self.read_last().await?;
            if last.as_deref() == Some(name) {
                return Ok(true);
            }
            let leader = self.leadership.borrow().compared(&self.name)?;
            let same = vec![
                Compare::create_revision(LEADER, CompareOp::Equal, leader),
                Compare::mod_revision(LAST, CompareOp::Equal, revision),
            ];
            let resolve_outcome = uuid::Uuid::new_v4().simple().to_string();
            let put = TxnOp::put(LAST, resolve_outcome.as_bytes(), None);
            let get = TxnOp::get(LEADER, None);
            let txn = Txn::new().when(same).and_then(vec![put]).or_else(vec![get]);
            match self.txn("settle a commit", txn).await {
                Ok(answer) if answer.succeeded() => return Ok(false),
                Ok(answer) => {
                    let [leader] = found(&answer);
                    self.check_leading(leader.first())?;
                }
                // It does not matter if a reply is lost here: the next round reads `last` again.
                Err(error) if Instant::now() >= until => return Err(error.into_store()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Whether the transaction with an unknown outcome has happened; `false` if there is none. Retries while
    /// etcd does not reply, up to `until`.
    pub(super) async fn resolve_outcome(
        &self,
        writing: &mut Writing,
        until: Instant,
    ) -> Result<bool, StoreError> {
        let Some(name) = writing.unresolved.clone() else { return Ok(false) };
        loop {
            match self.has_happened(&name, until).await {
                Ok(happened) => {
                    writing.unresolved = None;
                    return Ok(happened);
                }
                Err(error @ StoreError::Deposed { .. }) => return Err(error),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Resolves the transaction with an unknown outcome and applies a pending journal, so that the next read
    /// sees every earlier commit, and in full.
    pub(super) async fn resolve_pending(&self) -> Result<(), StoreError> {
        let mut writing = self.writing.lock().await;
        self.resolve_outcome(&mut writing, Instant::now() + READ_PATIENCE).await?;
        self.apply_pending().await
    }

    pub(super) async fn resolve_unresolved(&self) -> Result<(), StoreError> {
        let mut writing = self.writing.lock().await;
        self.resolve_outcome(&mut writing, Instant::now() + READ_PATIENCE).await.map(|_| ())
    }

    /// Applies the journal of a committed transaction, if there is one.
    pub(super) async fn apply_pending(&self) -> Result<(), StoreError> {
        let answer = self.read_range("read a key", PENDING, None).await;
        let answer = answer.map_err(CallError::into_store)?;
        let Some(pending) = answer.kvs().first() else { return Ok(()) };
        let parts = journal::read_pending(pending.value())
            .ok_or_else(|| self.unreadable("what names a journal is damaged"))?;
        let same = || Compare::mod_revision(PENDING, CompareOp::Equal, pending.mod_revision());
        let journal = match self.read_parts(&parts).await {
            Ok(journal) => journal,
            // Another process has applied it.
            Err(_) if self.is_gone(PENDING).await? => return Ok(()),
            Err(error) => return Err(error),
        };
        let changes = journal::decode(&journal).map_err(|reason| self.unreadable(reason))?;
        for batch in journal::batches(&changes) {
            let operations: Vec<TxnOp> = batch.iter().map(operation_of).collect();
            let txn = Txn::new().when(vec![same()]).and_then(operations);
            let done = self.txn("carry out a commit", txn).await.map_err(CallError::into_store)?;
            if !done.succeeded() {
                return Ok(());
            }
        }
        let ends = vec![TxnOp::delete(PENDING, None), delete_parts(&parts)];
        let txn = Txn::new().when(vec![same()]).and_then(ends);
        self.txn("carry out a commit", txn).await.map_err(CallError::into_store).map(|_| ())
    }

    async fn is_gone(&self, key: &str) -> Result<bool, StoreError> {
        let answer = self.read_range("read a key", key, None).await;
        Ok(answer.map_err(CallError::into_store)?.kvs().is_empty())
    }
}
