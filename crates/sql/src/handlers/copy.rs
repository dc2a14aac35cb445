//! `COPY … FROM STDIN`: converts data from the client to rows as it arrives.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::ParamValues;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::target::{InsertTarget, Target};
use super::{Outcome, Reply};
use crate::Frontend;
use crate::limits::Limits;
use crate::parser::{CopyFormat, CopyFrom, CopyOptions};
use crate::planner::Planner;
use crate::session::Session;
use tidemark_engine::write::OnceStream;
use tidemark_pg::copy_text::{self, CopyParser, RowBuffer};
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::{Running, Stop};
use tidemark_pg::sqlstate::SqlState;

/// Rows passed on at a time.
const BATCH_ROWS: usize = 8192;
/// Bytes passed on at a time, whatever the number of rows.
const BATCH_BYTES: usize = 4 << 20;
/// Client data is parsed in parts of this size, with a check for a stop between them.
const PART_BYTES: usize = 1 << 20;
/// Batches that may wait for the writer before the client has to wait.
const BATCHES_WAITING: usize = 4;
/// Bytes that may wait for the writer; larger batches wait one at a time.
const BYTES_WAITING: usize = BATCHES_WAITING * BATCH_BYTES;
/// Share of the query memory that the text of one row may take: the row exists several times, as received, as
/// a column, as a value and as a page of a file.
const ROW_PART: usize = 16;

/// Messages to the insert. Without `End` nothing is committed: the `COPY` failed or its client is gone.
enum Piece {
    /// Rows, with the permits for their bytes.
    Rows(RecordBatch, OwnedSemaphorePermit),
    End,
}

/// A planned `COPY` that waits for its rows.
pub struct CopyIn {
    pub planner: Planner,
    pub target: InsertTarget,
    options: copy_text::CopyOptions,
}

/// A running `COPY`: call `push` with the client's data, then `finish`. Fails once the statement is stopped.
pub struct CopyJob {
    parser: CopyParser,
    rows: RowBuffer,
    schema: SchemaRef,
    pieces: mpsc::Sender<Piece>,
    /// Permits for the rows in `pieces`, one per byte.
    room: Arc<Semaphore>,
    insert: tokio::task::JoinHandle<Result<u64, SqlError>>,
    relation: String,
    running: Arc<Running>,
    /// Counts data that was received and not yet passed on.
    held: MemoryReservation,
}

impl Frontend {
    pub(super) fn copy_in(
        &self,
        session: &mut Session,
        copy: &CopyFrom,
    ) -> Result<Reply, SqlError> {
        session.check_writable("COPY FROM")?;
        let planner = self.planner(session);
        let target = InsertTarget::new(Target::named(&planner, &copy.table)?, &copy.columns)?;
        let options = options(&copy.options)?;
        Ok(Outcome::CopyIn(Box::new(CopyIn { planner, target, options })).into())
    }

    /// Starts to accept rows. The time the client takes to send them counts towards the statement timeout.
    pub fn start_copy(self: &Arc<Self>, copy: CopyIn, limits: Limits) -> Result<CopyJob, SqlError> {
        let CopyIn { planner, target, options } = copy;
        let names: Vec<String> =
            target.columns.iter().map(|c| target.into.table.columns[*c].name.clone()).collect();
        let fields = (0..names.len()).map(|i| Field::new(format!("c{i}"), DataType::Utf8, true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let (pieces, received) = mpsc::channel(BATCHES_WAITING);
        let rows = stream::unfold(Some(received), next_rows);
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), rows);
        let source = Arc::new(OnceStream::new(Box::pin(stream)));
        let source = StreamingTable::try_new(Arc::clone(&schema), vec![source])?;
        let plan = LogicalPlanBuilder::scan("copy", provider_as_source(Arc::new(source)), None)?
            .build()?;
        let relation = target.into.relation.name.clone();
        let (frontend, running) = (Arc::clone(self), Arc::clone(&limits.running));
        let insert = async move {
            let state = planner.state();
            let values = ParamValues::List(vec![]);
            frontend.insert_plan(&planner, state, &target, plan, values).await
        };
        let insert = insert.boxed();
        let limited = async move { limits.around(limits.running.until_over(insert)).await };
        let insert = self.engine.queries.spawn(&running, limited)?;
        let rows = RowBuffer::new(names.len());
        let row_bytes_max = self.memory_bytes() / ROW_PART;
        let parser = CopyParser::new(options, names).with_rows_up_to(row_bytes_max);
        let room = Arc::new(Semaphore::new(BYTES_WAITING));
        let held = MemoryConsumer::new("COPY").register(self.engine.tasks.memory_pool());
        Ok(CopyJob { parser, rows, schema, pieces, room, insert, relation, running, held })
    }
}

