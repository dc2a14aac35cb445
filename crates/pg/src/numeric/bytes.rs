//! The bytes of numeric values in Arrow arrays and data files. This format never changes.
//!
//! A value is a key, and the scale as two big-endian bytes (0 to 16383; 0 for values that are not finite). Equal values
//! have equal keys, and keys sort byte by byte as the values do. A key is:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | kind: 0x01 negative infinity, 0x02 negative, 0x03 zero, 0x04 positive, 0x05 infinity, 0x06 NaN |
//! | 4 | negative and positive only: the power of 100 of the first pair, plus 2^31, big-endian |
//! | 1 each | the pairs of decimal digits, each plus one (1 to 100), from the first pair that is not zero to the last |
//! | 1 | the end: 0x00 |
//!
//! Pairs are aligned to the decimal point: 1.5 has the pairs 1 and 50, and 15 the pair 15. In negative values every bit
//! after the kind is inverted, so that a greater magnitude sorts first; their end is 0xff.
//!
//! The test reads `tests/fixtures/numeric-v1.bin`; `UPDATE_FIXTURES=1` rewrites it.

use num_bigint::{BigInt, BigUint, Sign};

use super::decimal::{Decimal, power_of_ten};
use super::{DIGITS_MAX, Numeric, SCALE_MAX};

const NEGATIVE_INFINITY: u8 = 1;
const NEGATIVE: u8 = 2;
const ZERO: u8 = 3;
const POSITIVE: u8 = 4;
const INFINITY: u8 = 5;
const NAN: u8 = 6;

const EXPONENT_BIAS: i64 = 1 << 31;
const SCALE_BYTES: usize = 2;

/// The powers of 100 of the first pairs of all numerics.
const EXPONENTS: std::ops::Range<i64> = -(SCALE_MAX as i64 + 1) / 2..DIGITS_MAX / 2;

/// Bytes that are no numeric value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged numeric value: {0}")]
pub struct DamagedNumeric(&'static str);

/// Returns the bytes of a value.
pub fn encode(value: &Numeric) -> Vec<u8> {
    let mut out = vec![];
    encode_into(value, &mut out);
    out
}

/// Appends the bytes of a value.
pub fn encode_into(value: &Numeric, out: &mut Vec<u8>) {
    let scale = match value {
        Numeric::NegativeInfinity => {
            out.push(NEGATIVE_INFINITY);
            0
        }
        Numeric::Infinity => {
            out.push(INFINITY);
            0
        }
        Numeric::NaN => {
            out.push(NAN);
            0
        }
        Numeric::Finite(value) => {
            put_finite(value, out);
            u16::try_from(value.scale).unwrap_or(u16::MAX)
        }
    };
    out.extend(scale.to_be_bytes());
}

fn put_finite(value: &Decimal, out: &mut Vec<u8>) {
    if value.is_zero() {
        return out.push(ZERO);
    }
    out.push(if value.is_negative() { NEGATIVE } else { POSITIVE });
    let start = out.len();
    let pairs = if value.scale.is_multiple_of(2) {
        value.magnitude().to_radix_be(100)
    } else {
        (value.magnitude() * 10_u8).to_radix_be(100)
    };
    let fraction_pairs = i64::from(value.scale.div_ceil(2));
    let exponent = i64::try_from(pairs.len()).unwrap_or(0) - 1 - fraction_pairs;
    let biased = u32::try_from(exponent + EXPONENT_BIAS).unwrap_or(u32::MAX);
    out.extend(biased.to_be_bytes());
    let last = pairs.iter().rposition(|pair| *pair != 0).map_or(0, |last| last + 1);
    out.extend(pairs[..last].iter().map(|pair| pair + 1));
    out.push(0);
    if value.is_negative() {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Returns the part of a value's bytes that sorts and compares like the value. Bytes too short to be a value are
/// returned whole.
pub fn key(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().saturating_sub(SCALE_BYTES)]
}

/// Reads the bytes of a value, which may be damaged. Only what [`encode`] writes is accepted.
pub fn decode(bytes: &[u8]) -> Result<Numeric, DamagedNumeric> {
    let (key, scale) = bytes.split_last_chunk().ok_or(DamagedNumeric("too short"))?;
    let scale = u32::from(u16::from_be_bytes(*scale));
    if scale > SCALE_MAX {
        return Err(DamagedNumeric("scale out of range"));
    }
    let special = match key {
        [NEGATIVE_INFINITY] => Numeric::NegativeInfinity,
        [INFINITY] => Numeric::Infinity,
        [NAN] => Numeric::NaN,
        [ZERO] => return Ok(Numeric::Finite(Decimal::zero(scale))),
        [POSITIVE, digits @ ..] => return finite(Sign::Plus, digits, scale),
        [NEGATIVE, digits @ ..] => {
            let inverted: Vec<u8> = digits.iter().map(|byte| !byte).collect();
            return finite(Sign::Minus, &inverted, scale);
        }
        _ => return Err(DamagedNumeric("unknown kind")),
    };
    if scale == 0 { Ok(special) } else { Err(DamagedNumeric("an infinity or NaN with a scale")) }
}

fn finite(sign: Sign, bytes: &[u8], scale: u32) -> Result<Numeric, DamagedNumeric> {
    let (exponent, digits) = bytes.split_first_chunk().ok_or(DamagedNumeric("too short"))?;
    let exponent = i64::from(u32::from_be_bytes(*exponent)) - EXPONENT_BIAS;
    if !EXPONENTS.contains(&exponent) {
        return Err(DamagedNumeric("exponent out of range"));
    }
    let [digits @ .., 0] = digits else { return Err(DamagedNumeric("no end")) };
    if digits.iter().any(|byte| !(1..=100).contains(byte)) {
        return Err(DamagedNumeric("a pair out of range"));
    }
    let is_zero = |pair: Option<&u8>| pair.is_none_or(|pair| *pair == 1);
    if is_zero(digits.first()) || is_zero(digits.last()) {
        return Err(DamagedNumeric("a zero pair at an end"));
    }
    let pairs: Vec<u8> = digits.iter().map(|byte| byte - 1).collect();
    let magnitude = BigUint::from_radix_be(&pairs, 100).ok_or(DamagedNumeric("no digits"))?;
    let after_first = i64::try_from(pairs.len()).unwrap_or(i64::MAX / 4) - 1;
    let held = (after_first - exponent) * 2;
    let is_odd_held =
        held == i64::from(scale) + 1 && pairs.last().is_some_and(|pair| pair % 10 == 0);
    if held > i64::from(scale) && !is_odd_held {
        return Err(DamagedNumeric("digits beyond the scale"));
    }
    let magnitude = match u32::try_from(i64::from(scale) - held) {
        Ok(0) => magnitude,
        Ok(zeros) => magnitude * power_of_ten(zeros),
        Err(_) => magnitude / 10_u8,
    };
    Ok(Numeric::Finite(Decimal::new(BigInt::from_biguint(sign, magnitude), scale)))
}
