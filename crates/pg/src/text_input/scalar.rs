//! Reads booleans, integers, floats and byte strings.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use super::{Result, invalid_text, is_space};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Reads a boolean: any unambiguous prefix of the words below, or 1 or 0, as in PostgreSQL.
pub(super) fn boolean(text: &str) -> Result<bool> {
    let word = text.trim_matches(is_space).as_bytes();
    let begins = |whole: &[u8], length_min: usize| {
        word.len() >= length_min
            && whole.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || word == b"1" {
        Ok(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || word == b"0" {
        Ok(false)
    } else {
        Err(invalid_text("boolean", text))
    }
}

/// Reads a decimal integer, with spaces around it. Fails with 22003 if it is out of range.
pub(super) fn integer<T: FromStr<Err = ParseIntError>>(text: &str, type_name: &str) -> Result<T> {
    text.trim_matches(is_space).parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
            let message = format!("value \"{text}\" is out of range for type {type_name}");
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
        }
        _ => invalid_text(type_name, text),
    })
}

/// Reads a float. Fails with 22003 if it is too large, or so small that it would become zero.
pub(super) fn float<T: FromStr + Into<f64> + Copy>(text: &str, type_name: &str) -> Result<T> {
    let word = text.trim_matches(is_space);
    let value: T = word.parse().map_err(|_| invalid_text(type_name, text))?;
    let wide: f64 = value.into();
    if (wide.is_infinite() && !names_infinity(word)) || (wide == 0.0 && !is_zero(word)) {
        let message = format!("\"{word}\" is out of range for type {type_name}");
        return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    Ok(value)
}

fn names_infinity(word: &str) -> bool {
    word.contains(['i', 'I'])
}

/// Whether the digits before the exponent are all zero; otherwise a zero result is an underflow.
fn is_zero(word: &str) -> bool {
    let digits = word.split(['e', 'E']).next().unwrap_or_default();
    !digits.contains(|c: char| matches!(c, '1'..='9'))
}

/// Reads bytes written as `\x` and hexadecimal digits, or as text with `\\` and `\ooo`.
pub fn bytea(text: &str) -> Result<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => hexadecimal(digits),
        None => escaped(text.as_bytes()).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                "invalid input syntax for type bytea",
            )
        }),
    }
}

fn hexadecimal(digits: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    for character in digits.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')) {
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or_else(|| {
            let message = format!("invalid hexadecimal digit: \"{character}\"");
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        })?;
        match high.take() {
            Some(high) => bytes.push(high << 4 | digit),
            None => high = Some(digit),
        }
    }
    if high.is_some() {
        let message = "invalid hexadecimal data: odd number of digits";
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(bytes)
}

fn escaped(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        text = match text {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}