impl CopyJob {
    /// Takes a chunk of the client's data.
    pub async fn push(&mut self, chunk: &[u8]) -> Result<(), SqlError> {
        for part in chunk.chunks(PART_BYTES) {
            self.running.check()?;
            let parsed = self.parser.push(part, &mut self.rows);
            parsed.map_err(|error| copy_error(error, &self.relation))?;
            self.held.try_resize(self.parser.held_bytes() + self.rows.bytes())?;
            if self.rows.rows() >= BATCH_ROWS || self.rows.bytes() >= BATCH_BYTES {
                self.send().await?;
            }
            // Yields to other tasks of the thread even if the client sends without a pause.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// Commits all rows. Returns their number.
    pub async fn finish(mut self) -> Result<u64, SqlError> {
        self.running.check()?;
        let parsed = self.parser.finish(&mut self.rows);
        parsed.map_err(|error| copy_error(error, &self.relation))?;
        if self.rows.rows() > 0 {
            self.send().await?;
        }
        self.send_piece(Piece::End).await?;
        match self.insert.await {
            Ok(outcome) => outcome,
            Err(error) => Err(SqlError::internal(format!("COPY failed: {error}"))),
        }
    }

    /// Discards all rows: nothing becomes visible.
    pub async fn abort(self) {
        self.running.stop(Stop::ClientGone);
        drop(self.pieces);
        drop(self.insert.await);
    }

    async fn send(&mut self) -> Result<(), SqlError> {
        let bytes = u32::try_from(self.rows.bytes().min(BYTES_WAITING)).unwrap_or(u32::MAX);
        // Permits are released when the insert ends.
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let room = room.map_err(|e| SqlError::internal(format!("COPY failed: {e}")))?;
        let columns: Vec<ArrayRef> = self.rows.take_columns();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let batch = batch.map_err(DataFusionError::from)?;
        self.send_piece(Piece::Rows(batch, room)).await
    }

    async fn send_piece(&mut self, piece: Piece) -> Result<(), SqlError> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // The insert ended before its rows did: report its error.
        match (&mut self.insert).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(SqlError::internal("COPY ended before its rows did")),
            Err(error) => Err(SqlError::internal(format!("COPY failed: {error}"))),
        }
    }
}

async fn next_rows(
    received: Option<mpsc::Receiver<Piece>>,
) -> Option<(Result<RecordBatch, DataFusionError>, Option<mpsc::Receiver<Piece>>)> {
    let mut received = received?;
    match received.recv().await {
        Some(Piece::Rows(batch, _room)) => Some((Ok(batch), Some(received))),
        Some(Piece::End) => None,
        None => {
            let stopped = DataFusionError::Execution("the COPY was stopped".to_owned());
            Some((Err(stopped), None))
        }
    }
}

fn copy_error(error: copy_text::CopyError, relation: &str) -> SqlError {
    let line = error.line;
    let sql = error.cause;
    let sql = match &sql.detail {
        Some(_) => sql,
        None => sql.detail(format!("COPY {relation}, line {line}")),
    };
    match sql.sqlstate {
        SqlState::PROGRAM_LIMIT_EXCEEDED => sql.hint(
            "Store long values in parts, a row for each, or start the server with more \
             --total-memory-bytes.",
        ),
        _ => sql,
    }
}

fn options(options: &CopyOptions) -> Result<copy_text::CopyOptions, SqlError> {
    let byte = |name: &str, c: char| {
        u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("COPY {name} must be a single one-byte character"),
            )
        })
    };
    Ok(copy_text::CopyOptions {
        format: match options.format {
            CopyFormat::Text => copy_text::CopyFormat::Text,
            CopyFormat::Csv => copy_text::CopyFormat::Csv,
        },
        delimiter: byte("delimiter", options.delimiter)?,
        null: options.null.clone(),
        header: options.header,
        quote: byte("quote", options.quote)?,
        escape: byte("escape", options.escape)?,
    })
}
