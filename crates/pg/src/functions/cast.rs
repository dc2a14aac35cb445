//! Casts with PostgreSQL's rules: from text by each type's input syntax, to text by its output, from
//! fractions to integers with rounding. Casts that Arrow does the same way are left to Arrow.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};

use crate::encode::column_text;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use crate::text_input;
use crate::types::arrow::name_of;
use crate::types::spelling::column_type_named;
use tidemark_ledger::catalog::ColumnType;

/// The function `sql_cast(value, 'type')`, to which `CAST(value AS type)` is rewritten.
pub const CAST: &str = "sql_cast";

static CAST_FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(CastFunction { name: CAST, target: None, signature }))
});

/// An expression cast to a type.
pub fn cast_call(expr: Expr, target: &ColumnType) -> Expr {
    CAST_FUNCTION.call(vec![expr, lit(target.to_string())])
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let to = |name, target| CastFunction {
        name,
        target: Some(target),
        signature: Signature::any(1, Volatility::Immutable),
    };
    let [jsonb, bytea] = [to("jsonb_in", ColumnType::Jsonb), to("bytea_in", ColumnType::Bytea)]
        .map(|function| Arc::new(ScalarUDF::from(function)));
    vec![Arc::clone(&CAST_FUNCTION), jsonb, bytea]
}

/// A cast to one type, or to the type named by its second argument.
#[derive(Debug)]
struct CastFunction {
    name: &'static str,
    target: Option<ColumnType>,
    signature: Signature,
}

impl CastFunction {
    fn target(&self, type_name: Option<&ScalarValue>) -> Result<ColumnType, SqlError> {
        if let Some(target) = &self.target {
            return Ok(target.clone());
        }
        let name = type_name.and_then(|name| name.try_as_str().flatten());
        column_type_named(
            name.ok_or_else(|| SqlError::internal("the type of a cast is a literal"))?,
        )
    }
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Err(SqlError::internal("the type of a cast depends on its arguments").into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        let target = self.target(args.scalar_arguments.get(1).copied().flatten())?;
        let nullable = args.arg_fields.first().is_none_or(|field| field.is_nullable());
        Ok(Arc::new(target.field(self.name, nullable)))
    }

