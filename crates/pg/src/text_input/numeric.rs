//! Reads exact decimal numbers.

use datafusion::arrow::datatypes::{DecimalType, i256};
use datafusion::common::ScalarValue;

use super::{Result, invalid_text, is_space};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::NUMERIC_PRECISION_MAX;

/// PostgreSQL's limits on digits before and after the decimal point.
const INTEGER_DIGITS_MAX: i64 = 131_072;
const FRACTION_DIGITS_MAX: i64 = 16_383;

/// Largest precision of a 128-bit decimal.
const PRECISION_128: i64 = 38;

/// Digits that are appended to a value at once.
const CHUNK_DIGITS: u32 = 18;
const CHUNK: u64 = 10_u64.pow(CHUNK_DIGITS);

/// A decimal literal: the digits around the point, and a power of ten.
#[derive(Clone, Copy, Debug)]
pub struct Literal<'a> {
    pub negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Literal<'a> {
    /// Reads `[+-] digits [. digits] [e [+-] digits]`; `None` if `text` is anything else.
    pub fn scan(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, bytes) = signed(bytes);
        let (integer, bytes) = digits(bytes);
        let (fraction, bytes) = match bytes {
            [b'.', rest @ ..] => digits(rest),
            _ => (&bytes[..0], bytes),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match bytes {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return None,
        };
        Some(Self { negative, integer, fraction, exponent })
    }

    /// Number of digits before the point; negative if zeros follow the point.
    fn point(&self) -> i64 {
        length(self.integer) + self.exponent
    }

    /// Number of digits PostgreSQL shows after the point.
    pub fn scale(&self) -> i64 {
        (length(self.fraction) - self.exponent).max(0)
    }

    /// Number of digits before the point, without leading zeros.
    pub fn integer_digits(&self) -> i64 {
        let zeros = self.digits().take_while(|digit| *digit == 0).count();
        if zeros == self.integer.len() + self.fraction.len() {
            return 0;
        }
        self.point() - i64::try_from(zeros).unwrap_or(i64::MAX)
    }

    /// Number of digits before and after the point, at least one: what a decimal of this number needs.
    pub fn precision(&self) -> i64 {
        (self.integer_digits().max(0) + self.scale()).max(1)
    }

    /// Whether the number is within PostgreSQL's limits for `numeric`.
    pub fn fits_numeric(&self) -> bool {
        self.point() <= INTEGER_DIGITS_MAX && self.scale() <= FRACTION_DIGITS_MAX
    }

    /// Returns the absolute value times ten to the `scale`, rounded half away from zero; `None` on overflow.
    pub fn scaled<N: Accumulator>(&self, scale: i64) -> Option<N> {
        let mut digits = self.digits();
        let mut missing = self.point() + scale;
        let (mut value, mut chunk, mut factor) = (N::ZERO, 0, 1);
        if missing < 0 {
            return Some(value);
        }
        while missing > 0
            && let Some(digit) = digits.next()
        {
            (chunk, factor, missing) = (chunk * 10 + u64::from(digit), factor * 10, missing - 1);
            if factor == CHUNK {
                value = value.append(factor, chunk)?;
                (chunk, factor) = (0, 1);
            }
        }
        value = value.append(factor, chunk)?;
        if missing > 0 {
            return append_zeros(value, missing);
        }
        let round_up = digits.next().is_some_and(|digit| digit >= 5);
        value.append(1, u64::from(round_up))
    }

    /// Writes the number as PostgreSQL prints a `numeric`: without exponent and leading zeros.
    pub fn write_plain(&self, out: &mut String) {
        if self.negative && self.digits().any(|digit| digit != 0) {
            out.push('-');
        }
        let (point, scale, shown) = (self.point(), self.scale(), self.integer_digits());
        if shown <= 0 {
            out.push('0');
        }
        (point - shown.max(0)..point).for_each(|index| out.push(self.digit_at(index)));
        if scale > 0 {
            out.push('.');
            (point..point + scale).for_each(|index| out.push(self.digit_at(index)));
        }
    }

    fn digit_at(&self, index: i64) -> char {
        let Ok(index) = usize::try_from(index) else { return '0' };
        let digit = match index.checked_sub(self.integer.len()) {
            None => self.integer.get(index),
            Some(index) => self.fraction.get(index),
        };
        digit.copied().map_or('0', char::from)
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.integer.iter().chain(self.fraction).map(|digit| digit - b'0')
    }
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX / 4)
}

