//! Functions over `bytea` for which DataFusion's versions take only text or return something else.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{ArrayRef, AsArray as _, Int32Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::functions::unicode::character_length;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::rowwise::{Arg, Rowwise, Value, no_such_function};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::ColumnType;

/// Characters in a line of base64; PostgreSQL breaks lines there.
const BASE64_LINE: usize = 76;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let encode = Rowwise::new("encode", &[&[Arg::Bytes, Arg::Text]], ColumnType::Text, |row| {
        encode(&row.bytes(0)?, row.text(1).unwrap_or_default()).map(Value::Text)
    });
    vec![encode.udf(), Arc::new(ScalarUDF::from(Length::default()))]
}

fn encode(bytes: &[u8], form: &str) -> Result<String, SqlError> {
    match form.to_ascii_lowercase().as_str() {
        "base64" => Ok(broken(&STANDARD.encode(bytes))),
        "hex" => Ok(tidemark_ledger::storage::hex(bytes)),
        "escape" => Ok(bytes.iter().map(|byte| escaped(*byte)).collect()),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unrecognized encoding: \"{form}\""),
        )
        .hint("Valid encodings are base64, escape and hex.")),
    }
}

fn broken(base64: &str) -> String {
    let lines = base64.as_bytes().chunks(BASE64_LINE).map(String::from_utf8_lossy);
    lines.collect::<Vec<_>>().join("\n")
}

fn escaped(byte: u8) -> String {
    match byte {
        b'\\' => "\\\\".to_owned(),
        0 | 128.. => format!("\\{byte:03o}"),
        plain => char::from(plain).to_string(),
    }
}

/// `length`: characters of a text, or bytes of a `bytea`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Length(Signature);

impl Default for Length {
    fn default() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Int32)
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        match types {
            [bytes] if bytes.is_binary() => Ok(vec![DataType::Binary]),
            [text] if text.is_string() => Ok(types.to_vec()),
            [DataType::Null] => Ok(vec![DataType::Utf8View]),
            _ => Err(no_such_function("length", types).into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) if value.data_type().is_binary() => {
                let lengths = byte_lengths(&value.to_array()?);
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?))
            }
            ColumnarValue::Array(array) if array.data_type().is_binary() => {
                Ok(ColumnarValue::Array(byte_lengths(array)))
            }
            _ => {
                let counted = character_length().invoke_with_args(args)?;
                counted.cast_to(&DataType::Int32, None)
            }
        }
    }
}

/// Lengths of an array that [`Length::coerce_types`] made `Binary`.
fn byte_lengths(bytes: &ArrayRef) -> ArrayRef {
    let length = |value: &[u8]| i32::try_from(value.len()).unwrap_or(i32::MAX);
    let lengths = bytes.as_binary::<i32>().iter().map(|value| value.map(length));
    Arc::new(lengths.collect::<Int32Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_postgres_writes_them() {
        assert_eq!(encode(&[0, 255], "base64").unwrap(), "AP8=");
        assert_eq!(encode(&[0, 255], "HEX").unwrap(), "00ff");
        assert_eq!(encode(b"a\\\x00\xff", "escape").unwrap(), "a\\\\\\000\\377");
        let long = encode(&[7; 60], "base64").unwrap();
        assert_eq!(long.find('\n'), Some(BASE64_LINE));
        assert!(encode(&[], "utf8").is_err());
    }
}
