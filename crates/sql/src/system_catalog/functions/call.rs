//! Makes functions over the catalog callable by DataFusion: once per row, with plain values.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::Lookup;
use crate::system_catalog::cell::{Cell, array_of};
use tidemark_pg::carried;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::SystemType;

/// A function: its name, its numbers of arguments and its result type.
#[derive(Debug)]
pub(super) struct FunctionSpec {
    pub name: &'static str,
    /// Minimum and maximum.
    pub arguments: (usize, usize),
    pub result: SystemType,
    /// Whether a null argument makes the result null without a call.
    pub strict: bool,
    pub evaluate: fn(&Lookup, &[Argument]) -> Evaluated,
}

pub(super) type Evaluated = std::result::Result<Cell, SqlError>;

/// An argument; all integer types are `Int`, all text types are `Text`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

impl FunctionSpec {
    /// A function whose result is null if an argument is.
    pub(super) const fn strict(
        name: &'static str,
        arguments: (usize, usize),
        result: SystemType,
        evaluate: fn(&Lookup, &[Argument]) -> Evaluated,
    ) -> Self {
        Self { name, arguments, result, strict: true, evaluate }
    }

    /// A function about something Tidemark does not have: always null.
    pub(super) const fn null(
        name: &'static str,
        arguments: (usize, usize),
        result: SystemType,
    ) -> Self {
        Self::strict(name, arguments, result, |_, _| Ok(Cell::Null))
    }
}

/// A function as DataFusion calls it.
#[derive(Debug)]
pub(super) struct CatalogFunction {
    spec: &'static FunctionSpec,
    /// What it reads; `None` for the lookup that the plan carries.
    lookup: Option<Arc<Lookup>>,
    signature: Signature,
}

impl CatalogFunction {
    pub(super) fn new(spec: &'static FunctionSpec) -> Self {
        Self { spec, lookup: None, signature: Signature::user_defined(Volatility::Stable) }
    }

    /// `function` with this lookup; `None` if it is another kind of function, or has its lookup.
    pub(super) fn bound(function: &ScalarUDF, lookup: &Arc<Lookup>) -> Option<Arc<ScalarUDF>> {
        let unbound = function.inner().downcast_ref::<Self>().filter(|f| f.lookup.is_none())?;
        let bound = Self { lookup: Some(Arc::clone(lookup)), ..Self::new(unbound.spec) };
        Some(Arc::new(ScalarUDF::from(bound)))
    }

    fn evaluate_row(&self, options: &ConfigOptions, arrays: &[ArrayRef], row: usize) -> Evaluated {
        let arguments: Vec<_> = arrays.iter().map(|array| argument(array, row)).collect();
        if self.spec.strict && arguments.contains(&Argument::Null) {
            return Ok(Cell::Null);
        }
        // The planner makes some calls with null arguments outside of any statement.
        let lookup = self.lookup.as_ref().or_else(|| carried::get(options));
        let lookup = lookup.ok_or_else(|| SqlError::internal("a plan carries no catalog"))?;
        (self.spec.evaluate)(lookup, &arguments)
    }

    fn undefined(&self, arguments: &[DataType]) -> DataFusionError {
        let types: Vec<_> = arguments.iter().map(|t| t.to_string().to_lowercase()).collect();
        let message = format!("function {}({}) does not exist", self.spec.name, types.join(", "));
        SqlError::new(SqlState::UNDEFINED_FUNCTION, message).into()
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
            && self.lookup.as_ref().map(Arc::as_ptr) == other.lookup.as_ref().map(Arc::as_ptr)
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.spec.result.arrow_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(self.spec.result.field(self.spec.name)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (least, most) = self.spec.arguments;
        let coerced: Option<Vec<_>> = arguments.iter().map(coerced_type).collect();
        coerced
            .filter(|types| (least..=most).contains(&types.len()))
            .ok_or_else(|| self.undefined(arguments))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let once = arguments.args.iter().all(is_scalar);
        let rows = if once { 1 } else { arguments.number_rows };
        let arrays = arguments.args.iter().map(|value| value.to_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = &arguments.config_options;
        let cells = (0..rows).map(|row| self.evaluate_row(options, &arrays, row));
        let cells = cells.collect::<std::result::Result<Vec<_>, _>>()?;
        let array = array_of(self.spec.result, cells.iter());
        if once {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
        } else {
            Ok(ColumnarValue::Array(array))
        }
    }
}

fn coerced_type(argument: &DataType) -> Option<DataType> {
    match argument {
        DataType::Null => Some(DataType::Int64),
        integer if integer.is_integer() => Some(DataType::Int64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8View),
        DataType::Boolean => Some(DataType::Boolean),
        _ => None,
    }
}

fn argument(array: &dyn Array, row: usize) -> Argument {
    if array.is_null(row) {
        return Argument::Null;
    }
    match array.data_type() {
        DataType::Boolean => Argument::Bool(array.as_boolean().value(row)),
        DataType::Int64 => Argument::Int(array.as_primitive::<Int64Type>().value(row)),
        _ => Argument::Text(array.as_string_view().value(row).to_owned()),
    }
}
