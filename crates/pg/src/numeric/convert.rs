//! Conversions from and to other types of numbers.

use datafusion::arrow::datatypes::i256;
use num_bigint::BigInt;

use super::decimal::Decimal;
use super::{Numeric, Result, Typmod};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Numeric {
            fn from(value: $integer) -> Self {
                Self::Finite(Decimal::new(value, 0))
            }
        })*
    };
}

from_integers!(i16, i32, i64, i128);

/// Rounds to 15 significant digits.
impl From<f64> for Numeric {
    fn from(value: f64) -> Self {
        from_scientific(&format!("{value:.14e}"), value)
    }
}

/// Rounds to 6 significant digits.
impl From<f32> for Numeric {
    fn from(value: f32) -> Self {
        from_scientific(&format!("{value:.5e}"), f64::from(value))
    }
}

/// Reads the rounded text of a float. Zeros at the end of its digits are not shown.
fn from_scientific(text: &str, value: f64) -> Numeric {
    if value.is_nan() {
        return Numeric::NaN;
    }
    if value.is_infinite() {
        return Numeric::infinity(value > 0.0);
    }
    // A float has at most 309 digits before the point and 340 after it.
    text.parse::<Numeric>().unwrap_or(Numeric::NaN).trim_scale()
}

impl Numeric {
    pub fn to_i16(&self) -> Result<i16> {
        self.to_integer("smallint")
    }

    pub fn to_i32(&self) -> Result<i32> {
        self.to_integer("integer")
    }

    pub fn to_i64(&self) -> Result<i64> {
        self.to_integer("bigint")
    }

    /// Rounds half away from zero.
    fn to_integer<T: for<'a> TryFrom<&'a BigInt>>(&self, type_name: &str) -> Result<T> {
        let refused = |what| {
            let message = format!("cannot convert {what} to {type_name}");
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        };
        match self {
            Self::NaN => Err(refused("NaN")),
            Self::Infinity | Self::NegativeInfinity => Err(refused("infinity")),
            Self::Finite(value) => T::try_from(&value.rounded(0).coefficient).map_err(|_| {
                let message = format!("{type_name} out of range");
                SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
            }),
        }
    }

    /// Returns the nearest double.
    pub fn to_f64(&self) -> Result<f64> {
        match self {
            Self::NaN => Ok(f64::NAN),
            Self::Infinity => Ok(f64::INFINITY),
            Self::NegativeInfinity => Ok(f64::NEG_INFINITY),
            Self::Finite(value) => {
                let float = value.to_f64();
                let is_exact = float.is_finite() && (float != 0.0 || value.is_zero());
                if is_exact { Ok(float) } else { Err(self.beyond("double precision")) }
            }
        }
    }

    /// Returns the nearest real.
    pub fn to_f32(&self) -> Result<f32> {
        match self {
            Self::NaN => Ok(f32::NAN),
            Self::Infinity => Ok(f32::INFINITY),
            Self::NegativeInfinity => Ok(f32::NEG_INFINITY),
            Self::Finite(value) => {
                let float: f32 = value.to_string().parse().unwrap_or(f32::NAN);
                let is_exact = float.is_finite() && (float != 0.0 || value.is_zero());
                if is_exact { Ok(float) } else { Err(self.beyond("real")) }
            }
        }
    }

    fn beyond(&self, type_name: &str) -> SqlError {
        let message = format!("\"{self}\" is out of range for type {type_name}");
        SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
    }

    /// A value of an Arrow decimal array.
    pub fn from_decimal128(value: i128, scale: i8) -> Result<Self> {
        from_arrow(value.into(), scale)
    }

    /// A value of an Arrow decimal array.
    pub fn from_decimal256(value: i256, scale: i8) -> Result<Self> {
        from_arrow(BigInt::from_signed_bytes_le(&value.to_le_bytes()), scale)
    }

    /// Returns the value of an Arrow decimal array of this type, rounded to its scale.
    pub fn to_decimal128(&self, typmod: Typmod) -> Result<i128> {
        let coefficient = self.to_arrow(typmod)?;
        i128::try_from(&coefficient).map_err(|_| typmod.overflow())
    }

    /// Returns the value of an Arrow decimal array of this type, rounded to its scale.
    pub fn to_decimal256(&self, typmod: Typmod) -> Result<i256> {
        let coefficient = self.to_arrow(typmod)?;
        let bytes = coefficient.to_signed_bytes_le();
        let fill = if coefficient.sign() == num_bigint::Sign::Minus { 0xff } else { 0 };
        let mut wide = [fill; 32];
        let place = wide.get_mut(..bytes.len()).ok_or_else(|| typmod.overflow())?;
        place.copy_from_slice(&bytes);
        Ok(i256::from_le_bytes(wide))
    }

    /// Arrow's decimals have no NaN, and count in units of 10^-scale for negative scales too.
    fn to_arrow(&self, typmod: Typmod) -> Result<BigInt> {
        let Self::Finite(value) = typmod.apply(self)? else {
            let Typmod { precision, scale } = typmod;
            return Err(SqlError::unsupported(format!("NaN in numeric({precision},{scale})")));
        };
        match u32::try_from(-i32::from(typmod.scale)) {
            Ok(zeros) => Ok(value.coefficient / BigInt::from(super::decimal::power_of_ten(zeros))),
            Err(_) => Ok(value.coefficient),
        }
    }
}

fn from_arrow(value: BigInt, scale: i8) -> Result<Numeric> {
    let zeros = u32::from(scale.unsigned_abs());
    Numeric::from_decimal(if scale < 0 {
        Decimal::new(value * BigInt::from(super::decimal::power_of_ten(zeros)), 0)
    } else {
        Decimal::new(value, zeros)
    })
}
