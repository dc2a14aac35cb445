//! Leader election: a key that is bound to a lease, and a task that keeps the lease alive.

use std::sync::PoisonError;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{CallError, call};
use super::keys::{LEADER, PART, end_of, found};
use super::{EtcdStore, PAUSE, READ_PATIENCE, journal};
use crate::meta_store::StoreError;

/// Duration of the leader's lease. A leader that does not renew it for this long loses leadership.
const LEASE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two checks of a candidate whether the leader is gone.
const CANDIDATE_PAUSE: Duration = Duration::from_millis(500);
const PAGE_KEYS: i64 = 10_000;

/// The leadership of this process, which decides when it may write.
#[derive(Clone, Debug)]
pub(super) enum Leadership {
    /// May write as long as there is no leader.
    None,
    /// May write as long as `leader` is the key created at this revision.
    Held { lease: i64, revision: i64 },
    /// May not write, for this reason.
    Lost(String),
}

impl Leadership {
    /// The revision at which `leader` must have been created; zero if it must not exist.
    pub fn compared(&self, store: &str) -> Result<i64, StoreError> {
        match self {
            Self::None => Ok(0),
            Self::Held { revision, .. } => Ok(*revision),
            Self::Lost(reason) => {
                Err(StoreError::Deposed { store: store.to_owned(), reason: reason.clone() })
            }
        }
    }
}

