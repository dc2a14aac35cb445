//! The text form of numeric values.

use std::fmt;
use std::str::FromStr;

use num_bigint::{BigInt, BigUint, Sign};

use super::decimal::{Decimal, power_of_ten};
use super::{DIGITS_MAX, Numeric, Result, SCALE_MAX, overflow};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Exponents at and above this are refused even for zero.
const EXPONENT_END: i64 = 1_073_741_823;

/// A number as it is written: digits around the point, and a power of ten.
struct Literal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl FromStr for Numeric {
    type Err = SqlError;

    /// Reads PostgreSQL's input syntax.
    fn from_str(text: &str) -> Result<Self> {
        let word = text.trim_matches(is_space);
        if let Some(value) = special(word) {
            return Ok(value);
        }
        let literal = Literal::scan(word.as_bytes()).ok_or_else(|| {
            let message = format!("invalid input syntax for type numeric: \"{text}\"");
            SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
        })?;
        if literal.exponent.abs() >= EXPONENT_END {
            return Err(overflow());
        }
        literal.decimal().and_then(Self::from_decimal)
    }
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn special(word: &str) -> Option<Numeric> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "nan" => Some(Numeric::NaN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(Numeric::Infinity),
        "-inf" | "-infinity" => Some(Numeric::NegativeInfinity),
        _ => None,
    }
}

impl<'a> Literal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; `None` if the text is anything else.
    fn scan(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = signed(text);
        let (integer, text) = digits(text);
        let (fraction, text) = match text {
            [b'.', rest @ ..] => digits(rest),
            _ => (&text[..0], text),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match text {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Self { negative, integer, fraction, exponent })
    }

    /// Number of digits shown after the point.
    fn scale(&self) -> i64 {
        (length(self.fraction) - self.exponent).max(0)
    }

    fn all_digits(&self) -> impl Iterator<Item = u8> {
        self.integer.iter().chain(self.fraction).copied()
    }

    /// Number of digits before the point without leading zeros; 0 for zero, negative if zeros follow the point.
    fn integer_digits(&self) -> i64 {
        let zeros = self.all_digits().take_while(|digit| *digit == b'0').count();
        if zeros == self.integer.len() + self.fraction.len() {
            return 0;
        }
        length(self.integer) + self.exponent - i64::try_from(zeros).unwrap_or(i64::MAX / 4)
    }

    /// Checks the limits before the digits are read, however many there are.
    fn decimal(&self) -> Result<Decimal> {
        let integer_digits = self.integer_digits();
        let scale = u32::try_from(self.scale()).unwrap_or(u32::MAX);
        if integer_digits > DIGITS_MAX || scale > SCALE_MAX {
            return Err(overflow());
        }
        let kept = usize::try_from(integer_digits + i64::from(scale)).unwrap_or(0);
        let digits: Vec<u8> =
            self.all_digits().skip_while(|digit| *digit == b'0').take(kept).collect();
        let missing = u32::try_from(kept - digits.len()).unwrap_or(0);
        let read = BigUint::parse_bytes(&digits, 10).unwrap_or(BigUint::ZERO);
        let magnitude =
            if digits.is_empty() || missing == 0 { read } else { read * power_of_ten(missing) };
        let sign = if self.negative { Sign::Minus } else { Sign::Plus };
        Ok(Decimal::new(BigInt::from_biguint(sign, magnitude), scale))
    }
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX / 4)
}

fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Reads the exponent, clamped to a range beyond all numbers. PostgreSQL lets spaces precede it.
fn exponent(text: &[u8]) -> Option<i64> {
    let start = text.iter().position(|byte| !is_space(char::from(*byte))).unwrap_or(text.len());
    let (negative, text) = signed(&text[start..]);
    let (digits, rest) = digits(text);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(EXPONENT_END));
    Some(if negative { -value } else { value })
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NaN => f.write_str("NaN"),
            Self::Infinity => f.write_str("Infinity"),
            Self::NegativeInfinity => f.write_str("-Infinity"),
            Self::Finite(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.magnitude().to_str_radix(10);
        if self.is_negative() {
            f.write_str("-")?;
        }
        let scale = usize::try_from(self.scale).unwrap_or(0);
        if scale == 0 {
            return f.write_str(&digits);
        }
        match digits.len().checked_sub(scale) {
            None | Some(0) => write!(f, "0.{digits:0>scale$}"),
            Some(point) => write!(f, "{}.{}", &digits[..point], &digits[point..]),
        }
    }
}
