//! Memory of statements: one budget for all, a share for each, and a guard that ends the largest one when the
//! process runs out.
//!
//! Each statement has a [`StatementMemory`]. It counts what planning, operators and functions take, and
//! counts it in the shared budget as well. What sessions keep between statements is counted in `sessions`.
//! Memory that cannot be counted shows in the size of the process, which `guard` watches.

pub mod doubling;
mod growing;
mod guard;
mod metered;
pub mod planning;
mod pool;
mod sessions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as EngineResult;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::runtime_env::RuntimeEnv;

use self::metered::Metered;
use self::pool::StatementPool;
use super::carried::{self, Carried};
use super::error::SqlError;
use super::running::{self, Running, Stop};
use crate::sqlstate::SqlState;

pub use growing::Growing;
pub use sessions::{Kept, SessionMemory};

/// Longest value in bytes, as in PostgreSQL.
pub const VALUE_BYTES_MAX: usize = 0x3fff_ffff;
/// Most views one statement may expand, including nested ones.
const VIEWS_MAX: usize = 2_000;
/// Number of consumers named in an out-of-memory error.
const CONSUMERS_SHOWN: usize = 3;
/// One call of a function may fill this part of the budget: for many rows, and for a single one.
const BATCH_PART: usize = 16;
const ROW_PART: usize = 4;

/// The part of the budget that can be reserved, in fifths. Operators take about half as much again as they
/// count: a join copies its rows once it has them all, a growing hash table exists twice, batches wait
/// between operators.
const COUNTED_FIFTHS: usize = 3;
/// A statement that holds less than this part of the budget is not ended for what it holds.
const LARGE_PART: usize = 16;
/// A statement that has computed for less time than this is not blamed for uncounted memory.
const COMPUTES_MIN: Duration = Duration::from_millis(100);