impl EtcdStore {
    /// Waits until there is no leader, then becomes the leader under this name.
    pub(super) async fn become_leader(&self, name: &str) -> Result<(), StoreError> {
        let begun = Instant::now();
        loop {
            match self.candidate(name).await {
                // One member of etcd may be down. A lease whose grant was not received expires.
                Err(StoreError::Io { .. }) if begun.elapsed() < READ_PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn candidate(&self, name: &str) -> Result<(), StoreError> {
        let mut told = false;
        loop {
            let lease = self.grant().await?;
            match self.claim(name, lease).await {
                Ok(None) => break,
                Ok(Some(leader)) => {
                    self.revoke(lease).await;
                    if !told {
                        told = true;
                        tracing::info!(
                            target: "tidemark::life", %leader, store = self.name,
                            "standing by until the leader is gone"
                        );
                    }
                    self.while_led().await?;
                }
                Err(error) => {
                    // If the claim has succeeded all the same, it must not last.
                    self.revoke(lease).await;
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.sweep().await {
            // Otherwise the next attempt would wait for this process itself.
            self.give_up_leadership().await;
            return Err(error);
        }
        Ok(())
    }

    async fn grant(&self) -> Result<i64, StoreError> {
        let mut client = self.client.clone();
        let seconds = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        let granted = call(&self.name, "ask for a lease", client.lease_grant(seconds, None)).await;
        Ok(granted.map_err(CallError::into_store)?.id())
    }

    async fn revoke(&self, lease: i64) {
        let mut client = self.client.clone();
        let revoked = call(&self.name, "give a lease back", client.lease_revoke(lease)).await;
        if let Err(error) = revoked {
            tracing::debug!(error = %error.into_store(), "a lease runs out by itself");
        }
    }

    /// Tries to become the leader. Returns the name of the leader if there is another one.
    async fn claim(&self, name: &str, lease: i64) -> Result<Option<String>, StoreError> {
        let bound = Some(PutOptions::new().with_lease(lease));
        let txn = Txn::new()
            .when(vec![Compare::create_revision(LEADER, CompareOp::Equal, 0)])
            .and_then(vec![TxnOp::put(LEADER, name, bound)])
            .or_else(vec![TxnOp::get(LEADER, None)]);
        let answer = self.txn("become the leader", txn).await.map_err(CallError::into_store)?;
        if !answer.succeeded() {
            let [leader] = found(&answer);
            return Ok(Some(leader.first().map_or_else(String::new, name_of)));
        }
        let revision = answer.header().map_or(0, |header| header.revision());
        self.leadership.send_replace(Leadership::Held { lease, revision });
        let keeping =
            keep_alive(self.name.clone(), self.client.clone(), lease, self.leadership.clone());
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).spawn(keeping);
        Ok(None)
    }

    /// Returns once there is no leader. Polls, since a watch can be lost silently.
    async fn while_led(&self) -> Result<(), StoreError> {
        loop {
            tokio::time::sleep(CANDIDATE_PAUSE).await;
            let mut kv = self.kv.clone();
            // An etcd that does not reply now may do so later: a candidate can wait.
            if let Ok(leader) = call(&self.name, "look for the leader", kv.get(LEADER, None)).await
                && leader.kvs().is_empty()
            {
                return Ok(());
            }
        }
    }

    /// Checks that `leader`, as it was read, is the key that this process compares with.
    pub(super) fn check_leading(&self, leader: Option<&KeyValue>) -> Result<(), StoreError> {
        let found = leader.map_or(0, KeyValue::create_revision);
        let compared = self.leadership.borrow().compared(&self.name)?;
        if found == compared { Ok(()) } else { Err(self.not_leading(leader)) }
    }

    /// The error of a transaction that found another leader. Marks leadership as lost if this process had it.
    fn not_leading(&self, leader: Option<&KeyValue>) -> StoreError {
        let store = self.name.clone();
        let leader = leader.map(name_of);
        if matches!(*self.leadership.borrow(), Leadership::None) {
            return StoreError::InUse { store };
        }
        let reason = match leader {
            Some(name) => format!("{name} leads now"),
            None => "its lease ran out".to_owned(),
        };
        self.leadership.send_replace(Leadership::Lost(reason.clone()));
        StoreError::Deposed { store, reason }
    }

    /// Cleans up after earlier leaders: applies their last transaction, deletes parts that nothing refers to,
    /// and records which values have parts.
    async fn sweep(&self) -> Result<(), StoreError> {
        let stored = self.list_stored("").await?;
        let mut writing = self.writing.lock().await;
        writing.parts = stored
            .iter()
            .filter_map(|(key, stored)| Some((key.clone(), journal::read_stored(stored)?.err()?)))
            .collect();
        let named: Vec<String> = writing.parts.values().map(|parts| parts.name.clone()).collect();
        for part in self.part_keys().await? {
            let name = part.split('/').next().unwrap_or(&part);
            if !named.iter().any(|known| known == name) {
                self.delete_part(&part).await?;
            }
        }
        Ok(())
    }

    /// Deletes a part that nothing refers to, only as long as this process leads: it does not know the parts
    /// of its successor.
    pub(super) async fn delete_part(&self, part: &str) -> Result<(), StoreError> {
        let leader = self.leadership.borrow().compared(&self.name)?;
        let txn = Txn::new()
            .when(vec![Compare::create_revision(LEADER, CompareOp::Equal, leader)])
            .and_then(vec![TxnOp::delete(format!("{PART}{part}"), None)])
            .or_else(vec![TxnOp::get(LEADER, None)]);
        let answer = self.txn("delete a value", txn).await.map_err(CallError::into_store)?;
        if answer.succeeded() {
            return Ok(());
        }
        let [leader] = found(&answer);
        self.check_leading(leader.first())
    }

    /// The keys of all parts, without the prefix `tidemark/part/`.
    async fn part_keys(&self) -> Result<Vec<String>, StoreError> {
        let mut keys: Vec<String> = vec![];
        let mut from = PART.as_bytes().to_vec();
        loop {
            let page = GetOptions::new()
                .with_range(end_of(PART.as_bytes()))
                .with_limit(PAGE_KEYS)
                .with_keys_only();
            let answer = self.read_range("list keys", from, Some(page)).await;
            let answer = answer.map_err(CallError::into_store)?;
            let found = answer.kvs().iter();
            keys.extend(
                found.map(|p| String::from_utf8_lossy(&p.key()[PART.len()..]).into_owned()),
            );
            match answer.kvs().last().filter(|_| answer.more()) {
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(keys),
            }
        }
    }

    pub(super) async fn give_up_leadership(&self) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        let lost = Leadership::Lost("this server is stopping".to_owned());
        let held = self.leadership.send_replace(lost);
        if let Leadership::Held { lease, .. } = held {
            self.revoke(lease).await;
        }
    }

    pub(super) async fn leadership_lost(&self) -> String {
        let mut leadership = self.leadership.subscribe();
        let lost = leadership.wait_for(|now| matches!(now, Leadership::Lost(_))).await;
        match lost.as_deref() {
            Ok(Leadership::Lost(reason)) => reason.clone(),
            _ => "the meta store is closed".to_owned(),
        }
    }
}

/// Renews the lease until it cannot be renewed any more.
async fn keep_alive(
    store: String,
    client: Client,
    lease: i64,
    leadership: watch::Sender<Leadership>,
) {
    let mut renewed = Instant::now();
    while matches!(*leadership.borrow(), Leadership::Held { .. }) {
        tokio::time::sleep(KEEP_ALIVE_PAUSE).await;
        let mut client = client.clone();
        let sent = Instant::now();
        match call(&store, "renew a lease", client.lease_keep_alive(lease)).await {
            Ok(_) => renewed = sent,
            Err(error) => {
                let error = error.into_store();
                tracing::warn!(%error, "could not renew the lease of the leader");
                if renewed.elapsed() > LEASE {
                    let reason = "its lease ran out".to_owned();
                    leadership.send_replace(Leadership::Lost(reason));
                }
            }
        }
    }
}

fn name_of(leader: &KeyValue) -> String {
    String::from_utf8_lossy(leader.value()).into_owned()
}
