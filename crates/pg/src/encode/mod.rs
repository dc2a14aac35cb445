//! Encodes Arrow batches as PostgreSQL's data rows, in text or binary format, with PostgreSQL's exact output.
//!
//! The writer of a column is chosen once per batch: its values are cast to the Arrow type that
//! `types/wire.rs` names for the column, and a closure over that array writes each value.

mod binary;
mod decimal;
mod digits;
mod float;
mod text;

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DurationMicrosecondArray, IntervalMonthDayNanoArray, RecordBatch,
    StringArray, StringBuilder, StringViewArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, IntervalMonthDayNano, Schema, TimeUnit,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::data::DataRow;

use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::time::calendar::DAY_MICROS;
use crate::types::arrow::is_foreign;
use crate::types::wire::WireType;

type Result<T> = std::result::Result<T, SqlError>;

/// Appends the value of one row, which must not be null, to the buffer.
type Writer = Box<dyn Fn(usize, &mut BytesMut) -> Result<()>>;

/// Encodes the batches of one result.
#[derive(Clone, Debug)]
pub struct RowEncoder {
    columns: Vec<(WireType, FieldFormat)>,
}

impl RowEncoder {
    /// Creates an encoder for batches of this schema; `formats` returns the format the client requested for a
    /// column.
    pub fn new(schema: &Schema, formats: impl Fn(usize) -> FieldFormat) -> Self {
        let fields = schema.fields().iter().enumerate();
        Self { columns: fields.map(|(position, f)| (WireType::of(f), formats(position))).collect() }
    }

    /// Encodes the rows of a batch, in order. Fails with 54011 if there are more columns than 32767.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Vec<DataRow>> {
        if batch.num_columns() != self.columns.len() {
            return Err(internal("a batch of the result has not the result's columns"));
        }
        let columns = self.columns.iter().zip(batch.columns());
        let columns = columns
            .map(|((wire, format), array)| Column::new(array, wire, *format))
            .collect::<Result<Vec<_>>>()?;
        let field_count = i16::try_from(columns.len()).map_err(|_| {
            SqlError::new(SqlState::TOO_MANY_COLUMNS, "target lists can have at most 32767 entries")
        })?;
        let mut buffer = BytesMut::with_capacity(16 * columns.len() * batch.num_rows());
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            for column in &columns {
                column.write_field(row, &mut buffer)?;
            }
            rows.push(DataRow::new(buffer.split(), field_count));
        }
        Ok(rows)
    }
}

/// Describes the columns of a result to the client, under `names`.
pub fn field_infos(
    schema: &Schema,
    names: &[String],
    formats: impl Fn(usize) -> FieldFormat,
) -> Vec<FieldInfo> {
    let fields = schema.fields().iter().enumerate();
    fields
        .map(|(position, field)| {
            let wire = WireType::of(field);
            let name = names.get(position).unwrap_or(field.name()).clone();
            FieldInfo::new(name, None, None, wire.pg_type, formats(position))
                .with_type_size(wire.size)
                .with_type_modifier(wire.modifier)
        })
        .collect()
}

/// Prints a column in PostgreSQL's text form, which `parse_column` reads back.
pub fn column_text(field: &Field, array: &ArrayRef) -> Result<StringArray> {
    let column = Column::new(array, &WireType::of(field), FieldFormat::Text)?;
    let mut text = StringBuilder::with_capacity(array.len(), 0);
    let mut buffer = BytesMut::new();
    for row in 0..array.len() {
        buffer.clear();
        if column.is_null(row) {
            text.append_null();
            continue;
        }
        (column.write)(row, &mut buffer)?;
        text.append_value(
            std::str::from_utf8(&buffer).map_err(|error| internal(error.to_string()))?,
        );
    }
    Ok(text.finish())
}

/// Converts values to another Arrow type of the same kind.
pub fn converted(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    brought_into(array, to)
}

/// A column of a batch with its writer.
struct Column {
    nulls: Option<NullBuffer>,
    write: Writer,
}

impl Column {
    fn new(array: &ArrayRef, wire: &WireType, format: FieldFormat) -> Result<Self> {
        let array = brought_into(array, &wire.arrow_type)?;
        let write = match format {
            FieldFormat::Text => text::writer(&array, wire)?,
            FieldFormat::Binary => binary::writer(&array, wire)?,
        };
        Ok(Self { nulls: array.logical_nulls(), write })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes the length of the value and then the value; -1 for a null.
    fn write_field(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        with_length(out, |out| (self.write)(row, out))
    }
}

/// Writes the output of `write` after its length in bytes. Fails with 54000 if that exceeds an `i32`.
fn with_length(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<()> {
    let start = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| {
        SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "value is too long to be sent")
    })?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn brought_into(array: &ArrayRef, arrow_type: &DataType) -> Result<ArrayRef> {
    match array.data_type() {
        same if same == arrow_type => Ok(Arc::clone(array)),
        foreign if is_foreign(foreign) => displayed(array),
        DataType::Duration(_) => intervals(array),
        _ => cast_strictly(array, arrow_type),
    }
}

fn cast_strictly(array: &ArrayRef, arrow_type: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, arrow_type, &options).map_err(|error| match (&error, arrow_type) {
        (ArrowError::CastError(_), DataType::Int64) => {
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")
        }
        (_, DataType::Timestamp(..)) => {
            SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
        }
        _ => internal(error.to_string()),
    })
}

/// Prints values of types that PostgreSQL does not have with Arrow's formatter.
fn displayed(array: &ArrayRef) -> Result<ArrayRef> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options);
    let formatter = formatter.map_err(|error| internal(error.to_string()))?;
    let shown = (0..array.len()).map(|row| match array.is_null(row) {
        true => Ok(None),
        false => formatter.value(row).try_to_string().map(Some),
    });
    let shown = shown.collect::<std::result::Result<StringViewArray, ArrowError>>();
    Ok(Arc::new(shown.map_err(|error| internal(error.to_string()))?))
}

/// Converts durations to intervals of days and a time, the result of PostgreSQL's timestamp subtraction.
fn intervals(array: &ArrayRef) -> Result<ArrayRef> {
    let micros = cast_strictly(array, &DataType::Duration(TimeUnit::Microsecond))?;
    let micros: &DurationMicrosecondArray = micros.as_primitive::<DurationMicrosecondType>();
    let split = |micros: i64| {
        let days = i32::try_from(micros / DAY_MICROS).map_err(|_| {
            SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
        })?;
        Ok(IntervalMonthDayNano { months: 0, days, nanoseconds: micros % DAY_MICROS * 1000 })
    };
    let intervals = micros.iter().map(|micros| micros.map(split).transpose());
    Ok(Arc::new(intervals.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// An error that only a bug in Tidemark can cause.
fn internal(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INTERNAL_ERROR, message)
}

#[cfg(test)]
mod tests;
