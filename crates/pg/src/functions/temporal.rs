//! Functions and operators of dates, times and intervals, with PostgreSQL's types. The arithmetic is in
//! [`crate::time`].

mod values;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use self::values::{Columns, Kind, Value, kind_of};
use super::rowwise::no_such_function;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::time::arithmetic as times;
use crate::time::fields::{self, Field, Unit};
use crate::time::{self, DAY, HOUR, MINUTE, Moment, Result, SECOND, Span, Zone};
use tidemark_ledger::catalog::ColumnType;

use Kind::{Date, Float, Int, Interval, Text, Time, Timestamp, Timestamptz};

/// Prefix of the operators' names, which users cannot write.
const OPERATOR: &str = "\u{1}time";

/// What a call computes of one row, in which nothing is null.
type Body = fn(&[Value<'_>]) -> Result<Value<'static>>;

/// One argument list of a function.
struct Overload {
    name: &'static str,
    args: &'static [Kind],
    returns: Kind,
    body: Body,
}

const fn of(name: &'static str, args: &'static [Kind], returns: Kind, body: Body) -> Overload {
    Overload { name, args, returns, body }
}

/// Every function with its argument lists. Of the lists that fit, the first is taken.
const OVERLOADS: &[Overload] = &[
    of("date_part", &[Text, Timestamptz], Float, part_instant),
    of("date_part", &[Text, Timestamp], Float, part_timestamp),
    of("date_part", &[Text, Date], Float, part_date),
    of("date_part", &[Text, Time], Float, part_time),
    of("date_part", &[Text, Interval], Float, part_interval),
    of("date_trunc", &[Text, Timestamptz], Timestamptz, trunc_instant),
    of("date_trunc", &[Text, Timestamp], Timestamp, trunc_timestamp),
    of("date_trunc", &[Text, Interval], Interval, trunc_interval),
    of("date_trunc", &[Text, Date], Timestamptz, |v| {
        trunc_instant(&[v[0], Value::Micros(v[1].micros() * DAY)])
    }),
    of("date_trunc", &[Text, Timestamptz, Text], Timestamptz, trunc_in_zone),
    of("date_bin", &[Interval, Timestamp, Timestamp], Timestamp, date_bin),
    of("date_bin", &[Interval, Timestamptz, Timestamptz], Timestamptz, date_bin),
    of("age", &[Timestamp, Timestamp], Interval, age),
    of("age", &[Timestamptz, Timestamptz], Interval, age),
    of("justify_days", &[Interval], Interval, |v| Ok(Value::Span(v[0].span().justify_days()?))),
    of("justify_hours", &[Interval], Interval, |v| Ok(Value::Span(v[0].span().justify_hours()?))),
    of("justify_interval", &[Interval], Interval, |v| {
        Ok(Value::Span(v[0].span().justify_interval()?))
    }),
    of("isfinite", &[Date], Kind::Bool, |_| Ok(Value::Bool(true))),
    of("isfinite", &[Timestamp], Kind::Bool, |_| Ok(Value::Bool(true))),
    of("isfinite", &[Timestamptz], Kind::Bool, |_| Ok(Value::Bool(true))),
    of("isfinite", &[Interval], Kind::Bool, |_| Ok(Value::Bool(true))),
    of("make_date", &[Int, Int, Int], Date, |v| {
        Ok(Value::Micros(date_of(v[0].micros(), v[1].micros(), v[2].micros())?))
    }),
    of("make_time", &[Int, Int, Float], Time, |v| Ok(Value::Micros(time_of(v)?))),
    of("make_timestamp", &[Int, Int, Int, Int, Int, Float], Timestamp, make_timestamp),
    of("to_timestamp", &[Float], Timestamptz, to_timestamp),
    of("\u{1}time_plus", &[Interval, Interval], Interval, |v| {
        Ok(Value::Span(v[0].span().plus(v[1].span())?))
    }),
    of("\u{1}time_plus", &[Timestamp, Interval], Timestamp, plus),
    of("\u{1}time_plus", &[Timestamptz, Interval], Timestamptz, plus),
    of("\u{1}time_plus", &[Date, Interval], Timestamp, |v| {
        plus(&[Value::Micros(v[0].micros() * DAY), v[1]])
    }),
    of("\u{1}time_plus", &[Time, Interval], Time, |v| {
        Ok(wrapped(v[0].micros(), v[1].span().micros))
    }),
    of("\u{1}time_minus", &[Interval, Interval], Interval, |v| {
        Ok(Value::Span(v[0].span().minus(v[1].span())?))
    }),
    of("\u{1}time_minus", &[Timestamp, Timestamp], Interval, between),
    of("\u{1}time_minus", &[Timestamptz, Timestamptz], Interval, between),
    of("\u{1}time_minus", &[Time, Time], Interval, |v| {
        Ok(Value::Span(Span::of_micros(v[0].micros() - v[1].micros())))
    }),
    of("\u{1}time_minus", &[Timestamp, Interval], Timestamp, minus),
    of("\u{1}time_minus", &[Timestamptz, Interval], Timestamptz, minus),
    of("\u{1}time_minus", &[Date, Interval], Timestamp, |v| {
        minus(&[Value::Micros(v[0].micros() * DAY), v[1]])
    }),
    of("\u{1}time_minus", &[Time, Interval], Time, |v| {
        Ok(wrapped(v[0].micros(), -(v[1].span().micros % DAY)))
    }),
    of("\u{1}time_times", &[Interval, Float], Interval, |v| {
        Ok(Value::Span(v[0].span().times(v[1].float())?))
    }),
    of("\u{1}time_divided", &[Interval, Float], Interval, |v| {
        Ok(Value::Span(v[0].span().divided(v[1].float())?))
    }),
];

/// The functions, one for each name, and `extract`, whose type depends on the field.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut names: Vec<&str> = OVERLOADS.iter().map(|overload| overload.name).collect();
    names.push(EXTRACT);
    names.dedup();
    names.retain(|name| !name.starts_with(OPERATOR));
    names.into_iter().map(function).collect()
}

fn function(name: &'static str) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Temporal { name, signature }))
}

/// The function of an operator of times.
pub fn time_operator(name: &str) -> Option<&'static Arc<ScalarUDF>> {
    OPERATORS.iter().find(|function| {
        function.name().strip_prefix(OPERATOR).and_then(|rest| rest.strip_prefix('_')) == Some(name)
    })
}

