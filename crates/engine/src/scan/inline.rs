//! Scans inline rows, which are stored in the metadata.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
    new_null_array,
};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::ExecutionPlan;

use tidemark_ledger::id::ColumnId;
use tidemark_ledger::sst::schema::column_id;
use tidemark_ledger::version::LiveFile;

/// A scan of inline files. `schema` is that of the table, followed by the two columns of the row
/// position if `row_positions`.
pub fn scan(
    files: &[LiveFile],
    schema: &SchemaRef,
    row_positions: bool,
    projection: Option<Vec<usize>>,
    backfill: &HashMap<ColumnId, ScalarValue>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let batches = files.iter().map(|file| rows_of(file, schema, row_positions, backfill));
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let rows = concat_batches(schema, &batches)?;
    Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], Arc::clone(schema), projection)?)
}

/// The live rows of one file.
fn rows_of(
    file: &LiveFile,
    schema: &SchemaRef,
    row_positions: bool,
    backfill: &HashMap<ColumnId, ScalarValue>,
) -> Result<RecordBatch> {
    let Some(stored) = file.inline_rows() else {
        return exec_err!("the file has an object");
    };
    let count = usize::try_from(file.sst.rows).unwrap_or(usize::MAX);
    let stored = stored?;
    if stored.num_rows() != count || stored.num_columns() != file.sst.columns.len() {
        return exec_err!("file {} does not hold the rows it says", file.sst.id);
    }
    let width = schema.fields().len() - if row_positions { 2 } else { 0 };
    let mut columns = schema.fields()[..width]
        .iter()
        .map(|field| column(field, file, &stored, backfill))
        .collect::<Result<Vec<_>>>()?;
    if row_positions {
        columns.push(Arc::new(UInt64Array::from_value(file.sst.id.0, count)));
        columns.push(Arc::new(Int64Array::from_iter_values(0..i64::from(small(count)?))));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
    match &file.dead {
        None => Ok(rows),
        Some(dead) => {
            let alive = (0..small(count)?).map(|at| Some(!dead.contains(at)));
            Ok(filter_record_batch(&rows, &alive.collect::<BooleanArray>())?)
        }
    }
}

fn small(count: usize) -> Result<u32> {
    match u32::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => exec_err!("a file has too many rows"),
    }
}

/// A column of the table as this file has it.
fn column(
    field: &Field,
    file: &LiveFile,
    stored: &RecordBatch,
    backfill: &HashMap<ColumnId, ScalarValue>,
) -> Result<ArrayRef> {
    let id = column_id(field);
    match file.sst.columns.iter().position(|column| Some(column.id) == id) {
        Some(at) => Ok(cast(stored.column(at), field.data_type())?),
        None => match id.and_then(|id| backfill.get(&id)) {
            Some(value) => value.to_array_of_size(stored.num_rows()),
            None => Ok(new_null_array(field.data_type(), stored.num_rows())),
        },
    }
}
