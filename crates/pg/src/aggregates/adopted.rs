//! Aggregates of the engine that answer as PostgreSQL's, for arguments that PostgreSQL accepts.

use std::sync::Arc;

use datafusion::arrow::datatypes::{
    DataType, FieldRef, Float32Type, Float64Type, IntervalMonthDayNanoType,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, GroupsAccumulator, StatisticsArgs};

use super::function::Definition;
use super::states::state_fields;
use super::sums::{Extreme, Folded};
use crate::order_keys::has_key;

/// An aggregate of the engine under PostgreSQL's name.
#[derive(Debug)]
pub struct Adopted {
    pub name: &'static str,
    pub inner: Arc<AggregateUDF>,
    /// Whether PostgreSQL has the function for an argument of this type.
    pub accepts: fn(&DataType) -> bool,
    /// Whether a row that comes twice counts twice.
    pub counts_duplicates: bool,
    pub is_ordered: bool,
    /// Whether the engine's accumulator takes rows out of a frame.
    pub slides: bool,
}

impl Adopted {
    pub fn new(
        name: &'static str,
        inner: Arc<AggregateUDF>,
        accepts: fn(&DataType) -> bool,
    ) -> Self {
        Self { name, inner, accepts, counts_duplicates: false, is_ordered: false, slides: false }
    }
}

impl Definition for Adopted {
    fn name(&self) -> &str {
        self.name
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        match types {
            [only] if (self.accepts)(only) => Some(types.to_vec()),
            _ => None,
        }
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn result_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arguments)
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(StateFieldsArgs { ordering_fields: &[], ..args })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if self.slides {
            self.inner.create_sliding_accumulator(args)
        } else {
            self.inner.accumulator(args)
        }
    }

    fn groups(&self, args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        if !self.inner.groups_accumulator_supported(args.clone()) {
            return Ok(None);
        }
        self.inner.create_groups_accumulator(args).map(Some)
    }

    fn slides(&self, _types: &[DataType]) -> bool {
        self.slides
    }

    fn counts_duplicates(&self) -> bool {
        self.counts_duplicates
    }

    fn is_ordered(&self, _types: &[DataType]) -> bool {
        self.is_ordered
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.inner.inner().value_from_stats(statistics)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.inner().is_descending()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }
}

/// `min` or `max`: the engine's, but for intervals, which it compares field by field, and for floats, among which it
/// passes over NaN and infinities.
#[derive(Debug)]
pub struct Extremes {
    pub engine: Adopted,
    pub greatest: bool,
}

/// Makes the accumulator for types that the engine orders in another way; it serves for one group and for many.
macro_rules! extreme {
    ($result:expr, $greatest:expr, $as:ty) => {
        match ($result, $greatest) {
            (DataType::Interval(_), true) => extreme!(IntervalMonthDayNanoType, true, $result, $as),
            (DataType::Interval(_), false) => {
                extreme!(IntervalMonthDayNanoType, false, $result, $as)
            }
            (DataType::Float32, true) => extreme!(Float32Type, true, $result, $as),
            (DataType::Float32, false) => extreme!(Float32Type, false, $result, $as),
            (DataType::Float64, true) => extreme!(Float64Type, true, $result, $as),
            (DataType::Float64, false) => extreme!(Float64Type, false, $result, $as),
            _ => None,
        }
    };
    ($arrow:ty, $greatest:literal, $result:expr, $as:ty) => {
        Some(Box::new(Folded::<Extreme<$arrow, $greatest>>::new($result.clone())) as $as)
    };
}

impl Definition for Extremes {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        self.engine.arguments(types)
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        self.engine.result(types)
    }

    fn result_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.engine.result_field(arguments)
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let result = args.return_field.data_type();
        if has_key(result) {
            return Ok(state_fields(args.name, [result.clone()]));
        }
        self.engine.states(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match extreme!(args.return_field.data_type(), self.greatest, Box<dyn Accumulator>) {
            Some(accumulator) => Ok(accumulator),
            None => self.engine.accumulator(args),
        }
    }

    fn groups(&self, args: AccumulatorArgs<'_>) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        match extreme!(args.return_field.data_type(), self.greatest, Box<dyn GroupsAccumulator>) {
            Some(accumulator) => Ok(Some(accumulator)),
            None => self.engine.groups(args),
        }
    }

    fn slides(&self, _types: &[DataType]) -> bool {
        false
    }

    fn counts_duplicates(&self) -> bool {
        false
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        // Statistics of floats do not count NaN.
        let known = !has_key(statistics.return_type);
        known.then(|| self.engine.value_from_stats(statistics))?
    }

    fn is_descending(&self) -> Option<bool> {
        self.engine.is_descending()
    }
}
