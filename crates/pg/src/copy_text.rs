//! Parses the data of `COPY … FROM STDIN`: rows in text or CSV format, in chunks that may split them
//! anywhere.
//!
//! A chunk is first cut into rows; the search for a row end keeps its state between chunks. A complete row is
//! then split into fields, which go straight into the column builders of a [`RowBuffer`]. Only fields with
//! escapes or quotes are copied and rewritten on the way.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringBuilder};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Longest row in bytes, unless the parser has a lower limit. Reading a row takes up to twice its length.
pub const ROW_BYTES_MAX: usize = 256 << 20;

/// Incomplete rows longer than this grow their buffer by a quarter at a time instead of doubling it.
const LONG_BYTES: usize = 1 << 20;

/// Most bytes of rows in one buffer: a column has 32-bit offsets, and its fields are never longer than their
/// rows.
const BUFFER_BYTES_MAX: usize = 0x7fff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
}

/// The options of `COPY … WITH (…)` that describe the data. All bytes are ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    /// The unquoted text that means null.
    pub null: String,
    /// Whether the first row is a header, which is skipped.
    pub header: bool,
    /// The quote and its escape inside quotes; unused in text format.
    pub quote: u8,
    pub escape: u8,
}

impl CopyOptions {
    /// PostgreSQL's defaults for the text format.
    pub fn text() -> Self {
        Self {
            format: CopyFormat::Text,
            delimiter: b'\t',
            null: "\\N".to_owned(),
            header: false,
            quote: b'"',
            escape: b'"',
        }
    }

    /// PostgreSQL's defaults for CSV.
    pub fn csv() -> Self {
        Self { format: CopyFormat::Csv, delimiter: b',', null: String::new(), ..Self::text() }
    }
}

/// An error in the data and the line it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct CopyError {
    /// Line number, from 1. For a row that spans several lines, the line in which it ends.
    pub line: u64,
    pub cause: SqlError,
}

/// Rows that were parsed and not yet taken, column by column.
#[derive(Debug)]
pub struct RowBuffer {
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

impl RowBuffer {
    pub fn new(column_count: usize) -> Self {
        let columns = (0..column_count).map(|_| StringBuilder::new()).collect();
        Self { columns, rows: 0, bytes: 0 }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of all rows as received.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the columns read so far, as `Utf8`, and leaves the buffer empty.
    pub fn take_columns(&mut self) -> Vec<ArrayRef> {
        (self.rows, self.bytes) = (0, 0);
        self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect()
    }
}

/// Turns chunks of data into rows.
#[derive(Debug)]
pub struct CopyParser {
    options: CopyOptions,
    /// Column names, for error messages.
    columns: Vec<String>,
    row_bytes_max: usize,
    /// The start of a row whose end has not arrived yet.
    partial: Vec<u8>,
    end: RowEnd,
    line: u64,
    skip_header: bool,
    /// Whether rows end in CR LF; the first row decides.
    crlf: Option<bool>,
    /// Whether the end marker `\.` was seen: the rest is ignored.
    done: bool,
    /// Scratch space for a field with escapes or quotes.
    field: Vec<u8>,
}

impl CopyParser {
    /// Creates a parser of rows with these columns.
    pub fn new(options: CopyOptions, columns: Vec<String>) -> Self {
        Self {
            skip_header: options.header,
            options,
            columns,
            row_bytes_max: ROW_BYTES_MAX,
            partial: Vec::new(),
            end: RowEnd::default(),
            line: 0,
            crlf: None,
            done: false,
            field: Vec::new(),
        }
    }

    /// Limits the length of a row to `row_bytes_max` bytes, and to [`ROW_BYTES_MAX`].
    pub fn with_rows_up_to(self, row_bytes_max: usize) -> Self {
        Self { row_bytes_max: row_bytes_max.min(ROW_BYTES_MAX), ..self }
    }

    /// Adds the rows that end in `chunk` to `rows`. After an error, the contents of `rows` must be discarded.
    pub fn push(&mut self, chunk: &[u8], rows: &mut RowBuffer) -> Result<(), CopyError> {
        let mut rest = chunk;
        while !self.done {
            let Some(end) = self.end.find(rest, &self.options) else {
                return self.keep(rest);
            };
            let row = &rest[..end];
            rest = &rest[end + 1..];
            if self.partial.is_empty() {
                self.row(row, true, rows)?;
                continue;
            }
            self.keep(row)?;
            let mut row = std::mem::take(&mut self.partial);
            self.row(&row, true, rows)?;
            row.clear();
            self.partial = row;
        }
        Ok(())
    }

    /// Adds the last row if it has no line end. Fails if it ends inside a quoted field.
    pub fn finish(&mut self, rows: &mut RowBuffer) -> Result<(), CopyError> {
        let row = std::mem::take(&mut self.partial);
        if self.done || row.is_empty() {
            return Ok(());
        }
        if self.end.quoted {
            // The reported line is the one in which the row begins.
            self.line += 1;
            return Err(self.error(bad_format("unterminated CSV quoted field")));
        }
        self.row(&row, false, rows)
    }

