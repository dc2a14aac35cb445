//! Runs statements on separate threads, which the operating system schedules, so that no statement waits for
//! another one to yield.
//!
//! [`super::running`] stops statements, [`super::lanes`] provides their threads, `rows` brings rows from
//! these to the client, `interrupt` makes plans notice a stop. All tasks of statements are spawned in this
//! file; in a single-threaded simulation they are tasks of its thread.

mod held_filters;
mod in_order;
mod interrupt;
mod planning;
mod rows;
mod slices;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::common::runtime::set_join_set_tracer;
use datafusion::execution::SendableRecordBatchStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use super::error::SqlError;
use super::lanes::Lanes;
use super::running::{self, Context, Inherit, Task};
use tidemark_ledger::metrics;

pub use self::rows::Planned;
pub use super::lanes::STACK_BYTES;
#[cfg(test)]
pub use super::running::Computing;
pub use super::running::{Running, Stop, check, committing, current};
pub use interrupt::{interruptible, is_checkpoint};
pub use planning::{analyzer_rules, optimizer_rules, physical_rules};
pub use slices::slices;

/// The threads on which statements run.
#[derive(Debug)]
pub struct QueryRuntime(Threads);

#[derive(Debug)]
enum Threads {
    /// Threads of lanes.
    Own(Arc<Lanes>),
    /// The one thread of the caller's runtime.
    Shared,
}

impl QueryRuntime {
    /// Creates the threads for statements that use `parallelism` of them each; none if the caller's runtime
    /// is single-threaded.
    pub fn new(parallelism: usize) -> Self {
        // Fails if a tracer is set already, which is fine: the first one inherits in the same way.
        drop(set_join_set_tracer(&Inherit));
        // Registers the metric, so that it is exported before the first task.
        metrics::QUERY_TASKS.get();
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        Self(match flavor {
            Ok(RuntimeFlavor::CurrentThread) => Threads::Shared,
            _ => Threads::Own(Lanes::new(parallelism.max(1))),
        })
    }

    /// Runs a part of a statement as a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        running: &Arc<Running>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>, SqlError> {
        let context = self.seat(Context::of(Arc::clone(running)))?;
        Ok(spawn_in(context, work))
    }

    /// Runs a query concurrently with the statement that asks for it. It ends when the stream is dropped.
    pub async fn run(&self, query: Planned) -> Result<SendableRecordBatchStream, SqlError> {
        let context = running::context().unwrap_or_default();
        let unwanted = Arc::new(AtomicBool::new(false));
        let context = Context { unwanted: Some(Arc::clone(&unwanted)), ..self.seat(context)? };
        rows::flow(query, unwanted, |driver| spawn_in(context, driver)).await
    }

    /// Gives the context a lane if it has none yet.
    fn seat(&self, context: Context) -> Result<Context, SqlError> {
        match &self.0 {
            Threads::Own(lanes) if context.lease.is_none() => {
                Ok(Context { lease: Some(lanes.take()?), ..context })
            }
            _ => Ok(context),
        }
    }
}

fn spawn_in<T: Send + 'static>(
    context: Context,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    match context.lease.clone() {
        Some(lease) => lease.spawn(Task::new(context, Box::pin(work))),
        None => tokio::spawn(Task::new(context, Box::pin(work))),
    }
}

#[cfg(test)]
mod tests;
