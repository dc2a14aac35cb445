//! `EXPLAIN [ANALYZE] [VERBOSE]`: shows how a query would run or did run.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{TryStreamExt as _, future};

use super::{Outcome, Reply, schema_of};
use crate::Frontend;
use crate::parser::Statement;
use crate::planner::Parameters;
use crate::session::Session;
use tidemark_pg::error::SqlError;
use tidemark_pg::memory;
use tidemark_pg::query_runtime::{interruptible, is_checkpoint};

/// Indentation of each level of operators.
const INDENT: usize = 2;

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
        let state = planner.state();
        let plan = planner.plan(&state, query, &parameters.types).await?;
        let plan = plan.with_param_values(parameters.values.clone())?;
        let physical = state.create_physical_plan(&plan).await?;
        let text = if analyze {
            let ran = interruptible(physical)?;
            let rows = execute_stream(Arc::clone(&ran), memory::counted(state.task_context()))?;
            rows.try_for_each(|_| future::ready(Ok(()))).await?;
            without_checkpoints(&render(&*ran, analyze, verbose))
        } else {
            render(&*physical, analyze, verbose)
        };
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

/// Removes the checkpoints from a printed plan.
fn without_checkpoints(text: &str) -> String {
    let mut above: Vec<usize> = vec![];
    let mut shown = String::new();
    for line in text.lines() {
        let name = line.trim_start();
        let depth = line.len() - name.len();
        above.retain(|left_out| *left_out < depth);
        if is_checkpoint(name) {
            above.push(depth);
        } else {
            shown.push_str(&line[INDENT * above.len()..]);
            shown.push('\n');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_without_what_stops_it() {
        let ran = "CheckpointExec, metrics=[]\n  SortExec: a\n    FilterExec: b\n      \
                   CheckpointExec, metrics=[]\n        UnionExec\n          \
                   CheckpointExec, metrics=[]\n            One\n          Two\n";
        let shown = "SortExec: a\n  FilterExec: b\n    UnionExec\n      One\n      Two\n";
        assert_eq!(without_checkpoints(ran), shown);
    }
}
