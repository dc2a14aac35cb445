//! Where statements run: on threads of their own, which the operating system shares the processors
//! between, so that no statement waits for another one to pause.
//!
//! [`super::running`] says what stops a statement, [`super::lanes`] which threads it has, `rows` how its rows
//! get from them to the client, `interrupt` how a plan notices that it was stopped. All tasks of statements are
//! spawned in this file: a simulation on one thread has them as tasks of that thread.

mod interrupt;
mod planning;
mod rows;
mod slices;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::common::runtime::set_join_set_tracer;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use super::error::SqlError;
use super::lanes::Lanes;
use super::running::{self, Context, Inherit, Task};
use tidemark_ledger::metrics;

pub use super::lanes::STACK_BYTES;
#[cfg(test)]
pub use super::running::Computing;
pub use super::running::{Running, Stop, check, committing, current};
pub use interrupt::{interruptible, is_checkpoint};
pub use planning::{analyzer_rules, optimizer_rules, physical_rules};
pub use slices::slices;

/// Threads for statements.
#[derive(Debug)]
pub struct QueryRuntime(Threads);

#[derive(Debug)]
enum Threads {
    /// Those of lanes.
    Own(Arc<Lanes>),
    /// The one thread that everything here runs on.
    Shared,
}

impl QueryRuntime {
    /// Threads for statements that use `parallelism` of them at a time; none where the caller's runtime has
    /// but one thread for everything.
    pub fn new(parallelism: usize) -> Self {
        // A second one in this process inherits in the same way.
        drop(set_join_set_tracer(&Inherit));
        // It is shown before anything is counted.
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

    /// Runs a query next to the statement that asks for it. It ends with the stream.
    pub async fn run(&self, query: DataFrame) -> Result<SendableRecordBatchStream, SqlError> {
        let context = running::context().unwrap_or_default();
        let unwanted = Arc::new(AtomicBool::new(false));
        let context = Context { unwanted: Some(Arc::clone(&unwanted)), ..self.seat(context)? };
        rows::flow(query, unwanted, |driver| spawn_in(context, driver)).await
    }

    /// Gives what has no threads yet those of a lane.
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