fn signed(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    }
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at(end)
}

/// Reads the exponent, clamped to a range beyond all supported numbers.
fn exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, bytes) = signed(bytes);
    let (digits, rest) = digits(bytes);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000_000_000));
    Some(if negative { -value } else { value })
}

/// An integer that grows by appended digits.
pub trait Accumulator: Copy + PartialEq {
    const ZERO: Self;

    /// Returns `self * factor + chunk`, or `None` on overflow.
    fn append(self, factor: u64, chunk: u64) -> Option<Self>;

    fn negate(self) -> Self;
}

impl Accumulator for i128 {
    const ZERO: Self = 0;

    fn append(self, factor: u64, chunk: u64) -> Option<Self> {
        self.checked_mul(Self::from(factor))?.checked_add(Self::from(chunk))
    }

    fn negate(self) -> Self {
        self.wrapping_neg()
    }
}

impl Accumulator for i256 {
    const ZERO: Self = Self::ZERO;

    fn append(self, factor: u64, chunk: u64) -> Option<Self> {
        self.checked_mul(Self::from_i128(i128::from(factor)))?
            .checked_add(Self::from_i128(i128::from(chunk)))
    }

    fn negate(self) -> Self {
        self.wrapping_neg()
    }
}

fn append_zeros<N: Accumulator>(mut value: N, mut count: i64) -> Option<N> {
    if value == N::ZERO {
        return Some(value);
    }
    while count > 0 {
        let step = u32::try_from(count).map_or(CHUNK_DIGITS, |count| count.min(CHUNK_DIGITS));
        value = value.append(10_u64.pow(step), 0)?;
        count -= i64::from(step);
    }
    Some(value)
}

/// Reads a number as `numeric(precision, scale)`.
pub fn decimal<T: DecimalType>(text: &str, precision: u8, scale: i8) -> Result<T::Native>
where
    T::Native: Accumulator,
{
    let literal = literal(text)?;
    let value = literal
        .scaled::<T::Native>(i64::from(scale))
        .filter(|value| T::is_valid_decimal_precision(*value, precision))
        .ok_or_else(|| overflow(precision, scale))?;
    Ok(if literal.negative { value.negate() } else { value })
}

/// Returns the smallest decimal that preserves the number as written; digits beyond the largest decimal's
/// precision are rounded.
pub fn smallest_decimal(literal: &Literal<'_>) -> Result<ScalarValue> {
    let precision_max = i64::from(NUMERIC_PRECISION_MAX);
    let integer_digits = literal.integer_digits().max(0);
    let scale = literal.scale().min(precision_max - integer_digits);
    // Rounding may add a digit.
    let precision = integer_digits + scale + i64::from(scale < literal.scale());
    if integer_digits > precision_max || precision > precision_max + 1 {
        return Err(too_large());
    }
    let digits = |count: i64| u8::try_from(count.clamp(1, precision_max)).unwrap_or(1);
    let shown_scale = i8::try_from(scale).map_err(|_| too_large())?;
    if precision <= PRECISION_128 {
        let value = with_sign(literal, literal.scaled::<i128>(scale))?;
        return Ok(ScalarValue::Decimal128(Some(value), digits(precision), shown_scale));
    }
    let value = with_sign(literal, literal.scaled::<i256>(scale))?;
    Ok(ScalarValue::Decimal256(Some(value), digits(precision), shown_scale))
}

fn with_sign<N: Accumulator>(literal: &Literal<'_>, value: Option<N>) -> Result<N> {
    let value = value.ok_or_else(too_large)?;
    Ok(if literal.negative { value.negate() } else { value })
}

/// Reads a number of any size. Infinities and NaN are refused: exact decimals do not have them.
pub fn literal(text: &str) -> Result<Literal<'_>> {
    let word = text.trim_matches(is_space);
    if let Some(literal) = Literal::scan(word) {
        return Ok(literal);
    }
    let unsigned = word.trim_start_matches(['+', '-']).to_ascii_lowercase();
    match unsigned.as_str() {
        "nan" | "inf" | "infinity" => {
            let message = format!("{word} is not supported for type numeric");
            Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
        }
        _ => Err(invalid_text("numeric", text)),
    }
}

fn overflow(precision: u8, scale: i8) -> SqlError {
    let bound = match i16::from(precision) - i16::from(scale) {
        0 => "1".to_owned(),
        power => format!("10^{power}"),
    };
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}."
    ))
}

/// The number is larger than any supported `numeric`.
pub fn too_large() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}
