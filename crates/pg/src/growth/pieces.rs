//! Cuts batches into pieces when functions over a whole batch would make too much.
//!
//! The results of functions over a batch of small rows may not fit in memory, even if they are consumed row
//! by row. So a `PiecesExec` is inserted below operators with such calls. It evaluates the arguments first, and
//! passes on only as many rows at a time as the allowed result size permits.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{
    Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion,
};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::counted::Counted;
use super::made::allowed;
use super::sizes::Rows;

/// Any row count above one: calls for many rows share one limit.
const MANY: usize = 2;

/// Inserts a `PiecesExec` below operators that call functions with large results.
#[derive(Debug)]
pub struct InPieces;

impl PhysicalOptimizerRule for InPieces {
    fn name(&self) -> &str {
        "in_pieces"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let bytes_max = allowed(config, MANY);
        plan.transform_up(|node| {
            let calls = counted_calls(&node)?;
            let [input] = node.children()[..] else { return Ok(Transformed::no(node)) };
            if calls.is_empty() || input.is::<PiecesExec>() {
                return Ok(Transformed::no(node));
            }
            let pieces = PiecesExec { input: Arc::clone(input), calls: calls.into(), bytes_max };
            Ok(Transformed::yes(node.replace_children(vec![Arc::new(pieces)], recomputed())?))
        })
        .data()
    }
}

fn recomputed() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}

/// Returns the counted calls of an operator whose expressions are over the columns of its input.
fn counted_calls(node: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let sees_input = node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<SortExec>()
        || node
            .downcast_ref::<AggregateExec>()
            .is_some_and(|node| node.mode().input_mode() == AggregateInputMode::Raw);
    let mut calls = vec![];
    if sees_input {
        node.apply_expressions(&mut |expr| {
            expr.apply(|part| {
                if counted(part).is_some() {
                    calls.push(Arc::clone(part));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
    }
    Ok(calls)
}

fn counted(expr: &Arc<dyn PhysicalExpr>) -> Option<(&ScalarFunctionExpr, &Counted)> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    Some((call, call.fun().inner().downcast_ref::<Counted>()?))
}

/// Passes on the rows of its input in pieces, so that no call over them makes more than allowed.
#[derive(Clone)]
pub struct PiecesExec {
    input: Arc<dyn ExecutionPlan>,
    calls: Arc<[Arc<dyn PhysicalExpr>]>,
    bytes_max: usize,
}

impl PiecesExec {
    fn cut(&self, batch: RecordBatch, pieces: &mut Vec<RecordBatch>) {
        let rows = batch.num_rows();
        if rows <= 1 || self.bytes(&batch) <= self.bytes_max {
            pieces.push(batch);
            return;
        }
        let half = rows / 2;
        self.cut(batch.slice(0, half), pieces);
        self.cut(batch.slice(half, rows - half), pieces);
    }

    /// An upper bound in bytes of the results of all calls over a batch.
    fn bytes(&self, batch: &RecordBatch) -> usize {
        let each = self.calls.iter().map(|call| bytes_of(call, batch));
        each.fold(0, usize::saturating_add)
    }
}

fn bytes_of(call: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> usize {
    let Some((call, counted)) = counted(call) else { return 0 };
    let args = call.args().iter().map(|arg| arg.evaluate(batch));
    match args.collect::<Result<Vec<ColumnarValue>>>() {
        Ok(args) => counted.bound(&args, Rows { first: 0, count: batch.num_rows() }),
        // An inner call would make too much from these rows.
        Err(error) if super::is_too_much(&error) => usize::MAX,
        // Any other error is reported by the operator, if it makes the call.
        Err(_) => 0,
    }
}

impl fmt::Debug for PiecesExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PiecesExec").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for PiecesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PiecesExec: bytes_max={}", self.bytes_max)
    }
}

impl ExecutionPlan for PiecesExec {
    fn name(&self) -> &str {
        "PiecesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for call in &*self.calls {
            if visit(call)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self { input, ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, recomputed())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (schema, own) = (rows.schema(), self.clone());
        let pieces = rows.map_ok(move |batch| {
            let mut pieces = vec![];
            own.cut(batch, &mut pieces);
            stream::iter(pieces.into_iter().map(Ok))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, pieces.try_flatten().boxed())))
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }
}
