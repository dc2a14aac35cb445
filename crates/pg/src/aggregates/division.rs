//! Division and square roots of decimals, with as many digits as PostgreSQL computes.
//!
//! A quotient gets at least sixteen significant digits, and never fewer digits after the point than its operands.
//! It is rounded half away from zero.

use datafusion::arrow::datatypes::{DataType, i256};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Significant digits of a quotient.
const SIGNIFICANT_DIGITS: i32 = 16;
/// PostgreSQL computes with groups of four digits.
const GROUP_DIGITS: i32 = 4;
/// Digits after the point in the fixed representation of a result.
pub const RESULT_SCALE: i8 = 16;
const DECIMAL128_DIGITS: u8 = 38;
const DECIMAL256_DIGITS: u8 = 76;

/// A decimal number: an integer divided by ten to the power of `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub value: i256,
    pub scale: i32,
}

/// The Arrow type of results with up to `whole_digits` digits before the point and at least `scale` after it.
pub fn result_type(whole_digits: u8, scale: i8) -> DataType {
    let scale = scale.max(RESULT_SCALE);
    if whole_digits.saturating_add(scale.unsigned_abs()) <= DECIMAL128_DIGITS {
        DataType::Decimal128(DECIMAL128_DIGITS, scale)
    } else {
        DataType::Decimal256(DECIMAL256_DIGITS, scale)
    }
}

pub fn out_of_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

/// Ten to the power of `digits`.
fn power(digits: i32) -> Result<i256, SqlError> {
    let digits = u32::try_from(digits).map_err(|_| out_of_range())?;
    i256::from_i128(10).checked_pow(digits).ok_or_else(out_of_range)
}

impl Decimal {
    pub fn integer(value: i64) -> Self {
        Self { value: i256::from_i128(i128::from(value)), scale: 0 }
    }

    /// Position and value of the first group of four digits: its power of 10000 and its number.
    fn first_group(self) -> (i32, i32) {
        let digits = self.value.to_string();
        let digits = digits.trim_start_matches('-');
        if digits == "0" {
            return (0, 0);
        }
        let exponent = i32::try_from(digits.len()).unwrap_or(0) - 1 - self.scale;
        let length = usize::try_from(exponent.rem_euclid(GROUP_DIGITS)).unwrap_or(0) + 1;
        let padded = digits.bytes().chain(std::iter::repeat(b'0')).take(length);
        let group = padded.fold(0, |number, digit| number * 10 + i32::from(digit - b'0'));
        (exponent.div_euclid(GROUP_DIGITS), group)
    }

    /// Digits after the point of `self / divisor`.
    fn quotient_scale(self, divisor: Self) -> i32 {
        let (weight, group) = self.first_group();
        let (divisor_weight, divisor_group) = divisor.first_group();
        let weight = weight - divisor_weight - i32::from(group <= divisor_group);
        let scale = SIGNIFICANT_DIGITS - weight * GROUP_DIGITS;
        scale.max(self.scale).max(divisor.scale).max(0)
    }

    /// The quotient, rounded to PostgreSQL's number of digits.
    pub fn divided_by(self, divisor: Self) -> Result<Self, SqlError> {
        let scale = self.quotient_scale(divisor);
        let shift = scale + divisor.scale - self.scale;
        let value = if shift >= 0 {
            let value = self.value.checked_mul(power(shift)?).ok_or_else(out_of_range)?;
            rounded_quotient(value, divisor.value)?
        } else {
            let by = divisor.value.checked_mul(power(-shift)?).ok_or_else(out_of_range)?;
            rounded_quotient(self.value, by)?
        };
        Ok(Self { value, scale })
    }

    /// The square root of a number that is not negative, with the same digits after the point.
    pub fn square_root(self) -> Result<Self, SqlError> {
        let shifted = self.value.checked_mul(power(self.scale)?).ok_or_else(out_of_range)?;
        let root = integer_root(shifted)?;
        let rest = shifted.wrapping_sub(root.wrapping_mul(root));
        let value = if rest > root { root.wrapping_add(i256::ONE) } else { root };
        Ok(Self { value, scale: self.scale })
    }

    /// The number with another count of digits after the point, rounded.
    pub fn at_scale(self, scale: i32) -> Result<i256, SqlError> {
        if scale >= self.scale {
            self.value.checked_mul(power(scale - self.scale)?).ok_or_else(out_of_range)
        } else {
            rounded_quotient(self.value, power(self.scale - scale)?)
        }
    }
}

/// The quotient rounded half away from zero.
fn rounded_quotient(value: i256, by: i256) -> Result<i256, SqlError> {
    let quotient = value.checked_div(by).ok_or_else(out_of_range)?;
    let rest = value.wrapping_sub(quotient.wrapping_mul(by));
    let (rest, half) = (rest.wrapping_abs(), by.wrapping_abs());
    if rest < half.wrapping_sub(rest) {
        return Ok(quotient);
    }
    let up = if value.is_negative() == by.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    Ok(quotient.wrapping_add(up))
}

/// The largest integer whose square is not larger.
fn integer_root(square: i256) -> Result<i256, SqlError> {
    if square <= i256::ZERO {
        return Ok(i256::ZERO);
    }
    let digits = i32::try_from(square.to_string().len()).unwrap_or(0);
    let mut root = power(digits / 2 + 1)?;
    loop {
        let quotient = square.checked_div(root).ok_or_else(out_of_range)?;
        let next = root.wrapping_add(quotient) >> 1_u8;
        if next >= root {
            return Ok(root);
        }
        root = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: i128, scale: i32) -> Decimal {
        Decimal { value: i256::from_i128(value), scale }
    }

    fn quotient(value: i128, scale: i32, by: i64) -> (String, i32) {
        let quotient = decimal(value, scale).divided_by(Decimal::integer(by)).unwrap();
        (quotient.value.to_string(), quotient.scale)
    }

    #[test]
    fn quotients_have_postgres_digits() {
        assert_eq!(quotient(3, 0, 2), ("15000000000000000".to_owned(), 16));
        assert_eq!(quotient(1, 0, 1), ("100000000000000000000".to_owned(), 20));
        assert_eq!(quotient(300_000, 0, 2), ("150000000000000000".to_owned(), 12));
        assert_eq!(quotient(-5, 1, 3), ("-16666666666666666667".to_owned(), 20));
        assert_eq!(quotient(0, 0, 4), ("0".to_owned(), 20));
    }

    #[test]
    fn roots_are_rounded() {
        let root = decimal(20_000, 4).square_root().unwrap();
        assert_eq!(root, decimal(14_142, 4));
        let root = decimal(50_000_000_000_000_000_000, 18).square_root().unwrap();
        assert_eq!(root, decimal(7_071_067_811_865_475_244, 18));
        assert_eq!(decimal(0, 3).square_root().unwrap(), decimal(0, 3));
    }

    #[test]
    fn results_that_do_not_fit_are_errors() {
        let huge = Decimal { value: i256::MAX, scale: 0 };
        assert!(huge.divided_by(decimal(1, 3)).is_err());
        assert!(huge.at_scale(3).is_err());
    }
}
