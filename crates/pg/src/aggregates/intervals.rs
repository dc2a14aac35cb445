//! Arithmetic of intervals, field by field.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64NanosecondType,
    TimeUnit,
};
use datafusion::error::Result;

use crate::error::SqlError;
use crate::sqlstate::SqlState;

pub const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Intervals, or times as intervals.
pub fn as_intervals(values: &ArrayRef) -> Result<ArrayRef> {
    if !matches!(values.data_type(), DataType::Time64(_)) {
        return Ok(cast(values, &INTERVAL)?);
    }
    let times = cast(values, &DataType::Time64(TimeUnit::Nanosecond))?;
    let times = times.as_primitive::<Time64NanosecondType>();
    let intervals: PrimitiveArray<IntervalMonthDayNanoType> =
        times.unary(|nanoseconds| IntervalMonthDayNano { months: 0, days: 0, nanoseconds });
    Ok(Arc::new(intervals))
}

pub fn interval_out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

pub fn add_intervals(
    one: IntervalMonthDayNano,
    other: IntervalMonthDayNano,
) -> Result<IntervalMonthDayNano, SqlError> {
    let sum = || {
        Some(IntervalMonthDayNano {
            months: one.months.checked_add(other.months)?,
            days: one.days.checked_add(other.days)?,
            nanoseconds: one.nanoseconds.checked_add(other.nanoseconds)?,
        })
    };
    sum().ok_or_else(interval_out_of_range)
}

pub fn negated_interval(value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, SqlError> {
    let negated = || {
        Some(IntervalMonthDayNano {
            months: value.months.checked_neg()?,
            days: value.days.checked_neg()?,
            nanoseconds: value.nanoseconds.checked_neg()?,
        })
    };
    negated().ok_or_else(interval_out_of_range)
}
