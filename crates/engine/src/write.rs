//! Stages rows: writes a stream of batches to sorted files. Commits nothing.
//!
//! Rows of a table with a primary key are sorted by it (spilling to disk if there are many); of several
//! rows with one key, only the last to arrive is kept. Other rows keep their order.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{
    SortOptions, concat_batches, filter_record_batch, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::exec_datafusion_err;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan as _;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use tidemark_ledger::catalog::Table;
use tidemark_ledger::error::HummockError;
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::sst::{
    INLINE_ROWS_MAX, InlineRows, KeyRange, Keys, SstInfo, SstWriter, Target, file_columns,
};
use tidemark_ledger::storage::Checksum;

const ARRIVAL_COLUMN: &str = "\u{1}arrival";

/// The result of staging rows.
#[derive(Debug)]
pub struct Written {
    pub files: Vec<Arc<SstInfo>>,
    /// Number of rows that arrived, including those replaced by a later row with the same key.
    pub arrived: u64,
    /// All rows that were written, sorted by key, if they are at most [`INLINE_ROWS_MAX`].
    pub few: Option<RecordBatch>,
}

/// The error of a query that produces or sorts rows.
pub(crate) fn rows_error(error: impl Into<DataFusionError>) -> HummockError {
    HummockError::Rows(Box::new(error.into()))
}

/// Writes all rows of `rows`, which have the table's schema.
pub async fn write_rows(
    target: &Target<'_>,
    table_id: ObjectId,
    table: &Arc<Table>,
    rows: SendableRecordBatchStream,
    context: &Arc<TaskContext>,
) -> Result<Written, HummockError> {
    let arrived = Arc::new(Mutex::new(0));
    let mut rows = one_form(table, counted(rows, Arc::clone(&arrived)));
    let keyed = !table.primary_key.is_empty();
    let (files, few) = match first_rows(target, &mut rows).await? {
        First::All(batch) => {
            let batch = if keyed { sorted_by_key(table, &batch)? } else { batch };
            (write_few(target, table_id, table, batch.clone()).await?, Some(batch))
        }
        First::Some(batches) => {
            let rows = rows_after(batches, rows);
            let rows = if keyed { by_key(table, rows, context)? } else { rows };
            (write_all(target, table_id, table, rows).await?, None)
        }
    };
    let arrived = *arrived.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Written { files, arrived, few })
}

/// Writes rows that are sorted by the table's primary key and have each key once.
pub async fn write_sorted(
    target: &Target<'_>,
    table_id: ObjectId,
    table: &Arc<Table>,
    mut rows: SendableRecordBatchStream,
) -> Result<Vec<Arc<SstInfo>>, HummockError> {
    match first_rows(target, &mut rows).await? {
        First::All(batch) => write_few(target, table_id, table, batch).await,
        First::Some(batches) => write_all(target, table_id, table, rows_after(batches, rows)).await,
    }
}

/// Writes rows that are already in memory: inline if they are small enough.
async fn write_few(
    target: &Target<'_>,
    table_id: ObjectId,
    table: &Arc<Table>,
    batch: RecordBatch,
) -> Result<Vec<Arc<SstInfo>>, HummockError> {
    if let Some(sst) = inline(target, table_id, table, &batch).await? {
        return Ok(vec![Arc::new(sst)]);
    }
    let schema = batch.schema();
    let rows = stream::iter([Ok(batch)]);
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    write_all(target, table_id, table, rows).await
}

