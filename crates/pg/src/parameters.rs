//! Decodes bound parameters in text or binary format to values for the planner.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{Decimal128Type, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use pgwire::api::Type;
use pgwire::api::results::FieldFormat;

use crate::copy_text::utf8;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::text_input::numeric;
use crate::text_input::parse_column;
use crate::time::calendar::DAY_MICROS;
use crate::types::wire::{
    EPOCH_DAYS, EPOCH_MICROS, array_element, column_type, is_string, pg_to_arrow,
};
use tidemark_ledger::catalog::{ColumnType, NUMERIC_DEFAULT};

type Result<T> = std::result::Result<T, SqlError>;

/// Decodes the value bound to parameter `number` (from 1) as `pg_type`; `None` is null.
///
/// Text becomes `Utf8`, a numeric becomes a decimal with the scale as written.
pub fn decode_parameter(
    number: usize,
    value: Option<&Bytes>,
    pg_type: &Type,
    format: FieldFormat,
) -> Result<ScalarValue> {
    let Some(value) = value else { return null(pg_type) };
    match format {
        FieldFormat::Text => from_text(utf8(value)?, pg_type),
        FieldFormat::Binary => {
            let mut reader = Reader { bytes: value };
            let scalar = from_binary(&mut reader, pg_type)?;
            if !reader.bytes.is_empty() {
                let message = format!("incorrect binary data format in bind parameter {number}");
                return Err(SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, message));
            }
            Ok(scalar)
        }
    }
}

fn null(pg_type: &Type) -> Result<ScalarValue> {
    let arrow_type = pg_to_arrow(pg_type).ok_or_else(|| unsupported(pg_type))?;
    ScalarValue::try_new_null(&arrow_type).map_err(internal)
}

fn from_text(text: &str, pg_type: &Type) -> Result<ScalarValue> {
    match column_type(pg_type) {
        Some(ColumnType::Numeric(_)) => numeric::smallest_decimal(&numeric::literal(text)?),
        Some(ColumnType::Jsonb) => Ok(ScalarValue::Utf8(Some(json(text)?))),
        // An unknown type, such as a custom enum: its text may still be usable.
        Some(ColumnType::Text | ColumnType::Varchar(_)) | None => {
            Ok(ScalarValue::Utf8(Some(text.to_owned())))
        }
        Some(ty) => as_bound(parsed(text, &ty)?, pg_type),
    }
}

fn parsed(text: &str, ty: &ColumnType) -> Result<ScalarValue> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    ScalarValue::try_from_array(&parse_column(&text, ty)?, 0).map_err(internal)
}

/// Text arrays have the same type in both formats.
fn as_bound(scalar: ScalarValue, pg_type: &Type) -> Result<ScalarValue> {
    match pg_to_arrow(pg_type) {
        Some(arrow_type) if arrow_type != scalar.data_type() => {
            scalar.cast_to(&arrow_type).map_err(internal)
        }
        _ => Ok(scalar),
    }
}

fn json(text: &str) -> Result<String> {
    match parsed(text, &ColumnType::Jsonb)? {
        ScalarValue::Utf8View(Some(normal)) => Ok(normal),
        _ => Ok(text.to_owned()),
    }
}

fn from_binary(reader: &mut Reader<'_>, pg_type: &Type) -> Result<ScalarValue> {
    if let Some(element) = array_element(pg_type) {
        return array(reader, &element);
    }
    let column_type = column_type(pg_type).ok_or_else(|| unsupported(pg_type))?;
    Ok(match column_type {
        ColumnType::Boolean => ScalarValue::Boolean(Some(reader.take::<1>()? != [0])),
        ColumnType::SmallInt => ScalarValue::Int16(Some(i16::from_be_bytes(reader.take()?))),
        ColumnType::Integer => ScalarValue::Int32(Some(i32::from_be_bytes(reader.take()?))),
        ColumnType::BigInt if *pg_type == Type::OID => {
            ScalarValue::Int64(Some(u32::from_be_bytes(reader.take()?).into()))
        }
        ColumnType::BigInt => ScalarValue::Int64(Some(i64::from_be_bytes(reader.take()?))),
        ColumnType::Real => ScalarValue::Float32(Some(f32::from_be_bytes(reader.take()?))),
        ColumnType::Double => ScalarValue::Float64(Some(f64::from_be_bytes(reader.take()?))),
        ColumnType::Numeric(_) => {
            numeric::smallest_decimal(&numeric::literal(&numeric_text(reader)?)?)?
        }
        ColumnType::Text | ColumnType::Varchar(_) => {
            ScalarValue::Utf8(Some(utf8(reader.rest())?.to_owned()))
        }
        ColumnType::Bytea => ScalarValue::BinaryView(Some(reader.rest().to_vec())),
        ColumnType::Date => ScalarValue::Date32(Some(date(reader)?)),
        ColumnType::Time => ScalarValue::Time64Microsecond(Some(time(reader)?)),
        ColumnType::Timestamp => ScalarValue::TimestampMicrosecond(Some(timestamp(reader)?), None),
        ColumnType::Timestamptz => {
            ScalarValue::TimestampMicrosecond(Some(timestamp(reader)?), Some("UTC".into()))
        }
        ColumnType::Interval => ScalarValue::IntervalMonthDayNano(Some(interval(reader)?)),
        ColumnType::Jsonb => {
            if *pg_type == Type::JSONB {
                check_jsonb_version(reader)?;
            }
            ScalarValue::Utf8(Some(json(utf8(reader.rest())?)?))
        }
        // Read above, by the type of its elements.
        ColumnType::Array(_) => return Err(unsupported(pg_type)),
    })
}

