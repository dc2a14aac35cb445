//! PostgreSQL's binary form of numeric, as clients send and receive it.
//!
//! | bytes | content |
//! |---|---|
//! | 2 | number of groups |
//! | 2 | weight: power of 10,000 of the first group, signed |
//! | 2 | sign: 0x0000 positive, 0x4000 negative, 0xC000 NaN, 0xD000 infinity, 0xF000 negative infinity |
//! | 2 | scale |
//! | 2 each | groups of four decimal digits, 0 to 9999 |
//!
//! All numbers are big-endian. Groups that are zero are left out at both ends.

use num_bigint::{BigInt, BigUint, Sign};

use super::decimal::{Decimal, power_of_ten};
use super::{Numeric, Result, SCALE_MAX};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// The scale that PostgreSQL sends with infinities.
const INFINITY_SCALE: u16 = 0x20;

impl Numeric {
    /// Appends the binary form.
    pub fn put_wire(&self, out: &mut Vec<u8>) {
        let (groups, weight, sign, scale) = match self {
            Self::NaN => (vec![], 0, NAN, 0),
            Self::Infinity => (vec![], 0, INFINITY, INFINITY_SCALE),
            Self::NegativeInfinity => (vec![], 0, NEGATIVE_INFINITY, INFINITY_SCALE),
            Self::Finite(value) => {
                let sign = if value.is_negative() { NEGATIVE } else { POSITIVE };
                let weight = i16::try_from(value.weight()).unwrap_or(i16::MAX);
                (value.groups(), weight, sign, u16::try_from(value.scale).unwrap_or(u16::MAX))
            }
        };
        let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
        out.extend(count.to_be_bytes());
        out.extend(weight.to_be_bytes());
        out.extend(sign.to_be_bytes());
        out.extend(scale.to_be_bytes());
        out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
    }

    /// Reads the binary form. As in PostgreSQL, digits that the scale hides are dropped.
    pub fn from_wire(bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<2>();
        let [count, weight, sign, scale, groups @ ..] = words else {
            return Err(too_short());
        };
        let number = |word: &[u8; 2]| u16::from_be_bytes(*word);
        let special = match number(sign) {
            POSITIVE | NEGATIVE => None,
            NAN => Some(Self::NaN),
            INFINITY => Some(Self::Infinity),
            NEGATIVE_INFINITY => Some(Self::NegativeInfinity),
            _ => return Err(invalid("invalid sign in external \"numeric\" value")),
        };
        let scale = u32::from(number(scale));
        if scale > SCALE_MAX {
            return Err(invalid("invalid scale in external \"numeric\" value"));
        }
        let groups: Vec<u16> = groups.iter().map(number).collect();
        if groups.iter().any(|group| *group >= 10_000) {
            return Err(invalid("invalid digit in external \"numeric\" value"));
        }
        match groups.len().cmp(&usize::from(number(count))) {
            std::cmp::Ordering::Less => return Err(too_short()),
            std::cmp::Ordering::Equal if rest.is_empty() => {}
            _ => return Err(invalid("incorrect binary data format")),
        }
        if let Some(special) = special {
            return Ok(special);
        }
        let sign = if number(sign) == NEGATIVE { Sign::Minus } else { Sign::Plus };
        Self::from_decimal(finite(sign, &groups, i16::from_be_bytes(*weight), scale))
    }
}

/// The value of groups, with the digits that the scale shows.
fn finite(sign: Sign, groups: &[u16], weight: i16, scale: u32) -> Decimal {
    let digit = |digit: u16| u8::try_from(digit).unwrap_or(0);
    let pairs: Vec<u8> =
        groups.iter().flat_map(|group| [digit(group / 100), digit(group % 100)]).collect();
    let magnitude = BigUint::from_radix_be(&pairs, 100).unwrap_or(BigUint::ZERO);
    let coefficient = BigInt::from_biguint(sign, magnitude);
    let after_first = i64::try_from(groups.len()).unwrap_or(i64::MAX / 4) - 1;
    let held = (after_first - i64::from(weight)) * 4;
    match u32::try_from(held) {
        Ok(held) => Decimal::new(coefficient, held).truncated(scale.into()),
        Err(_) => {
            let zeros = u32::try_from(-held).unwrap_or(0);
            Decimal::new(coefficient * BigInt::from(power_of_ten(zeros)), 0).rounded(scale.into())
        }
    }
}

fn invalid(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, message)
}

fn too_short() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}
