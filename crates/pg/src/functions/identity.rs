//! Functions that return their argument and change only what the planner knows of it. Users cannot write
//! their names.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// Drops the metadata of the value's type. See `rewrite/values.rs`.
pub const PLAIN: &str = "\u{1}plain";
/// Makes the value nullable, whatever its column says. See `rewrite/pitfalls.rs`.
pub const MAYBE: &str = "\u{1}maybe";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    name: &'static str,
    signature: Signature,
}

/// [`MAYBE`] as a function. It is only stable, so that it is not folded away over a value known not to be null.
pub static MAYBE_NULL: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| identity(MAYBE, Volatility::Stable));

fn identity(name: &'static str, volatility: Volatility) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, volatility);
    Arc::new(ScalarUDF::new_from_impl(Identity { name, signature }))
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![identity(PLAIN, Volatility::Immutable), Arc::clone(&MAYBE_NULL)]
}

impl ScalarUDFImpl for Identity {
    fn name(&self) -> &str {
        self.name
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
        let [only] = args.arg_fields else { return exec_err!("it takes one argument") };
        let field = match self.name {
            PLAIN => Field::new(PLAIN, only.data_type().clone(), true),
            name => only.as_ref().clone().with_name(name).with_nullable(true),
        };
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => exec_err!("it takes one argument"),
        }
    }
}
