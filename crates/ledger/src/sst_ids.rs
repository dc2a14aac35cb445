//! File ids: reserved in blocks, handed out one by one, and tracked until their write has committed or was
//! given up.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::id::SstId;

/// Ids per reservation. Each reservation costs a commit.
const BLOCK: u32 = 1024;

type BoxError = Box<dyn Error + Send + Sync>;
/// Reserves this number of ids and returns the first.
type Reserve = dyn Fn(u32) -> BoxFuture<'static, Result<SstId, BoxError>> + Send + Sync;

/// Hands out file ids, each one once.
#[async_trait]
pub trait SstIds: Send + Sync {
    async fn next(&self) -> Result<SstId, Box<dyn std::error::Error + Send + Sync>>;
}

/// A pool of ids that are reserved for this process. Tells vacuum which files may be on their way to a
/// commit.
pub struct SstIdPool {
    reserve: Box<Reserve>,
    ids: Mutex<Ids>,
}

/// Files that may be on their way to a commit: a set of ids, and all ids from `reserved_from` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    files: RoaringTreemap,
    reserved_from: SstId,
}

impl Unfinished {
    /// All files from `reserved_from` on.
    pub fn from(reserved_from: SstId) -> Self {
        Self { files: RoaringTreemap::new(), reserved_from }
    }

    pub fn holds(&self, sst: SstId) -> bool {
        sst >= self.reserved_from || self.files.contains(sst.0)
    }
}

#[derive(Debug)]
struct Ids {
    next: u64,
    end: u64,
    /// Ids that are handed out to a write which has neither committed nor been given up.
    unfinished: BTreeSet<SstId>,
}

impl fmt::Debug for SstIdPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SstIdPool").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl SstIdPool {
    /// Creates a pool and reserves its first block. If that fails, as on a full disk, the pool starts empty
    /// and reserves again when ids are needed. Until then it holds no ids below `reserved_from`.
    pub async fn start<F, E>(reserve: F) -> Arc<Self>
    where
        F: Fn(u32) -> BoxFuture<'static, Result<SstId, E>> + Send + Sync + 'static,
        E: Error + Send + Sync + 'static,
    {
        let (first, count) = match reserve(BLOCK).await {
            Ok(first) => (first.0, u64::from(BLOCK)),
            Err(error) => {
                debug!(%error, "could not reserve file ids ahead");
                (0, 0)
            }
        };
        let reserve = move |count| -> BoxFuture<'static, _> {
            let reserved = reserve(count);
            Box::pin(async move { Ok(reserved.await?) })
        };
        let ids = Ids { next: first, end: first + count, unfinished: BTreeSet::new() };
        Arc::new(Self { reserve: Box::new(reserve), ids: Mutex::new(ids) })
    }

    /// Ids whose file may be on its way to a commit, or may be started at any time. `reserved_from` must be
    /// an id that was not reserved yet when it was looked up, before this call.
    pub fn unfinished(&self, reserved_from: SstId) -> Unfinished {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files: RoaringTreemap = ids.unfinished.iter().map(|id| id.0).collect();
        files.insert_range(ids.next..ids.end);
        Unfinished { files, reserved_from }
    }

    /// Discards the ids that are reserved but not handed out: files with these ids would not be accepted any
    /// more.
    pub fn renew(&self) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.next = ids.end;
    }

    /// Begins a write. Its ids count as unfinished until the returned value is dropped.
    pub fn staging(self: &Arc<Self>) -> Staging {
        Staging { pool: Arc::clone(self), taken: Mutex::default() }
    }

    fn take(&self) -> Option<SstId> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.next == ids.end {
            return None;
        }
        let id = SstId(ids.next);
        ids.next += 1;
        ids.unfinished.insert(id);
        Some(id)
    }

    async fn refill(&self) -> Result<(), BoxError> {
        let first = (self.reserve)(BLOCK).await?.0;
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // Two callers may have reserved at the same time: the ids of one block are then never used.
        if ids.next == ids.end || first > ids.next {
            ids.next = first;
            ids.end = first + u64::from(BLOCK);
        }
        Ok(())
    }
}

/// The ids of one write.
#[derive(Debug)]
pub struct Staging {
    pool: Arc<SstIdPool>,
    taken: Mutex<Vec<SstId>>,
}

#[async_trait]
impl SstIds for Staging {
    async fn next(&self) -> Result<SstId, BoxError> {
        loop {
            if let Some(id) = self.pool.take() {
                self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                return Ok(id);
            }
            self.pool.refill().await?;
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let taken = std::mem::take(self.taken.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut ids = self.pool.ids.lock().unwrap_or_else(PoisonError::into_inner);
        for id in taken {
            ids.unfinished.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn ids_are_unfinished_until_their_write_has_ended() {
        let next = Arc::new(AtomicU64::new(100));
        let pool = SstIdPool::start(move |count| {
            let first = next.fetch_add(u64::from(count), Ordering::Relaxed);
            Box::pin(async move { Ok::<_, Infallible>(SstId(first)) })
        });
        let pool = pool.await;
        let end = 100 + u64::from(BLOCK);
        let holds = |id| pool.unfinished(SstId(end)).holds(SstId(id));
        let (first, second) = (pool.staging(), pool.staging());
        assert_eq!(first.next().await.unwrap(), SstId(100));
        assert_eq!(second.next().await.unwrap(), SstId(101));
        assert!(!holds(99) && holds(100) && holds(101) && holds(102) && holds(end));
        drop(first);
        assert!(!holds(100) && holds(101));
        for expected in 102..100 + u64::from(BLOCK) + 5 {
            assert_eq!(second.next().await.unwrap(), SstId(expected));
        }
        drop(second);
        let later = pool.unfinished(SstId(end + u64::from(BLOCK)));
        assert!(!later.holds(SstId(end + 4)) && later.holds(SstId(end + 5)));
        pool.renew();
        assert_eq!(pool.staging().next().await.unwrap(), SstId(end + u64::from(BLOCK)));
    }

    #[tokio::test]
    async fn a_pool_that_gets_no_ids_at_first_asks_again() {
        let asked = Arc::new(AtomicU64::new(0));
        let pool = SstIdPool::start(move |_| {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            let first = match asked.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(full),
                _ => Ok(SstId(100)),
            };
            Box::pin(async move { first })
        });
        let pool = pool.await;
        let staging = pool.staging();
        assert!(pool.unfinished(SstId(90)).holds(SstId(90)));
        assert!(!pool.unfinished(SstId(90)).holds(SstId(89)));
        assert!(staging.next().await.is_err());
        assert_eq!(staging.next().await.unwrap(), SstId(100));
    }
}
