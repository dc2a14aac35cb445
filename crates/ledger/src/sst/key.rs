//! Primary keys as bytes that sort as the keys do, and the key range of a file.
//!
//! | type | bytes |
//! |---|---|
//! | boolean | one: 0 or 1 |
//! | smallint, integer, bigint, date, time, timestamp, timestamptz | the number as i64, big-endian, its sign bit flipped |
//! | real, double precision | the number as f64, big-endian; its sign bit flipped where it is positive, all bits where it is negative; -0 as 0, NaN above all |
//! | numeric | the unscaled number as i256, big-endian, its sign bit flipped |
//! | varchar, text, bytea | the bytes, each 0 followed by 255, then two 0 |
//!
//! The bytes of the columns of a key are concatenated. Keys with columns of other types have no byte form.

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, TimeUnit, i256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::catalog::Table;

/// Maximum bytes of each bound of a range. A longer key is truncated, which makes the range a little too
/// wide.
const END_BYTES_MAX: usize = 48;

/// Keys from `min` to `max`, both inclusive. There are many ranges, so both bounds share one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    ends: Box<[u8]>,
    /// Where `min` ends and `max` begins.
    middle: usize,
}

impl KeyRange {
    /// The range from `min` to `max`, truncated if they are long. `None` if there is no short upper bound.
    pub fn of(min: &[u8], max: &[u8]) -> Option<Self> {
        let min = &min[..min.len().min(END_BYTES_MAX)];
        if max.len() <= END_BYTES_MAX {
            return Some(Self::exactly(min, max));
        }
        Some(Self::exactly(min, &cut_upwards(max)?))
    }

    fn exactly(min: &[u8], max: &[u8]) -> Self {
        Self { ends: [min, max].concat().into(), middle: min.len() }
    }

    pub fn min(&self) -> &[u8] {
        &self.ends[..self.middle]
    }

    pub fn max(&self) -> &[u8] {
        &self.ends[self.middle..]
    }

    /// Whether the two ranges overlap.
    pub fn meets(&self, other: &Self) -> bool {
        self.min() <= other.max() && other.min() <= self.max()
    }

    pub fn may_hold(&self, key: &[u8]) -> bool {
        self.min() <= key && key <= self.max()
    }
}

/// The serialized form of a range.
#[derive(Serialize, Deserialize)]
#[serde(rename = "KeyRange")]
struct Ends {
    min: String,
    max: String,
}

impl Serialize for KeyRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let [min, max] = [self.min(), self.max()].map(|end| STANDARD_NO_PAD.encode(end));
        Ends { min, max }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for KeyRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Ends { min, max } = Ends::deserialize(from)?;
        let decode = |end| STANDARD_NO_PAD.decode(end).map_err(de::Error::custom);
        Ok(Self::exactly(&decode(min)?, &decode(max)?))
    }
}

/// The least short key above all keys that begin as `key` does; `None` if there is none.
fn cut_upwards(key: &[u8]) -> Option<Vec<u8>> {
    let mut cut = key[..END_BYTES_MAX].to_vec();
    while let Some(last) = cut.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(cut);
        }
        cut.pop();
    }
    None
}

/// The primary keys of a batch of rows.
#[derive(Debug)]
pub struct Keys(Vec<KeyColumn>);

/// A key column, in the type from which its bytes are made: integers, dates and times as `Int64`, floats as
/// `Float64`, decimals as wide as they were, texts and bytes as `BinaryView`.
#[derive(Debug)]
pub enum KeyColumn {
    Boolean(ArrayRef),
    Integer(ArrayRef),
    Float(ArrayRef),
    Decimal(ArrayRef),
    Bytes(ArrayRef),
}

impl Keys {
    /// The keys of `batch`, which has the table's schema. `None` if the table has no primary key or a key
    /// column has no byte form.
    pub fn of(table: &Table, batch: &RecordBatch) -> Option<Self> {
        if table.primary_key.is_empty() {
            return None;
        }
        let index_of = |id| table.columns.iter().position(|column| column.id == id);
        let columns = table.primary_key.iter();
        let columns = columns.map(|id| index_of(*id).map(|index| batch.column(index).clone()));
        Self::of_columns(&columns.collect::<Option<Vec<_>>>()?)
    }

