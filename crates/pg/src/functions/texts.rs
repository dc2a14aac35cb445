//! String functions whose versions in the engine answer otherwise than PostgreSQL's, over text and `bytea`.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Answer, Arg, Row, Rowwise, Value};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::ColumnType;

const TEXT: &[&[Arg]] = &[&[Arg::Text]];
const TWO: &[&[Arg]] = &[&[Arg::Text, Arg::Text]];
const TEXT_INT: &[&[Arg]] = &[&[Arg::Text, Arg::Int]];
const SLICES: &[&[Arg]] = &[&[Arg::Text, Arg::Int], &[Arg::Text, Arg::Int, Arg::Int]];
const BYTE_SLICES: &[&[Arg]] = &[&[Arg::Bytes, Arg::Int], &[Arg::Bytes, Arg::Int, Arg::Int]];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mapped = |name, each: fn(char) -> char| {
        Rowwise::new(name, TEXT, ColumnType::Text, move |row| {
            Ok(Value::Text(row.text(0).unwrap_or_default().chars().map(each).collect()))
        })
        .udf()
    };
    vec![
        Rowwise::new("concat", &[&[Arg::Printed]], ColumnType::Text, |row| {
            Ok(Value::Text((0..row.count()).filter_map(|n| row.text(n)).collect()))
        })
        .called_on_null()
        .variadic()
        .udf(),
        Rowwise::new("concat_ws", &[&[Arg::Text, Arg::Printed]], ColumnType::Text, concat_ws)
            .called_on_null()
            .variadic()
            .udf(),
        Rowwise::new("quote_literal", &[&[Arg::AsText]], ColumnType::Text, |row| {
            Ok(Value::Text(super::strings::quote_literal(row.text(0).unwrap_or_default())))
        })
        .udf(),
        mapped("upper", |c| single(c, c.to_uppercase())),
        // Only `İ` has two characters in lower case; PostgreSQL takes the first.
        mapped("lower", |c| c.to_lowercase().next().unwrap_or(c)),
        Rowwise::new("initcap", TEXT, ColumnType::Text, |row| {
            Ok(Value::Text(initcap(row.text(0).unwrap_or_default())))
        })
        .udf(),
        Rowwise::new("left", TEXT_INT, ColumnType::Text, |row| part(row, false)).udf(),
        Rowwise::new("right", TEXT_INT, ColumnType::Text, |row| part(row, true)).udf(),
        Rowwise::new("split_part", &[&[Arg::Text, Arg::Text, Arg::Int]], ColumnType::Text, |row| {
            split_part(row)
        })
        .udf(),
        Rowwise::new("substr", SLICES, ColumnType::Text, text_slice)
            .or(BYTE_SLICES, ColumnType::Bytea, byte_slice)
            .aliases(&["substring"])
            .udf(),
        Rowwise::new("strpos", TWO, ColumnType::Integer, |row| {
            let (text, wanted) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            let before = text.find(wanted).map(|at| text[..at].chars().count() + 1);
            Ok(Value::Int(before.and_then(|at| i64::try_from(at).ok()).unwrap_or(0)))
        })
        .udf(),
        Rowwise::new("get_byte", &[&[Arg::Bytes, Arg::Int]], ColumnType::Integer, get_byte).udf(),
        Rowwise::new("octet_length", TEXT, ColumnType::Integer, |row| {
            Ok(length(row.text(0).unwrap_or_default().len()))
        })
        .or(&[&[Arg::Bytes]], ColumnType::Integer, |row| Ok(length(row.bytes(0)?.len())))
        .udf(),
        Rowwise::new("bit_length", TEXT, ColumnType::Integer, |row| {
            Ok(length(8 * row.text(0).unwrap_or_default().len()))
        })
        .or(&[&[Arg::Bytes]], ColumnType::Integer, |row| Ok(length(8 * row.bytes(0)?.len())))
        .udf(),
    ]
}

fn length(bytes: usize) -> Value {
    i64::try_from(bytes).map_or(Value::Null, Value::Int)
}

/// The other case of a character, if that is one character.
fn single(character: char, mut other: impl Iterator<Item = char>) -> char {
    match (other.next(), other.next()) {
        (Some(one), None) => one,
        _ => character,
    }
}

