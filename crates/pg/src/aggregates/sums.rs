//! Folds of one column to one value of the same kind: checked sums, and the extremes of intervals.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, PrimitiveArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, i256,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::division::out_of_range;
use super::exact::within_128;
use super::intervals::{add_intervals, as_intervals, negated_interval};
use super::moments;
use super::states::passes;
use crate::error::SqlError;
use crate::functions::interval_nanos;
use crate::order_keys::plain_nans;
use crate::sqlstate::SqlState;

/// How two values become one.
pub trait Fold: fmt::Debug + Send + Sync + 'static {
    type Type: ArrowPrimitiveType + fmt::Debug;

    /// Whether a value can be taken out again.
    const INVERTIBLE: bool = false;

    fn add(
        one: <Self::Type as ArrowPrimitiveType>::Native,
        other: <Self::Type as ArrowPrimitiveType>::Native,
    ) -> Result<<Self::Type as ArrowPrimitiveType>::Native, SqlError>;

    /// Takes out a value that was added.
    fn subtract(
        _sum: <Self::Type as ArrowPrimitiveType>::Native,
        _value: <Self::Type as ArrowPrimitiveType>::Native,
    ) -> Result<<Self::Type as ArrowPrimitiveType>::Native, SqlError> {
        Err(SqlError::internal("this aggregate cannot take out values"))
    }

    /// Fails if a result has too many digits for its type.
    fn check(
        _value: <Self::Type as ArrowPrimitiveType>::Native,
        _data_type: &DataType,
    ) -> Result<(), SqlError> {
        Ok(())
    }
}

macro_rules! exact_sum {
    ($name:ident, $arrow:ty, $native:ty, $overflow:expr, $check:expr) => {
        #[derive(Debug)]
        pub struct $name;

        impl Fold for $name {
            type Type = $arrow;
            const INVERTIBLE: bool = true;

            fn add(one: $native, other: $native) -> Result<$native, SqlError> {
                one.checked_add(other).ok_or_else($overflow)
            }

            fn subtract(sum: $native, value: $native) -> Result<$native, SqlError> {
                sum.checked_sub(value).ok_or_else($overflow)
            }

            fn check(value: $native, data_type: &DataType) -> Result<(), SqlError> {
                let check: fn($native, &DataType) -> Result<(), SqlError> = $check;
                check(value, data_type)
            }
        }
    };
}

fn bigint_out_of_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")
}

exact_sum!(Integers, Int64Type, i64, bigint_out_of_range, |_, _| Ok(()));
exact_sum!(Decimals, Decimal128Type, i128, out_of_range, |value, data_type| {
    match data_type {
        DataType::Decimal128(precision, _) => {
            within_128(i256::from_i128(value), *precision).map(drop)
        }
        _ => Ok(()),
    }
});
exact_sum!(LongDecimals, Decimal256Type, i256, out_of_range, |_, _| Ok(()));

macro_rules! float_sum {
    ($name:ident, $arrow:ty, $native:ty) => {
        #[derive(Debug)]
        pub struct $name;

        impl Fold for $name {
            type Type = $arrow;

            fn add(one: $native, other: $native) -> Result<$native, SqlError> {
                let sum = one + other;
                if sum.is_infinite() && !one.is_infinite() && !other.is_infinite() {
                    return Err(moments::overflow());
                }
                Ok(sum)
            }
        }
    };
}

float_sum!(Reals, Float32Type, f32);
float_sum!(Doubles, Float64Type, f64);

/// The sum of intervals, field by field.
#[derive(Debug)]
pub struct Intervals;

impl Fold for Intervals {
    type Type = IntervalMonthDayNanoType;
    const INVERTIBLE: bool = true;

    fn add(
        one: IntervalMonthDayNano,
        other: IntervalMonthDayNano,
    ) -> Result<IntervalMonthDayNano, SqlError> {
        add_intervals(one, other)
    }

    fn subtract(
        sum: IntervalMonthDayNano,
        value: IntervalMonthDayNano,
    ) -> Result<IntervalMonthDayNano, SqlError> {
        add_intervals(sum, negated_interval(value)?)
    }
}

/// Values that the engine orders in another way than PostgreSQL.
pub trait Ordered: Copy {
    fn compare(self, other: Self) -> Ordering;
}

impl Ordered for IntervalMonthDayNano {
    fn compare(self, other: Self) -> Ordering {
        interval_nanos(self).cmp(&interval_nanos(other))
    }
}

