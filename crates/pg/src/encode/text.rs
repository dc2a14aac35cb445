//! Values in PostgreSQL's text format.

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
use super::digits::{digit, put_unsigned};
use super::{Column, Result, Writer, float, internal};
use crate::time::calendar::{DAY_MICROS, date_of_days};
use crate::types::wire::WireType;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Returns a writer of the values of `array`, in the text format of the type in `wire`.
pub(super) fn writer(array: &ArrayRef, wire: &WireType) -> Result<Writer> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| Ok(())),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.put_u8(if values.value(row) { b't' } else { b'f' });
                Ok(())
            })
        }
        DataType::Int16 => each::<Int16Type>(array, |value, out| put_integer(value.into(), out)),
        DataType::Int32 => each::<Int32Type>(array, |value, out| put_integer(value.into(), out)),
        DataType::Int64 => each::<Int64Type>(array, put_integer),
        DataType::Float32 => each::<Float32Type>(array, float::write),
        DataType::Float64 => each::<Float64Type>(array, float::write),
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
            let values = array.as_string_view().clone();
            Box::new(move |row, out| {
                out.put_slice(values.value(row).as_bytes());
                Ok(())
            })
        }
        DataType::BinaryView => {
            let values = array.as_binary_view().clone();
            Box::new(move |row, out| {
                put_hexadecimal(values.value(row), out);
                Ok(())
            })
        }
        DataType::Date32 => each::<Date32Type>(array, |days, out| {
            let before_christ = put_date(days.into(), out);
            put_era(before_christ, out);
        }),
        DataType::Time64(_) => each::<Time64MicrosecondType>(array, put_time),
        DataType::Timestamp(_, zone) => {
            let zone: &[u8] = if zone.is_some() { b"+00" } else { b"" };
            each::<TimestampMicrosecondType>(array, move |micros, out| {
                put_timestamp(micros, zone, out);
            })
        }
        DataType::Interval(_) => each::<IntervalMonthDayNanoType>(array, put_interval),
        DataType::List(_) => list(array.as_list::<i32>(), wire)?,
        other => return Err(internal(format!("{other} has no text form"))),
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

fn put_integer(value: i64, out: &mut BytesMut) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_unsigned(value.unsigned_abs(), out);
}

/// Writes at least two digits.
fn put_padded(value: u64, out: &mut BytesMut) {
    if value < 10 {
        out.put_u8(b'0');
    }
    put_unsigned(value, out);
}

fn put_decimal(value: Decimal, trim: bool, out: &mut BytesMut) {
    let value = if trim { value.trimmed() } else { value };
    value.write_text(out);
}

fn put_hexadecimal(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.put_slice(b"\\x");
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

/// Writes the date without its era; returns whether the date is BC.
fn put_date(days: i64, out: &mut BytesMut) -> bool {
    let (year, month, day) = date_of_days(days);
    let before_christ = year <= 0;
    let year = if before_christ { 1 - year } else { year }.unsigned_abs();
    (1..4).rev().filter(|power| year < 10_u64.pow(*power)).for_each(|_| out.put_u8(b'0'));
    put_unsigned(year, out);
    out.put_u8(b'-');
    put_padded(month.unsigned_abs(), out);
    out.put_u8(b'-');
    put_padded(day.unsigned_abs(), out);
    before_christ
}

fn put_era(before_christ: bool, out: &mut BytesMut) {
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// Writes `hours:minutes:seconds`, with the fraction of the second if it is not zero.
fn put_time(micros: i64, out: &mut BytesMut) {
    put_padded((micros / HOUR).unsigned_abs(), out);
    out.put_u8(b':');
    put_padded((micros % HOUR / MINUTE).unsigned_abs(), out);
    out.put_u8(b':');
    put_padded((micros % MINUTE / SECOND).unsigned_abs(), out);
    let mut fraction = (micros % SECOND).unsigned_abs();
    if fraction == 0 {
        return;
    }
    out.put_u8(b'.');
    let mut power = 100_000;
    while fraction > 0 {
        out.put_u8(digit(fraction / power));
        fraction %= power;
        power = (power / 10).max(1);
    }
}

fn put_timestamp(micros: i64, zone: &[u8], out: &mut BytesMut) {
    let before_christ = put_date(micros.div_euclid(DAY_MICROS), out);
    out.put_u8(b' ');
    put_time(micros.rem_euclid(DAY_MICROS), out);
    out.put_slice(zone);
    put_era(before_christ, out);
}

/// Writes an interval in the style of `intervalstyle = postgres`.
fn put_interval(value: IntervalMonthDayNano, out: &mut BytesMut) {
    let start = out.len();
    let IntervalMonthDayNano { months, days, nanoseconds } = value;
    let micros = nanoseconds / 1000;
    // PostgreSQL writes a plus sign after a negative part, so that the minus does not seem to carry over.
    let mut after_negative = false;
    for (count, unit) in [(months / 12, " year"), (months % 12, " mon"), (days, " day")] {
        if count == 0 {
            continue;
        }
        separate(out.len() > start, out);
        if after_negative && count > 0 {
            out.put_u8(b'+');
        }
        put_integer(count.into(), out);
        out.put_slice(unit.as_bytes());
        if count != 1 {
            out.put_u8(b's');
        }
        after_negative = count < 0;
    }
    if micros == 0 && out.len() > start {
        return;
    }
    separate(out.len() > start, out);
    if micros < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    put_time(micros, out);
}

fn separate(needed: bool, out: &mut BytesMut) {
    if needed {
        out.put_u8(b' ');
    }
}

fn list(list: &ListArray, wire: &WireType) -> Result<Writer> {
    let element = wire.element.as_ref().ok_or_else(|| internal("an array has no element type"))?;
    let quoting = may_need_quotes(&element.arrow_type);
    let values = Column::new(list.values(), element, FieldFormat::Text)?;
    let offsets = list.offsets().clone();
    let (open, comma, close) = match wire.pg_type {
        Type::INT2_VECTOR | Type::OID_VECTOR => ("", " ", ""),
        _ => ("{", ",", "}"),
    };
    Ok(Box::new(move |row, out| {
        let bounds = (usize::try_from(offsets[row]), usize::try_from(offsets[row + 1]));
        let (Ok(first), Ok(end)) = bounds else { return Err(internal("an offset is negative")) };
        out.put_slice(open.as_bytes());
        for position in first..end {
            if position > first {
                out.put_slice(comma.as_bytes());
            }
            if values.is_null(position) {
                out.put_slice(b"NULL");
                continue;
            }
            let start = out.len();
            (values.write)(position, out)?;
            if quoting {
                quote(start, out);
            }
        }
        out.put_slice(close.as_bytes());
        Ok(())
    }))
}

/// Whether the text of an element can contain characters that are special in an array.
fn may_need_quotes(element: &DataType) -> bool {
    matches!(
        element,
        DataType::Utf8View
            | DataType::BinaryView
            | DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Interval(_)
    )
}

/// Quotes the element written from `start` on, if needed.
fn quote(start: usize, out: &mut BytesMut) {
    let written = &out[start..];
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | 9..=13);
    let plain = !written.is_empty()
        && !written.eq_ignore_ascii_case(b"null")
        && !written.iter().any(special);
    if plain {
        return;
    }
    let written = written.to_vec();
    out.truncate(start);
    out.put_u8(b'"');
    for byte in written {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}
