//! Aggregates over windows that yield a growing value for each row, like a running `array_agg`: n rows, n
//! arrays of up to n elements.
//!
//! As a plain aggregate such a function has one result per group, which its operator counts.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, WindowFunctionDefinition,
};

use super::sizes::value_bytes;
use crate::memory::{Held, StatementMemory};

/// Rows whose results exist at the same time: those of a batch before it is passed on.
const ROWS_KEPT: usize = 8192;
/// Results exist as values first, then as a column.
const COPIES: usize = 2;

/// Aggregates whose results grow with the number of rows.
const GROWING: [&str; 2] = ["array_agg", "string_agg"];

/// Returns the call with its results counted in the statement's memory. `None` if it needs no counting.
pub fn counted(call: &WindowFunction, memory: &Arc<StatementMemory>) -> Option<WindowFunction> {
    let WindowFunctionDefinition::AggregateUDF(inner) = &call.fun else { return None };
    if !GROWING.contains(&inner.name()) || inner.inner().is::<CountedAggregate>() {
        return None;
    }
    let counted = CountedAggregate { inner: Arc::clone(inner), memory: Arc::clone(memory) };
    let fun = WindowFunctionDefinition::AggregateUDF(Arc::new(AggregateUDF::from(counted)));
    Some(WindowFunction { fun, params: WindowFunctionParams::clone(&call.params) })
}

#[derive(Debug)]
struct CountedAggregate {
    inner: Arc<AggregateUDF>,
    memory: Arc<StatementMemory>,
}

impl CountedAggregate {
    fn around(&self, inner: Box<dyn Accumulator>) -> Result<Box<dyn Accumulator>> {
        let held = self.memory.hold(self.inner.name(), 0)?;
        let counted = CountedAccumulator { inner, held, fed: 0, results: Recent::default() };
        Ok(Box::new(counted))
    }
}

/// Equality ignores the memory, since statements share no plans.
impl PartialEq for CountedAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for CountedAggregate {}

impl Hash for CountedAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl AggregateUDFImpl for CountedAggregate {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.around(self.inner.accumulator(args)?)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        self.around(self.inner.create_sliding_accumulator(args)?)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Sizes in bytes of the most recent results.
#[derive(Debug, Default)]
struct Recent {
    each: VecDeque<usize>,
    sum: usize,
}

impl Recent {
    fn add(&mut self, bytes: usize) -> usize {
        if self.each.len() == ROWS_KEPT {
            self.sum -= self.each.pop_front().unwrap_or(0);
        }
        self.each.push_back(bytes);
        self.sum = self.sum.saturating_add(bytes);
        self.sum
    }
}

#[derive(Debug)]
struct CountedAccumulator {
    inner: Box<dyn Accumulator>,
    held: Held,
    /// Rows since the last result; each of them may get that result.
    fed: usize,
    results: Recent,
}

impl CountedAccumulator {
    fn count_rows(&mut self, values: &[ArrayRef]) {
        self.fed += values.first().map_or(0, |values| values.len());
    }
}

impl Accumulator for CountedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count_rows(values);
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let result = self.inner.evaluate()?;
        let copies = std::mem::take(&mut self.fed).max(1).saturating_mul(COPIES);
        let bytes = value_bytes(&result).saturating_mul(copies);
        self.held.resize(self.results.add(bytes))?;
        Ok(result)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}