    /// Bytes held for the incomplete row and the scratch space.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity() + self.field.capacity()
    }

    /// Number of the last line read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let length = self.partial.len() + bytes.len();
        if length > self.row_bytes_max {
            self.line += 1;
            self.partial = Vec::new();
            let message = format!("a row has more than {} bytes", self.row_bytes_max);
            return Err(self.error(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)));
        }
        if length > self.partial.capacity() && length > LONG_BYTES {
            // Grows by a quarter: doubling would take as much again as a long row.
            let more = length.saturating_add(length / 4).min(self.row_bytes_max);
            self.partial.reserve_exact(more - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Parses a row without its line feed; `terminated` is false if it had none.
    fn row(&mut self, row: &[u8], terminated: bool, rows: &mut RowBuffer) -> Result<(), CopyError> {
        self.line += 1;
        if self.options.format == CopyFormat::Csv {
            self.line += count_newlines(row);
        }
        if matches!(row, b"\\." | b"\\.\r") {
            self.done = true;
            return Ok(());
        }
        let row = if terminated { self.without_carriage_return(row)? } else { row };
        if std::mem::take(&mut self.skip_header) {
            return Ok(());
        }
        if rows.bytes.saturating_add(row.len()) > BUFFER_BYTES_MAX {
            return Err(self.error(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many rows are waiting",
            )));
        }
        self.split(row, rows).map_err(|cause| self.error(cause))?;
        rows.rows += 1;
        rows.bytes += row.len();
        Ok(())
    }

    /// Strips the CR from a row. The first row decides whether all rows must have one.
    fn without_carriage_return<'r>(&mut self, row: &'r [u8]) -> Result<&'r [u8], CopyError> {
        let stripped = row.strip_suffix(b"\r");
        let stray = match (*self.crlf.get_or_insert(stripped.is_some()), stripped) {
            (true, Some(stripped)) => return Ok(stripped),
            (false, None) => return Ok(row),
            (true, None) => "newline",
            (false, Some(_)) => "carriage return",
        };
        Err(self.error(bad_format(match self.options.format {
            CopyFormat::Text => format!("literal {stray} found in data"),
            CopyFormat::Csv => format!("unquoted {stray} found in data"),
        })))
    }

    /// Splits a row into fields and appends them to the columns.
    fn split(&mut self, row: &[u8], rows: &mut RowBuffer) -> Result<(), SqlError> {
        let mut rest = Some(row);
        for (column, name) in rows.columns.iter_mut().zip(&self.columns) {
            let bytes =
                rest.ok_or_else(|| bad_format(format!("missing data for column \"{name}\"")))?;
            let (field, after) = match self.options.format {
                CopyFormat::Text => text_field(bytes, &self.options, &mut self.field),
                CopyFormat::Csv => csv_field(bytes, &self.options, &mut self.field)?,
            };
            match field {
                Field::Null => column.append_null(),
                Field::Plain(bytes) => column.append_value(utf8(bytes)?),
                Field::Rewritten => column.append_value(utf8(&self.field)?),
            }
            rest = after;
        }
        match rest {
            Some(rest) if !(self.columns.is_empty() && rest.is_empty()) => {
                Err(bad_format("extra data after last expected column"))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, cause: SqlError) -> CopyError {
        CopyError { line: self.line, cause }
    }
}

/// Finds the end of a row, and keeps the quoting state from chunk to chunk.
#[derive(Debug, Default)]
struct RowEnd {
    /// Whether the next byte follows an escape.
    escaped: bool,
    quoted: bool,
}

impl RowEnd {
    /// Returns the position of the line feed that ends the row, if it is in `bytes`.
    fn find(&mut self, bytes: &[u8], options: &CopyOptions) -> Option<usize> {
        let first = usize::from(self.escaped);
        if bytes.len() < first {
            return None;
        }
        self.escaped = false;
        match options.format {
            CopyFormat::Text => self.find_in_text(bytes, first),
            CopyFormat::Csv => self.find_in_csv(bytes, first, options),
        }
    }

    fn find_in_text(&mut self, bytes: &[u8], first: usize) -> Option<usize> {
        let mut at = first;
        loop {
            let found = at + position(&bytes[at..], b'\n', b'\\')?;
            if bytes[found] == b'\n' {
                return Some(found);
            }
            at = self.skip_escaped(found, bytes)?;
        }
    }

    fn find_in_csv(&mut self, bytes: &[u8], first: usize, options: &CopyOptions) -> Option<usize> {
        let mut at = first;
        loop {
            let other = if self.quoted { options.escape } else { b'\n' };
            let found = at + position(&bytes[at..], options.quote, other)?;
            if bytes[found] == options.quote {
                self.quoted = !self.quoted;
                at = found + 1;
            } else if self.quoted {
                at = self.skip_escaped(found, bytes)?;
            } else {
                return Some(found);
            }
        }
    }

    /// Returns where to continue after an escape and its byte; `None` if that byte is in the next chunk.
    fn skip_escaped(&mut self, escape: usize, bytes: &[u8]) -> Option<usize> {
        self.escaped = escape + 1 == bytes.len();
        (!self.escaped).then_some(escape + 2)
    }
}

/// Returns the position of the first of two bytes.
fn position(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == one || *byte == other)
}

