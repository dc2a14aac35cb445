//! Names the error in a string escape: `E'\u0000'`, `E'\xff'`, `U&'\0000'`.
//!
//! The tokenizer would report these as unterminated strings.

use std::iter::Peekable;
use std::str::Chars;

use sqlparser::tokenizer::{Token, TokenWithSpan};

use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Refuses strings like `U&'\0000'`: a text cannot contain that character.
pub fn check_escapes(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let holds_null = |token: &TokenWithSpan| match &token.token {
        Token::UnicodeStringLiteral(text) => text.contains('\0'),
        _ => false,
    };
    if tokens.iter().any(holds_null) { Err(invalid_value()) } else { Ok(()) }
}

/// Returns the error of the first invalid escape, if the text begins with a string like `E'a\u0000'`.
pub fn wrong_escape(text: &str) -> Option<SqlError> {
    let rest = text.strip_prefix("E'").or_else(|| text.strip_prefix("e'"))?;
    let mut chars = rest.chars().peekable();
    loop {
        match chars.next()? {
            // Two quotes stand for one inside a string.
            '\'' => {
                chars.next_if_eq(&'\'')?;
            }
            '\\' => {
                let wrong = wrong_after_backslash(&mut chars);
                if wrong.is_some() {
                    return wrong;
                }
            }
            _ => {}
        }
    }
}

fn wrong_after_backslash(chars: &mut Peekable<Chars<'_>>) -> Option<SqlError> {
    match chars.peek()? {
        'u' => wrong_character(chars, 4),
        'U' => wrong_character(chars, 8),
        _ => wrong_bytes(chars),
    }
}

/// Checks `\uXXXX` or `\UXXXXXXXX`, after the backslash.
fn wrong_character(chars: &mut Peekable<Chars<'_>>, digits: usize) -> Option<SqlError> {
    chars.next();
    let code = number(chars, 16, digits);
    match code {
        Some((code, read)) if read == digits => match char::from_u32(code) {
            None if (0xd800..0xe000).contains(&code) => {
                Some(SqlError::unsupported("half of a character in an escape").hint(SPELLED_OUT))
            }
            None | Some('\0') => Some(invalid_value()),
            Some(_) => None,
        },
        _ => {
            let error = SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid Unicode escape");
            Some(error.hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX."))
        }
    }
}

/// Checks consecutive byte escapes like `\xff` or `\377`, after the first backslash.
fn wrong_bytes(chars: &mut Peekable<Chars<'_>>) -> Option<SqlError> {
    let mut bytes = vec![];
    while let Some(byte) = byte(chars) {
        bytes.push(byte);
        // Following ones may be part of the same character.
        let mut ahead = chars.clone();
        if ahead.next() != Some('\\') || byte_of(&mut ahead).is_none() {
            break;
        }
        chars.next();
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains('\0') => Some(invalid_byte(0)),
        Ok(text) if !text.is_ascii() => {
            Some(SqlError::unsupported("a character written as bytes").hint(SPELLED_OUT))
        }
        Ok(_) => None,
        Err(error) => bytes.get(error.valid_up_to()).map(|byte| invalid_byte(*byte)),
    }
}

/// Returns the byte of an escape; skips any other escape.
fn byte(chars: &mut Peekable<Chars<'_>>) -> Option<u8> {
    let byte = byte_of(chars);
    if byte.is_none() {
        chars.next();
    }
    byte
}

fn byte_of(chars: &mut Peekable<Chars<'_>>) -> Option<u8> {
    let mut ahead = chars.clone();
    let (number, _) = match ahead.peek()? {
        'x' => {
            ahead.next();
            number(&mut ahead, 16, 2)?
        }
        _ => number(&mut ahead, 8, 3)?,
    };
    *chars = ahead;
    // As in PostgreSQL, `\400` wraps around.
    u8::try_from(number & 0xff).ok()
}

/// Reads up to `most` digits as a number; returns it with their count, or `None` if there are none.
fn number(chars: &mut Peekable<Chars<'_>>, radix: u32, most: usize) -> Option<(u32, usize)> {
    let (mut number, mut read) = (0_u32, 0);
    while read < most
        && let Some(digit) = chars.peek().and_then(|digit| digit.to_digit(radix))
    {
        chars.next();
        number = number.wrapping_mul(radix).wrapping_add(digit);
        read += 1;
    }
    (read > 0).then_some((number, read))
}

const SPELLED_OUT: &str = "Write the character itself, or \\uXXXX or \\UXXXXXXXX.";

fn invalid_value() -> SqlError {
    SqlError::syntax("invalid Unicode escape value")
}

fn invalid_byte(byte: u8) -> SqlError {
    let message = format!("invalid byte sequence for encoding \"UTF8\": {byte:#04x}");
    SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_escapes_are_named() {
        let cases = [
            (r"E'a\u0000'", "42601: invalid Unicode escape value"),
            (r"e'\U00110000'", "42601: invalid Unicode escape value"),
            (r"E'\ud83d\ude00'", "0A000: half of a character in an escape is not supported"),
            (r"E'\u00g0'", "22025: invalid Unicode escape"),
            (r"E'\u'", "22025: invalid Unicode escape"),
            (r"E'it''s \\ \xff'", "22021: invalid byte sequence for encoding \"UTF8\": 0xff"),
            (r"E'\377'", "22021: invalid byte sequence for encoding \"UTF8\": 0xff"),
            (r"E'a\x41\000'", "22021: invalid byte sequence for encoding \"UTF8\": 0x00"),
            (r"E'\xc3\xa4'", "0A000: a character written as bytes is not supported"),
            (r"E'\xc3a'", "22021: invalid byte sequence for encoding \"UTF8\": 0xc3"),
        ];
        for (text, expected) in cases {
            let error = wrong_escape(text).unwrap();
            assert_eq!(format!("{}: {}", error.sqlstate.code(), error.message), expected, "{text}");
        }
        for text in [r"E'a\\u0000'", r"E'a\'b\n\x41\101\xg'", r"E'a''\u0041' \u0000", "'a", "E'a"] {
            assert!(wrong_escape(text).is_none(), "{text}");
        }
    }
}
