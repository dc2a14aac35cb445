//! Reads the text form of arrays: `{1,2,NULL,"a b"}`.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ListArray, StringViewArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::Field;

use super::{Result, is_space, parse_column};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::ColumnType;

/// Reads each text as an array of `element`s; parses all elements of the column together afterwards.
pub(super) fn parse(text: &StringViewArray, element: &ColumnType) -> Result<ListArray> {
    let nested = matches!(element, ColumnType::Array(_));
    let mut elements = Vec::new();
    let mut lengths = Vec::with_capacity(text.len());
    for value in text {
        let before = elements.len();
        if let Some(literal) = value {
            Scanner { literal, at: 0 }.elements(nested, &mut elements)?;
        }
        lengths.push(elements.len() - before);
    }
    let elements: ArrayRef = Arc::new(StringViewArray::from_iter(elements));
    let field = Arc::new(Field::new_list_field(element.arrow_type(), true));
    let values = parse_column(&elements, element)?;
    ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, text.nulls().cloned())
        .map_err(|error| SqlError::new(SqlState::INTERNAL_ERROR, error.to_string()))
}

struct Scanner<'a> {
    literal: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn elements(mut self, nested: bool, out: &mut Vec<Option<Cow<'a, str>>>) -> Result<()> {
        self.skip_spaces();
        if self.peek() != Some(b'{') {
            let detail = "Array value must start with \"{\" or dimension information.";
            return Err(self.malformed(detail));
        }
        self.at += 1;
        self.skip_spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.end();
        }
        loop {
            self.skip_spaces();
            out.push(self.element(nested)?);
            self.skip_spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return self.end();
                }
                None => return Err(self.malformed("Unexpected end of input.")),
                Some(_) => return Err(self.malformed("Unexpected array element.")),
            }
        }
    }

    fn element(&mut self, nested: bool) -> Result<Option<Cow<'a, str>>> {
        match self.peek() {
            None => Err(self.malformed("Unexpected end of input.")),
            Some(b'"') => self.quoted().map(Some),
            Some(b'{') if nested => self.braced().map(Some),
            Some(b'{') => Err(self.malformed("Multidimensional arrays are not supported.")),
            Some(byte @ (b',' | b'}')) => {
                let detail = format!("Unexpected \"{}\" character.", char::from(byte));
                Err(self.malformed(&detail))
            }
            Some(_) => self.unquoted(),
        }
    }

    /// Reads up to the closing quote; a backslash makes the next character literal.
    fn quoted(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(self.malformed("Unexpected end of input.")),
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        let raw = &self.literal[start..self.at];
        self.at += 1;
        Ok(unescaped(raw))
    }

    /// Reads an array within the array, including its braces.
    fn braced(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                None => return Err(self.malformed("Unexpected end of input.")),
                Some(b'"') => {
                    self.quoted()?;
                    continue;
                }
                Some(b'\\') => self.at += 1,
                Some(b'{') => depth += 1,
                Some(b'}') => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(Cow::Borrowed(&self.literal[start..self.at]));
            }
        }
    }

    /// Reads up to a comma or brace, without trailing spaces; the bare word NULL is a null.
    fn unquoted(&mut self) -> Result<Option<Cow<'a, str>>> {
        let start = self.at;
        let mut end = start;
        loop {
            match self.peek() {
                None => return Err(self.malformed("Unexpected end of input.")),
                Some(b',' | b'}') => break,
                Some(b'"' | b'{') => return Err(self.malformed("Unexpected array element.")),
                Some(b'\\') => {
                    self.at += 2;
                    end = self.at;
                }
                Some(byte) => {
                    self.at += 1;
                    end = if is_space(char::from(byte)) { end } else { self.at };
                }
            }
        }
        let raw = &self.literal[start..end];
        Ok(if raw.eq_ignore_ascii_case("null") { None } else { Some(unescaped(raw)) })
    }

    fn end(&mut self) -> Result<()> {
        self.skip_spaces();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("Junk after closing right brace.")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.literal.as_bytes().get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(|byte| is_space(char::from(byte))) {
            self.at += 1;
        }
    }

    fn malformed(&self, detail: &str) -> SqlError {
        let message = format!("malformed array literal: \"{}\"", self.literal);
        SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message).detail(detail)
    }
}

fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}
