//! Functions of whole numbers: divisors, factorials, buckets.

use num_bigint::BigUint;
use num_integer::Integer as _;

use super::arithmetic::quotient_scale;
use super::decimal::Decimal;
use super::{Numeric, Result, overflow};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// The factorial of a greater number has more digits than a numeric holds.
const FACTORIAL_MAX: i64 = 32_177;

impl Numeric {
    /// The greatest number of which both are multiples.
    pub fn gcd(&self, other: &Self) -> Result<Self> {
        let (Self::Finite(left), Self::Finite(right)) = (self, other) else {
            return Ok(Self::NaN);
        };
        let scale = left.scale.max(right.scale);
        let (left, right) = left.aligned(right);
        Self::from_decimal(Decimal::new(left.gcd(&right), scale))
    }

    /// The least positive number that is a multiple of both; zero if one of them is zero.
    pub fn lcm(&self, other: &Self) -> Result<Self> {
        let (Self::Finite(left), Self::Finite(right)) = (self, other) else {
            return Ok(Self::NaN);
        };
        let scale = left.scale.max(right.scale);
        let (left, right) = left.aligned(right);
        Self::from_decimal(Decimal::new(left.lcm(&right), scale).abs())
    }
}

/// The product of all integers up to `number`.
pub fn factorial(number: i64) -> Result<Numeric> {
    match number {
        ..0 => {
            let message = "factorial of a negative number is undefined";
            Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
        }
        0..=FACTORIAL_MAX => Numeric::from_decimal(Decimal::new(product(1, number), 0)),
        _ => Err(overflow()),
    }
}

/// The product of the integers of a range: halves of similar size multiply fast.
fn product(first: i64, last: i64) -> BigUint {
    if last - first < 16 {
        return (first..=last).map(i64::unsigned_abs).product();
    }
    let middle = first.midpoint(last);
    product(first, middle) * product(middle + 1, last)
}

/// Number of the bucket that holds `operand`, of `count` equal ones between two bounds; 0 or `count` + 1 outside.
pub fn width_bucket(operand: &Numeric, low: &Numeric, high: &Numeric, count: i32) -> Result<i32> {
    let error = |message| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET, message));
    if count <= 0 {
        return error("count must be greater than zero");
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return error("operand, lower bound, and upper bound cannot be NaN");
    }
    let (Numeric::Finite(start), Numeric::Finite(end)) = (low, high) else {
        return error("lower and upper bounds must be finite");
    };
    if low == high {
        return error("lower bound cannot equal upper bound");
    }
    let is_rising = low < high;
    let is_before = if is_rising { operand < low } else { operand > low };
    let is_inside = if is_rising { operand < high } else { operand > high };
    let out_of_range =
        || SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range");
    match operand {
        _ if is_before => Ok(0),
        Numeric::Finite(value) if is_inside => {
            bucket(value, start, end, count).ok_or_else(out_of_range)
        }
        _ => count.checked_add(1).ok_or_else(out_of_range),
    }
}

/// The bucket of a value within the bounds. PostgreSQL 15 rounds the quotient before it drops the fraction, so a value
/// very close to the end is in the bucket after the last one.
fn bucket(value: &Decimal, start: &Decimal, end: &Decimal, count: i32) -> Option<i32> {
    let offset = value.minus(start).abs().times(&Decimal::new(count, 0));
    let width = end.minus(start).abs();
    let quotient = offset.divided(&width, quotient_scale(&offset, &width)).truncated(0);
    i32::try_from(&quotient.coefficient).ok()?.checked_add(1)
}
