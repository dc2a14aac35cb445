//! Reads `jsonb`: validates the text and normalises it to the form PostgreSQL prints.
//!
//! Keys are unique (the last wins) and sorted by length, then by bytes; numbers keep their digits like a
//! `numeric`; a space follows each `:` and `,`. serde_json would validate the text too, but convert long
//! numbers to floats.

use std::borrow::Cow;

use super::Result;
use super::numeric::{self, Literal};
use crate::error::SqlError;
use crate::memory::Growing;
use crate::sqlstate::SqlState;

/// Deeper nesting is refused, so that no input can exhaust the stack.
const DEPTH_MAX: usize = 1000;

/// Bytes of a value in the tree apart from its text; twice its size, as arrays double when they grow.
const VALUE_BYTES: usize = 2 * size_of::<Json<'_>>();
/// Additional bytes of an object member: its key.
const KEY_BYTES: usize = 2 * size_of::<Cow<'_, str>>();

/// Returns the text as a `jsonb` column stores and prints it.
pub fn normalise(text: &str) -> Result<String> {
    let mut growing = Growing::new("jsonb");
    let value = Json::parse_counted(text, &mut growing)?;
    // The output adds spaces and may have longer escapes.
    growing.add(text.len().saturating_mul(2))?;
    let mut out = String::with_capacity(text.len() + 16);
    value.write(&mut out);
    Ok(out)
}

