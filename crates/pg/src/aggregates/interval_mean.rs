//! The mean of intervals.

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, PrimitiveArray};
use datafusion::arrow::datatypes::{
    DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::intervals::{
    INTERVAL, add_intervals, as_intervals, interval_out_of_range, negated_interval,
};
use super::states::{Finish, State};
use crate::error::SqlError;

const MONTH_DAYS: f64 = 30.0;
const DAY_SECONDS: f64 = 86_400.0;
const SECOND_MICROS: f64 = 1_000_000.0;
const MICRO_NANOS: i64 = 1000;

/// Number and sum of intervals.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntervalSum {
    n: i64,
    sum: IntervalMonthDayNano,
}

impl State for IntervalSum {
    type Columns = PrimitiveArray<IntervalMonthDayNanoType>;

    fn saved_types() -> Vec<DataType> {
        vec![DataType::Int64, INTERVAL]
    }

    fn columns(values: &[ArrayRef]) -> Result<Self::Columns> {
        Ok(as_intervals(&values[0])?.as_primitive::<IntervalMonthDayNanoType>().clone())
    }

    fn add(&mut self, column: &Self::Columns, row: usize) -> Result<()> {
        if column.is_valid(row) {
            self.sum = add_intervals(self.sum, column.value(row))?;
            self.n += 1;
        }
        Ok(())
    }

    fn remove(&mut self, column: &Self::Columns, row: usize) -> Result<()> {
        if column.is_valid(row) {
            self.sum = add_intervals(self.sum, negated_interval(column.value(row))?)?;
            self.n -= 1;
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        self.sum = add_intervals(self.sum, other.sum)?;
        self.n += other.n;
        Ok(())
    }

    fn save(&self) -> Vec<ScalarValue> {
        vec![ScalarValue::from(self.n), ScalarValue::IntervalMonthDayNano(Some(self.sum))]
    }

    fn load(saved: &[ArrayRef], row: usize) -> Result<Self> {
        let n = saved[0].as_primitive::<Int64Type>().value(row);
        let sum = saved[1].as_primitive::<IntervalMonthDayNanoType>().value(row);
        Ok(Self { n, sum })
    }
}

/// Divides the sum by the number.
#[derive(Clone, Debug)]
pub struct Mean;

impl Finish<IntervalSum> for Mean {
    fn finish(&self, state: &IntervalSum) -> Result<ScalarValue> {
        let mean = if state.n == 0 {
            None
        } else {
            Some(scaled(state.sum, |part| part / as_float(state.n))?)
        };
        Ok(ScalarValue::IntervalMonthDayNano(mean))
    }
}

#[expect(clippy::cast_precision_loss, reason = "PostgreSQL divides floats, too")]
fn as_float(number: i64) -> f64 {
    number as f64
}

/// Rounds to microseconds what is left of days, so that errors of the division do not add up.
fn to_micros(seconds: f64) -> f64 {
    (seconds * SECOND_MICROS).round_ties_even() / SECOND_MICROS
}

/// Multiplies or divides each field. The fractions of months become days, those of days a time.
pub fn scaled(
    span: IntervalMonthDayNano,
    scale: impl Fn(f64) -> f64,
) -> Result<IntervalMonthDayNano, SqlError> {
    let months = scale(f64::from(span.months));
    let days = scale(f64::from(span.days));
    let days_of_months = to_micros((months - months.trunc()) * MONTH_DAYS);
    let day_fraction = days - days.trunc() + days_of_months - days_of_months.trunc();
    let mut seconds = to_micros(day_fraction * DAY_SECONDS);
    let mut whole_days = days.trunc() + days_of_months.trunc();
    if seconds.abs() >= DAY_SECONDS {
        whole_days += (seconds / DAY_SECONDS).trunc();
        seconds -= (seconds / DAY_SECONDS).trunc() * DAY_SECONDS;
    }
    let micros = scale(as_float(span.nanoseconds / MICRO_NANOS)) + seconds * SECOND_MICROS;
    let nanoseconds = to_i64(micros.round_ties_even())?.checked_mul(MICRO_NANOS);
    Ok(IntervalMonthDayNano {
        months: to_i32(months.trunc())?,
        days: to_i32(whole_days)?,
        nanoseconds: nanoseconds.ok_or_else(interval_out_of_range)?,
    })
}

fn to_i64(number: f64) -> Result<i64, SqlError> {
    // The bounds are the powers of two around the range.
    if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        return Err(interval_out_of_range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the number is in the range")]
    Ok(number as i64)
}

fn to_i32(number: f64) -> Result<i32, SqlError> {
    i32::try_from(to_i64(number)?).map_err(|_| interval_out_of_range())
}
