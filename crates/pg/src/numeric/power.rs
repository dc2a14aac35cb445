//! Powers, with the result scales and intermediate roundings of PostgreSQL 15.

use std::cmp::Ordering;

use super::arithmetic::shown_scale;
use super::decimal::{Decimal, GROUP_DIGITS};
use super::exponential::{LOG10_E, exp_scaled, whole};
use super::logarithm::{GUARD_DIGITS, ln_exponent};
use super::{
    DIGITS_MAX, Numeric, Result, SHOWN_SCALE_MAX, SIGNIFICANT_DIGITS_MIN, division_by_zero, fixed,
    overflow,
};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// A little more than the greatest number whose exponential is computed.
const EXPONENT_MAX: f64 = 2_000.0 * 3.01;

/// Integer powers of more digits than this are refused before they are computed.
const POWER_DIGITS_MAX: f64 = 3.0 * 32_767.0 * 4.0;

/// The greatest power of 10,000 of the first group of a numeric.
const WEIGHT_MAX: i64 = DIGITS_MAX / GROUP_DIGITS - 1;

impl Numeric {
    pub fn power(&self, exponent: &Self) -> Result<Self> {
        if self.is_nan() || exponent.is_nan() {
            let is_one = !self.is_nan() && *self == Self::one();
            let is_zeroth = !exponent.is_nan() && exponent.signum() == 0;
            return Ok(if is_one || is_zeroth { Self::one() } else { Self::NaN });
        }
        let error =
            |message| Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        if self.signum() == 0 && exponent.signum() < 0 {
            return error("zero raised to a negative power is undefined");
        }
        if self.signum() < 0 && exponent.finite().is_some_and(|value| !value.is_integral()) {
            return error(
                "a negative number raised to a non-integer power yields a complex result",
            );
        }
        match (self, exponent) {
            (Self::Finite(base), Self::Finite(exponent)) => {
                power(base, exponent).and_then(Self::from_decimal)
            }
            _ => Ok(infinite_power(self, exponent)),
        }
    }
}

/// The power where the base or the exponent is infinite, and neither is NaN: the rules of POSIX.
fn infinite_power(base: &Numeric, exponent: &Numeric) -> Numeric {
    let is_raised = exponent.signum() > 0;
    if *base == Numeric::one() || exponent.signum() == 0 {
        return Numeric::one();
    }
    if base.signum() == 0 {
        return Numeric::zero();
    }
    let Numeric::Finite(exponent) = exponent else {
        let size = base.abs();
        return match size.cmp(&Numeric::one()) {
            Ordering::Equal => Numeric::one(),
            Ordering::Greater if is_raised => Numeric::Infinity,
            Ordering::Less if !is_raised => Numeric::Infinity,
            _ => Numeric::zero(),
        };
    };
    if !is_raised {
        return Numeric::zero();
    }
    Numeric::infinity(base.signum() > 0 || !is_odd(exponent))
}

/// Whether an integral number is odd.
fn is_odd(value: &Decimal) -> bool {
    value.truncated(0).coefficient.bit(0)
}

fn power(base: &Decimal, exponent: &Decimal) -> Result<Decimal> {
    if exponent.is_integral()
        && let Ok(exponent) = i32::try_from(&exponent.truncated(0).coefficient)
    {
        return integer_power(base, exponent);
    }
    if base.is_zero() {
        return Ok(Decimal::zero(u32::try_from(SIGNIFICANT_DIGITS_MIN).unwrap_or(0)));
    }
    let is_negative = base.is_negative() && is_odd(exponent);
    let result = positive_power(&base.abs(), exponent)?;
    Ok(if is_negative { result.negated() } else { result })
}

/// e to the power of exponent × ln base. A first product, of few digits, tells how many the second one needs.
fn positive_power(base: &Decimal, exponent: &Decimal) -> Result<Decimal> {
    let ln_exponent = ln_exponent(base);
    let product = |digits: i64| {
        let scale = u32::try_from(digits - ln_exponent).unwrap_or(0);
        fixed::ln(base, scale).times_rounded(exponent, i64::from(scale))
    };
    let estimate = product(GUARD_DIGITS).to_f64();
    if estimate.abs() > EXPONENT_MAX {
        let zero = Decimal::zero(u32::try_from(SHOWN_SCALE_MAX).unwrap_or(0));
        return if estimate > 0.0 { Err(overflow()) } else { Ok(zero) };
    }
    let weight = whole(estimate * LOG10_E);
    let scale = shown_scale(SIGNIFICANT_DIGITS_MIN - weight, &[base, exponent]);
    let significant = (i64::from(scale) + weight).max(0);
    exp_scaled(&product(significant + GUARD_DIGITS), scale)
}

fn integer_power(base: &Decimal, exponent: i32) -> Result<Decimal> {
    let scale = shown_scale(SIGNIFICANT_DIGITS_MIN, &[base]);
    match exponent {
        0 => return Ok(Decimal::one().rounded(scale.into())),
        1 => return Ok(base.rounded(scale.into())),
        -1 if base.is_zero() => return Err(division_by_zero()),
        -1 => return Ok(Decimal::one().divided(base, scale)),
        2 => return Ok(base.times_rounded(base, scale.into())),
        _ if base.is_zero() => return Ok(Decimal::zero(scale)),
        _ => {}
    }
    let digits = f64::from(exponent) * log10(base);
    if digits > POWER_DIGITS_MAX {
        return Err(overflow());
    }
    if digits + 1.0 < -f64::from(scale) {
        return Ok(Decimal::zero(scale));
    }
    let significant =
        1 + i64::from(scale) + whole(digits) + whole(f64::from(exponent).abs().ln()) + GUARD_DIGITS;
    match repeated_squares(base, exponent.unsigned_abs(), significant) {
        Some(power) if exponent > 0 => Ok(power.rounded(scale.into())),
        Some(power) if power.is_zero() => Err(division_by_zero()),
        Some(power) => Ok(Decimal::one().divided(&power, scale)),
        None if exponent > 0 => Err(overflow()),
        None => Ok(Decimal::zero(scale)),
    }
}

/// Estimates the decimal logarithm of the absolute value from its first groups, as PostgreSQL does.
fn log10(value: &Decimal) -> f64 {
    let groups = value.groups();
    let mut exponent = value.weight() * GROUP_DIGITS;
    let mut digits = 0.0;
    for (index, group) in groups.iter().take(4).enumerate() {
        digits = digits * 10_000.0 + f64::from(*group);
        exponent -= if index == 0 { 0 } else { GROUP_DIGITS };
    }
    digits.log10() + f64::from(i32::try_from(exponent).unwrap_or(0))
}

/// Raises to a positive power by squaring; products keep `significant` digits. `None` if one is beyond all numerics.
fn repeated_squares(base: &Decimal, exponent: u32, significant: i64) -> Option<Decimal> {
    let product = |left: &Decimal, right: &Decimal| {
        let scale = significant - (left.weight() + right.weight()) * GROUP_DIGITS;
        let exact = i64::from(left.scale) + i64::from(right.scale);
        left.times_rounded(right, scale.min(exact).max(0))
    };
    let mut square = base.clone();
    let mut result = if exponent & 1 == 1 { base.clone() } else { Decimal::one() };
    let mut rest = exponent >> 1;
    while rest > 0 {
        square = product(&square, &square);
        if rest & 1 == 1 {
            result = product(&square, &result);
        }
        if square.weight() > WEIGHT_MAX || result.weight() > WEIGHT_MAX {
            return None;
        }
        rest >>= 1;
    }
    Some(result)
}
