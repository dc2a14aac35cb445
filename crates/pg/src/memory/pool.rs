//! One statement's share of the memory of all.
//!
//! A statement may hold [`SHARE`] times the memory that is then still free. So a single statement may take
//! three quarters of what can be reserved, two may take three sevenths each, and a new one always finds some
//! left.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use super::{LARGE_PART, StatementMemory};

/// A statement may hold this many times the free memory.
const SHARE: usize = 3;

/// A statement's memory as a DataFusion pool.
#[derive(Debug)]
pub struct StatementPool(Arc<StatementMemory>);

impl StatementPool {
    pub fn new(memory: Arc<StatementMemory>) -> Self {
        Self(memory)
    }

    fn count(&self, bytes: usize) {
        let held = self.0.held_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held >= self.0.budget.bytes / LARGE_PART {
            self.0.running.holds_much();
        }
    }

    /// Whether the share allows these additional bytes.
    fn within_share(&self, additional: usize) -> bool {
        let budget = &self.0.budget;
        let taken = budget.pool.reserved().saturating_add(budget.kept());
        let after = taken.saturating_add(additional);
        let free = budget.counted_bytes.saturating_sub(after);
        self.0.held().saturating_add(additional) <= free.saturating_mul(SHARE)
    }
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} held)", self.name(), self.0.held())
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.0.budget.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.0.budget.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.budget.pool.grow(reservation, additional);
        self.count(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.budget.pool.shrink(reservation, shrink);
        self.0.held_bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.0.check()?;
        if !self.within_share(additional) {
            let consumer = reservation.consumer().name();
            return Err(datafusion::error::DataFusionError::ResourcesExhausted(format!(
                "{consumer} needs {additional} bytes more; the statement holds {}, all statements {} of {}.",
                self.0.held(),
                self.reserved(),
                self.0.budget.counted_bytes
            )));
        }
        self.0.budget.pool.try_grow(reservation, additional)?;
        self.count(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.0.budget.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.0.budget.counted_bytes)
    }
}
