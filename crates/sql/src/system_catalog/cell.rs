//! Values of system relations by row, and their conversion to Arrow arrays.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Int16Type, UInt32Type};

use tidemark_ledger::id::ObjectId;
use tidemark_pg::types::SystemType;

/// A single value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// For every integer type, and for times in microseconds.
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Ints(Vec<i64>),
}

/// A null of any type.
pub const NULL: Option<bool> = None;

/// The values of one row, in the order of the columns.
pub type Row = Vec<Cell>;

impl Cell {
    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Null => None,
            Self::Bool(value) => Some(*value),
            other => panic!("{other:?} is no truth value"),
        }
    }

    fn as_int(&self) -> Option<i64> {
        match self {
            Self::Null => None,
            Self::Int(value) => Some(*value),
            other => panic!("{other:?} is no integer"),
        }
    }

    /// A number out of the range of the column's type becomes null.
    fn as_narrow<T: TryFrom<i64>>(&self) -> Option<T> {
        self.as_int().and_then(|value| T::try_from(value).ok())
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Self::Null => None,
            Self::Float(value) => Some(*value),
            other => panic!("{other:?} is no float"),
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(value) => Some(value),
            other => panic!("{other:?} is no text"),
        }
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Bytes(value) => Some(value),
            other => panic!("{other:?} is no bytea"),
        }
    }

    fn as_narrows<T: TryFrom<i64>>(&self) -> Option<Vec<Option<T>>> {
        match self {
            Self::Null => None,
            Self::Ints(values) => Some(values.iter().map(|v| T::try_from(*v).ok()).collect()),
            other => panic!("{other:?} is no array of integers"),
        }
    }
}

/// Builds an array of `column_type`. Panics if a cell is of another kind, which is a bug.
pub fn array_of<'a>(
    column_type: SystemType,
    cells: impl ExactSizeIterator<Item = &'a Cell>,
) -> ArrayRef {
    match column_type.arrow_type() {
        DataType::Boolean => Arc::new(cells.map(Cell::as_bool).collect::<BooleanArray>()),
        DataType::Int16 => Arc::new(cells.map(Cell::as_narrow::<i16>).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(cells.map(Cell::as_narrow::<i32>).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(cells.map(Cell::as_int).collect::<Int64Array>()),
        DataType::UInt32 => Arc::new(cells.map(Cell::as_narrow::<u32>).collect::<UInt32Array>()),
        DataType::Float32 => Arc::new(cells.map(as_float4).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(cells.map(Cell::as_float).collect::<Float64Array>()),
        DataType::BinaryView => Arc::new(cells.map(Cell::as_bytes).collect::<BinaryViewArray>()),
        DataType::Utf8View => Arc::new(cells.map(Cell::as_text).collect::<StringViewArray>()),
        DataType::Timestamp(_, zone) => {
            let times = cells.map(Cell::as_int).collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_timezone_opt(zone))
        }
        DataType::List(element) => match element.data_type() {
            DataType::Int16 => {
                let lists = cells.map(Cell::as_narrows::<i16>);
                Arc::new(ListArray::from_iter_primitive::<Int16Type, _, _>(lists))
            }
            DataType::UInt32 => {
                let lists = cells.map(Cell::as_narrows::<u32>);
                Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>(lists))
            }
            _ => nulls(column_type, cells.len()),
        },
        _ => nulls(column_type, cells.len()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float4 holds what is nearest")]
fn as_float4(cell: &Cell) -> Option<f32> {
    cell.as_float().map(|value| value as f32)
}

/// For types of which no relation has a value yet.
fn nulls(column_type: SystemType, rows: usize) -> ArrayRef {
    new_null_array(&column_type.arrow_type(), rows)
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<char> for Cell {
    fn from(value: char) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Cell {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<ObjectId> for Cell {
    fn from(value: ObjectId) -> Self {
        Self::Int(value.0.into())
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Vec<i64>> for Cell {
    fn from(values: Vec<i64>) -> Self {
        Self::Ints(values)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Cell {
            fn from(value: $integer) -> Self {
                Self::Int(value.into())
            }
        })*
    };
}

from_integers!(i16, i32, i64, u32);

/// Shown as int8, as PostgreSQL has no unsigned type: larger values wrap.
impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Int(value.cast_signed())
    }
}
