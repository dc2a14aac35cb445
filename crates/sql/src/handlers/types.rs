//! Maps types of query results and parameters to column types and SQL types.

use datafusion::arrow::datatypes::{DataType as ArrowType, Field};
use sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, TimezoneInfo};

use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT, SQL_TYPE_KEY};
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Returns the column type for values of a query's column. Fails with 42P16 if there is none.
pub fn of_field(field: &Field) -> Result<ColumnType, SqlError> {
    let declared = field.metadata().get(SQL_TYPE_KEY).map(String::as_str);
    of_arrow(field.data_type(), declared).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column \"{}\" has a type that no table can hold", field.name()),
        )
        .hint("Cast it to a type of SQL.")
    })
}

fn of_arrow(arrow: &ArrowType, declared: Option<&str>) -> Option<ColumnType> {
    Some(match arrow {
        ArrowType::Boolean => ColumnType::Boolean,
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => ColumnType::SmallInt,
        ArrowType::Int32 | ArrowType::UInt16 => ColumnType::Integer,
        ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => ColumnType::BigInt,
        ArrowType::Float16 | ArrowType::Float32 => ColumnType::Real,
        ArrowType::Float64 => ColumnType::Double,
        ArrowType::Decimal32(p, s)
        | ArrowType::Decimal64(p, s)
        | ArrowType::Decimal128(p, s)
        | ArrowType::Decimal256(p, s) => {
            let unconstrained = declared == Some("numeric") && (*p, *s) == NUMERIC_DEFAULT;
            ColumnType::Numeric((!unconstrained).then_some((*p, *s)))
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View | ArrowType::Null => {
            text_type(declared)
        }
        ArrowType::Binary
        | ArrowType::LargeBinary
        | ArrowType::BinaryView
        | ArrowType::FixedSizeBinary(_) => ColumnType::Bytea,
        ArrowType::Date32 | ArrowType::Date64 => ColumnType::Date,
        ArrowType::Time32(_) | ArrowType::Time64(_) => ColumnType::Time,
        ArrowType::Timestamp(_, None) => ColumnType::Timestamp,
        ArrowType::Timestamp(_, Some(_)) => ColumnType::Timestamptz,
        ArrowType::Interval(_) | ArrowType::Duration(_) => ColumnType::Interval,
        ArrowType::List(element)
        | ArrowType::LargeList(element)
        | ArrowType::FixedSizeList(element, _) => {
            let inner = declared.and_then(|name| name.strip_suffix("[]"));
            ColumnType::Array(Box::new(of_arrow(element.data_type(), inner)?))
        }
        ArrowType::Dictionary(_, value) => of_arrow(value, declared)?,
        _ => return None,
    })
}

fn text_type(declared: Option<&str>) -> ColumnType {
    match declared {
        Some("jsonb") => ColumnType::Jsonb,
        Some("character varying") => ColumnType::Varchar(None),
        Some(name) => name
            .strip_prefix("character varying(")
            .and_then(|rest| rest.strip_suffix(')')?.parse().ok())
            .map_or(ColumnType::Text, |length| ColumnType::Varchar(Some(length))),
        None => ColumnType::Text,
    }
}

/// Returns the SQL type of a parameter with this Arrow type.
pub fn of_parameter(arrow: &ArrowType) -> DataType {
    match arrow {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => DataType::SmallInt(None),
        ArrowType::Int32 | ArrowType::UInt16 => DataType::Int(None),
        ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => DataType::BigInt(None),
        ArrowType::Float16 | ArrowType::Float32 => DataType::Real,
        ArrowType::Float64 => DataType::Double(ExactNumberInfo::None),
        ArrowType::Decimal32(p, s)
        | ArrowType::Decimal64(p, s)
        | ArrowType::Decimal128(p, s)
        | ArrowType::Decimal256(p, s) => {
            let digits = ExactNumberInfo::PrecisionAndScale(u64::from(*p), i64::from(*s));
            DataType::Decimal(digits)
        }
        ArrowType::Binary
        | ArrowType::LargeBinary
        | ArrowType::BinaryView
        | ArrowType::FixedSizeBinary(_) => DataType::Bytea,
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Time32(_) | ArrowType::Time64(_) => DataType::Time(None, TimezoneInfo::None),
        ArrowType::Timestamp(_, None) => DataType::Timestamp(Some(6), TimezoneInfo::None),
        ArrowType::Timestamp(_, Some(_)) => {
            DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone)
        }
        ArrowType::Interval(_) | ArrowType::Duration(_) => {
            DataType::Interval { fields: None, precision: None }
        }
        ArrowType::List(element) | ArrowType::LargeList(element) => {
            let element = Box::new(of_parameter(element.data_type()));
            DataType::Array(ArrayElemTypeDef::SquareBracket(element, None))
        }
        _ => DataType::Varchar(None),
    }
}
