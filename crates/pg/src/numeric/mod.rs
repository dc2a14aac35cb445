//! PostgreSQL's numeric: exact decimal numbers with the digits they show.
//!
//! A [`Numeric`] is an integer × 10^-scale, with up to 131,072 digits before and 16,383 after the point, or NaN or an
//! infinity. `1.5` and `1.50` are equal but shown differently: comparisons, order and hashes ignore the scale, texts
//! and the scales of results do not. NaN equals itself and is greater than all other values.
//!
//! Functions give PostgreSQL 15's results to the last digit, with its scales and errors. Most results are the exact
//! ones, rounded half away from zero. Where PostgreSQL rounds intermediate results ([`exp`](Numeric::exp),
//! [`power`](Numeric::power), [`log`](Numeric::log)), the same intermediate results are rounded here.

mod aggregates;
mod arithmetic;
mod bytes;
mod convert;
mod decimal;
mod exponential;
mod fixed;
pub mod kernels;
mod logarithm;
mod power;
mod text;
mod typmod;
mod whole;
mod wire;

#[cfg(test)]
mod tests;

pub use aggregates::{Moments, Population};
pub use bytes::{DamagedNumeric, decode, encode, encode_into, key};
pub use decimal::Decimal;
pub use typmod::Typmod;
pub use whole::{factorial, width_bucket};

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

pub type Result<T> = std::result::Result<T, SqlError>;

/// Limits of digits before and after the point.
pub const DIGITS_MAX: i64 = 131_072;
pub const SCALE_MAX: u32 = 16_383;

/// Functions whose exact result may have any number of digits show at least this many significant ones.
const SIGNIFICANT_DIGITS_MIN: i64 = 16;
/// And at most this many after the point.
const SHOWN_SCALE_MAX: i64 = 1_000;

/// A value of type numeric.
#[derive(Clone, Debug)]
pub enum Numeric {
    NegativeInfinity,
    /// Within the limits of digits: made by [`Numeric::from_decimal`].
    Finite(Decimal),
    Infinity,
    NaN,
}

impl Numeric {
    pub fn zero() -> Self {
        Self::Finite(Decimal::zero(0))
    }

    pub fn one() -> Self {
        Self::Finite(Decimal::one())
    }

    /// Checks the limits of digits.
    pub fn from_decimal(value: Decimal) -> Result<Self> {
        // Each digit takes more than three bits.
        let is_surely_short = value.magnitude().bits() < DIGITS_MAX.unsigned_abs() * 3;
        if value.scale > SCALE_MAX || (!is_surely_short && value.exponent() >= DIGITS_MAX) {
            return Err(overflow());
        }
        Ok(Self::Finite(value))
    }

    pub fn is_nan(&self) -> bool {
        matches!(self, Self::NaN)
    }

    /// Returns -1, 0 or 1. NaN is positive: no caller asks for its sign.
    fn signum(&self) -> i8 {
        match self {
            Self::NegativeInfinity => -1,
            Self::Finite(value) => value.signum(),
            Self::Infinity | Self::NaN => 1,
        }
    }

    /// The infinity of this sign.
    fn infinity(is_positive: bool) -> Self {
        if is_positive { Self::Infinity } else { Self::NegativeInfinity }
    }

    /// Position in the order of values of different kinds.
    fn rank(&self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite(_) => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Finite(left), Self::Finite(right)) => left.cmp_value(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        key(&encode(self)).hash(state);
    }
}

fn overflow() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}
