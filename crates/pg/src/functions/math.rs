//! Mathematical functions with PostgreSQL's types, rounding and errors.
//!
//! Each function has a form for `double precision`, which integers and untyped literals prefer. Those that only
//! round also have one for `numeric`. The other functions of numerics are computed as floats.

use std::f64::consts;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, ArrowNativeTypeOp as _, AsArray as _, Decimal256Array, Float64Array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal256Type, FieldRef, Float64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::functions::math;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::rowwise::no_such_function;
use crate::error::SqlError;
use crate::sqlstate::SqlState;

type Answer = Result<f64, SqlError>;

/// How a function is computed from its float arguments.
#[derive(Clone, Copy)]
enum Form {
    One(fn(f64) -> Answer),
    Two(fn(f64, f64) -> Answer),
}

/// What is kept of a numeric when its fraction goes: the whole part, and what is added for the fraction, whose
/// sign and comparison with a half are given.
type Whole = fn(fraction: Fraction) -> i8;

/// The part of a numeric behind its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    is_negative: bool,
    is_zero: bool,
    is_half_or_more: bool,
}

struct Math {
    name: &'static str,
    aliases: Vec<String>,
    form: Form,
    /// How a numeric becomes a whole number.
    whole: Option<Whole>,
    /// The engine's function of a numeric and a number of digits.
    to_digits: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let one = |name, form| Math::new(name, Form::One(form));
    let two = |name, form| Math::new(name, Form::Two(form));
    let functions = [
        one("acos", |x| arc(x).map(f64::acos)),
        one("asin", |x| arc(x).map(f64::asin)),
        one("atan", |x| Ok(x.atan())),
        two("atan2", |y, x| Ok(y.atan2(x))),
        one("cos", |x| angle(x).map(f64::cos)),
        one("sin", |x| angle(x).map(f64::sin)),
        one("tan", |x| angle(x).map(f64::tan)),
        one("cot", |x| angle(x).map(|x| 1.0 / x.tan())),
        one("sinh", |x| Ok(x.sinh())),
        one("cosh", |x| Ok(x.cosh())),
        one("tanh", |x| Ok(x.tanh())),
        one("asinh", |x| Ok(x.asinh())),
        one("acosh", |x| if x < 1.0 { Err(out_of_domain()) } else { Ok(x.acosh()) }),
        one("atanh", |x| arc(x).map(f64::atanh)),
        one("degrees", |x| in_range(x / (consts::PI / 180.0), &[x])),
        one("radians", |x| Ok(x * (consts::PI / 180.0))),
        one("cbrt", |x| Ok(x.cbrt())),
        one("exp", exp),
        one("ln", |x| positive(x).map(f64::ln)),
        one("log", |x| positive(x).map(f64::log10)).also("log10"),
        one("sqrt", sqrt),
        two("power", power).also("pow"),
        one("sign", |x| Ok(if x == 0.0 { 0.0 } else { x.signum() })).whole_as(|_| 0),
        one("ceil", |x| Ok(x.ceil())).also("ceiling").whole_as(up),
        one("floor", |x| Ok(x.floor())).whole_as(down),
        one("round", |x| Ok(x.round_ties_even())).whole_as(nearest).digits_by(math::round()),
        one("trunc", |x| Ok(x.trunc())).whole_as(|_| 0).digits_by(math::trunc()),
    ];
    functions.map(|function| Arc::new(ScalarUDF::from(function))).into()
}

/// The angles of which arcs exist: from -1 to 1.
fn arc(x: f64) -> Answer {
    if x.abs() > 1.0 { Err(out_of_domain()) } else { Ok(x) }
}

fn angle(x: f64) -> Answer {
    if x.is_infinite() { Err(out_of_domain()) } else { Ok(x) }
}

fn out_of_domain() -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

/// Refuses a result that became infinite although the arguments are finite.
fn in_range(result: f64, arguments: &[f64]) -> Answer {
    match result.is_infinite() && arguments.iter().all(|x| x.is_finite()) {
        true => Err(out_of_range("overflow")),
        false => Ok(result),
    }
}

fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {what}"))
}

fn exp(x: f64) -> Answer {
    match x.exp() {
        0.0 if x.is_finite() => Err(out_of_range("underflow")),
        result => in_range(result, &[x]),
    }
}

