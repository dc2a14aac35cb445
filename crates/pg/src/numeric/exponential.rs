//! The exponential, with the intermediate roundings of PostgreSQL.

use super::decimal::{Decimal, GROUP_DIGITS};
use super::{Result, overflow};

/// The exponential of a number of this size has too many digits to show.
const EXP_MAX: f64 = 6_000.0;

/// The series begins at numbers of this size.
const SERIES_MAX: f64 = 0.01;

const GUARD_DIGITS: i64 = 8;

/// The constants with which PostgreSQL estimates the size of results: its scales depend on each digit of them.
#[expect(clippy::approx_constant, reason = "scales depend on the very digits PostgreSQL has")]
pub(super) const LOG10_E: f64 = 0.434_294_481_903_252;
#[expect(clippy::approx_constant, reason = "scales depend on the very digits PostgreSQL has")]
const LOG10_2: f64 = 0.301_029_995_663_981;

/// Drops the fraction of an estimate.
#[expect(clippy::cast_possible_truncation, reason = "estimates are of numbers of digits")]
pub(super) fn whole(estimate: f64) -> i64 {
    estimate as i64
}

/// Returns e to the power of a number with `scale` digits.
///
/// The number is halved until it is small, and the sum of its series is squared as often. Every product is rounded to
/// eight digits more than the result needs.
pub(super) fn exp_scaled(value: &Decimal, scale: u32) -> Result<Decimal> {
    let float = value.to_f64();
    if float.abs() >= EXP_MAX {
        return if float > 0.0 { Err(overflow()) } else { Ok(Decimal::zero(scale)) };
    }
    let halvings = halvings(float);
    // Half of a decimal number is its fivefold, a digit later.
    let half = num_bigint::BigInt::from(5).pow(halvings) * &value.coefficient;
    let small = Decimal::new(half, value.scale + halvings);
    let weight = whole(float * LOG10_E);
    let lost = whole(f64::from(halvings) * LOG10_2);
    let significant = (1 + weight + i64::from(scale) + lost).max(0) + GUARD_DIGITS;
    let mut result = series(&small, significant - 1);
    for _ in 0..halvings {
        let digits = significant - result.weight() * 2 * GROUP_DIGITS;
        result = result.times_rounded(&result, digits.max(0));
    }
    Ok(result.rounded(scale.into()))
}

/// How often a number must be halved for the series.
fn halvings(mut value: f64) -> u32 {
    let mut count = 0;
    while value.abs() > SERIES_MAX {
        value /= 2.0;
        count += 1;
    }
    count
}

/// Sums the powers of a number divided by factorials, each rounded to `scale`.
fn series(value: &Decimal, scale: i64) -> Decimal {
    let shown = u32::try_from(scale).unwrap_or(0);
    let mut sum = Decimal::one().plus(value);
    let mut count = 2_i64;
    let mut term = value.times_rounded(value, scale).divided(&Decimal::new(count, 0), shown);
    while !term.is_zero() {
        sum = sum.plus(&term);
        count += 1;
        term = term.times_rounded(value, scale).divided(&Decimal::new(count, 0), shown);
    }
    sum
}
