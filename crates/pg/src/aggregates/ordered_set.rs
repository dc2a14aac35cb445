//! Aggregates called with `WITHIN GROUP`: percentiles and the most frequent value.
//!
//! The engine passes the value to sort by as the first argument; the rows come in its order.

use std::collections::HashMap;
use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, new_empty_array};
use datafusion::arrow::compute::{concat, filter, is_not_null, partition};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::physical_expr::expressions::Literal;

use super::function::{Definition, types_of, undefined};
use super::interval_mean::scaled;
use super::intervals::{INTERVAL, add_intervals, negated_interval};
use super::states::state_fields;
use crate::error::SqlError;
use crate::order_keys::key_of;
use crate::sqlstate::SqlState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderedSet {
    /// Between two values, weighted.
    PercentileCont,
    /// The first value that has the fraction of rows up to it.
    PercentileDisc,
    Mode,
}

impl Definition for OrderedSet {
    fn name(&self) -> &'static str {
        match self {
            Self::PercentileCont => "percentile_cont",
            Self::PercentileDisc => "percentile_disc",
            Self::Mode => "mode",
        }
    }

    fn arguments(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let value = types.first()?;
        match (self, types) {
            (Self::Mode, [_]) => Some(types.to_vec()),
            (Self::PercentileDisc, [_, fraction]) => {
                Some(vec![value.clone(), fraction_type(fraction)?])
            }
            (Self::PercentileCont, [_, fraction]) => match value {
                DataType::Interval(_) => Some(vec![INTERVAL, fraction_type(fraction)?]),
                number if number.is_numeric() => {
                    Some(vec![DataType::Float64, fraction_type(fraction)?])
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        let value = types.first().cloned().ok_or_else(|| undefined(self.name(), types))?;
        Ok(if is_list(types) { list_of(value) } else { value })
    }

    fn result_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let value = arguments.first().ok_or_else(|| undefined(self.name(), &[]))?;
        let result = self.result(&types_of(arguments))?;
        let field = Field::new(self.name(), result.clone(), true);
        let same_type = result == *value.data_type();
        let metadata = if same_type { value.metadata().clone() } else { HashMap::new() };
        Ok(Arc::new(field.with_metadata(metadata)))
    }

    fn states(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args.input_fields.first().map(|field| field.data_type().clone());
        let value = value.ok_or_else(|| undefined(self.name(), &[]))?;
        Ok(state_fields(args.name, [list_of(value)]))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let fractions = match (self, args.exprs) {
            (Self::Mode, _) => Some(vec![Some(0.0)]),
            (_, [_, fraction]) => fractions_of(fraction.downcast_ref::<Literal>())?,
            _ => return Err(SqlError::internal("a percentile takes a fraction").into()),
        };
        let types = types_of(args.expr_fields);
        let data_type = types.first().cloned().ok_or_else(|| undefined(self.name(), &[]))?;
        let is_list = is_list(&types);
        Ok(Box::new(Picked { pick: *self, fractions, is_list, data_type, batches: vec![] }))
    }

    fn is_ordered(&self, _types: &[DataType]) -> bool {
        true
    }

    fn is_ordered_set(&self) -> bool {
        true
    }
}

/// The type of a fraction, or of an array of them.
fn fraction_type(given: &DataType) -> Option<DataType> {
    match given {
        DataType::List(element) if element.data_type().is_numeric() => {
            Some(list_of(DataType::Float64))
        }
        given if given.is_numeric() || given.is_null() => Some(DataType::Float64),
        _ => None,
    }
}

fn list_of(value: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(value, true)))
}

/// Whether the fractions are an array, so that the result is one.
fn is_list(types: &[DataType]) -> bool {
    matches!(types.get(1), Some(DataType::List(_)))
}

/// The fractions of a percentile, which must be constants; `None` for a null array.
fn fractions_of(literal: Option<&Literal>) -> Result<Option<Vec<Option<f64>>>> {
    let Some(literal) = literal else {
        return Err(
            SqlError::unsupported("a percentile with a fraction that is not a constant").into()
        );
    };
    let fractions = match literal.value() {
        ScalarValue::Float64(fraction) => vec![*fraction],
        ScalarValue::List(list) if list.is_null(0) => return Ok(None),
        ScalarValue::List(list) => list.value(0).as_primitive::<Float64Type>().iter().collect(),
        _ => return Err(SqlError::internal("a fraction is a float").into()),
    };
    let outside = |value: &&f64| !(0.0..=1.0).contains(*value);
    if let Some(value) = fractions.iter().flatten().find(outside) {
        let message = format!("percentile value {value} is not between 0 and 1");
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message).into());
    }
    Ok(Some(fractions))
}

