//! `sum` of integers that does not wrap: a sum that is no bigint is an error.
//!
//! DataFusion adds 64-bit integers, and wraps. Here they are added as decimals, and the result must fit.

use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// The type in which integers are added: no number of them fills it.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// The function `sum`, to be registered instead of the engine's.
pub fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum { inner: sum_udaf() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Arc<AggregateUDF>,
}

/// The arguments for the sum of decimals, if this is a sum of integers.
fn widened<'a>(args: &AccumulatorArgs<'a>) -> Option<AccumulatorArgs<'a>> {
    let is_of_integers = *args.return_field.data_type() == DataType::Int64;
    let return_field = Arc::new(Field::new(args.name, WIDE, true));
    is_of_integers.then(|| AccumulatorArgs { return_field, ..args.clone() })
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match widened(&args) {
            Some(wide) => Ok(Box::new(OfIntegers(self.inner.accumulator(wide)?))),
            None => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if *args.return_field.data_type() != DataType::Int64 {
            return self.inner.state_fields(args);
        }
        let return_field = Arc::new(Field::new(args.name, WIDE, true));
        self.inner.state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match widened(&args) {
            Some(wide) => Ok(Box::new(OfIntegers(self.inner.create_groups_accumulator(wide)?))),
            None => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        match widened(&args) {
            // The engine has sums of distinct values in a sliding frame for integers only.
            Some(wide) if !args.is_distinct => {
                Ok(Box::new(OfIntegers(self.inner.create_sliding_accumulator(wide)?)))
            }
            _ => self.inner.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner.inner().value_from_stats(statistics)
    }
}

/// Passes integers on as decimals, and returns integers.
#[derive(Debug)]
struct OfIntegers<A: ?Sized>(Box<A>);

fn as_decimals(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    values.iter().map(|array| Ok(cast(array, &WIDE)?)).collect()
}

fn as_integers(sums: &ArrayRef) -> Result<ArrayRef> {
    // What does not fit becomes null.
    let integers = cast(sums, &DataType::Int64)?;
    if integers.null_count() == sums.null_count() {
        return Ok(integers);
    }
    Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range").into())
}

impl Accumulator for OfIntegers<dyn Accumulator> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&as_decimals(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.0.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&as_integers(&sum)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&as_decimals(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

impl GroupsAccumulator for OfIntegers<dyn GroupsAccumulator> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.0.update_batch(&as_decimals(values)?, group_indices, filter, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        as_integers(&self.0.evaluate(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        self.0.merge_batch(states, group_indices, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(&as_decimals(values)?, filter)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}
