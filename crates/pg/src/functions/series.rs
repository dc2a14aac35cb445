//! `generate_series` in `FROM` for integers of every width: DataFusion's accepts only `bigint`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;

const GENERATE_SERIES: &str = "generate_series";

/// Registers our function as a wrapper around the state's.
pub fn register(state: &mut SessionState) {
    if let Some(function) = state.table_functions().get(GENERATE_SERIES) {
        let ours = Series(Arc::clone(function.function()));
        state.register_udtf(GENERATE_SERIES, Arc::new(ours));
    }
}

#[derive(Debug)]
struct Series(Arc<dyn TableFunctionImpl>);

impl TableFunctionImpl for Series {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs = args.exprs().iter().map(widened).collect::<Result<Vec<_>>>()?;
        self.0.call_with_args(TableFunctionArgs::new(&exprs, args.session()))
    }
}

fn widened(expr: &Expr) -> Result<Expr> {
    match expr {
        Expr::Literal(value, metadata) if value.data_type().is_integer() => {
            Ok(Expr::Literal(value.cast_to(&DataType::Int64)?, metadata.clone()))
        }
        other => Ok(other.clone()),
    }
}
