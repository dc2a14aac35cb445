//! The arguments and results of functions of times, row by row.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, IntervalMonthDayNanoArray, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::ColumnarValue;

use crate::error::SqlError;
use crate::time::{Result, Span, date_in_range, out_of_range};

/// A kind of argument or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Text,
    Float,
    Int,
    Bool,
}

/// The kind of an Arrow type.
pub(super) fn kind_of(found: &DataType) -> Option<Kind> {
    Some(match found {
        DataType::Date32 => Kind::Date,
        DataType::Time64(_) | DataType::Time32(_) => Kind::Time,
        DataType::Timestamp(_, None) => Kind::Timestamp,
        DataType::Timestamp(_, Some(_)) => Kind::Timestamptz,
        DataType::Interval(_) | DataType::Duration(_) => Kind::Interval,
        text if text.is_string() => Kind::Text,
        DataType::Float64 | DataType::Float32 => Kind::Float,
        integer if integer.is_integer() => Kind::Int,
        _ => return None,
    })
}

impl Kind {
    /// Whether a value of an Arrow type is converted to this kind.
    pub(super) fn takes(self, found: &DataType) -> bool {
        match self {
            _ if found.is_null() || kind_of(found) == Some(self) => true,
            Self::Float => found.is_numeric(),
            Self::Timestamp | Self::Timestamptz => {
                matches!(found, DataType::Date32 | DataType::Timestamp(..))
            }
            _ => false,
        }
    }

    pub(super) fn coerced(self, found: &DataType) -> DataType {
        // Our encoder makes intervals of durations.
        match self {
            Self::Text => DataType::Utf8View,
            Self::Interval if matches!(found, DataType::Duration(_)) => found.clone(),
            _ => self.column_type().arrow_type(),
        }
    }
}

/// A value of one row. Dates and integers are counts too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    /// Microseconds, days of a date, or an integer.
    Micros(i64),
    Span(Span),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// The digits of a numeric.
    Decimal(i128),
}

impl<'a> Value<'a> {
    pub(super) fn micros(self) -> i64 {
        if let Self::Micros(micros) = self { micros } else { 0 }
    }

    pub(super) fn span(self) -> Span {
        if let Self::Span(span) = self { span } else { Span::default() }
    }

    pub(super) fn float(self) -> f64 {
        if let Self::Float(float) = self { float } else { 0.0 }
    }

    pub(super) fn text(self) -> &'a str {
        if let Self::Text(text) = self { text } else { "" }
    }
}

/// The arguments of a call.
pub(super) struct Columns(Vec<Column>);

enum Column {
    Dates(Date32Array),
    Times(Time64MicrosecondArray),
    Timestamps(TimestampMicrosecondArray),
    Intervals(IntervalMonthDayNanoArray),
    Texts(StringViewArray),
    Floats(Float64Array),
    Integers(Int64Array),
}

impl Columns {
    pub(super) fn read(args: &[ColumnarValue], kinds: &[Kind], rows: usize) -> EngineResult<Self> {
        let read = |(arg, kind): (&ColumnarValue, &Kind)| column(&arg.to_array(rows)?, *kind);
        Ok(Self(args.iter().zip(kinds).map(read).collect::<EngineResult<_>>()?))
    }

