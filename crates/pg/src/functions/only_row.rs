//! The value of a scalar subquery whose rows were collected into an array; more than one row is an error.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, AsArray, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::SqlError;
use crate::sqlstate::SqlState;

/// `only_row(array)`: the element of a one-element array, null for an empty one.
pub static ONLY_ROW: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    // Volatile: it must not be evaluated on rows that a join would have filtered out.
    let signature = Signature::any(1, Volatility::Volatile);
    Arc::new(ScalarUDF::from(OnlyRow { signature }))
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyRow {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyRow {
    fn name(&self) -> &'static str {
        "only_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        match types {
            [DataType::List(element)] => Ok(element.data_type().clone()),
            _ => Err(SqlError::internal("the rows of a subquery are collected in a list").into()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let Some(rows) = args.args.first() else {
            return Err(SqlError::internal("only_row takes an array").into());
        };
        let constant = matches!(rows, ColumnarValue::Scalar(_));
        let rows = rows.to_array(if constant { 1 } else { args.number_rows })?;
        let rows = rows.as_list::<i32>();
        let positions = (0..rows.len()).map(|row| {
            let length = if rows.is_null(row) { 0 } else { rows.value_length(row) };
            match length {
                0 => Ok(None),
                1 => Ok(u64::try_from(rows.value_offsets()[row]).ok()),
                _ => Err(several_rows()),
            }
        });
        let positions = positions.collect::<Result<UInt64Array, SqlError>>()?;
        let values = take(rows.values(), &positions, None)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
        }
        Ok(ColumnarValue::Array(values))
    }
}

fn several_rows() -> SqlError {
    SqlError::new(
        SqlState::CARDINALITY_VIOLATION,
        "more than one row returned by a subquery used as an expression",
    )
}
