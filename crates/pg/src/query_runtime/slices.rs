//! Cuts batches into slices of limited size, so that work on one of them is short.

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, GenericByteViewArray, RecordBatch,
};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{ByteViewType, DataType};
use datafusion::error::DataFusionError;

/// Approximate size of a slice, unless it is a single row.
const SLICE_BYTES: usize = 4 << 20;

type Batch = Result<RecordBatch, DataFusionError>;

/// Cuts a batch of long rows into slices of a few rows.
pub fn slices(batch: Batch) -> Slices {
    let rows_max = batch.as_ref().map_or(0, rows_per_slice);
    Slices { rest: Some(batch), rows_max }
}

/// Iterates over the slices of a batch.
pub struct Slices {
    rest: Option<Batch>,
    rows_max: usize,
}

impl Iterator for Slices {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        match self.rest.take()? {
            Ok(batch) if batch.num_rows() > self.rows_max => {
                let after = batch.num_rows() - self.rows_max;
                self.rest = Some(Ok(batch.slice(self.rows_max, after)));
                Some(Ok(batch.slice(0, self.rows_max)))
            }
            last => Some(last),
        }
    }
}

/// Whether a batch is small enough to be a single slice.
pub fn is_one_slice(batch: &RecordBatch) -> bool {
    batch.num_rows() <= rows_per_slice(batch)
}

/// Rows per slice, assuming rows of equal length.
fn rows_per_slice(batch: &RecordBatch) -> usize {
    let (rows, bytes) = (batch.num_rows(), long_bytes_of(batch));
    if bytes <= SLICE_BYTES { rows } else { (SLICE_BYTES / (bytes / rows.max(1)).max(1)).max(1) }
}

/// Bytes of the columns of variable length in a batch.
pub fn long_bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(long_bytes).sum()
}

/// Bytes of a column of variable length: texts, byte strings, lists.
fn long_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => viewed_bytes(column.as_string_view()),
        DataType::BinaryView => viewed_bytes(column.as_binary_view()),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_) => column.to_data().get_slice_memory_size().unwrap_or(0),
        _ => 0,
    }
}

fn viewed_bytes<T: ByteViewType>(column: &GenericByteViewArray<T>) -> usize {
    let buffers: usize = column.data_buffers().iter().map(Buffer::len).sum();
    if buffers <= SLICE_BYTES {
        return buffers;
    }
    // The low four bytes of a view are the length of its text.
    let lengths = column.views().iter().map(|view| view & 0xffff_ffff);
    lengths.map(|length| usize::try_from(length).unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int64Array, StringArray, StringViewArray};

    use super::*;

    fn sizes(column: ArrayRef) -> Vec<usize> {
        let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
        let parts: Vec<_> = slices(Ok(batch.clone())).map(Result::unwrap).collect();
        let whole = datafusion::arrow::compute::concat_batches(&batch.schema(), &parts).unwrap();
        assert_eq!(whole, batch);
        parts.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn long_rows_come_a_few_at_a_time_and_short_ones_all_at_once() {
        let long = "x".repeat(1 << 20);
        let views = StringViewArray::from_iter_values(vec![&long; 10]);
        assert_eq!(sizes(Arc::new(views)), [4, 4, 2]);
        let texts = StringArray::from_iter_values(vec![&long; 6]);
        assert!(sizes(Arc::new(texts)).len() > 1);
        let huge = "x".repeat(SLICE_BYTES + 1);
        assert_eq!(sizes(Arc::new(StringArray::from_iter_values(vec![&huge; 2]))), [1, 1]);
        assert_eq!(sizes(Arc::new(Int64Array::from(vec![1; 100_000]))), [100_000]);
        assert_eq!(sizes(Arc::new(Int64Array::from(Vec::<i64>::new()))), [0]);
    }

    #[test]
    fn an_error_is_passed_on() {
        let error = DataFusionError::Execution("it".to_owned());
        let passed: Vec<_> = slices(Err(error)).collect();
        assert!(matches!(passed.as_slice(), [Err(_)]));
    }
}
