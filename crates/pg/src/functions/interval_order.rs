//! Converts intervals to numbers that compare as PostgreSQL compares intervals: a month is 30 days, a day 24
//! hours. DataFusion would compare months, then days, then the rest.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, Decimal128Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::Result;

const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_DAYS: i128 = 30;

/// The length in nanoseconds.
pub fn interval_nanos(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * MONTH_DAYS + i128::from(interval.days);
    days * DAY_NANOS + i128::from(interval.nanoseconds)
}

/// The lengths of intervals.
pub fn interval_keys(intervals: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().iter();
    let lengths = intervals.map(|interval| interval.map(interval_nanos));
    let lengths = lengths.collect::<Decimal128Array>().with_precision_and_scale(38, 0)?;
    Ok(Arc::new(lengths))
}