/// A value of `jsonb`. Parts that are printed as they were written are borrowed from the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json<'a> {
    /// `null`, a boolean or a number, as it is printed.
    Word(Cow<'a, str>),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Sorted by key; see [`Json::object`].
    Object(Vec<Member<'a>>),
}

pub type Member<'a> = (Cow<'a, str>, Json<'a>);

impl<'a> Json<'a> {
    /// Parses a short text.
    pub fn parse(text: &'a str) -> Result<Self> {
        Self::parse_counted(text, &mut Growing::new("json"))
    }

    /// Parses a text; its memory is counted until `growing` is dropped.
    pub fn parse_counted(text: &'a str, growing: &mut Growing) -> Result<Self> {
        let mut scanner = Scanner { text, at: 0, growing };
        let value = scanner.value(0)?;
        scanner.skip_spaces();
        if scanner.peek().is_some() {
            return Err(scanner.unexpected("end of input"));
        }
        Ok(value)
    }

    /// Creates an object from members in any order; of equal keys the last one counts.
    pub fn object(members: Vec<Member<'a>>) -> Self {
        Self::Object(unique(members))
    }

    /// Copies the parts borrowed from the input.
    pub fn into_owned(self) -> Json<'static> {
        let owned = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Word(word) => Json::Word(owned(word)),
            Self::Text(text) => Json::Text(owned(text)),
            Self::Array(elements) => {
                Json::Array(elements.into_iter().map(Json::into_owned).collect())
            }
            Self::Object(members) => Json::Object(
                members.into_iter().map(|(key, value)| (owned(key), value.into_owned())).collect(),
            ),
        }
    }

    pub fn write(&self, out: &mut String) {
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Text(text) => write_string(text, out),
            Self::Array(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    separate(index, out);
                    element.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    separate(index, out);
                    write_string(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push_str(", ");
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Sorts members in the order of jsonb and keeps the last one of each key.
fn unique(mut members: Vec<Member<'_>>) -> Vec<Member<'_>> {
    members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    // The sort is stable, so the last of equal keys is the last written: deduplicate in reverse.
    members.reverse();
    members.dedup_by(|later, kept| later.0 == kept.0);
    members.reverse();
    members
}

fn invalid(detail: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
        .detail(detail)
}

struct Scanner<'a, 'g> {
    text: &'a str,
    at: usize,
    growing: &'g mut Growing,
}

impl<'a> Scanner<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// The error for a token that the grammar does not allow here.
    fn unexpected(&mut self, wanted: &str) -> SqlError {
        let word = self.word();
        if !word.is_empty() && !matches!(word, "true" | "false" | "null") && number(word).is_none()
        {
            return invalid(format!("Token \"{word}\" is invalid."));
        }
        let found = match word {
            "" => self.text[self.at..].chars().next().map(String::from),
            word => Some(word.to_owned()),
        };
        invalid(match found {
            None => "The input string ended unexpectedly.".to_owned(),
            Some(found) => format!("Expected {wanted}, but found \"{found}\"."),
        })
    }

    /// Reads a run of characters that could be a number or one of JSON's words.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let within = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || b"+-._".contains(&b);
        while self.peek().is_some_and(within) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>> {
        if depth > DEPTH_MAX {
            return Err(SqlError::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            ));
        }
        self.growing.add(VALUE_BYTES)?;
        self.skip_spaces();
        match self.peek() {
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            _ => self.simple(),
        }
    }

    fn simple(&mut self) -> Result<Json<'a>> {
        let start = self.at;
        match self.word() {
            word @ ("true" | "false" | "null") => Ok(Json::Word(Cow::Borrowed(word))),
            word => match number(word) {
                Some(literal) => plain(word, literal, self.growing),
                None => {
                    self.at = start;
                    Err(self.unexpected("JSON value"))
                }
            },
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>> {
        self.at += 1;
        let mut elements = Vec::new();
        self.skip_spaces();
        if self.take(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.skip_spaces();
            if self.take(b']') {
                return Ok(Json::Array(elements));
            }
            if !self.take(b',') {
                return Err(self.unexpected("\",\" or \"]\""));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        self.skip_spaces();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            members.push(self.member(depth)?);
            self.skip_spaces();
            if self.take(b'}') {
                return Ok(Json::object(members));
            }
            if !self.take(b',') {
                return Err(self.unexpected("\",\" or \"}\""));
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member<'a>> {
        self.skip_spaces();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("string"));
        }
        self.growing.add(KEY_BYTES)?;
        let key = self.string()?;
        self.skip_spaces();
        if !self.take(b':') {
            return Err(self.unexpected("\":\""));
        }
        Ok((key, self.value(depth + 1)?))
    }

    /// Reads a string from its opening to its closing quote.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let mut out = Cow::Borrowed("");
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
            let Some(plain) = plain else {
                return Err(invalid("The input string ended unexpectedly."));
            };
            let stop = rest[plain];
            let text = &self.text[self.at..self.at + plain];
            if !out.is_empty() {
                self.growing.add(plain)?;
            }
            // The first part is borrowed.
            out += text;
            self.at += plain + 1;
            match stop {
                b'"' => return Ok(out),
                b'\\' => {
                    let copied = if let Cow::Borrowed(before) = out { before.len() } else { 0 };
                    self.growing.add(copied + 1)?;
                    out.to_mut().push(self.escape()?);
                }
                control => {
                    let detail = format!("Character with value 0x{control:02x} must be escaped.");
                    return Err(invalid(detail));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(letter) = self.text[self.at..].chars().next() else {
            return Err(invalid("The input string ended unexpectedly."));
        };
        self.at += letter.len_utf8();
        Ok(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return Err(invalid(format!("Escape sequence \"\\{letter}\" is invalid."))),
        })
    }

    /// Reads the character of one `\uXXXX`, or of a surrogate pair.
    fn unicode(&mut self) -> Result<char> {
        let first = self.four_digits()?;
        let code = match first {
            0 => {
                let error = SqlError::new(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                );
                return Err(error.detail("\\u0000 cannot be converted to text."));
            }
            0xd800..=0xdbff => {
                let low = if self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    self.four_digits()?
                } else {
                    0
                };
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(invalid("Unicode low surrogate must follow a high surrogate."));
                }
                0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code)
            .ok_or_else(|| invalid("Unicode low surrogate must follow a high surrogate."))
    }

    fn four_digits(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid("\"\\u\" must be followed by four hexadecimal digits."));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16)
            .map_err(|_| invalid("\"\\u\" must be followed by four hexadecimal digits."))
    }
}

/// Reads a number by JSON's grammar, which is stricter than that of `numeric`.
fn number(word: &str) -> Option<Literal<'_>> {
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let after_digits = unsigned.trim_start_matches(|c: char| c.is_ascii_digit());
    let integer = &unsigned[..unsigned.len() - after_digits.len()];
    let leading_zero = integer.len() > 1 && integer.starts_with('0');
    let bare_point = after_digits
        .strip_prefix('.')
        .is_some_and(|fraction| !fraction.starts_with(|c: char| c.is_ascii_digit()));
    if integer.is_empty() || leading_zero || bare_point {
        return None;
    }
    Literal::scan(word)
}

fn plain<'a>(word: &'a str, literal: Literal<'_>, growing: &mut Growing) -> Result<Json<'a>> {
    if !literal.fits_numeric() {
        return Err(numeric::too_large());
    }
    let mut out = String::new();
    literal.write_plain(&mut out);
    if out == word {
        return Ok(Json::Word(Cow::Borrowed(word)));
    }
    // Counted twice, for the tree and for its output: an exponent may expand to many zeros.
    growing.add(out.len().saturating_mul(2))?;
    Ok(Json::Word(Cow::Owned(out)))
}
