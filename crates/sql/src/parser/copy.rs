//! Parses `COPY table FROM STDIN`, with options in parentheses or in the older syntax.

use sqlparser::tokenizer::Token;

use super::ast::{CopyFormat, CopyFrom, CopyOptions, Statement};
use super::words::StatementParser;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Options as parsed; the defaults of missing ones depend on the format.
#[derive(Default)]
struct Given {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<bool>,
    quote: Option<String>,
    escape: Option<String>,
}

/// `COPY table [(column, ...)] FROM STDIN [[WITH] options]`
pub fn parse_copy(parser: &mut StatementParser<'_>) -> Result<Statement, SqlError> {
    parser.expect("COPY")?;
    if parser.inner.peek_token_ref().token == Token::LParen {
        return Err(copy_to());
    }
    let table = parser.relation_name()?;
    let columns = column_list(parser)?;
    if parser.eat("TO") {
        return Err(copy_to());
    }
    parser.expect("FROM")?;
    if !parser.eat("STDIN") {
        return Err(not_stdin(parser));
    }
    let mut given = Given::default();
    let _with = parser.eat("WITH");
    if parser.inner.consume_token(&Token::LParen) {
        parenthesized_options(parser, &mut given)?;
    } else {
        while !parser.at_end() {
            worded_option(parser, &mut given)?;
        }
    }
    if parser.eat("WHERE") {
        return Err(SqlError::unsupported("COPY FROM ... WHERE"));
    }
    Ok(Statement::Copy(CopyFrom { table, columns, options: given.complete()? }))
}

fn not_stdin(parser: &StatementParser<'_>) -> SqlError {
    if parser.word(0).as_deref() == Some("PROGRAM") {
        return SqlError::unsupported("COPY FROM PROGRAM");
    }
    match parser.inner.peek_token_ref().token {
        Token::SingleQuotedString(_) => SqlError::unsupported("COPY FROM a file of the server")
            .hint("Use COPY FROM STDIN, or psql's \\copy."),
        _ => parser.unexpected(),
    }
}

fn copy_to() -> SqlError {
    SqlError::unsupported("COPY TO")
        .hint("Select the rows instead; psql's \\g writes them to a file.")
}

fn column_list(parser: &mut StatementParser<'_>) -> Result<Vec<String>, SqlError> {
    let mut columns = Vec::new();
    if parser.inner.consume_token(&Token::LParen) {
        columns.push(parser.identifier()?);
        while parser.inner.consume_token(&Token::Comma) {
            columns.push(parser.identifier()?);
        }
        parser.expect_token(&Token::RParen)?;
    }
    Ok(columns)
}

/// Parses `(FORMAT csv, HEADER, ...)` after the opening parenthesis.
fn parenthesized_options(
    parser: &mut StatementParser<'_>,
    given: &mut Given,
) -> Result<(), SqlError> {
    loop {
        let name = parser.identifier()?;
        match name.as_str() {
            "format" => given.format = Some(format_named(&parser.setting_value()?)?),
            "delimiter" => given.delimiter = Some(parser.string()?),
            "null" => given.null = Some(parser.string()?),
            "header" => given.header = Some(header(parser)?),
            "quote" => given.quote = Some(parser.string()?),
            "escape" => given.escape = Some(parser.string()?),
            "encoding" => check_encoding(&parser.setting_value()?)?,
            other => {
                let what = format!("COPY option {}", other.to_uppercase());
                return Err(SqlError::unsupported(what));
            }
        }
        if !parser.inner.consume_token(&Token::Comma) {
            return parser.expect_token(&Token::RParen);
        }
    }
}