fn check_jsonb_version(reader: &mut Reader<'_>) -> Result<()> {
    let [version] = reader.take()?;
    if version == 1 {
        return Ok(());
    }
    let message = format!("unsupported jsonb version number {version}");
    Err(SqlError::new(SqlState::INTERNAL_ERROR, message))
}

fn date(reader: &mut Reader<'_>) -> Result<i32> {
    let days = i32::from_be_bytes(reader.take()?).checked_add(EPOCH_DAYS);
    days.ok_or_else(|| out_of_range("date"))
}

fn time(reader: &mut Reader<'_>) -> Result<i64> {
    let micros = i64::from_be_bytes(reader.take()?);
    let within = Some(micros).filter(|micros| (0..=DAY_MICROS).contains(micros));
    within.ok_or_else(|| out_of_range("time"))
}

fn timestamp(reader: &mut Reader<'_>) -> Result<i64> {
    i64::from_be_bytes(reader.take()?)
        .checked_add(EPOCH_MICROS)
        .ok_or_else(|| out_of_range("timestamp"))
}

fn interval(reader: &mut Reader<'_>) -> Result<IntervalMonthDayNano> {
    let micros = i64::from_be_bytes(reader.take()?);
    let days = i32::from_be_bytes(reader.take()?);
    let months = i32::from_be_bytes(reader.take()?);
    let nanoseconds = micros.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
    Ok(IntervalMonthDayNano { months, days, nanoseconds })
}

/// Converts a binary numeric to text: base-10000 digits, the first of weight 10000^`weight`.
fn numeric_text(reader: &mut Reader<'_>) -> Result<String> {
    let count = u16::from_be_bytes(reader.take()?);
    let weight = i32::from(i16::from_be_bytes(reader.take()?));
    let sign = u16::from_be_bytes(reader.take()?);
    let scale = usize::from(u16::from_be_bytes(reader.take()?));
    let mut groups = Vec::with_capacity(reader.bytes.len().min(usize::from(count) * 2) / 2);
    for _ in 0..count {
        groups.push(u16::from_be_bytes(reader.take()?));
    }
    if groups.iter().any(|group| *group > 9999) {
        return Err(malformed_numeric("digit"));
    }
    if scale > 0x3fff {
        return Err(malformed_numeric("scale"));
    }
    let mut text = match sign {
        0 => String::new(),
        0x4000 => "-".to_owned(),
        0xc000 => return Ok("NaN".to_owned()),
        0xd000 => return Ok("Infinity".to_owned()),
        0xf000 => return Ok("-Infinity".to_owned()),
        _ => return Err(malformed_numeric("sign")),
    };
    // No supported decimal has more groups before the point.
    if weight > 20 && !groups.is_empty() {
        return Err(numeric::too_large());
    }
    let group = |power: i32| {
        let position = usize::try_from(weight - power).ok();
        position.and_then(|position| groups.get(position)).copied().unwrap_or(0)
    };
    text.push('0');
    (0..=weight.min(20)).rev().for_each(|power| text.push_str(&format!("{:04}", group(power))));
    text.push('.');
    let end = text.len() + scale;
    (i32::MIN..0).rev().take(scale.div_ceil(4)).for_each(|power| {
        text.push_str(&format!("{:04}", group(power)));
    });
    text.truncate(end);
    Ok(text)
}

fn malformed_numeric(part: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        format!("invalid {part} in external \"numeric\" value"),
    )
}

/// Reads the number of dimensions, the null flag, the element type, the dimensions and the elements.
fn array(reader: &mut Reader<'_>, element: &Type) -> Result<ScalarValue> {
    let dimensions = i32::from_be_bytes(reader.take()?);
    let _has_nulls: [u8; 4] = reader.take()?;
    let sent = u32::from_be_bytes(reader.take()?);
    let same_family = |sent: Type| is_string(&sent) && is_string(element);
    if sent != element.oid() && !Type::from_oid(sent).is_some_and(same_family) {
        let message = format!(
            "binary data has array element type {sent} instead of expected {} ({})",
            element.oid(),
            element.name()
        );
        return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message));
    }
    let length = match dimensions {
        0 => 0,
        1 => {
            let length = i32::from_be_bytes(reader.take()?);
            let _lower_bound: [u8; 4] = reader.take()?;
            length
        }
        _ => {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "multidimensional arrays are not supported",
            ));
        }
    };
    let mut values = Vec::new();
    for _ in 0..length {
        values.push(array_value(reader, element)?);
    }
    let element_type = pg_to_arrow(element).ok_or_else(|| unsupported(element))?;
    Ok(ScalarValue::List(ScalarValue::new_list(&values, &element_type, true)))
}

fn array_value(reader: &mut Reader<'_>, element: &Type) -> Result<ScalarValue> {
    let length = i32::from_be_bytes(reader.take()?);
    let Ok(length) = usize::try_from(length) else { return null(element) };
    let mut value = Reader { bytes: reader.slice(length)? };
    // The elements of an array share one scale.
    let scalar = if *element == Type::NUMERIC {
        let (precision, scale) = NUMERIC_DEFAULT;
        let text = numeric_text(&mut value)?;
        let number = numeric::decimal::<Decimal128Type>(&text, precision, scale)?;
        ScalarValue::Decimal128(Some(number), precision, scale)
    } else {
        from_binary(&mut value, element)?
    };
    if value.bytes.is_empty() {
        return Ok(scalar);
    }
    Err(SqlError::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "improper binary format in array element",
    ))
}

/// The unread part of a message.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(too_short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}

fn too_short() -> SqlError {
    SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
}

fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

fn unsupported(pg_type: &Type) -> SqlError {
    let message = format!("parameters of type {} are not supported", pg_type.name());
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn internal(error: impl ToString) -> SqlError {
    SqlError::new(SqlState::INTERNAL_ERROR, error.to_string())
}

#[cfg(test)]
mod tests;
