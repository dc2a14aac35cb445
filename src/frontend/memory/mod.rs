//! Memory of statements: one budget for all of them, a share for each, and an end for the largest one when
//! the process runs out.
//!
//! Each statement has a [`StatementMemory`]. What it plans, what its operators hold and what its functions
//! make is counted there and, through it, in the budget all statements share. What cannot be counted shows
//! in the size of the process, which [`guard`] watches.

pub mod doubling;
mod guard;
mod metered;
pub mod planning;
mod pool;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::runtime_env::RuntimeEnv;

use self::metered::Metered;
use self::pool::StatementPool;
use super::error::SqlError;
use super::pgwire::sqlstate::SqlState;
use super::query_runtime::{self, Running, Stop};

/// Longest value, as in PostgreSQL.
pub const VALUE_BYTES_MAX: usize = 0x3fff_ffff;
/// Views that one statement may expand, those inside of others counted.
const VIEWS_MAX: usize = 2_000;
/// Consumers named when memory runs out.
const CONSUMERS_SHOWN: usize = 3;
/// The part of the budget that one call of a function may fill for many rows, and for one.
const BATCH_PART: usize = 16;
const ROW_PART: usize = 4;

/// What all statements share.
pub struct Budget {
    bytes: usize,
    pool: Arc<dyn MemoryPool>,
    running: Mutex<BTreeMap<u64, Weak<StatementMemory>>>,
    next: AtomicU64,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        let shown = std::num::NonZeroUsize::new(CONSUMERS_SHOWN).expect("it is three");
        let pool = TrackConsumersPool::new(Metered(GreedyMemoryPool::new(bytes)), shown);
        Arc::new(Self {
            bytes,
            pool: Arc::new(pool),
            running: Mutex::default(),
            next: AtomicU64::default(),
        })
    }

    /// Ends statements while the process is too large. Once for each process is enough.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        guard::start(Arc::downgrade(self), self.bytes)
    }

    /// What there is for all statements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pool that all statements share.
    pub fn pool(&self) -> Arc<dyn MemoryPool> {
        Arc::clone(&self.pool)
    }

    /// The memory of a statement that begins now.
    pub fn begin(self: &Arc<Self>) -> Arc<StatementMemory> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let memory = Arc::new(StatementMemory {
            id,
            budget: Arc::clone(self),
            held_bytes: AtomicUsize::default(),
            views: AtomicUsize::default(),
            charges: Mutex::default(),
            running: query_runtime::current().unwrap_or_default(),
        });
        self.statements().insert(id, Arc::downgrade(&memory));
        memory
    }

    /// The number of the oldest statement that runs.
    fn oldest(&self) -> Option<u64> {
        self.statements().keys().next().copied()
    }

    /// The number of the next statement.
    fn next_id(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ends the statement that holds most; of those that hold the same, the newest. False where none runs.
    pub fn end_largest(&self) -> bool {
        let running: Vec<_> = self.statements().values().filter_map(Weak::upgrade).collect();
        let open = running.iter().filter(|statement| !statement.running.is_over());
        match open.max_by_key(|statement| (statement.held(), statement.id)) {
            None => false,
            Some(largest) => {
                largest.running.stop(Stop::OutOfMemory);
                // One that commits already is not stopped.
                largest.running.is_over()
            }
        }
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

/// What one statement holds.
pub struct StatementMemory {
    /// Statements count up.
    id: u64,
    budget: Arc<Budget>,
    held_bytes: AtomicUsize,
    views: AtomicUsize,
    /// What is counted until the statement is over. In the pool of all: its own would keep it alive.
    charges: Mutex<Vec<MemoryReservation>>,
    running: Arc<Running>,
}

impl StatementMemory {
    /// The memory of the statement that a plan with these options is part of.
    pub fn of(options: &ConfigOptions) -> Option<&Arc<Self>> {
        options.extensions.get::<InOptions>().map(|found| &found.0)
    }

    /// Makes plans with these options part of the statement.
    pub fn join(self: &Arc<Self>, options: &mut ConfigOptions) {
        options.extensions.insert(InOptions(Arc::clone(self)));
    }

    /// Fails once the statement was stopped.
    pub fn check(&self) -> Result<(), SqlError> {
        self.running.check()
    }

    /// Bytes counted for it now.
    pub fn held(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Counts `bytes` until the value returned is dropped.
    pub fn hold(self: &Arc<Self>, what: &str, bytes: usize) -> EngineResult<Held> {
        let pool: Arc<dyn MemoryPool> = Arc::new(StatementPool::new(Arc::clone(self)));
        let held = MemoryConsumer::new(what).register(&pool);
        held.try_grow(bytes)?;
        Ok(Held(held))
    }

    /// Counts `bytes` until the statement is over.
    pub fn charge(self: &Arc<Self>, what: &str, bytes: usize) -> EngineResult<()> {
        // The share is checked by who grows within it.
        self.hold(what, bytes).map(drop)?;
        let charge = MemoryConsumer::new(what).register(&self.budget.pool);
        charge.try_grow(bytes)?;
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).push(charge);
        Ok(())
    }

    /// Bytes that one call of a function may make.
    pub fn call_bytes_max(&self, rows: usize) -> usize {
        let part = if rows > 1 { BATCH_PART } else { ROW_PART };
        (self.budget.bytes / part).min(VALUE_BYTES_MAX)
    }

    /// Counts a view that the statement expands.
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

/// Counted bytes, given back when dropped.
#[derive(Debug)]
pub struct Held(MemoryReservation);

impl Held {
    /// Counts `bytes` in place of what was counted so far.
    pub fn resize(&self, bytes: usize) -> EngineResult<()> {
        self.0.try_resize(bytes)
    }
}

/// The context with the pool of the statement its options name.
pub fn counted(context: TaskContext) -> Arc<TaskContext> {
    let Some(memory) = StatementMemory::of(context.session_config().options()) else {
        return Arc::new(context);
    };
    let pool = Arc::new(StatementPool::new(Arc::clone(memory)));
    let runtime = RuntimeEnv { memory_pool: pool, ..context.runtime_env().as_ref().clone() };
    Arc::new(context.with_runtime(Arc::new(runtime)))
}

/// The way from a plan's options to its statement: functions see options and nothing else.
#[derive(Clone, Debug)]
struct InOptions(Arc<StatementMemory>);

impl ConfigExtension for InOptions {
    const PREFIX: &'static str = "statement_memory";
}

impl ExtensionOptions for InOptions {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> EngineResult<()> {
        Err(DataFusionError::Configuration(format!("{key} cannot be set")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

/// The statement asks for more than is there.
pub fn out_of_memory(detail: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(detail).hint(
        "Work on fewer or smaller rows at a time, or start the server with more --total-memory-bytes.",
    )
}

/// The error of the statement that was ended for the others' sake.
pub fn ended_as_largest() -> SqlError {
    out_of_memory(
        "The server was about to exceed its memory, and of all statements this one held most.",
    )
}

#[cfg(test)]
mod tests;