static OPERATORS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut names: Vec<&str> = OVERLOADS.iter().map(|overload| overload.name).collect();
    names.dedup();
    names.into_iter().filter(|name| name.starts_with(OPERATOR)).map(function).collect()
});

/// `extract(field FROM value)` as a call with the field's name.
pub const EXTRACT: &str = "extract";

#[derive(Debug)]
struct Temporal {
    name: &'static str,
    signature: Signature,
}

impl Temporal {
    /// The overload with these argument types: an exact one, else one to which they can be converted.
    fn overload(&self, types: &[DataType]) -> Result<&'static Overload> {
        // The overloads of `extract` are those of `date_part`.
        let name = if self.name == EXTRACT { "date_part" } else { self.name };
        let named = || OVERLOADS.iter().filter(|o| o.name == name && o.args.len() == types.len());
        let all = |o: &&Overload, fits: fn(Kind, &DataType) -> bool| {
            o.args.iter().zip(types).all(|(kind, found)| fits(*kind, found))
        };
        let exact = named().find(|o| all(o, |kind, found| kind_of(found) == Some(kind)));
        // A timestamp and one with a zone are compared as instants.
        let has_zone = types.iter().any(|found| kind_of(found) == Some(Timestamptz));
        let fits =
            |o: &&Overload| all(o, Kind::takes) && !(has_zone && o.args.contains(&Timestamp));
        exact.or_else(|| named().find(fits)).ok_or_else(|| {
            no_such_function(self.name.trim_start_matches(OPERATOR).trim_start_matches('_'), types)
        })
    }
}

