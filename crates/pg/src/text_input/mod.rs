//! Reads PostgreSQL's text form of values into Arrow arrays.
//!
//! Quoted literals, `COPY` fields, text parameters and column defaults arrive as text. [`parse_column`]
//! converts a column of text to the column's type, with PostgreSQL's syntax, rounding and error messages. No
//! input makes it panic.

mod array_literal;
mod datetime;
mod interval;
pub mod json;
pub mod numeric;
mod scalar;

pub use scalar::bytea;

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, BooleanArray, ListArray,
    PrimitiveArray, StringViewArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};

use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT};

/// The error for a text that is no value of this type (22P02).
pub fn invalid_text(type_name: &str, text: &str) -> SqlError {
    let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
}

type Result<T> = std::result::Result<T, SqlError>;

/// Reads a column of text (any Arrow string type) as values of type `ty`.
///
/// The result has the type `ty.arrow_type()`; nulls stay nulls.
pub fn parse_column(text: &ArrayRef, ty: &ColumnType) -> Result<ArrayRef> {
    let text = &as_views(text)?;
    Ok(match ty {
        ColumnType::Boolean => {
            let values = text.iter().map(|value| value.map(scalar::boolean).transpose());
            Arc::new(values.collect::<Result<BooleanArray>>()?)
        }
        ColumnType::SmallInt => {
            Arc::new(primitive::<Int16Type>(text, |t| scalar::integer(t, "smallint"))?)
        }
        ColumnType::Integer => {
            Arc::new(primitive::<Int32Type>(text, |t| scalar::integer(t, "integer"))?)
        }
        ColumnType::BigInt => {
            Arc::new(primitive::<Int64Type>(text, |t| scalar::integer(t, "bigint"))?)
        }
        ColumnType::Real => Arc::new(primitive::<Float32Type>(text, |t| scalar::float(t, "real"))?),
        ColumnType::Double => {
            Arc::new(primitive::<Float64Type>(text, |t| scalar::float(t, "double precision"))?)
        }
        ColumnType::Numeric(digits) => parse_numeric(text, digits.unwrap_or(NUMERIC_DEFAULT))?,
        ColumnType::Varchar(_) => check_length(&(Arc::new(text.clone()) as ArrayRef), ty)?,
        ColumnType::Text => Arc::new(text.clone()),
        ColumnType::Bytea => {
            let values = text.iter().map(|value| value.map(scalar::bytea).transpose());
            Arc::new(values.collect::<Result<BinaryViewArray>>()?)
        }
        ColumnType::Date => Arc::new(primitive::<Date32Type>(text, datetime::date)?),
        ColumnType::Time => Arc::new(primitive::<Time64MicrosecondType>(text, datetime::time)?),
        ColumnType::Timestamp => {
            Arc::new(primitive::<TimestampMicrosecondType>(text, datetime::timestamp)?)
        }
        ColumnType::Timestamptz => Arc::new(
            primitive::<TimestampMicrosecondType>(text, datetime::timestamptz)?
                .with_timezone("UTC"),
        ),
        ColumnType::Interval => {
            Arc::new(primitive::<IntervalMonthDayNanoType>(text, interval::interval)?)
        }
        ColumnType::Jsonb => {
            let values = text.iter().map(|value| value.map(json::normalise).transpose());
            Arc::new(values.collect::<Result<StringViewArray>>()?)
        }
        ColumnType::Array(element) => Arc::new(array_literal::parse(text, element)?),
    })
}

/// Returns the first row of `text` that is not a value of type `ty`, for the context of an error.
pub fn first_bad_row(text: &ArrayRef, ty: &ColumnType) -> Option<usize> {
    (0..text.len()).find(|row| parse_column(&text.slice(*row, 1), ty).is_err())
}

/// Enforces the length limit of values that are already strings: `varchar(n)`, also in arrays.
///
/// As in PostgreSQL, spaces beyond the limit are cut off silently. Other types pass unchanged.
pub fn check_length(array: &ArrayRef, ty: &ColumnType) -> Result<ArrayRef> {
    match ty {
        ColumnType::Varchar(Some(length)) => {
            check_varchar(array, usize::try_from(*length).unwrap_or(usize::MAX))
        }
        ColumnType::Array(element) if matches!(array.data_type(), DataType::List(_)) => {
            check_elements(array, element)
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn check_varchar(array: &ArrayRef, length: usize) -> Result<ArrayRef> {
    let text = as_views(array)?;
    let fits = |value: &str| value.len() <= length || value.chars().nth(length).is_none();
    if text.iter().flatten().all(fits) {
        return Ok(Arc::clone(array));
    }
    let values = text.iter().map(|value| value.map(|v| cut(v, length)).transpose());
    let cut = values.collect::<Result<StringViewArray>>()?;
    convert(&(Arc::new(cut) as ArrayRef), array.data_type())
}

/// Returns the first `length` characters; fails with 22001 if anything but spaces follows.
fn cut(value: &str, length: usize) -> Result<&str> {
    let end = value.char_indices().nth(length).map_or(value.len(), |(end, _)| end);
    let (kept, excess) = value.split_at(end);
    if excess.bytes().all(|byte| byte == b' ') {
        return Ok(kept);
    }
    let message = format!("value too long for type character varying({length})");
    Err(SqlError::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, message))
}

fn check_elements(array: &ArrayRef, element: &ColumnType) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let DataType::List(field) = list.data_type() else { return Ok(Arc::clone(array)) };
    // A sliced list still has the elements of the rows outside the slice: skip them.
    let (start, end) = (list.offsets()[0], list.offsets()[list.len()]);
    let (start, count) = (index_of(start), index_of(end - start));
    let values = check_length(&list.values().slice(start, count), element)?;
    let offsets = OffsetBuffer::from_lengths(list.offsets().lengths());
    ListArray::try_new(Arc::clone(field), offsets, values, list.nulls().cloned())
        .map(|checked| Arc::new(checked) as ArrayRef)
        .map_err(|error| SqlError::new(SqlState::INTERNAL_ERROR, error.to_string()))
}

fn index_of(offset: i32) -> usize {
    usize::try_from(offset).expect("list offsets are never negative")
}

fn parse_numeric(text: &StringViewArray, digits: (u8, i8)) -> Result<ArrayRef> {
    let (precision, scale) = digits;
    let data_type = ColumnType::Numeric(Some(digits)).arrow_type();
    Ok(if matches!(data_type, DataType::Decimal128(..)) {
        let parse = |t: &str| numeric::decimal::<Decimal128Type>(t, precision, scale);
        Arc::new(primitive::<Decimal128Type>(text, parse)?.with_data_type(data_type))
    } else {
        let parse = |t: &str| numeric::decimal::<Decimal256Type>(t, precision, scale);
        Arc::new(primitive::<Decimal256Type>(text, parse)?.with_data_type(data_type))
    })
}

fn primitive<T: ArrowPrimitiveType>(
    text: &StringViewArray,
    parse: impl Fn(&str) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let values = text.iter().map(|value| value.map_or(Ok(T::default_value()), &parse));
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(PrimitiveArray::new(values.into(), text.nulls().cloned()))
}

fn as_views(text: &ArrayRef) -> Result<StringViewArray> {
    Ok(convert(text, &DataType::Utf8View)?.as_string_view().clone())
}

fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    cast(array, to).map_err(|error| SqlError::new(SqlState::CANNOT_COERCE, error.to_string()))
}

/// White space as defined by C's `isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests;
