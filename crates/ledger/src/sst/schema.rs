//! The Arrow schemas of a table: the one that queries see, and the one of its data files.
//!
//! Both schemas carry the column's id as Parquet field id. The id, never the name, maps a column of a file to
//! a column of the table. Files store every type as queries see it, except for intervals, which Parquet does
//! not support: they are stored as 16 bytes, see `encode_intervals`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    IntervalMonthDayNanoBuilder, ListArray, RecordBatch,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, IntervalMonthDayNanoType, IntervalUnit, Schema,
    SchemaRef,
};
use arrow::error::ArrowError;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::catalog::Table;
use crate::id::ColumnId;

/// Months (i32), days (i32), nanoseconds (i64), each little-endian.
const INTERVAL_BYTES: i32 = 16;

/// The schema in which queries see the table.
pub fn table_schema(table: &Table) -> SchemaRef {
    let fields = table.columns.iter().map(|column| {
        let field = column.column_type.field(&column.name, !column.not_null);
        with_id(field, column.id)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema of a data file of the table.
pub fn file_schema(table: &Table) -> SchemaRef {
    let schema = table_schema(table);
    let fields = schema.fields().iter().map(|field| {
        let stored = stored_type(field.data_type());
        field.as_ref().clone().with_data_type(stored)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The column id in the metadata of a field.
pub fn column_id(field: &Field) -> Option<ColumnId> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

/// Converts a batch of the table's schema to the schema of its data files.
pub fn to_file_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            encode_intervals(column)
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

fn with_id(field: Field, id: ColumnId) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    field.with_metadata(metadata)
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano) => DataType::FixedSizeBinary(INTERVAL_BYTES),
        DataType::List(element) => {
            let stored = stored_type(element.data_type());
            DataType::List(Arc::new(element.as_ref().clone().with_data_type(stored)))
        }
        other => other.clone(),
    }
}

/// Encodes intervals, also inside lists, as 16 bytes each.
fn encode_intervals(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let Some(list) = array.as_list_opt::<i32>() {
        return rebuild_list(list, encode_intervals(list.values())?);
    }
    let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
    let mut bytes = FixedSizeBinaryBuilder::with_capacity(intervals.len(), INTERVAL_BYTES);
    for interval in intervals {
        match interval {
            Some(value) => bytes.append_value(interval_bytes(value))?,
            None => bytes.append_null(),
        }
    }
    Ok(Arc::new(bytes.finish()))
}

/// The reverse of `encode_intervals`.
pub fn decode_intervals(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let Some(list) = array.as_list_opt::<i32>() {
        return rebuild_list(list, decode_intervals(list.values())?);
    }
    let Some(bytes) = array.as_any().downcast_ref::<FixedSizeBinaryArray>() else {
        return Err(ArrowError::CastError(format!("no interval in {}", array.data_type())));
    };
    let mut intervals = IntervalMonthDayNanoBuilder::with_capacity(bytes.len());
    for value in bytes {
        match value {
            Some(value) => intervals.append_value(interval_of(value)?),
            None => intervals.append_null(),
        }
    }
    Ok(Arc::new(intervals.finish()))
}

fn rebuild_list(list: &ListArray, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let element: FieldRef = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(element, offsets, values, nulls)?))
}

type Interval = <IntervalMonthDayNanoType as ArrowPrimitiveType>::Native;

fn interval_bytes(interval: Interval) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&interval.months.to_le_bytes());
    bytes[4..8].copy_from_slice(&interval.days.to_le_bytes());
    bytes[8..].copy_from_slice(&interval.nanoseconds.to_le_bytes());
    bytes
}

fn interval_of(bytes: &[u8]) -> Result<Interval, ArrowError> {
    let wrong = || ArrowError::CastError("an interval takes 16 bytes".to_owned());
    let (months, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (days, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (nanoseconds, _) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    Ok(Interval::new(
        i32::from_le_bytes(*months),
        i32::from_le_bytes(*days),
        i64::from_le_bytes(*nanoseconds),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::IntervalMonthDayNanoArray;

    #[test]
    fn intervals_come_back_as_they_went() {
        let values = [Some(Interval::new(-1, 2, 3_000_000_001)), None];
        let array: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from_iter(values));
        let stored = encode_intervals(&array).unwrap();
        assert_eq!(stored.data_type(), &DataType::FixedSizeBinary(16));
        assert_eq!(&decode_intervals(&stored).unwrap(), &array);
    }
}
