//! Passes the rows of a query from its threads to their reader, with backpressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::slices::long_bytes_of;
use super::{Running, interruptible, slices};
use crate::error::SqlError;
use crate::memory::{self, Held, StatementMemory};
use crate::running;

/// Batches up to this size are not counted while they wait.
const SMALL_BYTES: usize = 64 << 10;
/// Number of batches that may wait for the client before the query has to wait.
const BATCHES_WAITING: usize = 2;

/// A query that is being planned: its plan and the context in which it runs.
pub type Planned =
    BoxFuture<'static, Result<(Arc<dyn ExecutionPlan>, TaskContext), DataFusionError>>;

type Batch = Result<RecordBatch, DataFusionError>;

/// A batch on its way, counted until its reader asks for the next one.
type Counted = (Batch, Option<Held>);

/// Starts a query; `spawn` runs its driver as a task. `unwanted` is set when the rows are dropped.
pub async fn flow(
    query: Planned,
    unwanted: Arc<AtomicBool>,
    spawn: impl FnOnce(BoxFuture<'static, ()>) -> JoinHandle<()>,
) -> Result<SendableRecordBatchStream, SqlError> {
    let (started, schema) = oneshot::channel();
    let (batches, received) = mpsc::channel(BATCHES_WAITING);
    let task = spawn(drive(query, started, batches).boxed());
    let running = running::current();
    let mut source = Source { received, task, unwanted, running, held: None };
    let schema = match schema.await {
        Ok(schema) => schema?,
        // The task is gone. If it panicked, this statement panics too.
        Err(_) => match (&mut source.task).await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => return Err(SqlError::internal("the query was stopped")),
        },
    };
    let rows = stream::unfold(Some(source), next_batch);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

/// The reading end of a query. Dropping it ends the query.
struct Source {
    received: mpsc::Receiver<Counted>,
    task: JoinHandle<()>,
    unwanted: Arc<AtomicBool>,
    running: Option<Arc<Running>>,
    /// Counts the batch that the reader has.
    held: Option<Held>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

async fn drive(
    query: Planned,
    started: oneshot::Sender<Result<SchemaRef, DataFusionError>>,
    batches: mpsc::Sender<Counted>,
) {
    let mut rows = match begin(query).await {
        Ok(rows) => rows,
        Err(error) => {
            // There is no receiver any more if the statement was cancelled.
            drop(started.send(Err(error)));
            return;
        }
    };
    if started.send(Ok(rows.schema())).is_err() {
        return;
    }
    let running = running::current().unwrap_or_default();
    while let Some(batch) = rows.next().await {
        for part in slices(batch) {
            let waits = batches.send(counted(part));
            // The reader may be slow: a stopped statement does not wait for it while holding memory.
            let sent = tokio::select! {
                biased;
                sent = waits => sent.is_ok(),
                () = running.over() => false,
            };
            if !sent {
                return;
            }
        }
    }
}

/// Counts a batch that is read later, if it is long.
fn counted(batch: Batch) -> Counted {
    let bytes = batch.as_ref().map_or(0, long_bytes_of);
    match StatementMemory::current().filter(|_| bytes > SMALL_BYTES) {
        None => (batch, None),
        Some(memory) => match memory.hold("rows to be sent", bytes) {
            Ok(held) => (batch, Some(held)),
            Err(error) => (Err(error), None),
        },
    }
}

async fn begin(query: Planned) -> Result<SendableRecordBatchStream, DataFusionError> {
    running::check()?;
    let (plan, context) = query.await?;
    execute_stream(interruptible(plan)?, memory::counted(context))
}

async fn next_batch(source: Option<Source>) -> Option<(Batch, Option<Source>)> {
    let mut source = source?;
    source.held = None;
    match source.received.recv().await {
        Some((batch, held)) => {
            source.held = held;
            Some((batch, Some(source)))
        }
        // The channel ended. A panic must not look like the end of the rows.
        None => match (&mut source.task).await {
            // The task ended early if the statement was stopped.
            Ok(()) => match source.running.as_ref().map(|running| running.check()) {
                Some(Err(stopped)) => Some((Err(stopped.into()), None)),
                _ => None,
            },
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                let stopped = DataFusionError::Execution("the query was stopped".to_owned());
                Some((Err(stopped), None))
            }
        },
    }
}
