//! String functions: quoting, and human-readable sizes.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Arg, Rowwise, Value};
use crate::error::SqlError;
use crate::quote::quote_identifier;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::ColumnType;

const TEXT: &[Arg] = &[Arg::Text];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = |name, body: fn(&str) -> String| {
        Rowwise::new(name, &[TEXT], ColumnType::Text, move |row| {
            Ok(row.text(0).map_or(Value::Null, |text| Value::Text(body(text))))
        })
    };
    let quote_nullable =
        Rowwise::new("quote_nullable", &[&[Arg::AsText]], ColumnType::Text, |row| {
            Ok(Value::Text(row.text(0).map_or_else(|| "NULL".to_owned(), quote_literal)))
        });
    let pg_size_pretty = Rowwise::new("pg_size_pretty", &[&[Arg::Int]], ColumnType::Text, |row| {
        Ok(row.int(0).map_or(Value::Null, |bytes| Value::Text(pretty_size(bytes))))
    });
    vec![
        text("quote_ident", quote_identifier).udf(),
        quote_nullable.called_on_null().udf(),
        Rowwise::new("like_escape", &[&[Arg::Text, Arg::Text]], ColumnType::Text, |row| {
            let (pattern, escape) =
                (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            like_escape(pattern, escape).map(Value::Text)
        })
        .udf(),
        pg_size_pretty.udf(),
        Rowwise::new("chr", &[&[Arg::Int]], ColumnType::Text, |row| {
            row.int(0).map_or(Ok(Value::Null), |code| chr(code).map(Value::Text))
        })
        .udf(),
    ]
}

/// Returns the character with this code.
fn chr(code: i64) -> Result<String, SqlError> {
    let refused = |message| Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    if code == 0 {
        return refused("null character not permitted".to_owned());
    }
    let Ok(code) = u32::try_from(code) else {
        return refused("character number must be positive".to_owned());
    };
    match char::from_u32(code) {
        Some(character) => Ok(character.into()),
        None if code > u32::from(char::MAX) => {
            refused(format!("requested character too large for encoding: {code}"))
        }
        None => refused(format!("requested character not valid for encoding: {code}")),
    }
}

/// Rewrites the pattern to use a backslash as its escape character instead of `escape`.
fn like_escape(pattern: &str, escape: &str) -> Result<String, SqlError> {
    let mut chars = escape.chars();
    let escape = chars.next();
    if chars.next().is_some() {
        return Err(SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
            .hint("Escape string must be empty or one character."));
    }
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if Some(c) == escape {
            out.push('\\');
            out.extend(rest.next());
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

/// Returns a string literal with the value `text`.
pub(super) fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\'', "''").replace('\\', "\\\\");
    if text.contains('\\') { format!("E'{escaped}'") } else { format!("'{escaped}'") }
}

/// Formats a size like `1536 kB`: the unit grows while the number is 10240 or more.
fn pretty_size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = i128::from(bytes);
    let mut unit = 0;
    while size.abs() >= 10 * 1024 && unit + 1 < UNITS.len() {
        // Rounded half away from zero, as in PostgreSQL.
        let half = if size < 0 { -512 } else { 512 };
        size = (size + half) / 1024;
        unit += 1;
    }
    format!("{size} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_postgres_prints_them() {
        let cases = [
            (0, "0 bytes"),
            (10239, "10239 bytes"),
            (10240, "10 kB"),
            (10 * 1024 * 1024 - 1024, "10239 kB"),
            (10 * 1024 * 1024, "10 MB"),
            (-20_000, "-20 kB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(pretty_size(bytes), expected);
        }
    }

    #[test]
    fn patterns_change_their_escape_character() {
        let cases = [
            ("a/_b", "/", "a\\_b"),
            ("a\\%", "/", "a\\\\%"),
            ("a\\", "", "a\\\\"),
            ("//", "/", "\\/"),
        ];
        for (pattern, escape, expected) in cases {
            assert_eq!(like_escape(pattern, escape).unwrap(), expected, "{pattern}");
        }
        assert!(like_escape("a", "xy").is_err());
    }

    #[test]
    fn quoted_literals_keep_quotes_and_backslashes() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b"), "E'a\\\\b'");
    }
}
