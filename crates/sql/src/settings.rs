//! Resource limits of a frontend, and limits on its clients.

use std::time::Duration;

use tidemark_ledger::storage::{CacheSettings, DiskCache};

/// Default limit of concurrent sessions.
pub const CONNECTIONS_MAX: usize = 1000;
/// PostgreSQL's default of authentication_timeout.
pub const AUTHENTICATION_TIMEOUT_SEC: u32 = 60;
/// Default for blocks of data files if the state store is not on a local disk.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// Default if it is: enough to check frequently read blocks only once.
const NEAR_BLOCK_CACHE_BYTES: usize = 32 << 20;

/// Resources for queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory of queries in bytes; beyond it they spill to disk or fail.
    pub memory_bytes: usize,
    /// Threads of one query.
    pub parallelism: usize,
    /// Bytes for the footers of data files, and the same again for the Bloom filters of their keys.
    pub meta_cache_bytes: usize,
    /// Bytes for blocks of data files; the default depends on whether the state store is remote.
    pub block_cache_bytes: Option<usize>,
    /// Cache of data file blocks on a local disk.
    pub file_cache: Option<DiskCache>,
}

impl Resources {
    /// Settings of the block cache; `is_far` if the state store is remote.
    pub fn block_cache(&self, is_far: bool) -> CacheSettings {
        let by_default = if is_far { BLOCK_CACHE_BYTES } else { NEAR_BLOCK_CACHE_BYTES };
        let memory_bytes = self.block_cache_bytes.unwrap_or(by_default);
        CacheSettings { memory_bytes, disk: self.file_cache.clone(), small_reads_only: !is_far }
    }
}

/// The maximum number of clients, and how long they may take to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    pub connections_max: usize,
    pub authentication_timeout: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        let timeout = Duration::from_secs(AUTHENTICATION_TIMEOUT_SEC.into());
        Self { connections_max: CONNECTIONS_MAX, authentication_timeout: timeout }
    }
}
