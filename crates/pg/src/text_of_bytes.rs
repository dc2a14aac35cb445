//! Conversions of bytes to text fail with 22021 unless the bytes are UTF-8 without a zero byte.
//!
//! DataFusion casts a `bytea` to text where the two types meet. Its cast accepts zero bytes, and reports
//! invalid UTF-8 with a different error. After type coercion, such casts are replaced with a function call.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::error::SqlError;
use crate::copy_text::utf8;

/// Functions that cast to an engine type given by name, and so can make text of any bytes. PostgreSQL has no
/// counterpart.
pub const ENGINE_CASTS: [&str; 2] = ["arrow_cast", "arrow_try_cast"];

/// The function that concatenates an array's elements into a text.
const PRINTS_ARRAYS: &str = "array_to_string";

/// Replaces casts of bytes to text with the checking function.
#[derive(Debug)]
pub struct TextOfBytes;

impl AnalyzerRule for TextOfBytes {
    fn name(&self) -> &str {
        "text_of_bytes"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let checked = expr.transform_up(|expr| Ok(check(expr, &schema)))?;
        Ok(checked.update_data(|expr| name.restore(expr)))
    })
}

fn check(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::Cast(Cast { expr, field })
            if field.data_type().is_string()
                && expr.get_type(schema).is_ok_and(|from| from.is_binary()) =>
        {
            let function = Arc::new(ScalarUDF::from(Read::to(field.data_type().clone())));
            let call = ScalarFunction::new_udf(function, vec![*expr]);
            Transformed::yes(Expr::ScalarFunction(call))
        }
        // This function casts the elements itself.
        Expr::ScalarFunction(mut call) if PRINTS_ARRAYS == call.name() => {
            let array = call.args.first().and_then(|array| array.get_type(schema).ok());
            let Some(array) = array.filter(is_array_of_bytes) else {
                return Transformed::no(Expr::ScalarFunction(call));
            };
            let function = Arc::new(ScalarUDF::from(Read::to(array)));
            let checked = ScalarFunction::new_udf(function, vec![call.args.remove(0)]);
            call.args.insert(0, Expr::ScalarFunction(checked));
            Transformed::yes(Expr::ScalarFunction(call))
        }
        other => Transformed::no(other),
    }
}

fn is_array_of_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(element) if element.data_type().is_binary())
}

/// Reads bytes as text of type `to`; for an array, only checks that its elements can be read.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Read {
    to: DataType,
    signature: Signature,
}

impl Read {
    fn to(to: DataType) -> Self {
        Self { to, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn read(&self, bytes: &ArrayRef) -> Result<ArrayRef> {
        let elements = match bytes.as_list_opt::<i32>() {
            Some(lists) => lists.values(),
            None => bytes,
        };
        let views = cast(elements, &DataType::BinaryView)?;
        for value in views.as_binary_view().iter().flatten() {
            utf8(value)?;
        }
        Ok(cast(bytes, &self.to)?)
    }
}

impl ScalarUDFImpl for Read {
    fn name(&self) -> &str {
        "text_of_bytes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(bytes)] => Ok(ColumnarValue::Array(self.read(bytes)?)),
            [ColumnarValue::Scalar(bytes)] => {
                let text = self.read(&bytes.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&text, 0)?))
            }
            _ => Err(SqlError::internal("bytes are read one value at a time").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::BinaryArray;
    use datafusion::arrow::util::display::array_value_to_string;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn read(bytes: &[u8]) -> Result<ArrayRef, SqlError> {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(bytes), None]));
        Ok(Read::to(DataType::Utf8View).read(&bytes)?)
    }

    #[test]
    fn only_what_a_text_may_hold_is_read() {
        let text = read("aé".as_bytes()).unwrap();
        assert_eq!(text.as_string_view().iter().collect::<Vec<_>>(), [Some("aé"), None]);
        for (bytes, shown) in [(&b"a\0"[..], "0x00"), (b"\xff", "0xff"), (b"a\xc3", "0xc3")] {
            let refused = read(bytes).unwrap_err();
            assert_eq!(refused.sqlstate.code(), "22021");
            assert_eq!(
                refused.message,
                format!("invalid byte sequence for encoding \"UTF8\": {shown}")
            );
        }
    }

    async fn run(expression: &str) -> Result<String, SqlError> {
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_analyzer_rule(Arc::new(TextOfBytes))
            .build();
        let frame = SessionContext::new_with_state(state);
        let batches = frame.sql(&format!("SELECT {expression}")).await?.collect().await?;
        Ok(array_value_to_string(batches[0].column(0), 0).unwrap())
    }

    #[tokio::test]
    async fn functions_are_given_no_other_text() {
        for (expression, shown) in [
            ("X'0041' || 'a'", "0x00"),
            ("concat(X'41ff', 'a')", "0xff"),
            ("concat_ws(',', X'41ff', 'a')", "0xff"),
            ("left(X'0041', 2)", "0x00"),
            ("string_agg(X'0041', ',')", "0x00"),
            ("array_to_string(make_array(X'0041'), ',')", "0x00"),
            ("CAST(X'0041' AS varchar)", "0x00"),
        ] {
            let refused = run(expression).await.expect_err(expression);
            let message = format!("invalid byte sequence for encoding \"UTF8\": {shown}");
            assert_eq!(
                (refused.sqlstate.code(), refused.message),
                ("22021", message),
                "{expression}"
            );
        }
        assert_eq!(run("X'41' || 'a'").await.unwrap(), "Aa");
        assert_eq!(run("concat(X'41', 'a')").await.unwrap(), "Aa");
    }
}