fn count_newlines(row: &[u8]) -> u64 {
    row.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// A field of a row. The bytes of `Rewritten` are in the scratch space.
enum Field<'r> {
    Null,
    Plain(&'r [u8]),
    Rewritten,
}

/// A field, and the rest of the row after its delimiter; `None` at the end of the row.
type Cut<'r> = (Field<'r>, Option<&'r [u8]>);

fn text_field<'r>(bytes: &'r [u8], options: &CopyOptions, scratch: &mut Vec<u8>) -> Cut<'r> {
    let (mut at, mut escapes) = (0, false);
    let end = loop {
        let Some(found) = position(&bytes[at..], options.delimiter, b'\\') else {
            break bytes.len();
        };
        if bytes[at + found] == options.delimiter {
            break at + found;
        }
        escapes = true;
        at = (at + found + 2).min(bytes.len());
    };
    let (raw, after) = (&bytes[..end], bytes.get(end + 1..));
    if raw == options.null.as_bytes() {
        return (Field::Null, after);
    }
    if !escapes {
        return (Field::Plain(raw), after);
    }
    scratch.clear();
    unescape(raw, scratch);
    (Field::Rewritten, after)
}

fn unescape(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(offset) = raw.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&raw[..offset]);
        let (byte, length) = escape(&raw[offset + 1..]);
        out.push(byte);
        raw = &raw[offset + 1 + length..];
    }
    out.extend_from_slice(raw);
}

/// Decodes an escape: the byte it stands for, and how many bytes after the backslash belong to it.
fn escape(after: &[u8]) -> (u8, usize) {
    match after {
        [] => (b'\\', 0),
        [b'b', ..] => (8, 1),
        [b'f', ..] => (12, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'v', ..] => (11, 1),
        [b'0'..=b'7', ..] => number(after, 8, 3),
        [b'x', digits @ ..] if digits.first().is_some_and(u8::is_ascii_hexdigit) => {
            let (byte, length) = number(digits, 16, 2);
            (byte, length + 1)
        }
        [byte, ..] => (*byte, 1),
    }
}

/// Decodes a byte written as a number of at most `length_max` digits, and counts the digits.
fn number(digits: &[u8], radix: u32, length_max: usize) -> (u8, usize) {
    let values =
        digits.iter().take(length_max).map_while(|digit| char::from(*digit).to_digit(radix));
    let (value, length) =
        values.fold((0, 0), |(value, length), digit| (value * radix + digit, length + 1));
    (u8::try_from(value & 0xff).unwrap_or(0), length)
}

fn csv_field<'r>(
    bytes: &'r [u8],
    options: &CopyOptions,
    scratch: &mut Vec<u8>,
) -> Result<Cut<'r>, SqlError> {
    let CopyOptions { delimiter, quote, .. } = *options;
    let end = position(bytes, delimiter, quote).unwrap_or(bytes.len());
    if bytes.get(end) == Some(&quote) {
        scratch.clear();
        return Ok((Field::Rewritten, unquote(bytes, options, scratch)?));
    }
    let (raw, after) = (&bytes[..end], bytes.get(end + 1..));
    let field = if raw == options.null.as_bytes() { Field::Null } else { Field::Plain(raw) };
    Ok((field, after))
}

/// Writes a field that has quoted parts without its quotes; returns the rest of the row after the delimiter.
fn unquote<'r>(
    mut bytes: &'r [u8],
    options: &CopyOptions,
    out: &mut Vec<u8>,
) -> Result<Option<&'r [u8]>, SqlError> {
    let CopyOptions { delimiter, quote, escape, .. } = *options;
    loop {
        let end = position(bytes, delimiter, quote).unwrap_or(bytes.len());
        out.extend_from_slice(&bytes[..end]);
        if bytes.get(end) != Some(&quote) {
            return Ok(bytes.get(end + 1..));
        }
        bytes = &bytes[end + 1..];
        loop {
            let end = position(bytes, quote, escape)
                .ok_or_else(|| bad_format("unterminated CSV quoted field"))?;
            out.extend_from_slice(&bytes[..end]);
            let (found, next) = (bytes[end], bytes.get(end + 1).copied());
            let next = next.filter(|next| found == escape && (*next == quote || *next == escape));
            bytes = &bytes[end + 1 + usize::from(next.is_some())..];
            match next {
                Some(literal) => out.push(literal),
                None if found == quote => break,
                None => out.push(found),
            }
        }
    }
}

/// Returns the bytes as text if PostgreSQL could store them: valid UTF-8 without a zero byte. Fails with
/// 22021.
pub fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    let invalid = match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => return Ok(text),
        Ok(_) => &[0],
        Err(error) => &bytes[error.valid_up_to()..],
    };
    let length = match invalid.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let shown: Vec<_> = invalid.iter().take(length).map(|byte| format!("0x{byte:02x}")).collect();
    let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
    Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message))
}

fn bad_format(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

#[cfg(test)]
mod tests;
