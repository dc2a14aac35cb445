//! Logarithms, roots and arcs outside of their domain: an error, where the engine returns NaN or infinity.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::error::Result as EngineResult;
use datafusion::functions::math;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// The arguments that a function accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Domain {
    /// Above zero.
    Logarithm,
    /// From zero on.
    Root,
    /// From -1 to 1.
    Arc,
}

impl Domain {
    fn check(self, value: f64) -> Result<(), SqlError> {
        let (sqlstate, message) = match self {
            Self::Logarithm if value == 0.0 => {
                (SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of zero")
            }
            Self::Logarithm if value < 0.0 => (
                SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
                "cannot take logarithm of a negative number",
            ),
            Self::Root if value < 0.0 => (
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ),
            Self::Arc if value.abs() > 1.0 => {
                (SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
            }
            _ => return Ok(()),
        };
        Err(SqlError::new(sqlstate, message))
    }
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of = |inner, domain| Arc::new(ScalarUDF::from(Checked { inner, domain }));
    vec![
        of(math::ln(), Domain::Logarithm),
        of(math::log10(), Domain::Logarithm),
        of(math::log2(), Domain::Logarithm),
        of(math::log(), Domain::Logarithm),
        of(math::sqrt(), Domain::Root),
        of(math::asin(), Domain::Arc),
        of(math::acos(), Domain::Arc),
    ]
}

/// A function of the engine whose arguments are checked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    inner: Arc<ScalarUDF>,
    domain: Domain,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> EngineResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        for arg in &args.args {
            let constant = matches!(arg, ColumnarValue::Scalar(_));
            let values = arg.to_array(if constant { 1 } else { args.number_rows })?;
            let values = cast(&values, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            values.iter().flatten().try_for_each(|value| self.domain.check(value))?;
        }
        self.inner.invoke_with_args(args)
    }
}
