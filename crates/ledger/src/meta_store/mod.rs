//! Meta stores: ordered key-value stores of bytes with transactions, which hold the metadata.
//!
//! A store does not interpret its content. [`MemoryStore`], [`SqliteStore`] and [`EtcdStore`] behave alike,
//! which `conformance.rs` tests; each implementation hides its own limits.

mod etcd;
mod head;
mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;

/// Decodes untrusted bytes as a journal of etcd, for tests and fuzzing.
#[cfg(any(test, fuzzing, feature = "testing"))]
pub fn read_untrusted_journal(bytes: &[u8]) {
    etcd::read_untrusted(bytes);
}

pub use etcd::{EtcdSettings, EtcdStore, EtcdTls, EtcdUser};
pub use head::Head;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub key: String,
    pub value: Bytes,
}

/// A condition that must hold for a transaction to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    Equals { key: String, value: Bytes },
    Absent { key: String },
}

impl Precondition {
    pub fn key(&self) -> &str {
        match self {
            Self::Equals { key, .. } | Self::Absent { key } => key,
        }
    }
}

/// A single write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

/// All operations are applied, in order, or none; and only if every precondition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub operations: Vec<Operation>,
}

/// The error of a meta store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed.
    #[error("a precondition of the transaction does not hold: {0}")]
    Precondition(String),
    /// Another process has the store open.
    #[error("the meta store {store} is in use by another process")]
    InUse { store: String },
    /// Nothing was changed. This process has lost leadership and cannot write any more.
    #[error("this server does not lead any more in the meta store {store}: {reason}")]
    Deposed { store: String, reason: String },
    #[error("the meta store {store} is not empty")]
    NotEmpty { store: String },
    /// The content is not a meta store, or not one this build can read.
    #[error("the meta store {store} cannot be read: {reason}")]
    Unreadable { store: String, reason: String },
    /// The content is a meta store, but damaged.
    #[error("the meta store {store} is damaged: {reason}")]
    Damaged { store: String, reason: String },
    #[error("could not {action} in the meta store {store}")]
    Io {
        action: &'static str,
        store: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InUse { .. } => {
                "stop the server that uses it, or start with another --store-directory"
            }
            Self::Damaged { .. } => {
                "put a good copy of the meta store in place, or restore a meta snapshot into an empty \
                 one with risectl meta restore-meta"
            }
            Self::Io { .. } => {
                "see whether the meta store is there and answers, whether its disk has room, and whether \
                 the credentials and certificates are right"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// An ordered key-value store. Reads see every transaction that was acknowledged before them.
#[async_trait]
pub trait MetaStore: Send + Sync + fmt::Debug {
    /// The name of this store in messages, without credentials.
    fn name(&self) -> &str;

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// All pairs whose key begins with `prefix`, in order of key, as of one point in time. The empty prefix
    /// reads the whole store.
    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError>;

    /// Durable once it returns.
    async fn commit(&self, txn: Txn) -> Result<(), StoreError>;

    /// Fills an empty store: with all pairs or none, also across a crash.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] when it is not empty; nothing changes then.
    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError>;

    /// Records, outside of the transactions, how far they have come. Costs no sync, and may get lost.
    fn remember(&self, _head: &Head) {}

    /// The head that was recorded last, if it is known.
    fn remembered(&self) -> Option<Head> {
        None
    }

    /// Waits until this process is the leader, the only one that may write here, under this name. Returns a
    /// number greater than that of every earlier leader. A store that only one process can open returns zero
    /// at once.
    async fn lead(&self, _name: &str) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Gives up leadership, so that another process need not wait for it to expire.
    async fn resign(&self) {}

    /// Completes, with the reason, when this process has lost leadership and another may write here.
    async fn deposed(&self) -> String {
        std::future::pending().await
    }
}
