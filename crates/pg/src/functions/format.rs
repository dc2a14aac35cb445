//! `format('%s is %L', ...)`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray, StringViewBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::strings::quote_literal;
use crate::encode::column_text;
use crate::error::SqlError;
use crate::growth::Made;
use crate::quote::quote_identifier;
use crate::sqlstate::SqlState;

pub(super) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Format { signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let printed = args
            .args
            .iter()
            .zip(&args.arg_fields)
            .map(|(arg, field)| Ok(column_text(field, &arg.to_array(rows)?)?));
        let printed = printed.collect::<EngineResult<Vec<StringArray>>>()?;
        let mut texts = StringViewBuilder::with_capacity(rows);
        let mut made = Made::new(self.name(), &args.config_options, rows);
        for row in 0..rows {
            let mut values = printed.iter().map(|v| v.is_valid(row).then(|| v.value(row)));
            match values.next().flatten() {
                None => texts.append_null(),
                Some(pattern) => {
                    let filled = fill(pattern, &values.collect::<Vec<_>>(), &made)?;
                    made.add(filled.len())?;
                    texts.append_value(filled);
                }
            }
        }
        let texts: ArrayRef = Arc::new(texts.finish());
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?));
        }
        Ok(ColumnarValue::Array(texts))
    }
}

/// Fills in each `%` of the pattern; the values are in text form.
fn fill(pattern: &str, values: &[Option<&str>], made: &Made<'_>) -> Result<String, SqlError> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (placeholder, after) = Placeholder::parse(rest)?;
        rest = after;
        let position = placeholder.position.unwrap_or(next);
        next = position + 1;
        let value =
            values.get(position).ok_or_else(|| invalid("too few arguments for format()"))?;
        placeholder.write(*value, &mut out)?;
        made.check_value(out.len())?;
    }
    out.push_str(rest);
    Ok(out)
}

/// The part after a `%`, such as `2$-10s`.
struct Placeholder {
    /// Index of the argument, from 0; `None` for the next one.
    position: Option<usize>,
    width: usize,
    to_the_left: bool,
    kind: char,
}

impl Placeholder {
    fn parse(text: &str) -> Result<(Self, &str), SqlError> {
        let (position, text) = match number(text) {
            (Some(0), rest) if rest.starts_with('$') => {
                return Err(invalid(
                    "format specifies argument 0, but arguments are numbered from 1",
                ));
            }
            (Some(position), rest) if rest.starts_with('$') => (Some(position - 1), &rest[1..]),
            _ => (None, text),
        };
        let (to_the_left, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (width, text) = number(text);
        let mut chars = text.chars();
        let Some(kind) = chars.next() else {
            return Err(invalid("unterminated format() type specifier")
                .hint("For a single \"%\" use \"%%\"."));
        };
        Ok((Self { position, width: width.unwrap_or(0), to_the_left, kind }, chars.as_str()))
    }

    fn write(&self, value: Option<&str>, out: &mut String) -> Result<(), SqlError> {
        let text = match (self.kind, value) {
            ('s', value) => value.unwrap_or_default().to_owned(),
            ('L', value) => value.map_or_else(|| "NULL".to_owned(), quote_literal),
            ('I', Some(value)) => quote_identifier(value),
            ('I', None) => {
                let message = "null values cannot be formatted as an SQL identifier";
                return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
            }
            (other, _) => {
                let message = format!("unrecognized format() type specifier \"{other}\"");
                return Err(invalid(&message).hint("For a single \"%\" use \"%%\"."));
            }
        };
        let padding = " ".repeat(self.width.saturating_sub(text.chars().count()));
        let parts = if self.to_the_left { [text, padding] } else { [padding, text] };
        out.extend(parts);
        Ok(())
    }
}

/// Splits a text into its leading number and the rest.
fn number(text: &str) -> (Option<usize>, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    (text[..digits].parse().ok().filter(|n| *n < WIDTH_MAX), &text[digits..])
}

/// Limit of a width or an argument number.
const WIDTH_MAX: usize = 1 << 20;

fn invalid(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

#[cfg(test)]
mod tests {
    use datafusion::common::config::ConfigOptions;

    use super::{Made, fill};

    #[test]
    fn placeholders_are_filled_as_postgres_fills_them() {
        let values = [Some("a b"), Some("it's"), None];
        let made = Made::new("format", &ConfigOptions::new(), 1);
        let cases = [
            ("%s|%s|%s", "a b|it's|"),
            ("%I %L %L", "\"a b\" 'it''s' NULL"),
            ("%2$s %s %1$s 100%%", "it's  a b 100%"),
            ("[%-5s][%5s]", "[a b  ][ it's]"),
            ("none", "none"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(fill(pattern, &values, &made).unwrap(), expected, "{pattern}");
        }
        for pattern in ["%s%s%s%s", "%x", "%", "%3$I", "%0$s"] {
            assert!(fill(pattern, &values, &made).is_err(), "{pattern}");
        }
    }
}
