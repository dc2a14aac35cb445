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
/// A quoted literal before its type is known. See `resolve/untyped.rs`.
pub const UNTYPED: &str = "\u{1}untyped";
/// Gives a value for each row, though it be the same for all.
const EACH: &str = "\u{1}each";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    name: &'static str,
    signature: Signature,
}

/// [`MAYBE`] as a function. It is only stable, so that it is not folded away over a value known not to be null.
pub static MAYBE_NULL: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| identity(MAYBE, Volatility::Stable));

/// A function that gives a value for each row. The engine takes an element of an `IN` list that it can evaluate over no rows for a constant,
/// and `CASE` over no rows is a null.
pub static EACH_ROW: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| identity(EACH, Volatility::Immutable));

fn identity(name: &'static str, volatility: Volatility) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, volatility);
    Arc::new(ScalarUDF::new_from_impl(Identity { name, signature }))
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let immutable = [PLAIN, UNTYPED].map(|name| identity(name, Volatility::Immutable));
    immutable.into_iter().chain([Arc::clone(&MAYBE_NULL)]).collect()
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
            UNTYPED => Field::new(UNTYPED, DataType::Null, true),
            PLAIN => Field::new(PLAIN, only.data_type().clone(), true),
            name => only.as_ref().clone().with_name(name).with_nullable(true),
        };
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(_) if self.name == UNTYPED => exec_err!("a literal has no type"),
            Some(value) if self.name == EACH => {
                Ok(ColumnarValue::Array(value.into_array(args.number_rows)?))
            }
            Some(value) => Ok(value),
            None => exec_err!("it takes one argument"),
        }
    }
}