/// Writes rows as objects.
async fn write_all(
    target: &Target<'_>,
    table_id: ObjectId,
    table: &Arc<Table>,
    mut rows: SendableRecordBatchStream,
) -> Result<Vec<Arc<SstInfo>>, HummockError> {
    let mut files = vec![];
    let mut writer: Option<SstWriter> = None;
    while let Some(batch) = rows.try_next().await.map_err(rows_error)? {
        if batch.num_rows() == 0 {
            continue;
        }
        let open = match &mut writer {
            Some(open) => open,
            None => {
                let id = target.ids.next().await.map_err(HummockError::Ids)?;
                writer.insert(SstWriter::start(target, id, table_id, table).await?)
            }
        };
        open.write(&batch).await?;
        if open.bytes() >= target.sst_bytes_target
            && let Some(full) = writer.take()
        {
            files.push(Arc::new(full.finish().await?));
        }
    }
    if let Some(last) = writer {
        files.push(Arc::new(last.finish().await?));
    }
    Ok(files)
}

/// The first rows of a stream.
enum First {
    /// All rows: there are no others.
    All(RecordBatch),
    Some(Vec<RecordBatch>),
}

/// Reads as long as the rows may be few enough to be inline.
async fn first_rows(
    target: &Target<'_>,
    rows: &mut SendableRecordBatchStream,
) -> Result<First, HummockError> {
    let mut first: Vec<RecordBatch> = vec![];
    let mut count = 0;
    while target.inline && count <= INLINE_ROWS_MAX {
        match rows.try_next().await.map_err(rows_error)? {
            Some(batch) => {
                count += batch.num_rows();
                first.push(batch);
            }
            None if count == 0 => break,
            None => return Ok(First::All(concat_batches(&rows.schema(), &first)?)),
        }
    }
    Ok(First::Some(first))
}

/// The rows as an inline file, if they are small enough.
async fn inline(
    target: &Target<'_>,
    table_id: ObjectId,
    table: &Table,
    batch: &RecordBatch,
) -> Result<Option<SstInfo>, HummockError> {
    let Some(rows) = InlineRows::encode(batch)? else { return Ok(None) };
    let keys = Keys::of(table, batch);
    let keys = keys.and_then(|keys| KeyRange::of(&keys.row(0)?, &keys.row(batch.num_rows() - 1)?));
    let count = u32::try_from(batch.num_rows()).expect("inline rows are few");
    Ok(Some(SstInfo {
        id: target.ids.next().await.map_err(HummockError::Ids)?,
        written_for: table_id,
        rows: u64::from(count),
        size_bytes: rows.bytes().len() as u64,
        row_group_rows: vec![count],
        sha256: Checksum::of(rows.bytes()),
        block_sums: None,
        columns: file_columns(table),
        keys,
        inline: Some(Box::new(rows)),
    }))
}