/// The memory that all statements share.
pub struct Budget {
    /// Bytes the process may take.
    bytes: usize,
    /// Bytes that can be reserved.
    counted_bytes: usize,
    pool: Arc<dyn MemoryPool>,
    /// Bytes that sessions keep between statements.
    kept_bytes: AtomicUsize,
    running: Mutex<BTreeMap<u64, Weak<StatementMemory>>>,
    next: AtomicU64,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        let shown = std::num::NonZeroUsize::new(CONSUMERS_SHOWN).expect("it is three");
        let counted_bytes = bytes / 5 * COUNTED_FIFTHS;
        let pool = TrackConsumersPool::new(Metered(GreedyMemoryPool::new(counted_bytes)), shown);
        Arc::new(Self {
            bytes,
            counted_bytes,
            pool: Arc::new(pool),
            kept_bytes: AtomicUsize::default(),
            running: Mutex::default(),
            next: AtomicU64::default(),
        })
    }

    /// Starts the guard, which ends statements while the process is too large. Call once per process.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        guard::start(Arc::downgrade(self), self.bytes)
    }

    /// Bytes the process may take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pool that all statements share.
    pub fn pool(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.pool)
    }

    /// Starts counting for a statement that begins now.
    pub fn begin(self: &Arc<Self>) -> Arc<StatementMemory> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let memory = Arc::new(StatementMemory {
            id,
            budget: Arc::clone(self),
            held_bytes: AtomicUsize::default(),
            views: AtomicUsize::default(),
            charges: Mutex::default(),
            begun: Instant::now(),
            running: running::current().unwrap_or_default(),
        });
        memory.running.counts_in(&memory);
        self.statements().insert(id, Arc::downgrade(&memory));
        memory
    }

    /// Ends the statement that holds most, if that is a large part of the budget; among equals, the newest.
    /// Otherwise some statement fills memory without counting it: ends the oldest of those that have computed
    /// for long. Returns false if there is none of either.
    pub fn end_largest(&self, now: Instant) -> bool {
        let running: Vec<_> = self.alive();
        let open = || running.iter().filter(|statement| !statement.running.is_over());
        let large = open().filter(|statement| statement.held() >= self.bytes / LARGE_PART);
        let largest = large.max_by_key(|statement| (statement.held(), statement.id));
        let computing = || open().filter(|statement| statement.computes_for_long(now));
        match largest.or_else(|| computing().min_by_key(|statement| statement.id)) {
            None => false,
            Some(largest) => {
                largest.running.stop(Stop::OutOfMemory);
                // A statement that is already committing is not stopped.
                largest.running.is_over()
            }
        }
    }

    /// Whether a stopped statement still computes or holds memory.
    fn ending(&self) -> Ending {
        let stopped: Vec<_> = self.alive().into_iter().filter(|s| s.running.is_over()).collect();
        match stopped.iter().any(|statement| statement.running.is_computing()) {
            true => Ending::Computes,
            false if stopped.is_empty() => Ending::Gone,
            false => Ending::Holds,
        }
    }

    /// Bytes that sessions keep between statements.
    fn kept(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    fn alive(&self) -> Vec<Arc<StatementMemory>> {
        self.statements().values().filter_map(Weak::upgrade).collect()
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Weak<StatementMemory>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// How far stopped statements have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Computes,
    Holds,
    Gone,
}

/// The memory of one statement.
pub struct StatementMemory {
    /// Rises with each statement.
    id: u64,
    budget: Arc<Budget>,
    held_bytes: AtomicUsize,
    views: AtomicUsize,
    /// Reservations that last until the statement is over. They are in the shared pool: the statement's own
    /// pool would keep it alive.
    charges: Mutex<Vec<MemoryReservation>>,
    begun: Instant,
    running: Arc<Running>,
}

impl Carried for StatementMemory {
    const NAME: &'static str = "statement_memory";
}

impl StatementMemory {
    /// Returns the memory of the statement to which a plan with these options belongs.
    pub fn of(options: &ConfigOptions) -> Option<&Arc<Self>> {
        carried::get(options)
    }

    /// Returns the memory of the statement that runs on the current task.
    pub fn current() -> Option<Arc<Self>> {
        running::current()?.memory()
    }

    fn computes_for_long(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= COMPUTES_MIN && self.running.is_computing()
    }

    /// Assigns plans with these options to the statement.
    pub fn join(self: &Arc<Self>, options: &mut ConfigOptions) {
        carried::put(options, Arc::clone(self));
    }

    /// Fails once the statement was stopped.
    pub fn check(&self) -> Result<(), SqlError> {
        self.running.check()
    }

    /// Bytes it holds now.
    pub fn held(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Counts `bytes` until the returned value is dropped. Fails with 53200 if there is no room.
    pub fn hold(self: &Arc<Self>, what: &str, bytes: usize) -> EngineResult<Held> {
        let pool: Arc<dyn MemoryPool> = Arc::new(StatementPool::new(Arc::clone(self)));
        let held = MemoryConsumer::new(what).register(&pool);
        held.try_grow(bytes)?;
        Ok(Held(held))
    }

    /// Counts `bytes` until the statement is over. Fails with 53200 if there is no room.
    pub fn charge(self: &Arc<Self>, what: &str, bytes: usize) -> EngineResult<()> {
        // The check of the share is part of `hold`.
        self.hold(what, bytes).map(drop)?;
        let charge = MemoryConsumer::new(what).register(&self.budget.pool);
        charge.try_grow(bytes)?;
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).push(charge);
        Ok(())
    }

    /// How many bytes one call of a function may make for this number of rows.
    pub fn call_bytes_max(&self, rows: usize) -> usize {
        let part = if rows > 1 { BATCH_PART } else { ROW_PART };
        (self.budget.bytes / part).min(VALUE_BYTES_MAX)
    }

    /// Counts a view that the statement expands. Fails if there are too many (54001).
    pub fn expand_view(&self) -> Result<(), SqlError> {
        self.check()?;
        if self.views.fetch_add(1, Ordering::Relaxed) < VIEWS_MAX {
            return Ok(());
        }
        let message = format!("the statement refers to more than {VIEWS_MAX} views");
        Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message)
            .detail("Views inside of views are counted each time they are referred to.")
            .hint("Store the rows of an inner view in a table, and refer to that."))
    }
}

impl Drop for StatementMemory {
    fn drop(&mut self) {
        self.budget.statements().remove(&self.id);
    }
}

impl fmt::Debug for StatementMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held();
        f.debug_struct("StatementMemory").field("id", &self.id).field("held", &held).finish()
    }
}

/// Counted bytes, released when dropped.
#[derive(Debug)]
pub struct Held(MemoryReservation);

impl Held {
    /// Counts `bytes` instead of the previous number.
    pub fn resize(&self, bytes: usize) -> EngineResult<()> {
        self.0.try_resize(bytes)
    }
}

/// Returns the context with the memory pool of the statement named in its options.
pub fn counted(context: TaskContext) -> Arc<TaskContext> {
    let Some(memory) = StatementMemory::of(context.session_config().options()) else {
        return Arc::new(context);
    };
    let pool = Arc::new(StatementPool::new(Arc::clone(memory)));
    let runtime = RuntimeEnv { memory_pool: pool, ..context.runtime_env().as_ref().clone() };
    Arc::new(context.with_runtime(Arc::new(runtime)))
}

#[cfg(test)]
mod tests;