/// Parses `CSV`, `HEADER`, `DELIMITER AS '|'`: the syntax of older releases, in any order.
fn worded_option(parser: &mut StatementParser<'_>, given: &mut Given) -> Result<(), SqlError> {
    let Some(word) = parser.word(0) else { return Err(parser.unexpected()) };
    match word.as_str() {
        "CSV" => given.format = Some(CopyFormat::Csv),
        "HEADER" => given.header = Some(true),
        "DELIMITER" | "DELIMITERS" | "NULL" | "QUOTE" | "ESCAPE" | "ENCODING" => {}
        "BINARY" | "FREEZE" | "FORCE" | "OIDS" => {
            return Err(SqlError::unsupported(format!("COPY option {word}")));
        }
        "WHERE" => return Err(SqlError::unsupported("COPY FROM ... WHERE")),
        _ => return Err(parser.unexpected()),
    }
    parser.expect(&word)?;
    if matches!(word.as_str(), "CSV" | "HEADER") {
        return Ok(());
    }
    let _as = parser.eat("AS");
    let value = parser.string()?;
    match word.as_str() {
        "NULL" => given.null = Some(value),
        "QUOTE" => given.quote = Some(value),
        "ESCAPE" => given.escape = Some(value),
        "ENCODING" => check_encoding(&value)?,
        _ => given.delimiter = Some(value),
    }
    Ok(())
}

fn format_named(name: &str) -> Result<CopyFormat, SqlError> {
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Err(SqlError::unsupported("COPY format binary")),
        _ => Err(invalid(format!("COPY format \"{name}\" not recognized"))),
    }
}

fn header(parser: &mut StatementParser<'_>) -> Result<bool, SqlError> {
    if matches!(parser.inner.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Ok(true);
    }
    match parser.setting_value()?.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        "match" => Err(SqlError::unsupported("COPY option HEADER MATCH")),
        _ => Err(SqlError::syntax("header requires a Boolean value or \"match\"")),
    }
}

fn check_encoding(name: &str) -> Result<(), SqlError> {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if letters.eq_ignore_ascii_case("utf8") || letters.eq_ignore_ascii_case("unicode") {
        return Ok(());
    }
    Err(SqlError::unsupported(format!("COPY with encoding \"{name}\"")).hint("Send UTF8."))
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl Given {
    fn complete(self) -> Result<CopyOptions, SqlError> {
        let format = self.format.unwrap_or(CopyFormat::Text);
        let (delimiter, null) = match format {
            CopyFormat::Text => ('\t', "\\N"),
            CopyFormat::Csv => (',', ""),
        };
        if format == CopyFormat::Text && (self.quote.is_some() || self.escape.is_some()) {
            let message = "COPY QUOTE and ESCAPE are available only in CSV mode";
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let delimiter = one_byte("delimiter", self.delimiter, delimiter)?;
        let quote = one_byte("quote", self.quote, '"')?;
        let escape = one_byte("escape", self.escape, quote)?;
        let null = self.null.unwrap_or_else(|| null.to_owned());
        if null.contains(['\r', '\n']) {
            return Err(invalid("COPY null representation cannot use newline or carriage return"));
        }
        if null.contains(delimiter) {
            return Err(invalid(
                "COPY delimiter character must not appear in the NULL specification",
            ));
        }
        let letters = "\\.abcdefghijklmnopqrstuvwxyz0123456789";
        if format == CopyFormat::Text && letters.contains(delimiter) {
            return Err(invalid(format!("COPY delimiter cannot be \"{delimiter}\"")));
        }
        if format == CopyFormat::Csv && delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        let header = self.header.unwrap_or(false);
        Ok(CopyOptions { format, delimiter, null, header, quote, escape })
    }
}

/// Returns the single character of an option, or `default`.
fn one_byte(option: &str, given: Option<String>, default: char) -> Result<char, SqlError> {
    let Some(text) = given else { return Ok(default) };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some('\r' | '\n'), None) => {
            Err(invalid(format!("COPY {option} cannot be newline or carriage return")))
        }
        (Some(c), None) if c.is_ascii() => Ok(c),
        _ => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("COPY {option} must be a single one-byte character"),
        )),
    }
}
