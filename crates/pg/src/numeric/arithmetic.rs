//! Operators and rounding.

use super::decimal::{Decimal, GROUP_DIGITS};
use super::{
    DIGITS_MAX, Numeric, Result, SCALE_MAX, SHOWN_SCALE_MAX, SIGNIFICANT_DIGITS_MIN,
    division_by_zero,
};

/// Digits after the point of a quotient: at least 16 significant ones, and those of both operands.
///
/// PostgreSQL estimates the first group of the quotient from those of the operands.
pub(super) fn quotient_scale(left: &Decimal, right: &Decimal) -> u32 {
    let mut weight = left.weight() - right.weight();
    if left.first_group() <= right.first_group() {
        weight -= 1;
    }
    shown_scale(SIGNIFICANT_DIGITS_MIN - weight * GROUP_DIGITS, &[left, right])
}

/// Limits a scale to at least those of the operands, and to what is shown at most.
pub(super) fn shown_scale(scale: i64, operands: &[&Decimal]) -> u32 {
    let least = operands.iter().map(|operand| i64::from(operand.scale)).max().unwrap_or(0);
    u32::try_from(scale.max(least).min(SHOWN_SCALE_MAX)).unwrap_or(0)
}

impl Numeric {
    pub fn add(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Finite(left), Self::Finite(right)) => Self::from_decimal(left.plus(right)),
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (Self::Infinity, Self::NegativeInfinity) | (Self::NegativeInfinity, Self::Infinity) => {
                Ok(Self::NaN)
            }
            (Self::Infinity, _) | (_, Self::Infinity) => Ok(Self::Infinity),
            _ => Ok(Self::NegativeInfinity),
        }
    }

    pub fn sub(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Finite(left), Self::Finite(right)) => Self::from_decimal(left.minus(right)),
            _ => self.add(&other.neg()),
        }
    }

    pub fn mul(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Finite(left), Self::Finite(right)) => {
                let product = left.times(right);
                let is_shown = product.scale <= SCALE_MAX;
                let shown = if is_shown { product } else { product.rounded(i64::from(SCALE_MAX)) };
                Self::from_decimal(shown)
            }
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            _ => Ok(match self.signum() * other.signum() {
                0 => Self::NaN,
                sign => Self::infinity(sign > 0),
            }),
        }
    }

    pub fn div(&self, other: &Self) -> Result<Self> {
        self.divide_with(other, |left, right| left.divided(right, quotient_scale(left, right)))
    }

    /// The integer part of the quotient, PostgreSQL's `div`.
    pub fn div_trunc(&self, other: &Self) -> Result<Self> {
        self.divide_with(other, Decimal::quotient)
    }

    fn divide_with(
        &self,
        other: &Self,
        divide: impl FnOnce(&Decimal, &Decimal) -> Decimal,
    ) -> Result<Self> {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (_, Self::Finite(zero)) if zero.is_zero() => Err(division_by_zero()),
            (Self::Finite(left), Self::Finite(right)) => Self::from_decimal(divide(left, right)),
            (Self::Finite(_), _) => Ok(Self::zero()),
            (_, Self::Finite(_)) => Ok(Self::infinity(self.signum() == other.signum())),
            _ => Ok(Self::NaN),
        }
    }

    /// The remainder, with the sign of the dividend.
    pub fn rem(&self, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (_, Self::Finite(zero)) if zero.is_zero() => Err(division_by_zero()),
            (Self::Finite(left), Self::Finite(right)) => Self::from_decimal(left.remainder(right)),
            (Self::Finite(_), _) => Ok(self.clone()),
            _ => Ok(Self::NaN),
        }
    }

    pub fn neg(&self) -> Self {
        match self {
            Self::NegativeInfinity => Self::Infinity,
            Self::Finite(value) => Self::Finite(value.negated()),
            Self::Infinity => Self::NegativeInfinity,
            Self::NaN => Self::NaN,
        }
    }

    pub fn abs(&self) -> Self {
        if self.signum() < 0 { self.neg() } else { self.clone() }
    }

    /// -1, 0 or 1; NaN for NaN.
    pub fn sign(&self) -> Self {
        match self {
            Self::NaN => Self::NaN,
            _ => Self::from(i64::from(self.signum())),
        }
    }

    /// Rounds half away from zero to `scale` digits after the point; a negative one rounds digits before it.
    pub fn round(&self, scale: i32) -> Result<Self> {
        self.map_finite(|value| value.rounded(limited(scale)))
    }

    /// Drops digits after the first `scale` ones after the point.
    pub fn trunc(&self, scale: i32) -> Result<Self> {
        self.map_finite(|value| value.truncated(limited(scale)))
    }

    /// The least integer that is not less.
    pub fn ceil(&self) -> Result<Self> {
        self.map_finite(|value| {
            let whole = value.truncated(0);
            if value.signum() > 0 && !value.is_integral() {
                whole.plus(&Decimal::one())
            } else {
                whole
            }
        })
    }

    /// The greatest integer that is not greater.
    pub fn floor(&self) -> Result<Self> {
        self.neg().ceil().map(|value| value.neg())
    }

    /// Digits after the point; `None` for NaN and infinities.
    pub fn scale(&self) -> Option<u32> {
        self.finite().map(|value| value.scale)
    }

    /// Fewest digits after the point that hold the value; `None` for NaN and infinities.
    pub fn min_scale(&self) -> Option<u32> {
        self.finite().map(Decimal::scale_needed)
    }

    /// The value without zeros at the end of its fraction.
    pub fn trim_scale(&self) -> Self {
        match self {
            Self::Finite(value) => Self::Finite(value.truncated(i64::from(value.scale_needed()))),
            other => other.clone(),
        }
    }

    pub fn finite(&self) -> Option<&Decimal> {
        match self {
            Self::Finite(value) => Some(value),
            _ => None,
        }
    }

    fn map_finite(&self, map: impl FnOnce(&Decimal) -> Decimal) -> Result<Self> {
        match self {
            Self::Finite(value) => Self::from_decimal(map(value)),
            other => Ok(other.clone()),
        }
    }
}

/// No numeric has digits beyond this scale.
fn limited(scale: i32) -> i64 {
    i64::from(scale).clamp(-DIGITS_MAX - 1, i64::from(SCALE_MAX))
}