fn positive(x: f64) -> Answer {
    let refused = |what| {
        let message = format!("cannot take logarithm of {what}");
        Err(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, message))
    };
    match x {
        0.0 => refused("zero"),
        x if x < 0.0 => refused("a negative number"),
        x => Ok(x),
    }
}

fn sqrt(x: f64) -> Answer {
    if x < 0.0 {
        return Err(bad_power("cannot take square root of a negative number"));
    }
    Ok(x.sqrt())
}

fn power(base: f64, exponent: f64) -> Answer {
    if base == 0.0 && exponent < 0.0 {
        return Err(bad_power("zero raised to a negative power is undefined"));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        let message = "a negative number raised to a non-integer power yields a complex result";
        return Err(bad_power(message));
    }
    match base.powf(exponent) {
        0.0 if base != 0.0 && base.is_finite() && exponent.is_finite() => {
            Err(out_of_range("underflow"))
        }
        result => in_range(result, &[base, exponent]),
    }
}

fn bad_power(message: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

fn up(fraction: Fraction) -> i8 {
    i8::from(!fraction.is_zero && !fraction.is_negative)
}

fn down(fraction: Fraction) -> i8 {
    -i8::from(!fraction.is_zero && fraction.is_negative)
}

/// Half away from zero.
fn nearest(fraction: Fraction) -> i8 {
    match (fraction.is_half_or_more, fraction.is_negative) {
        (true, true) => -1,
        (true, false) => 1,
        (false, _) => 0,
    }
}

impl Math {
    fn new(name: &'static str, form: Form) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { name, aliases: vec![], form, whole: None, to_digits: None, signature }
    }

    fn also(mut self, alias: &str) -> Self {
        self.aliases.push(alias.to_owned());
        self
    }

    fn whole_as(mut self, whole: Whole) -> Self {
        self.whole = Some(whole);
        self
    }

    fn digits_by(mut self, function: Arc<ScalarUDF>) -> Self {
        self.to_digits = Some(function);
        self
    }

    fn arity(&self) -> usize {
        match self.form {
            Form::One(_) => 1,
            Form::Two(_) => 2,
        }
    }

    /// The engine's function, if the call has a number of digits.
    fn to_digits(&self, arguments: usize) -> Option<&Arc<ScalarUDF>> {
        self.to_digits.as_ref().filter(|_| arguments == 2)
    }

    fn of_floats(&self, columns: &[Float64Array], rows: usize) -> EngineResult<Float64Array> {
        let at = |column: usize, row: usize| {
            let column = &columns[column];
            column.is_valid(row).then(|| column.value(row))
        };
        let values = (0..rows).map(|row| match self.form {
            Form::One(form) => at(0, row).map(form).transpose(),
            Form::Two(form) => match (at(0, row), at(1, row)) {
                (Some(a), Some(b)) => form(a, b).map(Some),
                _ => Ok(None),
            },
        });
        Ok(values.collect::<Result<_, _>>()?)
    }

    /// Rounds numerics; `sign` yields their signs.
    fn of_numerics(&self, numerics: &ArrayRef, whole: Whole) -> EngineResult<ArrayRef> {
        let wide = DataType::Decimal256(76, scale_of(numerics.data_type()));
        let wide = cast(numerics, &wide)?;
        let unit = i256::from_i128(10)
            .pow_wrapping(u32::try_from(scale_of(numerics.data_type())).unwrap_or(0));
        let is_sign = self.name == "sign";
        let rounded = wide.as_primitive::<Decimal256Type>().iter().map(|value| {
            value.map(|value| if is_sign { value.signum() } else { rounded(value, unit, whole) })
        });
        let rounded = rounded.collect::<Decimal256Array>().with_precision_and_scale(76, 0)?;
        cast(&(Arc::new(rounded) as ArrayRef), &whole_type(numerics.data_type()))
            .map_err(Into::into)
    }
}

fn rounded(value: i256, unit: i256, whole: Whole) -> i256 {
    let (quotient, rest) = (value.wrapping_div(unit), value.wrapping_rem(unit));
    let fraction = Fraction {
        is_negative: rest.is_negative(),
        is_zero: rest == i256::ZERO,
        is_half_or_more: rest.wrapping_abs().wrapping_mul(i256::from_i128(2)) >= unit
            && unit != i256::ONE,
    };
    quotient.wrapping_add(i256::from_i128(whole(fraction).into()))
}

fn scale_of(numeric: &DataType) -> i8 {
    match numeric {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

/// The type of a numeric without its fraction, which rounding may make one digit longer.
fn whole_type(numeric: &DataType) -> DataType {
    let digits = |precision: u8, scale: i8, most: u8| {
        let whole = i16::from(precision) - i16::from(scale) + 1;
        u8::try_from(whole.max(1)).unwrap_or(most).min(most)
    };
    match numeric {
        DataType::Decimal256(precision, scale) => {
            DataType::Decimal256(digits(*precision, *scale, 76), 0)
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            DataType::Decimal128(digits(*precision, *scale, 38), 0)
        }
        other => other.clone(),
    }
}

impl ScalarUDFImpl for Math {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        let is_number =
            |found: &DataType| found.is_numeric() || found.is_null() || found.is_string();
        if !types.iter().all(is_number) {
            return Err(no_such_function(self.name, types).into());
        }
        match types {
            [value, digits] if self.to_digits.is_some() => {
                let value = match value {
                    DataType::Int64 => DataType::Decimal128(20, 0),
                    integer if integer.is_integer() => DataType::Decimal128(10, 0),
                    value if value.is_decimal() || value.is_null() => value.clone(),
                    _ => return Err(no_such_function(self.name, types).into()),
                };
                let digits = if digits.is_null() { DataType::Null } else { DataType::Int32 };
                Ok(vec![value, digits])
            }
            [value] if self.whole.is_some() && value.is_decimal() => Ok(vec![value.clone()]),
            types if types.len() == self.arity() => Ok(vec![DataType::Float64; types.len()]),
            types => Err(no_such_function(self.name, types).into()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        Ok(match types {
            [value] if value.is_decimal() => whole_type(value),
            _ => DataType::Float64,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        if let Some(function) = self.to_digits(args.arg_fields.len()) {
            return function.return_field_from_args(args);
        }
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field =
            datafusion::arrow::datatypes::Field::new(self.name, self.return_type(&types)?, true);
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        if let Some(function) = self.to_digits(args.args.len()) {
            return function.invoke_with_args(args);
        }
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| arg.to_array(rows));
        let columns = columns.collect::<EngineResult<Vec<_>>>()?;
        let values = match (self.whole, columns.as_slice()) {
            (Some(whole), [numerics]) if numerics.data_type().is_decimal() => {
                self.of_numerics(numerics, whole)?
            }
            _ => {
                let floats = columns.iter().map(|column| {
                    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
                });
                let floats = floats.collect::<EngineResult<Vec<_>>>()?;
                Arc::new(self.of_floats(&floats, rows)?)
            }
        };
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(values)),
        }
    }
}

impl fmt::Debug for Math {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Math").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Math {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Math {}

impl Hash for Math {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(value: i64, scale: u32, whole: Whole) -> i128 {
        let unit = i256::from_i128(10).pow_wrapping(scale);
        rounded(i256::from_i128(value.into()), unit, whole).as_i128()
    }

    #[test]
    fn numerics_become_whole() {
        assert_eq!([-25, 25, 24, -24, 0].map(|x| whole(x, 1, nearest)), [-3, 3, 2, -2, 0]);
        assert_eq!([95, -95, 90].map(|x| whole(x, 1, up)), [10, -9, 9]);
        assert_eq!([95, -95, -90].map(|x| whole(x, 1, down)), [9, -10, -9]);
        assert_eq!([7, -7].map(|x| whole(x, 0, nearest)), [7, -7]);
    }

    #[test]
    fn arguments_out_of_the_domain_are_refused() {
        for refused in
            [power(-2.5, 0.5), power(0.0, -1.0), power(1e300, 2.0), sqrt(-1.0), positive(0.0)]
        {
            refused.unwrap_err();
        }
        assert_eq!(power(f64::INFINITY, -1.0).unwrap(), 0.0);
        assert!(positive(f64::NAN).unwrap().is_nan());
        assert_eq!(exp(f64::NEG_INFINITY).unwrap(), 0.0);
        exp(-1e4).unwrap_err();
    }
}