/// The rows that were read already, followed by the rest.
fn rows_after(
    first: Vec<RecordBatch>,
    rows: SendableRecordBatchStream,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rows = stream::iter(first.into_iter().map(Ok)).chain(rows);
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Sorts a few rows by key, and keeps only the last row of each key.
fn sorted_by_key(table: &Table, batch: &RecordBatch) -> Result<RecordBatch, HummockError> {
    if batch.num_rows() < 2 {
        return Ok(batch.clone());
    }
    let columns = key_indices(table).into_iter().map(|at| Arc::clone(batch.column(at)));
    let columns: Vec<ArrayRef> = columns.collect();
    let types = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(types.collect()).map_err(rows_error)?;
    let keys = converter.convert_columns(&columns).map_err(rows_error)?;
    let mut order: Vec<usize> = (0..batch.num_rows()).collect();
    // Stable: of equal keys, the last to arrive stays last.
    order.sort_by_key(|row| keys.row(*row));
    let is_last = |index: usize| {
        order.get(index + 1).is_none_or(|next| keys.row(order[index]) != keys.row(*next))
    };
    let kept = (0..order.len()).filter(|index| is_last(*index)).map(|index| order[index] as u64);
    let kept = UInt64Array::from_iter_values(kept);
    take_record_batch(batch, &kept).map_err(rows_error)
}

fn counted(rows: SendableRecordBatchStream, count: Arc<Mutex<u64>>) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rows = rows.inspect_ok(move |batch| {
        *count.lock().unwrap_or_else(PoisonError::into_inner) += batch.num_rows() as u64;
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Normalizes the keys of the rows.
fn one_form(table: &Arc<Table>, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let (schema, table) = (rows.schema(), Arc::clone(table));
    let rows = rows.and_then(move |batch| {
        let batch = normalize_float_keys(&table, batch);
        async move { batch }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Normalizes the keys of rows: -0 becomes 0, and every NaN the same one. Rows are sorted and compared
/// by their bits, but keys are compared as numbers.
pub fn normalize_float_keys(
    table: &Table,
    batch: RecordBatch,
) -> Result<RecordBatch, DataFusionError> {
    let key = key_indices(table).into_iter();
    let floats: Vec<usize> =
        key.filter(|at| batch.schema_ref().field(*at).data_type().is_floating()).collect();
    if floats.is_empty() {
        return Ok(batch);
    }
    let mut columns = batch.columns().to_vec();
    for at in floats {
        let column = &columns[at];
        columns[at] = match column.data_type() {
            DataType::Float32 => {
                Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|number| {
                    if number.is_nan() { f32::NAN } else { number + 0.0 }
                }))
            }
            DataType::Float64 => {
                Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|number| {
                    if number.is_nan() { f64::NAN } else { number + 0.0 }
                }))
            }
            _ => continue,
        };
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Sorts rows by key, and keeps only the last row of each key.
fn by_key(
    table: &Table,
    rows: SendableRecordBatchStream,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream, HummockError> {
    let key: Vec<usize> = key_indices(table);
    let schema = rows.schema();
    let numbered = numbered(rows);
    let numbered_schema = numbered.schema();
    let source = Arc::new(OnceStream::new(numbered));
    let source = StreamingTableExec::try_new(
        Arc::clone(&numbered_schema),
        vec![source],
        None,
        [],
        false,
        None,
    )
    .map_err(rows_error)?;
    let arrival = schema.fields().len();
    let order = ascending(&numbered_schema, key.iter().copied().chain([arrival]))?;
    let sorted = SortExec::new(order, Arc::new(source))
        .execute(0, Arc::clone(context))
        .map_err(rows_error)?;
    let last = LastOfKey::new(schema.clone(), key)?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, last.apply(sorted))))
}

/// The ascending order by these columns of a schema, nulls last.
fn ascending(
    schema: &SchemaRef,
    columns: impl Iterator<Item = usize>,
) -> Result<LexOrdering, HummockError> {
    let order = columns.map(|index| PhysicalSortExpr {
        expr: Arc::new(Column::new(schema.field(index).name(), index)),
        options: SortOptions { descending: false, nulls_first: false },
    });
    let order = LexOrdering::new(order.collect::<Vec<_>>());
    order.ok_or_else(|| rows_error(exec_datafusion_err!("a key without columns")))
}

/// The sort order of the table's files; `schema` begins with the table's columns.
pub fn key_order(table: &Table, schema: &SchemaRef) -> Result<LexOrdering, HummockError> {
    ascending(schema, key_indices(table).into_iter())
}

fn key_indices(table: &Table) -> Vec<usize> {
    let index_of = |id| table.columns.iter().position(|column| column.id == id);
    table.primary_key.iter().filter_map(|id| index_of(*id)).collect()
}

/// Appends the order of arrival to the rows, as the last column.
fn numbered(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(ARRIVAL_COLUMN, DataType::UInt64, false)));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let numbered_schema = Arc::clone(&schema);
    let mut next = 0;
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let end = next + batch.num_rows() as u64;
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from_iter_values(next..end)));
        next = end;
        Ok(RecordBatch::try_new(Arc::clone(&numbered_schema), columns)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Drops every row that is followed by a row with the same key.
struct LastOfKey {
    schema: SchemaRef,
    key: Vec<usize>,
    converter: RowConverter,
    /// The last row seen; it is not known yet whether its key comes again.
    held: Option<(OwnedRow, RecordBatch)>,
}

impl LastOfKey {
    fn new(schema: SchemaRef, key: Vec<usize>) -> Result<Self, HummockError> {
        let types =
            key.iter().map(|index| SortField::new(schema.field(*index).data_type().clone()));
        let converter = RowConverter::new(types.collect()).map_err(rows_error)?;
        Ok(Self { schema, key, converter, held: None })
    }

    fn apply(
        self,
        sorted: SendableRecordBatchStream,
    ) -> impl stream::Stream<Item = Result<RecordBatch, DataFusionError>> + Send {
        stream::unfold((self, Some(sorted)), |(mut this, sorted)| async move {
            let mut sorted = sorted?;
            match sorted.next().await {
                Some(Ok(batch)) => {
                    let kept = this.step(&batch);
                    Some((kept, (this, Some(sorted))))
                }
                Some(Err(error)) => Some((Err(error), (this, None))),
                None => {
                    let (_, last) = this.held.take()?;
                    Some((Ok(last), (this, None)))
                }
            }
        })
    }

    /// Emits each key's last row; holds back the final row of `batch`.
    fn step(&mut self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let width = self.schema.fields().len();
        let batch = batch.project(&(0..width).collect::<Vec<_>>())?;
        let batch = batch.with_schema(Arc::clone(&self.schema))?;
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let keys: Vec<ArrayRef> = self.key.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        let keys = self.converter.convert_columns(&keys)?;
        let stays: BooleanArray =
            (0..rows - 1).map(|i| Some(keys.row(i) != keys.row(i + 1))).collect();
        let mut kept = filter_record_batch(&batch.slice(0, rows - 1), &stays)?;
        if let Some((key, row)) = self.held.take()
            && key.row() != keys.row(0)
        {
            kept = concat_batches(&self.schema, [&row, &kept])?;
        }
        self.held = Some((keys.row(rows - 1).owned(), batch.slice(rows - 1, 1)));
        Ok(kept)
    }
}

/// An existing stream, as the source of a plan that runs once.
pub struct OnceStream {
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

impl OnceStream {
    pub fn new(stream: SendableRecordBatchStream) -> Self {
        Self { schema: stream.schema(), stream: Mutex::new(Some(stream)) }
    }
}

impl fmt::Debug for OnceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceStream").finish_non_exhaustive()
    }
}