impl ScalarUDFImpl for Temporal {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        let overload = self.overload(types)?;
        let coerced = overload.args.iter().zip(types).map(|(kind, found)| kind.coerced(found));
        Ok(coerced.collect())
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        Ok(self.overload(types)?.returns.column_type().arrow_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let overload = self.overload(&types)?;
        if self.name != EXTRACT {
            return Ok(Arc::new(overload.returns.column_type().field(self.name, true)));
        }
        let unit = args.scalar_arguments.first().copied().flatten();
        let unit = unit.and_then(|unit| unit.try_as_str().flatten()).and_then(Unit::named);
        let data_type = numeric(extract_digits(unit, overload.args[1]));
        Ok(Arc::new(datafusion::arrow::datatypes::Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let types: Vec<_> = args.args.iter().map(ColumnarValue::data_type).collect();
        let overload = self.overload(&types)?;
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = Columns::read(&args.args, overload.args, rows)?;
        let array = if self.name == EXTRACT {
            let DataType::Decimal128(_, scale) = args.return_field.data_type() else {
                return Err(SqlError::internal("extract returns numeric").into());
            };
            let kind = overload.args[1];
            let values =
                columns.map(rows, |v| extracted(kind, v, (*scale).unsigned_abs().into()))?;
            values::decimals(values, *scale)?
        } else {
            values::array(overload.returns, columns.map(rows, overload.body)?)?
        };
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn numeric(digits: u32) -> DataType {
    DataType::Decimal128(38, i8::try_from(digits).unwrap_or_default())
}

/// The digits of the fraction that PostgreSQL shows of a field.
fn extract_digits(unit: Option<Unit>, kind: Kind) -> u32 {
    match unit {
        Some(Unit::Second) => 6,
        Some(Unit::Milliseconds) => 3,
        Some(Unit::Epoch) if kind != Date => 6,
        _ => 0,
    }
}

fn unit_of(name: &str, kind: Kind) -> Result<Unit> {
    Unit::named(name).ok_or_else(|| not_recognized(name, kind))
}

fn not_recognized(name: &str, kind: Kind) -> SqlError {
    let shown = name.to_lowercase();
    let message = format!("unit \"{shown}\" not recognized for type {}", kind.column_type());
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The error for a unit to which values cannot be truncated.
fn no_truncation(unit: Unit, name: &str, kind: Kind) -> SqlError {
    match unit {
        Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute | Unit::Week => {
            no_unit(name, kind)
        }
        _ => not_recognized(name, kind),
    }
}

fn no_unit(name: &str, kind: Kind) -> SqlError {
    let shown = name.to_lowercase();
    let message = format!("unit \"{shown}\" not supported for type {}", kind.column_type());
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

/// A field of a value, with the name of the field before it.
fn field(kind: Kind, values: &[Value<'_>]) -> Result<Field> {
    let (name, value) = (values[0].text(), values[1]);
    let unit = unit_of(name, kind)?;
    let found = match kind {
        Date => i32::try_from(value.micros()).ok().and_then(|days| fields::of_date(unit, days)),
        Time => fields::of_time(unit, value.micros()),
        Interval => fields::of_span(unit, value.span()),
        Timestamptz => fields::of_timestamp(unit, value.micros(), Some(0)),
        _ => fields::of_timestamp(unit, value.micros(), None),
    };
    found.ok_or_else(|| no_unit(name, kind))
}

fn extracted(kind: Kind, values: &[Value<'_>], digits: u32) -> Result<Value<'static>> {
    Ok(match field(kind, values)? {
        Field::Digits(value, own) if own <= digits => {
            Value::Decimal(value * 10_i128.pow(digits - own))
        }
        Field::Null => Value::Null,
        Field::Digits(..) | Field::JulianDay { .. } | Field::Infinite { .. } => {
            return Err(SqlError::unsupported("extract of a julian day with a fraction")
                .hint("date_part('julian', ...) returns double precision."));
        }
    })
}

/// A field as a float, summed up from whole seconds and their fraction.
fn part(kind: Kind, values: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(match field(kind, values)? {
        Field::Digits(value, digits) => {
            let unit = 10_i128.pow(digits);
            let seconds = matches!(Unit::named(values[0].text()), Some(Unit::Epoch));
            Value::Float(if seconds {
                value as f64 / unit as f64
            } else {
                (value / unit) as f64 + (value % unit) as f64 / unit as f64
            })
        }
        Field::JulianDay { days, micros } => Value::Float(days as f64 + micros as f64 / DAY as f64),
        Field::Null => Value::Null,
        Field::Infinite { negative } => {
            Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY })
        }
    })
}

fn part_instant(values: &[Value<'_>]) -> Result<Value<'static>> {
    part(Timestamptz, values)
}

fn part_timestamp(values: &[Value<'_>]) -> Result<Value<'static>> {
    part(Timestamp, values)
}

fn part_date(values: &[Value<'_>]) -> Result<Value<'static>> {
    part(Date, values)
}

fn part_time(values: &[Value<'_>]) -> Result<Value<'static>> {
    part(Time, values)
}

fn part_interval(values: &[Value<'_>]) -> Result<Value<'static>> {
    part(Interval, values)
}

fn truncated(kind: Kind, name: &str, micros: i64) -> Result<i64> {
    let unit = unit_of(name, kind)?;
    times::truncate(micros, unit)?.ok_or_else(|| no_truncation(unit, name, kind))
}

fn trunc_timestamp(values: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Micros(truncated(Timestamp, values[0].text(), values[1].micros())?))
}

fn trunc_instant(values: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Micros(truncated(Timestamptz, values[0].text(), values[1].micros())?))
}

fn trunc_in_zone(values: &[Value<'_>]) -> Result<Value<'static>> {
    let zone = Zone::find_operand(values[2].text())?;
    let micros = values[1].micros();
    let unit = unit_of(values[0].text(), Timestamptz)?;
    let local = truncated(Timestamptz, values[0].text(), zone.local(micros)?)?;
    // The offset stays if only the time of day is truncated, so that a repeated hour is not taken for the other.
    let within_day = matches!(
        unit,
        Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour
    );
    let instant =
        if within_day { local - zone.offset(micros) * SECOND } else { zone.instant(local)? };
    Ok(Value::Micros(instant))
}

fn trunc_interval(values: &[Value<'_>]) -> Result<Value<'static>> {
    let name = values[0].text();
    let unit = unit_of(name, Interval)?;
    let span = times::truncate_span(values[1].span(), unit);
    let error = no_truncation(unit, name, Interval);
    span.map(Value::Span).ok_or_else(|| match unit {
        Unit::Week => error.detail("Months usually have fractional weeks."),
        _ => error,
    })
}

fn date_bin(v: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Micros(times::bin(v[0].span(), v[1].micros(), v[2].micros())?))
}

fn age(v: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Span(times::age(v[0].micros(), v[1].micros())?))
}

fn between(v: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Span(times::subtract(v[0].micros(), v[1].micros())?))
}

fn plus(v: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Micros(times::add(v[0].micros(), v[1].span())?))
}

fn minus(v: &[Value<'_>]) -> Result<Value<'static>> {
    Ok(Value::Micros(times::add(v[0].micros(), v[1].span().negated()?)?))
}

/// A time after a while, on a clock that starts again at midnight.
fn wrapped(time: i64, micros: i64) -> Value<'static> {
    Value::Micros((time + micros % DAY).rem_euclid(DAY))
}

fn date_of(year: i64, month: i64, day: i64) -> Result<i64> {
    let shown = format!("{year}-{month:02}-{day:02}");
    let error = || {
        let message = format!("date field value out of range: {shown}");
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
    };
    // A negative year is BC; there is no year 0.
    let proleptic = if year < 0 { year + 1 } else { year };
    let fits = year != 0 && (1..=12).contains(&month);
    if !fits || !(1..=time::month_days(proleptic, month)).contains(&day) {
        return Err(error());
    }
    let days = Moment { year: proleptic, month, day, time: 0 }.days();
    time::date_in_range(days).map(i64::from).map_err(|_| {
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: {shown}"))
    })
}

/// The time of an hour, a minute and seconds.
fn time_of(v: &[Value<'_>]) -> Result<i64> {
    let (hour, minute, second) = (v[0].micros(), v[1].micros(), v[2].float());
    let micros = (second * 1_000_000.0).round_ties_even();
    let fits =
        (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    let total = if fits {
        hour * HOUR + minute * MINUTE + time::span::micros_of(micros)?
    } else {
        i64::MAX
    };
    if total > DAY {
        let message = format!("time field value out of range: {hour}:{minute:02}:{second:02}");
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    }
    Ok(total)
}

fn make_timestamp(v: &[Value<'_>]) -> Result<Value<'static>> {
    let days = date_of(v[0].micros(), v[1].micros(), v[2].micros())?;
    let micros = i128::from(days) * i128::from(DAY) + i128::from(time_of(&v[3..])?);
    Ok(Value::Micros(time::timestamp_in_range(micros)?))
}

fn to_timestamp(v: &[Value<'_>]) -> Result<Value<'static>> {
    let seconds = v[0].float();
    let error = || {
        let message = if seconds.is_nan() {
            "timestamp cannot be NaN".to_owned()
        } else {
            format!("timestamp out of range: \"{seconds}\"")
        };
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
    };
    let micros = time::span::micros_of((seconds * 1_000_000.0).round_ties_even());
    let micros = micros.and_then(|micros| time::timestamp_in_range(micros.into()));
    Ok(Value::Micros(micros.map_err(|_| error())?))
}

/// Functions of the same name are equal.
impl PartialEq for Temporal {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Temporal {}

impl Hash for Temporal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Kind {
    fn column_type(self) -> ColumnType {
        match self {
            Date => ColumnType::Date,
            Time => ColumnType::Time,
            Timestamp => ColumnType::Timestamp,
            Timestamptz => ColumnType::Timestamptz,
            Interval => ColumnType::Interval,
            Text => ColumnType::Text,
            Float => ColumnType::Double,
            Int => ColumnType::BigInt,
            Kind::Bool => ColumnType::Boolean,
        }
    }
}