    /// The keys made of these columns, in the order of the key. `None` if a column has no byte form.
    pub fn of_columns(columns: &[ArrayRef]) -> Option<Self> {
        columns.iter().map(KeyColumn::of).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The key of a row; `None` if a column is null.
    pub fn row(&self, at: usize) -> Option<Vec<u8>> {
        let mut key = Vec::with_capacity(9 * self.0.len());
        self.0.iter().try_for_each(|column| column.push(at, &mut key))?;
        Some(key)
    }
}

impl KeyColumn {
    /// Converts a key column; `None` for types without a byte form.
    pub fn of(array: &ArrayRef) -> Option<Self> {
        let as_type = |data_type: &DataType| cast(array, data_type).ok();
        Some(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.clone()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Integer(as_type(&DataType::Int64)?)
            }
            DataType::Date32 => {
                Self::Integer(cast(&as_type(&DataType::Int32)?, &DataType::Int64).ok()?)
            }
            DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Integer(as_type(&DataType::Int64)?)
            }
            DataType::Float32 | DataType::Float64 => Self::Float(as_type(&DataType::Float64)?),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Self::Decimal(array.clone()),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                Self::Bytes(cast(&as_type(&DataType::Utf8View)?, &DataType::BinaryView).ok()?)
            }
            DataType::Binary | DataType::BinaryView | DataType::LargeBinary => {
                Self::Bytes(as_type(&DataType::BinaryView)?)
            }
            _ => return None,
        })
    }

    fn push(&self, at: usize, key: &mut Vec<u8>) -> Option<()> {
        let (Self::Boolean(array)
        | Self::Integer(array)
        | Self::Float(array)
        | Self::Decimal(array)
        | Self::Bytes(array)) = self;
        if array.is_null(at) {
            return None;
        }
        match self {
            Self::Boolean(array) => key.push(u8::from(array.as_boolean().value(at))),
            Self::Integer(array) => {
                let number = array.as_primitive::<Int64Type>().value(at);
                key.extend((number ^ i64::MIN).to_be_bytes());
            }
            Self::Float(array) => {
                key.extend(float_bytes(array.as_primitive::<Float64Type>().value(at)));
            }
            Self::Decimal(array) => {
                let wide = match array.data_type() {
                    DataType::Decimal128(..) => {
                        i256::from_i128(array.as_primitive::<Decimal128Type>().value(at))
                    }
                    _ => array.as_primitive::<Decimal256Type>().value(at),
                };
                let mut bytes = wide.to_be_bytes();
                bytes[0] ^= 0x80;
                key.extend(bytes);
            }
            Self::Bytes(array) => {
                for byte in array.as_binary_view().value(at) {
                    key.push(*byte);
                    if *byte == 0 {
                        key.push(u8::MAX);
                    }
                }
                key.extend([0, 0]);
            }
        }
        Some(())
    }
}

fn float_bytes(number: f64) -> [u8; 8] {
    let number = if number.is_nan() { f64::NAN.abs() } else { number + 0.0 };
    let bits = number.to_bits();
    let sorted = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    sorted.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Decimal128Array, Float64Array, Int32Array, StringViewArray};

    use super::*;

    /// Asserts that the keys of one column, whose values are given in ascending order, are distinct and
    /// sorted.
    fn sorted(column: ArrayRef) {
        let keys = Keys(vec![KeyColumn::of(&column).unwrap()]);
        let bytes: Vec<_> = (0..column.len()).map(|at| keys.row(at).unwrap()).collect();
        assert!(bytes.is_sorted(), "{column:?}");
        assert!(bytes.windows(2).all(|pair| pair[0] != pair[1]), "{column:?}");
    }

    #[test]
    fn bytes_sort_as_the_values_do() {
        sorted(Arc::new(BooleanArray::from(vec![false, true])));
        sorted(Arc::new(Int32Array::from(vec![i32::MIN, -7, 0, 1, i32::MAX])));
        let floats =
            [f64::NEG_INFINITY, -1.5, 0.0, f64::MIN_POSITIVE, 2.0, f64::INFINITY, f64::NAN];
        sorted(Arc::new(Float64Array::from(floats.to_vec())));
        let decimals = Decimal128Array::from(vec![-100, -1, 0, 5, 1 << 100]);
        sorted(Arc::new(decimals));
        sorted(Arc::new(StringViewArray::from(vec!["", "\0", "\0a", "a", "a\0", "aa", "b"])));
        assert_eq!(float_bytes(-0.0), float_bytes(0.0));
        assert_eq!(float_bytes(-f64::NAN), float_bytes(f64::NAN));
    }

    #[test]
    fn columns_of_a_key_do_not_run_into_one_another() {
        let texts = |values: &[&str]| {
            KeyColumn::of(&(Arc::new(StringViewArray::from(values.to_vec())) as _))
        };
        let keys = Keys(vec![texts(&["a", "ab"]).unwrap(), texts(&["bc", "c"]).unwrap()]);
        assert!(keys.row(0) < keys.row(1));
    }

    #[test]
    fn ranges_of_long_keys_are_too_wide_and_never_too_narrow() {
        let long = |last: u8| [vec![b'x'; 60], vec![last]].concat();
        let range = KeyRange::of(&long(1), &long(5)).unwrap();
        for key in [long(1), long(3), long(5)] {
            assert!(range.may_hold(&key));
        }
        assert!(!range.may_hold(b"w"));
        assert!(!range.may_hold(b"y"));
        assert!(range.meets(&KeyRange::of(&long(9), &long(9)).unwrap()));
        assert_eq!(KeyRange::of(b"a", &[u8::MAX; 60]), None);
        let exact = KeyRange::of(b"b", b"d").unwrap();
        assert!([b"b", b"c", b"d"].iter().all(|key| exact.may_hold(*key)));
        assert!(!exact.may_hold(b"a") && !exact.may_hold(b"da"));
    }
}