    /// Computes each row; a null argument makes the result null.
    pub(super) fn map(
        &self,
        rows: usize,
        body: impl Fn(&[Value<'_>]) -> Result<Value<'static>>,
    ) -> Result<Vec<Value<'static>>> {
        let mut args = Vec::with_capacity(self.0.len());
        (0..rows)
            .map(|row| {
                args.clear();
                args.extend(self.0.iter().map(|column| column.value(row)));
                let is_null = args.iter().any(|value| matches!(value, Value::Null));
                if is_null { Ok(Value::Null) } else { body(&args) }
            })
            .collect()
    }
}

fn column(array: &ArrayRef, kind: Kind) -> EngineResult<Column> {
    let to = kind.coerced(&DataType::Null);
    let array = if array.data_type() == &to {
        Arc::clone(array)
    } else {
        crate::encode::converted(array, &to)?
    };
    Ok(match kind {
        Kind::Date => Column::Dates(array.as_primitive::<Date32Type>().clone()),
        Kind::Time => Column::Times(array.as_primitive::<Time64MicrosecondType>().clone()),
        Kind::Timestamp | Kind::Timestamptz => {
            Column::Timestamps(array.as_primitive::<TimestampMicrosecondType>().clone())
        }
        Kind::Interval => {
            Column::Intervals(array.as_primitive::<IntervalMonthDayNanoType>().clone())
        }
        Kind::Text => Column::Texts(array.as_string_view().clone()),
        Kind::Float => Column::Floats(array.as_primitive::<Float64Type>().clone()),
        Kind::Int => Column::Integers(array.as_primitive::<Int64Type>().clone()),
        Kind::Bool => return Err(SqlError::internal("no function of times takes booleans").into()),
    })
}

impl Column {
    fn value(&self, row: usize) -> Value<'_> {
        let micros = |null: bool, value: i64| if null { Value::Null } else { Value::Micros(value) };
        match self {
            Self::Dates(a) => micros(a.is_null(row), a.value(row).into()),
            Self::Times(a) => micros(a.is_null(row), a.value(row)),
            Self::Timestamps(a) => micros(a.is_null(row), a.value(row)),
            Self::Integers(a) => micros(a.is_null(row), a.value(row)),
            Self::Intervals(a) if a.is_null(row) => Value::Null,
            Self::Intervals(a) => {
                let IntervalMonthDayNano { months, days, nanoseconds } = a.value(row);
                Value::Span(Span { months, days, micros: nanoseconds / 1000 })
            }
            Self::Texts(a) if a.is_null(row) => Value::Null,
            Self::Texts(a) => Value::Text(a.value(row)),
            Self::Floats(a) if a.is_null(row) => Value::Null,
            Self::Floats(a) => Value::Float(a.value(row)),
        }
    }
}

/// The results of a function as a column.
pub(super) fn array(kind: Kind, values: Vec<Value<'static>>) -> Result<ArrayRef> {
    let micros = |value: &Value<'_>| match value {
        Value::Micros(micros) => Some(*micros),
        _ => None,
    };
    let all = values.iter();
    Ok(match kind {
        Kind::Date => {
            let days = all.map(|value| micros(value).map(date_in_range).transpose());
            Arc::new(days.collect::<Result<Date32Array>>()?)
        }
        Kind::Time => Arc::new(all.map(micros).collect::<Time64MicrosecondArray>()),
        Kind::Timestamp => Arc::new(all.map(micros).collect::<TimestampMicrosecondArray>()),
        Kind::Timestamptz => {
            Arc::new(all.map(micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        Kind::Interval => {
            let spans = all.map(|value| match value {
                Value::Span(span) => interval(*span).map(Some),
                _ => Ok(None),
            });
            Arc::new(spans.collect::<Result<IntervalMonthDayNanoArray>>()?)
        }
        Kind::Int => Arc::new(all.map(micros).collect::<Int64Array>()),
        Kind::Float => {
            let float = |value: &Value<'_>| match value {
                Value::Float(float) => Some(*float),
                _ => None,
            };
            Arc::new(all.map(float).collect::<Float64Array>())
        }
        Kind::Bool => {
            let bool = |value: &Value<'_>| match value {
                Value::Bool(bool) => Some(*bool),
                _ => None,
            };
            Arc::new(all.map(bool).collect::<BooleanArray>())
        }
        Kind::Text => return Err(SqlError::internal("no function of times returns text")),
    })
}

/// Arrow counts nanoseconds.
fn interval(span: Span) -> Result<IntervalMonthDayNano> {
    let nanoseconds = span.micros.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
    Ok(IntervalMonthDayNano { months: span.months, days: span.days, nanoseconds })
}

/// The results of `extract` as a column with this number of digits.
pub(super) fn decimals(values: Vec<Value<'static>>, scale: i8) -> EngineResult<ArrayRef> {
    let digits = values.iter().map(|value| match value {
        Value::Decimal(digits) => Some(*digits),
        _ => None,
    });
    let digits = digits.collect::<Decimal128Array>();
    Ok(Arc::new(digits.with_precision_and_scale(38, scale)?))
}
