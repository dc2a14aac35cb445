//! Upper bounds of function results, computed from the sizes of the arguments.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray as _};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Int64Type, IntervalMonthDayNanoType, TimestampNanosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

/// Least memory of an array element: an offset, a length, a share of the bitmap.
const ELEMENT_BYTES: usize = 16;
/// Longest text of an array element that is not a text itself.
const PRINTED_BYTES: usize = 40;
/// Longest character in bytes.
const CHAR_BYTES_MAX: usize = 4;

const DAY_NANOS: i128 = 86_400_000_000_000;
/// The shortest month, in nanoseconds.
const MONTH_NANOS: i128 = 28 * DAY_NANOS;

/// How the result of a function grows with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Growth {
    /// As long as all arguments together.
    Sum,
    /// At most this many times as long as all arguments together.
    Times(usize),
    /// `repeat(text, count)`
    Repeat,
    /// `lpad(text, characters, fill)`
    Pad,
    /// `replace(text, from, to)`
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`
    RegexpReplace,
    /// `regexp_match(text, pattern)`
    RegexpGroups,
    /// `concat_ws(separator, …)`
    Separated,
    /// `array_to_string(array, delimiter, null)`
    Printed,
    /// `string_to_array(text, delimiter, null)`
    Split,
    /// `array_repeat(element, count)`
    ArrayRepeat,
    /// `array_resize(array, length, element)`
    ArrayResize,
    /// `range(start, stop, step)`
    Series,
}

/// Returns how the results of a function grow; `None` if they are not much larger than its arguments.
pub fn growth(function: &str) -> Option<Growth> {
    Some(match function {
        "repeat" => Growth::Repeat,
        "lpad" | "rpad" => Growth::Pad,
        "replace" => Growth::Replace,
        "regexp_replace" => Growth::RegexpReplace,
        "regexp_match" => Growth::RegexpGroups,
        "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat"
        | "array_union" | "arrays_zip" | "map" | "flatten" | "array_replace"
        | "array_replace_n" | "array_replace_all" => Growth::Sum,
        "translate" | "upper" | "lower" | "initcap" | "encode" | "decode" => {
            Growth::Times(CHAR_BYTES_MAX)
        }
        "concat_ws" => Growth::Separated,
        "array_to_string" => Growth::Printed,
        "string_to_array" => Growth::Split,
        "array_repeat" => Growth::ArrayRepeat,
        "array_resize" => Growth::ArrayResize,
        "range" | "generate_series" => Growth::Series,
        _ => return None,
    })
}

impl Growth {
    /// Returns an upper bound in bytes of the results for these rows.
    pub fn bound(self, args: &[ColumnarValue], rows: Rows) -> usize {
        let facts: Vec<Facts> = args.iter().map(|arg| Facts::of(arg, rows)).collect();
        let arg = |n: usize| facts.get(n).copied().unwrap_or_default();
        let sum = facts.iter().fold(0, |sum: usize, fact| sum.saturating_add(fact.bytes));
        match self {
            Self::Sum => sum,
            Self::Times(factor) => sum.saturating_mul(factor),
            Self::Repeat => arg(0).bytes.saturating_mul(arg(1).count()),
            Self::Pad => {
                let padded = rows.count.saturating_mul(arg(1).count());
                padded.saturating_mul(CHAR_BYTES_MAX).max(1)
            }
            Self::Replace => {
                let matches = (arg(0).bytes / arg(1).shortest.max(1)).saturating_add(rows.count);
                matches.saturating_mul(arg(2).longest).saturating_add(arg(0).bytes)
            }
            Self::RegexpReplace => {
                // There may be a match between any two characters, and the replacement may refer to the whole
                // match.
                let matches = arg(0).bytes.saturating_add(rows.count);
                matches.saturating_mul(arg(2).longest.saturating_add(1)).saturating_mul(2)
            }
            Self::RegexpGroups => arg(0).bytes.saturating_mul(arg(1).longest.saturating_add(1)),
            Self::Separated => {
                sum.saturating_add(arg(0).bytes.saturating_mul(args.len().saturating_sub(2)))
            }
            Self::Printed => {
                let between = arg(1).longest.saturating_add(arg(2).longest);
                let each = between.saturating_add(PRINTED_BYTES);
                arg(0).items.saturating_mul(each).saturating_add(arg(0).bytes)
            }
            Self::Split => split(arg(0).bytes, arg(0).bytes.saturating_add(rows.count)),
            Self::ArrayRepeat => {
                let element = arg(0).longest.saturating_add(ELEMENT_BYTES);
                element.saturating_mul(arg(1).count()).saturating_mul(rows.count)
            }
            Self::ArrayResize => {
                let element = arg(2).longest.saturating_add(ELEMENT_BYTES);
                let added = element.saturating_mul(arg(1).count()).saturating_mul(rows.count);
                added.saturating_add(arg(0).bytes)
            }
            Self::Series => {
                let items = rows.each().map(|row| series_items(args, row));
                items.fold(0, usize::saturating_add).saturating_mul(size_of::<i64>())
            }
        }
    }

    /// Whether the results are arrays.
    pub fn makes_arrays(self) -> bool {
        matches!(self, Self::Split | Self::ArrayRepeat | Self::ArrayResize | Self::Series)
    }
}

/// Bytes of a value, without the buffers it shares with others.
pub fn value_bytes(value: &ScalarValue) -> usize {
    Facts::of_scalar(value).bytes.saturating_add(size_of::<ScalarValue>())
}

/// Bytes of an array of the parts of a text.
pub fn split(text_bytes: usize, parts: usize) -> usize {
    parts.saturating_mul(ELEMENT_BYTES).saturating_add(text_bytes)
}

/// A range of rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub first: usize,
    pub count: usize,
}

impl Rows {
    fn each(self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }
}

/// Measurements of an argument over some rows.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    bytes: usize,
    longest: usize,
    shortest: usize,
    /// Number of array elements.
    items: usize,
    /// Largest integer.
    most: i64,
}

impl Facts {
    fn of(arg: &ColumnarValue, rows: Rows) -> Self {
        match arg {
            ColumnarValue::Array(array) => Self::of_array(array, rows),
            ColumnarValue::Scalar(scalar) => {
                let one = Self::of_scalar(scalar);
                Self {
                    bytes: one.bytes.saturating_mul(rows.count),
                    items: one.items.saturating_mul(rows.count),
                    ..one
                }
            }
        }
    }

    fn of_scalar(scalar: &ScalarValue) -> Self {
        let known =
            |bytes: usize| Self { bytes, longest: bytes, shortest: bytes, ..Self::default() };
        match scalar {
            ScalarValue::Utf8(text)
            | ScalarValue::Utf8View(text)
            | ScalarValue::LargeUtf8(text) => known(text.as_ref().map_or(0, String::len)),
            ScalarValue::Binary(bytes)
            | ScalarValue::BinaryView(bytes)
            | ScalarValue::LargeBinary(bytes) => known(bytes.as_ref().map_or(0, Vec::len)),
            ScalarValue::Int64(number) => {
                Self { most: number.unwrap_or(0), ..known(size_of::<i64>()) }
            }
            ScalarValue::List(list) => {
                let list = Arc::clone(list) as ArrayRef;
                Self::of_array(&list, Rows { first: 0, count: 1 })
            }
            other => match other.to_array() {
                Ok(array) => Self::of_array(&array, Rows { first: 0, count: 1 }),
                Err(_) => Self::default(),
            },
        }
    }

    fn of_array(array: &ArrayRef, rows: Rows) -> Self {
        // The type is matched once and not per row: most calls are made with strings and numbers.
        let facts = match array.data_type() {
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                Self::measured(rows, array, |row| texts.value(row).len())
            }
            DataType::Utf8View => {
                let texts = array.as_string_view();
                Self::measured(rows, array, |row| texts.value(row).len())
            }
            other => match other.primitive_width() {
                Some(width) => Self {
                    bytes: width.saturating_mul(rows.count),
                    longest: width,
                    shortest: width,
                    ..Self::default()
                },
                None => Self::measured(rows, array, |row| row_bytes(array, row)),
            },
        };
        let items = rows.each().map(|row| row_items(array, row));
        let items = if array.data_type().is_list() { items.sum() } else { 0 };
        Self { items, most: most(array, rows), ..facts }
    }

    /// Measures the values; `length` is that of a value that is not null.
    fn measured(rows: Rows, array: &ArrayRef, length: impl Fn(usize) -> usize) -> Self {
        let mut facts = Self { shortest: usize::MAX, ..Self::default() };
        for row in rows.each() {
            let bytes = if array.is_null(row) { 0 } else { length(row) };
            facts.bytes = facts.bytes.saturating_add(bytes);
            facts.longest = facts.longest.max(bytes);
            facts.shortest = facts.shortest.min(bytes);
        }
        facts
    }

    /// The largest integer as a count; 0 if negative.
    fn count(&self) -> usize {
        usize::try_from(self.most).unwrap_or(0)
    }
}

/// The largest of 64-bit integers; 0 for values of other types.
fn most(array: &ArrayRef, rows: Rows) -> i64 {
    let Some(numbers) = array.as_primitive_opt::<Int64Type>() else { return 0 };
    let valid = rows.each().filter(|row| numbers.is_valid(*row));
    valid.map(|row| numbers.value(row)).max().unwrap_or(0)
}

/// Bytes of one value.
fn row_bytes(array: &ArrayRef, row: usize) -> usize {
    if array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        DataType::Binary => array.as_binary::<i32>().value(row).len(),
        DataType::LargeBinary => array.as_binary::<i64>().value(row).len(),
        DataType::BinaryView => array.as_binary_view().value(row).len(),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            let width = elements.data_type().primitive_width();
            let each = |at| row_bytes(&elements, at).saturating_add(ELEMENT_BYTES);
            match width {
                Some(width) => elements.len().saturating_mul(width),
                None => (0..elements.len()).map(each).fold(0, usize::saturating_add),
            }
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| row_bytes(column, row)).fold(0, usize::saturating_add)
        }
        other => other.primitive_width().unwrap_or(ELEMENT_BYTES),
    }
}

/// Elements of one value, including those of nested arrays.
fn row_items(array: &ArrayRef, row: usize) -> usize {
    match array.as_list_opt::<i32>() {
        Some(lists) if lists.is_valid(row) => {
            let elements = lists.value(row);
            if !matches!(elements.data_type(), DataType::List(_)) {
                return elements.len();
            }
            let inner = (0..elements.len()).map(|at| row_items(&elements, at).max(1));
            inner.fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}

/// Elements of the series of one row.
fn series_items(args: &[ColumnarValue], row: usize) -> usize {
    let at = |n: usize| args.get(n).and_then(|arg| series_number(arg, row));
    let (from, to, step) = match args.len() {
        1 => (Some(0), at(0), Some(1)),
        2 => (at(0), at(1), Some(1)),
        _ => (at(0), at(1), at(2)),
    };
    let (Some(from), Some(to), Some(step)) = (from, to, step) else { return 0 };
    let distance = if step < 0 { from - to } else { to - from };
    if distance < 0 || step == 0 {
        return 0;
    }
    usize::try_from(distance / step.abs() + 1).unwrap_or(usize::MAX)
}

/// A bound or step of a series as a number; in nanoseconds if it is a time.
fn series_number(arg: &ColumnarValue, row: usize) -> Option<i128> {
    let array = match arg {
        ColumnarValue::Array(array) => array.slice(row, 1),
        ColumnarValue::Scalar(scalar) => scalar.to_array().ok()?,
    };
    if array.is_null(0) {
        return None;
    }
    if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
        return Some(numbers.value(0).into());
    }
    if let Some(days) = array.as_primitive_opt::<Date32Type>() {
        return Some(i128::from(days.value(0)) * DAY_NANOS);
    }
    if let Some(nanos) = array.as_primitive_opt::<TimestampNanosecondType>() {
        return Some(nanos.value(0).into());
    }
    let interval = array.as_primitive_opt::<IntervalMonthDayNanoType>()?.value(0);
    let days = i128::from(interval.days) * DAY_NANOS;
    Some(i128::from(interval.months) * MONTH_NANOS + days + i128::from(interval.nanoseconds))
}
