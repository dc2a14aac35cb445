//! Arrow types, which queries and files have, and the SQL types that they stand for.
//!
//! The Arrow type decides; the declared type only selects among several SQL types with the same Arrow type,
//! and is ignored if its Arrow type is another.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT};

use super::declared::DeclaredType;
use super::table::{PgType, told_by};
use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// Returns the column type for values of a query's column. Fails with 42P16 if there is none.
pub fn storable_type(field: &Field) -> Result<ColumnType, SqlError> {
    column_type(field.data_type(), DeclaredType::of(field)).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column \"{}\" has a type that no table can hold", field.name()),
        )
        .hint("Cast it to a type of SQL.")
    })
}

/// Returns the column type that holds values of an Arrow type; `None` if there is none.
pub fn column_type(arrow: &DataType, declared: Option<DeclaredType>) -> Option<ColumnType> {
    if let Some(element) = element_of(arrow) {
        let element = column_type(element, declared.and_then(DeclaredType::element))?;
        return Some(ColumnType::Array(Box::new(element)));
    }
    if is_foreign(arrow) {
        return None;
    }
    let arrow = match canonical(arrow) {
        DataType::Null => DataType::Utf8View,
        other => other,
    };
    let columns = declared.filter(|declared| declared.pg_type.column_type().is_some());
    let declared = columns.and_then(DeclaredType::read_as);
    declared.filter(|declared| holds(declared, &arrow)).or_else(|| undeclared(&arrow))
}

/// Returns the column type that a canonical Arrow type determines.
pub(super) fn undeclared(arrow: &DataType) -> Option<ColumnType> {
    match arrow {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            Some(ColumnType::Numeric(Some((*precision, *scale))))
        }
        other => told_by(other)?.column_type().cloned(),
    }
}

/// Whether values of a canonical Arrow type are values of a column type.
pub(super) fn holds(column_type: &ColumnType, arrow: &DataType) -> bool {
    match (column_type, arrow) {
        (ColumnType::Numeric(digits), DataType::Decimal256(precision, scale)) => {
            digits.unwrap_or(NUMERIC_DEFAULT) == (*precision, *scale)
        }
        _ => column_type.arrow_type() == *arrow,
    }
}

/// Returns the SQL name of a type, without its limits.
pub fn name_of(arrow: &DataType, declared: Option<DeclaredType>) -> String {
    if let Some(element) = element_of(arrow) {
        return format!("{}[]", name_of(element, declared.and_then(DeclaredType::element)));
    }
    let name = match arrow {
        DataType::Null => "unknown",
        // PostgreSQL's only unsigned four-byte type is oid; none has eight bytes.
        DataType::UInt32 => "oid",
        DataType::UInt64 => "numeric",
        _ => match column_type(arrow, declared) {
            Some(known) => &PgType::of(&known).sql_name,
            None => "record",
        },
    };
    name.to_owned()
}

/// The type of a list's elements.
pub(super) fn element_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}

/// Whether PostgreSQL has no similar type; values are then shown as text.
pub fn is_foreign(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => true,
        DataType::Dictionary(_, values) => is_foreign(values),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::RunEndEncoded(_, field) => is_foreign(field.data_type()),
        _ => false,
    }
}

/// Returns one Arrow type for all those that look the same to a client: that of a column type, if there is one.
pub(super) fn canonical(data_type: &DataType) -> DataType {
    match data_type {
        own if told_by(own).is_some() => own.clone(),
        foreign if is_foreign(foreign) => DataType::Utf8View,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => ColumnType::Timestamptz.arrow_type(),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::Dictionary(_, values) => canonical(values),
        DataType::RunEndEncoded(_, values) => canonical(values.data_type()),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => {
            DataType::List(Arc::new(Field::new_list_field(canonical(field.data_type()), true)))
        }
        other => other.clone(),
    }
}
