//! `pg_typeof`, and PostgreSQL's names of Arrow types.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use tidemark_ledger::catalog::SQL_TYPE_KEY;

/// Returns the SQL name of a type; `declared` is the name in the field's metadata, if any.
pub fn name_of(data_type: &DataType, declared: Option<&str>) -> String {
    let name = match data_type {
        DataType::Null => "unknown",
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 => "bigint",
        DataType::UInt32 => "oid",
        DataType::UInt64
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => "numeric",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match declared {
            Some("jsonb") => "jsonb",
            Some(name) if name.starts_with("character varying") => "character varying",
            _ => "text",
        },
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => {
            let declared = declared.and_then(|name| name.strip_suffix("[]"));
            return format!("{}[]", name_of(element.data_type(), declared));
        }
        DataType::Dictionary(_, value) => return name_of(value, declared),
        _ => "record",
    };
    name.to_owned()
}

fn name_of_field(field: &Field) -> String {
    name_of(field.data_type(), field.metadata().get(SQL_TYPE_KEY).map(String::as_str))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

pub(super) fn function() -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(TypeOf { signature }))
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let name = args.arg_fields.first().map(|field| name_of_field(field));
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8View(name)))
    }
}
