//! The identity that forgets: a value without the metadata of its type. See `rewrite/values.rs`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// Its name; users cannot write it.
pub const PLAIN: &str = "\u{1}plain";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Plain {
    signature: Signature,
}

pub fn udf() -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Plain { signature }))
}

impl ScalarUDFImpl for Plain {
    fn name(&self) -> &str {
        PLAIN
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [only] => Ok(only.clone()),
            _ => exec_err!("it takes one argument"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match args.arg_fields {
            [only] => Ok(Arc::new(Field::new(PLAIN, only.data_type().clone(), true))),
            _ => exec_err!("it takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => exec_err!("it takes one argument"),
        }
    }
}
