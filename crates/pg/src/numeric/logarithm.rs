//! Square root, exponential and logarithms, with PostgreSQL's result scales.

use std::cmp::Ordering;

use super::arithmetic::shown_scale;
use super::decimal::{Decimal, GROUP_DIGITS};
use super::exponential::{LOG10_E, exp_scaled, whole};
use super::{Numeric, Result, SIGNIFICANT_DIGITS_MIN, division_by_zero, fixed};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Digits that PostgreSQL adds to intermediate results.
pub(super) const GUARD_DIGITS: i64 = 8;

/// The constant with which PostgreSQL estimates the size of logarithms.
#[expect(clippy::approx_constant, reason = "scales depend on the very digits PostgreSQL has")]
const LN_10: f64 = 2.302_585_092_994_046;

/// Estimates the power of ten of the first digit of the natural logarithm, as PostgreSQL does.
pub(super) fn ln_exponent(value: &Decimal) -> i64 {
    let near = |tenths: i32| value.cmp_value(&Decimal::new(tenths, 1));
    if near(9) != Ordering::Less && near(11) != Ordering::Greater {
        // ln(1 + x) is about x.
        return value.minus(&Decimal::one()).exponent();
    }
    let groups = value.groups();
    let mut digits = f64::from(groups.first().copied().unwrap_or(1));
    let mut exponent = value.weight() * GROUP_DIGITS;
    if let Some(second) = groups.get(1) {
        digits = digits * 10_000.0 + f64::from(*second);
        exponent -= GROUP_DIGITS;
    }
    let exponent = i32::try_from(exponent).unwrap_or(0);
    let logarithm = digits.ln() + f64::from(exponent) * LN_10;
    whole(logarithm.abs().log10())
}

/// The logarithm of a value that is not positive is an error.
fn check_positive(signum: i8) -> Result<()> {
    let message = match signum {
        1.. => return Ok(()),
        0 => "cannot take logarithm of zero",
        _ => "cannot take logarithm of a negative number",
    };
    Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message))
}

impl Numeric {
    pub fn sqrt(&self) -> Result<Self> {
        if !self.is_nan() && self.signum() < 0 {
            let message = "cannot take square root of a negative number";
            return Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message));
        }
        let Self::Finite(value) = self else { return Ok(self.clone()) };
        let exponent = (value.weight() + 1) * GROUP_DIGITS / 2 - 1;
        let scale = shown_scale(SIGNIFICANT_DIGITS_MIN - exponent, &[value]);
        Self::from_decimal(fixed::sqrt(value, scale))
    }

    pub fn exp(&self) -> Result<Self> {
        let value = match self {
            Self::Finite(value) => value,
            Self::NegativeInfinity => return Ok(Self::zero()),
            other => return Ok(other.clone()),
        };
        let exponent = (value.to_f64() * LOG10_E).clamp(-2_000.0, 2_000.0);
        let scale = shown_scale(SIGNIFICANT_DIGITS_MIN - whole(exponent), &[value]);
        exp_scaled(value, scale).and_then(Self::from_decimal)
    }

    /// The natural logarithm.
    pub fn ln(&self) -> Result<Self> {
        if self.is_nan() {
            return Ok(Self::NaN);
        }
        check_positive(self.signum())?;
        let Self::Finite(value) = self else { return Ok(Self::Infinity) };
        let scale = shown_scale(SIGNIFICANT_DIGITS_MIN - ln_exponent(value), &[value]);
        Self::from_decimal(fixed::ln(value, scale))
    }

    /// The logarithm to the base 10.
    pub fn log10(&self) -> Result<Self> {
        Self::from(10_i32).log(self)
    }

    /// The logarithm of `number` to the base `self`.
    pub fn log(&self, number: &Self) -> Result<Self> {
        if let (Self::Finite(base), Self::Finite(number)) = (self, number) {
            return log_scaled(base, number).and_then(Self::from_decimal);
        }
        if self.is_nan() || number.is_nan() {
            return Ok(Self::NaN);
        }
        let (base, other) = (self.signum(), number.signum());
        check_positive(base.min(other))?;
        Ok(match (self, number) {
            (Self::Infinity, Self::Infinity) => Self::NaN,
            (Self::Infinity, _) => Self::zero(),
            _ => Self::Infinity,
        })
    }
}

/// Divides the natural logarithms, each rounded to a few digits more than the result has.
fn log_scaled(base: &Decimal, number: &Decimal) -> Result<Decimal> {
    let estimate = |value: &Decimal| if value.signum() > 0 { ln_exponent(value) } else { 0 };
    let (base_exponent, number_exponent) = (estimate(base), estimate(number));
    let exponent = number_exponent - base_exponent;
    let scale = shown_scale(SIGNIFICANT_DIGITS_MIN - exponent, &[base, number]);
    let significant = i64::from(scale) + exponent + GUARD_DIGITS;
    let rounded = |value: &Decimal, exponent: i64| -> Result<Decimal> {
        check_positive(value.signum())?;
        Ok(fixed::ln(value, u32::try_from(significant - exponent).unwrap_or(0)))
    };
    let base = rounded(base, base_exponent)?;
    let number = rounded(number, number_exponent)?;
    if base.is_zero() { Err(division_by_zero()) } else { Ok(number.divided(&base, scale)) }
}