#[derive(Debug)]
struct Picked {
    pick: OrderedSet,
    /// Those that are null have no value.
    fractions: Option<Vec<Option<f64>>>,
    is_list: bool,
    /// The type of the values.
    data_type: DataType,
    batches: Vec<ArrayRef>,
}

impl Picked {
    fn values(&self) -> Result<ArrayRef> {
        let parts: Vec<_> = self.batches.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        Ok(concat(&parts)?)
    }
}

impl Accumulator for Picked {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.batches.push(filter(&values[0], &is_not_null(&values[0])?)?);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let values = self.values()?;
        let Some(fractions) = self.fractions.as_ref().filter(|_| !values.is_empty()) else {
            let list = list_of(self.data_type.clone());
            return ScalarValue::try_from(if self.is_list { &list } else { &self.data_type });
        };
        let picked = fractions.iter().map(|fraction| match fraction {
            Some(fraction) => self.at(*fraction, &values),
            None => ScalarValue::try_from(&self.data_type),
        });
        let mut picked = picked.collect::<Result<Vec<_>>>()?;
        if self.is_list {
            let list = ScalarValue::new_list_nullable(&picked, &self.data_type);
            return Ok(ScalarValue::List(list));
        }
        picked.pop().ok_or_else(|| SqlError::internal("a percentile takes a fraction").into())
    }

    fn size(&self) -> usize {
        let arrays = self.batches.iter();
        size_of_val(self)
            + arrays.map(|a| a.to_data().get_slice_memory_size().unwrap_or(0)).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = SingleRowListArrayBuilder::new(self.values()?).with_nullable(true);
        Ok(vec![list.build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.batches.extend(states[0].as_list::<i32>().iter().flatten());
        Ok(())
    }
}

impl Picked {
    /// The value at a fraction of sorted values.
    fn at(&self, fraction: f64, values: &ArrayRef) -> Result<ScalarValue> {
        match self.pick {
            OrderedSet::Mode => mode(values),
            OrderedSet::PercentileDisc => {
                let row = position((fraction * as_float(values.len())).ceil()).saturating_sub(1);
                ScalarValue::try_from_array(values, row)
            }
            OrderedSet::PercentileCont => {
                let place = fraction * as_float(values.len() - 1);
                let low = ScalarValue::try_from_array(values, position(place.floor()))?;
                let high = ScalarValue::try_from_array(values, position(place.ceil()))?;
                between(low, high, place - place.floor())
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "PostgreSQL computes with floats, too")]
fn as_float(rows: usize) -> f64 {
    rows as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of a number of rows is no larger"
)]
fn position(row: f64) -> usize {
    row as usize
}

/// The most frequent value; of several, the first.
fn mode(values: &ArrayRef) -> Result<ScalarValue> {
    let mut best = 0..0;
    for range in partition(&[key_of(values)?])?.ranges() {
        if range.len() > best.len() {
            best = range;
        }
    }
    ScalarValue::try_from_array(values, best.start)
}

/// The value between two others.
fn between(low: ScalarValue, high: ScalarValue, part: f64) -> Result<ScalarValue> {
    if part == 0.0 {
        return Ok(low);
    }
    match (&low, &high) {
        (ScalarValue::Float64(Some(low)), ScalarValue::Float64(Some(high))) => {
            Ok(ScalarValue::from(low + part * (high - low)))
        }
        (
            ScalarValue::IntervalMonthDayNano(Some(low)),
            ScalarValue::IntervalMonthDayNano(Some(high)),
        ) => Ok(ScalarValue::IntervalMonthDayNano(Some(between_intervals(*low, *high, part)?))),
        _ => Err(SqlError::internal("values between others are floats or intervals").into()),
    }
}

fn between_intervals(
    low: IntervalMonthDayNano,
    high: IntervalMonthDayNano,
    part: f64,
) -> Result<IntervalMonthDayNano, SqlError> {
    let difference = add_intervals(high, negated_interval(low)?)?;
    add_intervals(low, scaled(difference, |field| field * part)?)
}
