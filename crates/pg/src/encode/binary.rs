//! Values in PostgreSQL's binary format.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type,
    Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use pgwire::api::Type;
use pgwire::api::results::FieldFormat;

use super::decimal::Decimal;
use super::{Column, Result, Writer, internal, with_length};
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::types::wire::{EPOCH_DAYS, EPOCH_MICROS, WireType};

/// Maximum nesting of arrays, as in PostgreSQL.
const DIMENSIONS_MAX: usize = 6;

/// Returns a writer of the values of `array`, in the binary format of the type in `wire`.
pub(super) fn writer(array: &ArrayRef, wire: &WireType) -> Result<Writer> {
    Ok(match array.data_type() {
        DataType::Int16 | DataType::Int32 | DataType::Int64 if wire.pg_type == Type::OID => {
            oid(array)?
        }
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.put_u8(u8::from(values.value(row)));
                Ok(())
            })
        }
        DataType::Int16 => each::<Int16Type>(array, |value, out| out.put_i16(value)),
        DataType::Int32 => each::<Int32Type>(array, |value, out| out.put_i32(value)),
        DataType::Int64 => each::<Int64Type>(array, |value, out| out.put_i64(value)),
        DataType::Float32 => each::<Float32Type>(array, |value, out| out.put_f32(value)),
        DataType::Float64 => each::<Float64Type>(array, |value, out| out.put_f64(value)),
        DataType::Decimal128(_, scale) => {
            let (scale, trim) = (*scale, wire.trim_zeros);
            each::<Decimal128Type>(array, move |value, out| {
                put_decimal(Decimal::from_i128(value, scale), trim, out);
            })
        }
        DataType::Decimal256(_, scale) => {
            let (scale, trim) = (*scale, wire.trim_zeros);
            each::<Decimal256Type>(array, move |value, out| {
                put_decimal(Decimal::from_i256(value, scale), trim, out);
            })
        }
        DataType::Utf8View => {
            let version: &[u8] = if wire.pg_type == Type::JSONB { &[1] } else { &[] };
            let values = array.as_string_view().clone();
            Box::new(move |row, out| {
                out.put_slice(version);
                out.put_slice(values.value(row).as_bytes());
                Ok(())
            })
        }
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row, out| {
                out.put_slice(values.value(row));
                Ok(())
            })
        }
        DataType::Date32 => each::<Date32Type>(array, |days, out| {
            out.put_i32(days.saturating_sub(EPOCH_DAYS));
        }),
        DataType::Time64(_) => {
            each::<Time64MicrosecondType>(array, |micros, out| out.put_i64(micros))
        }
        DataType::Timestamp(..) => each::<TimestampMicrosecondType>(array, |micros, out| {
            out.put_i64(micros.saturating_sub(EPOCH_MICROS));
        }),
        DataType::Interval(_) => each::<IntervalMonthDayNanoType>(array, put_interval),
        DataType::List(_) => list(array.as_list::<i32>(), wire)?,
        other => return Err(internal(format!("{other} has no binary form"))),
    })
}

fn each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    write: impl Fn(T::Native, &mut BytesMut) + 'static,
) -> Writer {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        write(values.value(row), out);
        Ok(())
    })
}

fn oid(array: &ArrayRef) -> Result<Writer> {
    let values = super::cast_strictly(array, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>().clone();
    Ok(Box::new(move |row, out| {
        let oid = u32::try_from(values.value(row))
            .map_err(|_| SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range"))?;
        out.put_u32(oid);
        Ok(())
    }))
}

fn put_decimal(value: Decimal, trim: bool, out: &mut BytesMut) {
    let value = if trim { value.trimmed() } else { value };
    value.write_binary(out);
}

fn put_interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    out.put_i64(value.nanoseconds / 1000);
    out.put_i32(value.days);
    out.put_i32(value.months);
}

/// An array: number of dimensions, null flag, element type, dimensions, elements.
fn list(list: &ListArray, wire: &WireType) -> Result<Writer> {
    let mut leaf = wire;
    let mut levels = vec![list.clone()];
    while let Some(element) = &leaf.element {
        leaf = element;
        let deepest = levels.last().map(|level| level.values().clone());
        if let Some(inner) = deepest.as_ref().and_then(|values| values.as_list_opt::<i32>()) {
            levels.push(inner.clone());
        }
    }
    if levels.len() > DIMENSIONS_MAX {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "number of array dimensions exceeds the maximum",
        ));
    }
    let deepest = levels.last().unwrap_or(list);
    let values = Column::new(deepest.values(), leaf, FieldFormat::Binary)?;
    let element_oid = leaf.pg_type.oid();
    Ok(Box::new(move |row, out| {
        let (dimensions, elements) = shape(&levels, row)?;
        put_array(&dimensions, element_oid, &values, elements, out)
    }))
}

/// Returns the lengths of an array's dimensions, and the range of its elements in the innermost values. Fails
/// with 2202E if sub-arrays differ in length.
fn shape(levels: &[ListArray], row: usize) -> Result<(Vec<usize>, Range<usize>)> {
    let mut dimensions = Vec::with_capacity(levels.len());
    let mut range = row..row + 1;
    for level in levels {
        let offsets = level.offsets();
        let mut lengths = range.clone().map(|position| offsets[position + 1] - offsets[position]);
        let length = lengths.next().unwrap_or(0);
        if lengths.any(|other| other != length)
            || range.clone().any(|position| level.is_null(position))
        {
            let message = "multidimensional arrays must have sub-arrays with matching dimensions";
            return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message));
        }
        let bound = |offset: i32| usize::try_from(offset).map_err(|_| internal("bad offset"));
        dimensions.push(bound(length)?);
        range = bound(offsets[range.start])?..bound(offsets[range.end])?;
    }
    Ok((dimensions, range))
}

fn put_array(
    dimensions: &[usize],
    element_oid: u32,
    values: &Column,
    elements: Range<usize>,
    out: &mut BytesMut,
) -> Result<()> {
    let too_long = |_| {
        SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "array size exceeds the maximum allowed")
    };
    let dimensions: &[usize] = if elements.is_empty() { &[] } else { dimensions };
    let has_nulls = elements.clone().any(|position| values.is_null(position));
    out.put_i32(i32::try_from(dimensions.len()).map_err(too_long)?);
    out.put_i32(i32::from(has_nulls));
    out.put_u32(element_oid);
    for length in dimensions {
        out.put_i32(i32::try_from(*length).map_err(too_long)?);
        out.put_i32(1);
    }
    for position in elements {
        if values.is_null(position) {
            out.put_i32(-1);
        } else {
            with_length(out, |out| (values.write)(position, out))?;
        }
    }
    Ok(())
}
