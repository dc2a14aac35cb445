//! Where the truth is kept: an ordered key-value store of bytes with transactions.
//!
//! The store knows nothing of what it holds. [`MemoryStore`], [`SqliteStore`] and [`EtcdStore`] behave alike, which
//! `conformance.rs` proves; the limits of an implementation are that implementation's business.

mod etcd;
mod head;
mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;

/// Reads a journal of etcd.
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

/// What must be true for a transaction to happen.
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

/// What a transaction does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

/// All operations happen, or none; and only if every precondition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub preconditions: Vec<Precondition>,
    pub operations: Vec<Operation>,
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed.
    #[error("a precondition of the transaction does not hold: {0}")]
    Precondition(String),
    /// Somebody else has the store open.
    #[error("the meta store {store} is in use by another process")]
    InUse { store: String },
    /// Nothing was changed, and this process changes nothing any more.
    #[error("this server does not lead any more in the meta store {store}: {reason}")]
    Deposed { store: String, reason: String },
    #[error("the meta store {store} is not empty")]
    NotEmpty { store: String },
    /// What was found there is not a meta store, or not one this build can read.
    #[error("the meta store {store} cannot be read: {reason}")]
    Unreadable { store: String, reason: String },
    /// What was found there was a meta store once.
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
    /// The way out, where there is one to tell.
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
    /// What to call this store in messages; holds no secret.
    fn name(&self) -> &str;

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// All pairs whose key begins with `prefix`, in order of key, as of one moment. The empty
    /// prefix reads the whole store.
    async fn list(&self, prefix: &str) -> Result<Vec<Pair>, StoreError>;

    /// Durable once it returns.
    async fn commit(&self, txn: Txn) -> Result<(), StoreError>;

    /// Fills a store that holds nothing: all pairs or none, also across a crash.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] when it holds anything, and then nothing changes.
    async fn fill(&self, pairs: Vec<Pair>) -> Result<(), StoreError>;

    /// Remembers, apart from the transactions, how far they have come. It may get lost, and costs no sync.
    fn remember(&self, _head: &Head) {}

    /// What was remembered last, where it is known.
    fn remembered(&self) -> Option<Head> {
        None
    }

    /// Waits until this process is the only one that may write here, under this name. Returns a number
    /// greater than that of every process that led before. A store that only one process can open has
    /// nothing to wait for, and no such numbers: zero.
    async fn lead(&self, _name: &str) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Gives the right to write back, so that another process need not wait for it to run out.
    async fn resign(&self) {}

    /// Resolves, with the reason, when another process may write here and this one may not.
    async fn deposed(&self) -> String {
        std::future::pending().await
    }
}
