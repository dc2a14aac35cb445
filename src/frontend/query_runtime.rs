//! Where queries run: on threads of their own, so that one that never pauses does not keep the server
//! from accepting, answering and cancelling.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt as _, stream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::error::SqlError;
use super::memory;

/// Batches that wait for the client before the query does.
const BATCHES_WAITING: usize = 2;
/// Plans nest deeply, and are walked by recursion.
const STACK_BYTES: usize = 16 << 20;

/// Threads for queries.
#[derive(Debug)]
pub struct QueryRuntime(Option<Runtime>);

impl QueryRuntime {
    pub fn new(parallelism: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(parallelism.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a query there. It ends with the stream.
    pub async fn run(&self, query: DataFrame) -> Result<SendableRecordBatchStream, SqlError> {
        let Some(runtime) = &self.0 else {
            return Err(SqlError::internal("the server is stopping"));
        };
        let (started, schema) = oneshot::channel();
        let (batches, received) = mpsc::channel(BATCHES_WAITING);
        let task = runtime.spawn(drive(query, started, batches));
        let guard = AbortOnDrop(Arc::new(task.abort_handle()));
        let schema = match schema.await {
            Ok(schema) => schema?,
            // The task is gone: it panicked, and its panic is this statement's.
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => return Err(SqlError::internal("the query was stopped")),
            },
        };
        let source = Source { received, task, _guard: guard };
        let rows = stream::unfold(Some(source), next_batch);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// A runtime must not be dropped where it would have to wait for its threads.
impl Drop for QueryRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop(Arc<AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Batch = Result<RecordBatch, DataFusionError>;

struct Source {
    received: mpsc::Receiver<Batch>,
    task: tokio::task::JoinHandle<()>,
    _guard: AbortOnDrop,
}

async fn drive(
    query: DataFrame,
    started: oneshot::Sender<Result<SchemaRef, DataFusionError>>,
    batches: mpsc::Sender<Batch>,
) {
    let mut rows = match memory::run_counted(query).await {
        Ok(rows) => rows,
        Err(error) => {
            // Nobody waits any more: the statement was cancelled.
            drop(started.send(Err(error)));
            return;
        }
    };
    if started.send(Ok(rows.schema())).is_err() {
        return;
    }
    while let Some(batch) = rows.next().await {
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}

async fn next_batch(source: Option<Source>) -> Option<(Batch, Option<Source>)> {
    let mut source = source?;
    match source.received.recv().await {
        Some(batch) => Some((batch, Some(source))),
        // The end, or a panic, which must not look like the end.
        None => match source.task.await {
            Ok(()) => None,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                let stopped = DataFusionError::Execution("the query was stopped".to_owned());
                Some((Err(stopped), None))
            }
        },
    }
}
