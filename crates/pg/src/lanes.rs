//! Lanes: runtimes that a statement uses alone while it runs.
//!
//! A statement that computes for seconds without yielding blocks the threads of its lane and no others. Lanes
//! are reused. Their number is limited; at the limit, statements share the lane with the fewest tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Stack size of every thread that parses, plans or runs statements. Each nesting level of a statement takes
/// stack, several times as much in a debug build; `sql/parser/depth.rs` limits the levels. Unused stack takes
/// no memory.
pub const STACK_BYTES: usize = 128 << 20;

/// Limit of the threads of all lanes together.
const THREADS_MAX: usize = 256;
/// Range of the number of lanes: the lower end for lanes with many threads, the upper end for lanes with few.
const LANES: std::ops::RangeInclusive<usize> = 8..=64;

/// All lanes of a process.
#[derive(Debug)]
pub struct Lanes {
    threads: usize,
    lanes_max: usize,
    set: Mutex<LaneSet>,
}

#[derive(Debug, Default)]
struct LaneSet {
    idle: Vec<Lane>,
    taken: Vec<Weak<Lease>>,
}

/// A runtime that is shut down in the background when dropped, since waiting for its threads could block.
#[derive(Debug)]
struct Lane(Option<Runtime>);

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The right to use a lane. Every task of a statement holds it, so a free lane has no tasks.
#[derive(Debug)]
pub struct Lease {
    lane: Option<Lane>,
    home: Weak<Lanes>,
    /// Whether the lane is closed on release: its threads would keep much of what the statement freed.
    closes: AtomicBool,
}

impl Lanes {
    /// Creates lanes of this number of threads each.
    pub fn new(threads: usize) -> Arc<Self> {
        let lanes_max = (THREADS_MAX / threads).clamp(*LANES.start(), *LANES.end());
        Arc::new(Self { threads, lanes_max, set: Mutex::default() })
    }

    /// Returns an idle lane, a new one, or at the limit the one with the fewest tasks. Fails with 53200 if
    /// there is no lane and no thread can be started.
    pub fn take(self: &Arc<Self>) -> Result<Arc<Lease>, SqlError> {
        let mut set = self.lock();
        let lane = match set.idle.pop() {
            Some(lane) => lane,
            None if set.taken.len() >= self.lanes_max => return set.shared(),
            None => match open(self.threads) {
                Ok(runtime) => Lane(Some(runtime)),
                Err(error) => return set.shared().map_err(|none| none.detail(error.to_string())),
            },
        };
        let home = Arc::downgrade(self);
        let lease = Arc::new(Lease { lane: Some(lane), home, closes: AtomicBool::new(false) });
        set.taken.push(Arc::downgrade(&lease));
        Ok(lease)
    }

    fn lock(&self) -> MutexGuard<'_, LaneSet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LaneSet {
    /// Returns the lane with the fewest tasks.
    fn shared(&self) -> Result<Arc<Lease>, SqlError> {
        let mut taken: Vec<_> = self.taken.iter().collect();
        taken.sort_by_key(|lease| lease.strong_count());
        taken.into_iter().find_map(Weak::upgrade).ok_or_else(|| {
            SqlError::new(SqlState::OUT_OF_MEMORY, "there are no threads for the statement")
                .hint("Close connections that are not needed, or raise the limits of the process.")
        })
    }
}

impl Lease {
    /// Spawns a task on the lane.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let lane = self.lane.as_ref().and_then(|lane| lane.0.as_ref());
        lane.expect("a lease has its lane until it is dropped").spawn(task)
    }

    /// Closes the lane once its last task is gone. That frees what the allocator caches per thread, which an
    /// idle thread would keep until it works again.
    pub fn close_after(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }
}

/// Runs when the last task is gone: returns the lane for the next statement.
impl Drop for Lease {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut set = home.lock();
        set.taken.retain(|lease| lease.strong_count() > 0);
        if !self.closes.load(Ordering::Relaxed) {
            set.idle.extend(self.lane.take());
        }
    }
}

fn open(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("query")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_used_again_once_its_last_task_is_gone() {
        let lanes = Lanes::new(1);
        let one = lanes.take().unwrap();
        let of_a_task = Arc::clone(&one);
        drop(one);
        assert!(lanes.lock().idle.is_empty());
        drop(of_a_task);
        assert_eq!(lanes.lock().idle.len(), 1);
        assert!(lanes.lock().taken.is_empty());
        let _again = lanes.take().unwrap();
        assert!(lanes.lock().idle.is_empty());
    }

    #[test]
    fn a_lane_that_closes_is_not_used_again() {
        let lanes = Lanes::new(1);
        let lease = lanes.take().unwrap();
        lease.close_after();
        drop(lease);
        let set = lanes.lock();
        assert!(set.idle.is_empty() && set.taken.is_empty());
    }

    #[test]
    fn where_there_are_enough_lanes_the_emptiest_is_shared() {
        let lanes = Arc::new(Lanes { threads: 1, lanes_max: 2, set: Mutex::default() });
        let (one, two) = (lanes.take().unwrap(), lanes.take().unwrap());
        let _busy = Arc::clone(&one);
        assert!(Arc::ptr_eq(&lanes.take().unwrap(), &two));
    }
}
