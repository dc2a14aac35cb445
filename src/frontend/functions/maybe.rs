//! The identity that may be null: what a sub-query yields is null where it finds no row, whatever its
//! column says. See `rewrite/pitfalls.rs`.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// Its name; users cannot write it.
pub const MAYBE: &str = "\u{1}maybe";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Maybe {
    signature: Signature,
}

pub fn udf() -> Arc<ScalarUDF> {
    // Not immutable: it must not be folded away from what is known not to be null.
    let signature = Signature::any(1, Volatility::Stable);
    Arc::new(ScalarUDF::new_from_impl(Maybe { signature }))
}

impl ScalarUDFImpl for Maybe {
    fn name(&self) -> &str {
        MAYBE
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
            [only] => Ok(Arc::new(only.as_ref().clone().with_name(MAYBE).with_nullable(true))),
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
