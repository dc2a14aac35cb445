//! What a frontend may use of the machine, and how many clients it serves.

use std::time::Duration;

use tidemark_ledger::storage::{CacheSettings, DiskCache};

pub const CONNECTIONS_MAX: usize = 1000;
/// As PostgreSQL's authentication_timeout.
pub const AUTHENTICATION_TIMEOUT_SEC: u32 = 60;
/// For pages of data files that are not on a local disk.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// The same where they are near: enough to check blocks that are read often only once.
const NEAR_BLOCK_CACHE_BYTES: usize = 32 << 20;

/// What queries may use of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// For what queries hold; beyond it they spill to disk or fail.
    pub memory_bytes: usize,
    /// Threads of one query.
    pub parallelism: usize,
    /// For the footers of data files, and as much again for the filters of their keys.
    pub meta_cache_bytes: usize,
    /// For pages of data files; where it is not said, it depends on how far they are.
    pub block_cache_bytes: Option<usize>,
    /// For pages of data files, on a local disk.
    pub file_cache: Option<DiskCache>,
}

impl Resources {
    /// The cache for pages of data files, which are far away or not.
    pub fn block_cache(&self, is_far: bool) -> CacheSettings {
        let by_default = if is_far { BLOCK_CACHE_BYTES } else { NEAR_BLOCK_CACHE_BYTES };
        let memory_bytes = self.block_cache_bytes.unwrap_or(by_default);
        CacheSettings { memory_bytes, disk: self.file_cache.clone(), small_reads_only: !is_far }
    }
}

/// How many clients there may be, and how long they may take to log in.
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