fn initcap(text: &str) -> String {
    let mut inside = false;
    let each = |c: char| {
        let cased = if inside { single(c, c.to_lowercase()) } else { single(c, c.to_uppercase()) };
        inside = c.is_alphanumeric();
        cased
    };
    text.chars().map(each).collect()
}

/// Joins what is not null; null only if the separator is.
fn concat_ws(row: &Row<'_>) -> Answer {
    let Some(separator) = row.text(0) else { return Ok(Value::Null) };
    let parts: Vec<&str> = (1..row.count()).filter_map(|n| row.text(n)).collect();
    Ok(Value::Text(parts.join(separator)))
}

/// The first or last characters; a negative number is of those left out at the other end.
fn part(row: &Row<'_>, from_right: bool) -> Answer {
    let (text, wanted) = (row.text(0).unwrap_or_default(), row.int(1).unwrap_or(0));
    let all = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let kept = if from_right && wanted == i64::from(i32::MIN) {
        // This number has no positive counterpart in PostgreSQL's integer, and leaves nothing out.
        all
    } else if wanted < 0 {
        (all + wanted.max(-all)).max(0)
    } else {
        wanted.min(all)
    };
    let skipped = usize::try_from(if from_right { all - kept } else { 0 }).unwrap_or(0);
    let kept = usize::try_from(kept).unwrap_or(0);
    Ok(Value::Text(text.chars().skip(skipped).take(kept).collect()))
}

fn split_part(row: &Row<'_>) -> Answer {
    let text = row.text(0).unwrap_or_default();
    let (separator, field) = (row.text(1).unwrap_or_default(), row.int(2).unwrap_or(0));
    if field == 0 {
        let message = "field position must not be zero";
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    let parts: Vec<&str> =
        if separator.is_empty() { vec![text] } else { text.split(separator).collect() };
    let parts = if text.is_empty() { vec![] } else { parts };
    let position = if field > 0 {
        usize::try_from(field - 1).ok()
    } else {
        usize::try_from(field.unsigned_abs()).ok().and_then(|back| parts.len().checked_sub(back))
    };
    let found = position.and_then(|position| parts.get(position)).copied().unwrap_or_default();
    Ok(Value::Text(found.to_owned()))
}

/// The range, from 0, of a slice that starts at the second argument, from 1, and has the length of the third.
fn slice(row: &Row<'_>) -> Result<(usize, usize), SqlError> {
    let start = row.int(1).unwrap_or(0);
    let end = match row.int(2) {
        None => i64::MAX,
        Some(length) if length < 0 => {
            let message = "negative substring length not allowed";
            return Err(SqlError::new(SqlState::SUBSTRING_ERROR, message));
        }
        Some(length) => start.saturating_add(length),
    };
    let start = start.max(1);
    let from_zero = |position: i64| usize::try_from(position.max(1) - 1).unwrap_or(usize::MAX);
    Ok((from_zero(start), from_zero(end.max(start))))
}

fn text_slice(row: &Row<'_>) -> Answer {
    let text = row.text(0).unwrap_or_default();
    let (start, end) = slice(row)?;
    if text.is_ascii() {
        let end = end.min(text.len());
        return Ok(Value::Text(text.get(start.min(end)..end).unwrap_or_default().to_owned()));
    }
    Ok(Value::Text(text.chars().skip(start).take(end - start).collect()))
}

fn byte_slice(row: &Row<'_>) -> Answer {
    let bytes = row.bytes(0)?;
    let (start, end) = slice(row)?;
    let end = end.min(bytes.len());
    Ok(Value::Bytes(bytes.get(start.min(end)..end).unwrap_or_default().to_vec()))
}

fn get_byte(row: &Row<'_>) -> Answer {
    let (bytes, at) = (row.bytes(0)?, row.int(1).unwrap_or(0));
    match usize::try_from(at).ok().and_then(|at| bytes.get(at).copied()) {
        Some(byte) => Ok(Value::Int(byte.into())),
        None => {
            let last = i64::try_from(bytes.len()).unwrap_or(i64::MAX) - 1;
            let message = format!("index {at} out of valid range, 0..{last}");
            Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_start_with_one_capital() {
        assert_eq!(initcap("hELLO wORLD-foo 1a éa"), "Hello World-Foo 1a Éa");
        assert_eq!(single('ß', 'ß'.to_uppercase()), 'ß');
    }
}
