//! Checks the offsets of `RANGE` frames: PostgreSQL has them for numbers, dates and times only.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::WindowFrameBound;

use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::types::arrow::name_of;

/// Fails if a bound has an offset that the column to sort by does not take.
pub fn check(bounds: [&WindowFrameBound; 2], sorted: Option<&DataType>) -> Result<()> {
    let offsets = bounds.into_iter().filter_map(|bound| match bound {
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
            (!offset.is_null()).then_some(offset)
        }
        WindowFrameBound::CurrentRow => None,
    });
    for offset in offsets {
        check_offset(offset, sorted)?;
    }
    Ok(())
}

fn check_offset(offset: &ScalarValue, sorted: Option<&DataType>) -> Result<()> {
    if let Some(sorted) = sorted
        && !has_offsets(sorted)
    {
        let what = format!("RANGE with an offset for column type {}", name_of(sorted, None));
        return Err(SqlError::unsupported(what).into());
    }
    let (negative, finite) = match offset {
        ScalarValue::Float64(Some(number)) => (*number < 0.0, number.is_finite()),
        ScalarValue::Float32(Some(number)) => (*number < 0.0, number.is_finite()),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            (crate::functions::interval_nanos(*interval) < 0, true)
        }
        other => (is_negative(other), true),
    };
    if negative {
        let message = "invalid preceding or following size in window function";
        let sqlstate = SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE;
        return Err(SqlError::new(sqlstate, message).into());
    }
    if !finite {
        return Err(SqlError::unsupported("RANGE with an infinite offset").into());
    }
    Ok(())
}

fn is_negative(offset: &ScalarValue) -> bool {
    match ScalarValue::new_zero(&offset.data_type()) {
        Ok(zero) => offset.partial_cmp(&zero).is_some_and(std::cmp::Ordering::is_lt),
        Err(_) => false,
    }
}

fn has_offsets(sorted: &DataType) -> bool {
    sorted.is_numeric()
        || matches!(sorted, DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_))
}
