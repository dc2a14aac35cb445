//! Rows of a group that are kept: for `DISTINCT` and `ORDER BY` inside a call, and for frames that rows leave.

use std::collections::VecDeque;
use std::fmt;
use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, UInt64Array, new_empty_array,
};
use datafusion::arrow::compute::{
    SortColumn, SortOptions, concat, filter, lexsort_to_indices, partition, take,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

use crate::order_keys::key_of;

/// Feeds an accumulator the rows in order, or each row once.
#[derive(Debug)]
pub struct Collected {
    inner: Box<dyn Accumulator>,
    /// Types of the arguments, then of the expressions to sort by.
    types: Vec<DataType>,
    arguments: usize,
    order: Vec<SortOptions>,
    distinct: bool,
    /// Columns of batches, in the order of `types`.
    batches: Vec<Vec<ArrayRef>>,
}

impl Collected {
    pub fn new(
        inner: Box<dyn Accumulator>,
        arguments: Vec<DataType>,
        order: Vec<(DataType, SortOptions)>,
        distinct: bool,
    ) -> Self {
        let count = arguments.len();
        let (order_types, order): (Vec<_>, Vec<_>) = order.into_iter().unzip();
        let types = arguments.into_iter().chain(order_types).collect();
        Self { inner, types, arguments: count, order, distinct, batches: vec![] }
    }

    fn columns(&self) -> Result<Vec<ArrayRef>> {
        let columns = self.types.iter().enumerate().map(|(at, data_type)| {
            let parts: Vec<_> = self.batches.iter().map(|batch| batch[at].as_ref()).collect();
            if parts.is_empty() { Ok(new_empty_array(data_type)) } else { Ok(concat(&parts)?) }
        });
        columns.collect()
    }

    /// The rows to feed: sorted as asked, or by the arguments if each row counts once.
    fn arranged(&self) -> Result<Vec<ArrayRef>> {
        let columns = self.columns()?;
        let (arguments, order) = columns.split_at(self.arguments);
        let rows = arguments.first().map_or(0, |column| column.len());
        let mut keys = vec![];
        for (column, options) in order.iter().zip(&self.order) {
            keys.push(SortColumn { values: key_of(column)?, options: Some(*options) });
        }
        if self.distinct {
            let options = SortOptions { descending: false, nulls_first: false };
            for column in arguments {
                keys.push(SortColumn { values: key_of(column)?, options: Some(options) });
            }
        }
        // Equal rows keep their order.
        let positions = UInt64Array::from_iter_values((0_u64..).take(rows));
        keys.push(SortColumn { values: Arc::new(positions), options: None });
        let indices = lexsort_to_indices(&keys, None)?;
        let sorted = |column: &ArrayRef| take(column, &indices, None);
        let sorted_arguments = arguments.iter().map(sorted).collect::<Result<Vec<_>, _>>()?;
        if !self.distinct {
            return Ok(sorted_arguments);
        }
        let keys = sorted_arguments.iter().map(key_of).collect::<Result<Vec<_>>>()?;
        let mut first = vec![false; rows];
        partition(&keys)?.ranges().into_iter().for_each(|range| first[range.start] = true);
        let first = BooleanArray::from(first);
        let kept = sorted_arguments.iter().map(|column| filter(column, &first));
        Ok(kept.collect::<Result<Vec<_>, _>>()?)
    }
}

impl Accumulator for Collected {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.batches.push(values.to_vec());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let arranged = self.arranged()?;
        self.batches.clear();
        self.inner.update_batch(&arranged)?;
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + bytes(self.batches.iter().flatten())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.columns()?;
        let lists = columns.into_iter().map(|column| {
            SingleRowListArrayBuilder::new(column).with_nullable(true).build_list_scalar()
        });
        Ok(lists.collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        for row in 0..rows {
            if states[0].is_valid(row) {
                let batch = states.iter().map(|lists| lists.as_list::<i32>().value(row));
                self.batches.push(batch.collect());
            }
        }
        Ok(())
    }
}

fn bytes<'a>(arrays: impl Iterator<Item = &'a ArrayRef>) -> usize {
    arrays.map(|array| array.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Batches of a frame before they are joined to one.
const BATCHES_MAX: usize = 64;

/// An aggregate over a frame that rows leave. Its result is computed from the rows of the frame each time: taking
/// a float out of a sum leaves an error, and taking out an infinity is impossible.
pub struct Replayed<F> {
    make: F,
    /// The rows of the frame: columns of batches.
    batches: VecDeque<Vec<ArrayRef>>,
}

impl<F> Replayed<F> {
    pub fn new(make: F) -> Self {
        Self { make, batches: VecDeque::new() }
    }

    fn join(&mut self) -> Result<()> {
        let width = self.batches.front().map_or(0, Vec::len);
        let joined = (0..width).map(|at| {
            let parts: Vec<_> = self.batches.iter().map(|batch| batch[at].as_ref()).collect();
            concat(&parts)
        });
        let joined = joined.collect::<Result<Vec<_>, _>>()?;
        self.batches = VecDeque::from([joined]);
        Ok(())
    }
}

impl<F> fmt::Debug for Replayed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayed").field("batches", &self.batches.len()).finish_non_exhaustive()
    }
}

fn rows_of(batch: &[ArrayRef]) -> usize {
    batch.first().map_or(0, |column| column.len())
}

impl<F> Accumulator for Replayed<F>
where
    F: Fn() -> Result<Box<dyn Accumulator>> + Send + Sync + 'static,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if rows_of(values) > 0 {
            self.batches.push_back(values.to_vec());
        }
        if self.batches.len() > BATCHES_MAX { self.join() } else { Ok(()) }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut fresh = (self.make)()?;
        for batch in &self.batches {
            fresh.update_batch(batch)?;
        }
        fresh.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + bytes(self.batches.iter().flatten())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut fresh = (self.make)()?;
        for batch in &self.batches {
            fresh.update_batch(batch)?;
        }
        fresh.state()
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(crate::error::SqlError::internal("a frame is not merged").into())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut leaving = rows_of(values);
        while leaving > 0 {
            let Some(mut first) = self.batches.pop_front() else { break };
            let rows = rows_of(&first);
            if rows > leaving {
                for column in &mut first {
                    *column = column.slice(leaving, rows - leaving);
                }
                self.batches.push_front(first);
            }
            leaving = leaving.saturating_sub(rows);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}
