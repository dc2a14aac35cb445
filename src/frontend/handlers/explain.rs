//! `EXPLAIN [ANALYZE] [VERBOSE]`: how a query would run, or ran.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};

use super::{Outcome, Parameters, Reply, schema_of};
use crate::frontend::Frontend;
use crate::frontend::error::SqlError;
use crate::frontend::memory;
use crate::frontend::parser::Statement;
use crate::frontend::session::Session;

impl Frontend {
    pub(super) async fn explain(
        &self,
        session: &mut Session,
        statement: &Statement,
        analyze: bool,
        verbose: bool,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        let Statement::Query(query) = statement else {
            return Err(SqlError::unsupported("EXPLAIN of anything but a query"));
        };
        let planner = self.planner(session);
        let state = planner.state()?;
        let plan = planner.plan(&state, query, &parameters.types).await?;
        let plan = plan.with_param_values(parameters.values.clone())?;
        let physical = state.create_physical_plan(&plan).await?;
        if analyze {
            let context = memory::counted(TaskContext::from(&state));
            collect(Arc::clone(&physical), context).await?;
        }
        let text = render(&*physical, analyze, verbose);
        let lines: Vec<&str> = text.lines().collect();
        let batch =
            RecordBatch::try_new(explain_schema(), vec![Arc::new(StringArray::from(lines))])
                .map_err(DataFusionError::from)?;
        Ok(Outcome::batch(batch, "EXPLAIN")?.into())
    }
}

pub fn explain_schema() -> SchemaRef {
    schema_of(vec![Field::new("QUERY PLAN", DataType::Utf8, false)])
}

fn render(plan: &dyn ExecutionPlan, analyze: bool, verbose: bool) -> String {
    let display = if analyze {
        DisplayableExecutionPlan::with_metrics(plan)
    } else {
        DisplayableExecutionPlan::new(plan)
    };
    display.indent(verbose).to_string()
}