    /// Replaces a cast that Arrow does the same way with Arrow's, about which the optimizer knows more.
    fn simplify(
        &self,
        args: Vec<Expr>,
        info: &SimplifyContext,
    ) -> EngineResult<ExprSimplifyResult> {
        let type_name = match args.get(1) {
            Some(Expr::Literal(name, _)) => Some(name),
            _ => None,
        };
        let target = self.target(type_name)?;
        let Some(value) = args.first() else { return Ok(ExprSimplifyResult::Original(args)) };
        if way(&info.get_data_type(value)?, &target)? != Way::Arrow {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let field = Arc::new(target.field("", true));
        let cast = Cast::new_from_field(Box::new(value.clone()), field);
        Ok(ExprSimplifyResult::Simplified(Expr::Cast(cast)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let type_name = match args.args.get(1) {
            Some(ColumnarValue::Scalar(name)) => Some(name),
            _ => None,
        };
        let target = self.target(type_name)?;
        let (Some(value), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return Err(SqlError::internal("a cast without a value").into());
        };
        let constant = matches!(value, ColumnarValue::Scalar(_));
        let array = value.to_array(if constant { 1 } else { args.number_rows })?;
        let array = cast_as(&array, field, &target)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// How values of one type become values of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Arrow,
    /// With the input syntax of the target type.
    Parse,
    /// With the output of the source type.
    Print,
    /// From one string type to another, truncated to its length.
    Cut,
    Round,
}

fn way(from: &DataType, to: &ColumnType) -> Result<Way, SqlError> {
    let is_binary = matches!(from, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    Ok(match to {
        _ if from.is_null() => Way::Arrow,
        ColumnType::Text | ColumnType::Varchar(None) if from.is_string() => Way::Arrow,
        ColumnType::Varchar(_) if from.is_string() => Way::Cut,
        ColumnType::Text | ColumnType::Varchar(_) => Way::Print,
        _ if from.is_string() => Way::Parse,
        ColumnType::Bytea if is_binary => Way::Arrow,
        ColumnType::Jsonb | ColumnType::Bytea => {
            let from = name_of(from, None);
            return Err(SqlError::new(
                SqlState::CANNOT_COERCE,
                format!("cannot cast type {from} to {to}"),
            ));
        }
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt
            if from.is_floating() || from.is_decimal() =>
        {
            Way::Round
        }
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => Way::Arrow,
        ColumnType::Boolean | ColumnType::Real | ColumnType::Double | ColumnType::Numeric(_) => {
            Way::Arrow
        }
        ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            Way::Arrow
        }
        ColumnType::Interval | ColumnType::Array(_) => Way::Arrow,
    })
}

/// Whether PostgreSQL has an assignment cast: whether values of one type may be stored in a column of another.
pub fn is_assignable(from: &DataType, to: &ColumnType) -> bool {
    use DataType::{
        Date32, Date64, Dictionary, Duration, FixedSizeList, Interval, LargeList, List, Time32,
        Time64, Timestamp,
    };
    let date = matches!(from, Date32 | Date64);
    let time = matches!(from, Time32(_) | Time64(_));
    let timestamp = matches!(from, Timestamp(_, _));
    let interval = matches!(from, Interval(_) | Duration(_));
    match (from, to) {
        (DataType::Null, _) => true,
        (Dictionary(_, value), to) => is_assignable(value, to),
        (from, _) if from.is_string() => true,
        (List(from) | LargeList(from) | FixedSizeList(from, _), ColumnType::Array(to)) => {
            is_assignable(from.data_type(), to)
        }
        (from, to) => match to {
            ColumnType::Text | ColumnType::Varchar(_) => true,
            ColumnType::Boolean => from == &DataType::Boolean,
            ColumnType::SmallInt
            | ColumnType::Integer
            | ColumnType::BigInt
            | ColumnType::Real
            | ColumnType::Double
            | ColumnType::Numeric(_) => from.is_numeric(),
            ColumnType::Date => date || timestamp,
            ColumnType::Time => time || timestamp || interval,
            ColumnType::Timestamp | ColumnType::Timestamptz => date || timestamp,
            ColumnType::Interval => interval || time,
            ColumnType::Bytea => from.is_binary(),
            ColumnType::Jsonb | ColumnType::Array(_) => false,
        },
    }
}

fn cast_as(array: &ArrayRef, field: &Field, target: &ColumnType) -> EngineResult<ArrayRef> {
    let arrow = target.arrow_type();
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match way(array.data_type(), target)? {
        Way::Arrow => Ok(cast_with_options(array, &arrow, &strict)?),
        Way::Parse => Ok(text_input::parse_column(array, target)?),
        Way::Print => cut(&print(array, field)?, target),
        Way::Cut => cut(&cast(array, &DataType::Utf8View)?, target),
        Way::Round => Ok(cast_with_options(&rounded(array)?, &arrow, &strict)?),
    }
}

/// An explicit cast to `varchar(n)` truncates silently.
fn cut(array: &ArrayRef, target: &ColumnType) -> EngineResult<ArrayRef> {
    let ColumnType::Varchar(Some(length)) = target else { return Ok(Arc::clone(array)) };
    let length = usize::try_from(*length).unwrap_or(usize::MAX);
    let mut cut = StringViewBuilder::with_capacity(array.len());
    for text in array.as_string_view() {
        cut.append_option(text.map(|text| match text.char_indices().nth(length) {
            Some((end, _)) => &text[..end],
            None => text,
        }));
    }
    Ok(Arc::new(cut.finish()))
}

/// Rounds floats half to even, and decimals half away from zero.
pub fn rounded(array: &ArrayRef) -> EngineResult<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Decimal32(precision, _) => cast(array, &DataType::Decimal32(*precision, 0))?,
        DataType::Decimal64(precision, _) => cast(array, &DataType::Decimal64(*precision, 0))?,
        DataType::Decimal128(precision, _) => cast(array, &DataType::Decimal128(*precision, 0))?,
        DataType::Decimal256(precision, _) => cast(array, &DataType::Decimal256(*precision, 0))?,
        _ => {
            let floats = cast(array, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Float64Type>(f64::round_ties_even))
        }
    })
}

/// Prints values as PostgreSQL does. Booleans are the exception: a cast yields `true`, the wire format `t`.
pub fn print(array: &ArrayRef, field: &Field) -> EngineResult<ArrayRef> {
    if array.data_type() == &DataType::Boolean {
        return Ok(cast(&cast(array, &DataType::Utf8)?, &DataType::Utf8View)?);
    }
    let text = column_text(field, array)?;
    Ok(cast(&text, &DataType::Utf8View)?)
}

impl PartialEq for CastFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for CastFunction {}

impl Hash for CastFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