macro_rules! ordered_float {
    ($float:ty) => {
        impl Ordered for $float {
            /// A NaN equals another one, and is greater than all numbers.
            fn compare(self, other: Self) -> Ordering {
                self.partial_cmp(&other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    };
}

ordered_float!(f32);
ordered_float!(f64);

/// The greatest or the least value; of equal ones the last.
#[derive(Debug)]
pub struct Extreme<T, const GREATEST: bool>(PhantomData<fn() -> T>);

impl<T, const GREATEST: bool> Fold for Extreme<T, GREATEST>
where
    T: ArrowPrimitiveType + fmt::Debug,
    T::Native: Ordered,
{
    type Type = T;

    fn add(one: T::Native, other: T::Native) -> Result<T::Native, SqlError> {
        let stays = if GREATEST { Ordering::Greater } else { Ordering::Less };
        Ok(if one.compare(other) == stays { one } else { other })
    }
}

/// The folded value of each group. Also serves as the accumulator of one group.
#[derive(Debug)]
pub struct Folded<F: Fold> {
    values: Vec<<F::Type as ArrowPrimitiveType>::Native>,
    /// Number of values that are not null.
    counts: Vec<u64>,
    result: DataType,
    fold: PhantomData<F>,
}

impl<F: Fold> Folded<F> {
    pub fn new(result: DataType) -> Self {
        Self { values: vec![], counts: vec![], result, fold: PhantomData }
    }

    /// The column in the type in which it is folded.
    fn column(&self, values: &ArrayRef) -> Result<PrimitiveArray<F::Type>> {
        if let Some(column) = values.as_primitive_opt::<F::Type>() {
            return Ok(column.clone());
        }
        let values = match self.result {
            DataType::Interval(_) => as_intervals(values)?,
            _ => cast(values, &self.result)?,
        };
        Ok(values.as_primitive::<F::Type>().clone())
    }

    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, Default::default());
        self.counts.resize(groups, 0);
    }

    fn add(
        &mut self,
        group: usize,
        value: <F::Type as ArrowPrimitiveType>::Native,
    ) -> Result<(), SqlError> {
        let (sum, count) = (&mut self.values[group], &mut self.counts[group]);
        *sum = if *count == 0 { value } else { F::add(*sum, value)? };
        *count += 1;
        Ok(())
    }

    fn add_rows(
        &mut self,
        column: &PrimitiveArray<F::Type>,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        if filter.is_none() && column.null_count() == 0 {
            for (value, &group) in column.values().iter().zip(group_indices) {
                self.add(group, *value)?;
            }
            return Ok(());
        }
        for (row, &group) in group_indices.iter().enumerate() {
            if column.is_valid(row) && passes(filter, row) {
                self.add(group, column.value(row))?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, emit_to: EmitTo) -> PrimitiveArray<F::Type> {
        let values = emit_to.take_needed(&mut self.values);
        let counts = emit_to.take_needed(&mut self.counts);
        let nulls: NullBuffer = counts.iter().map(|count| *count > 0).collect();
        PrimitiveArray::new(values.into(), Some(nulls)).with_data_type(self.result.clone())
    }
}

impl<F: Fold> GroupsAccumulator for Folded<F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.resize(groups);
        let column = self.column(&values[0])?;
        self.add_rows(&column, group_indices, filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let results = self.emit(emit_to);
        for value in results.iter().flatten() {
            F::check(value, &self.result)?;
        }
        Ok(plain_nans(Arc::new(results)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.emit(emit_to))])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        GroupsAccumulator::update_batch(self, states, group_indices, None, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let column = self.column(&values[0])?.with_data_type(self.result.clone());
        let Some(filter) = filter else { return Ok(vec![Arc::new(column)]) };
        let passed: NullBuffer = (0..column.len()).map(|row| passes(Some(filter), row)).collect();
        let nulls = NullBuffer::union(column.nulls(), Some(&passed));
        let (_, values, _) = column.into_parts();
        let column = PrimitiveArray::<F::Type>::new(values, nulls);
        Ok(vec![Arc::new(column.with_data_type(self.result.clone()))])
    }

    fn size(&self) -> usize {
        let value = size_of::<<F::Type as ArrowPrimitiveType>::Native>();
        self.values.capacity() * value + self.counts.capacity() * size_of::<u64>()
    }
}

impl<F: Fold> Accumulator for Folded<F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.resize(1);
        let column = self.column(&values[0])?;
        for value in column.iter().flatten() {
            self.add(0, value)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.resize(1);
        let (values, counts) = (self.values.clone(), self.counts.clone());
        let result = self.emit(EmitTo::All);
        (self.values, self.counts) = (values, counts);
        if result.is_valid(0) {
            F::check(result.value(0), &self.result)?;
        }
        ScalarValue::try_from_array(&plain_nans(Arc::new(result)), 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + GroupsAccumulator::size(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.resize(1);
        let state = self.emit(EmitTo::All);
        Ok(vec![ScalarValue::try_from_array(&state, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        Accumulator::update_batch(self, states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.resize(1);
        let column = self.column(&values[0])?;
        for value in column.iter().flatten() {
            self.values[0] = F::subtract(self.values[0], value)?;
            self.counts[0] = self.counts[0].saturating_sub(1);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        F::INVERTIBLE
    }
}