impl PartitionStream for OnceStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.unwrap_or_else(|| {
            let again = stream::once(async { Err(exec_datafusion_err!("the stream was read")) });
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), again))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int32Array;
    use datafusion::arrow::datatypes::Int32Type;

    fn batch(schema: &SchemaRef, rows: &[(i32, i32)]) -> RecordBatch {
        let column = |pick: fn(&(i32, i32)) -> i32| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values(rows.iter().map(pick)))
        };
        RecordBatch::try_new(Arc::clone(schema), vec![column(|r| r.0), column(|r| r.1)]).unwrap()
    }

    #[tokio::test]
    async fn of_rows_with_one_key_the_last_stays_also_across_batches() {
        let field = |name| Field::new(name, DataType::Int32, false);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field("k"), field("v")]));
        let sorted = [vec![(1, 1), (1, 2), (2, 3)], vec![(2, 4)], vec![], vec![(2, 5), (3, 6)]];
        let batches: Vec<_> = sorted.iter().map(|rows| Ok(batch(&schema, rows))).collect();
        let input = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream::iter(batches)));
        let last = LastOfKey::new(schema, vec![0]).unwrap();
        let out: Vec<RecordBatch> = last.apply(input).try_collect().await.unwrap();
        let values = out.iter().flat_map(|b| b.column(1).as_primitive::<Int32Type>().values());
        assert_eq!(values.copied().collect::<Vec<_>>(), [2, 5, 6]);
    }
}
