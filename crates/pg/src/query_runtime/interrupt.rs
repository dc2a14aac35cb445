//! Makes plans stoppable: every batch an operator yields passes a checkpoint.
//!
//! An operator works until it has a batch for its reader. Most produce one soon and poll their inputs
//! meanwhile. At each poll the checkpoint tests whether the statement still runs, and yields the thread if
//! the task has computed for long. A join may look at billions of pairs before one passes its filter, so
//! there the filter is the checkpoint.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{
    Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion,
};
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::expressions::Literal;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::Stream;

use super::in_order;
use super::slices::{Slices, is_one_slice, slices};
use crate::running::{check, slice_is_over};

/// Adds checkpoints to a plan. The result is only for execution: no optimizer knows it.
pub fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let checked = |plan| {
        let plan = with_checked_filter(in_order::evaluated(plan)?)?;
        Ok(if keeps_pace(&*plan) {
            Transformed::no(plan)
        } else {
            Transformed::yes(Arc::new(CheckpointExec { input: plan }) as Arc<dyn ExecutionPlan>)
        })
    };
    plan.transform_up(checked).data()
}

/// Whether a line of a printed plan is a checkpoint.
pub fn is_checkpoint(line: &str) -> bool {
    line.starts_with(CheckpointExec::NAME)
}

/// Whether an operator yields no more often than it polls its only input.
fn keeps_pace(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<GlobalLimitExec>()
}

/// Adds a checkpoint to the filter of a join.
fn with_checked_filter(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        let filter = join.filter().map_or_else(always, checked);
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        return Ok(Arc::new(join));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(checked(filter))).build_exec();
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>()
        && let Some(filter) = join.filter()
    {
        return Ok(Arc::new(SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            Some(checked(filter)),
            join.join_type(),
            join.sort_options().to_vec(),
            join.null_equality(),
        )?));
    }
    Ok(plan)
}

fn checked(filter: &JoinFilter) -> JoinFilter {
    JoinFilter::new(
        Arc::new(CheckedExpr { inner: in_order::ordered(filter.expression()) }),
        filter.column_indices().to_vec(),
        Arc::clone(filter.schema()),
    )
}

/// The filter of a join without one: always true, with a checkpoint.
fn always() -> JoinFilter {
    let inner = Arc::new(Literal::new(ScalarValue::Boolean(Some(true))));
    JoinFilter::new(Arc::new(CheckedExpr { inner }), vec![], Arc::new(Schema::empty()))
}

/// An expression that fails once the statement was stopped.
#[derive(Debug, Eq)]
struct CheckedExpr {
    inner: Arc<dyn PhysicalExpr>,
}

impl PartialEq for CheckedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Hash for CheckedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for CheckedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for CheckedExpr {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        check()?;
        if is_one_slice(batch) {
            return self.inner.evaluate(batch);
        }
        let parts = slices(Ok(batch.clone())).map(|part| {
            check()?;
            let part = part?;
            self.inner.evaluate(&part)?.into_array(part.num_rows())
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(|part| &**part).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { inner: children.swap_remove(0) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

/// A checkpoint in a plan.
#[derive(Debug)]
struct CheckpointExec {
    input: Arc<dyn ExecutionPlan>,
}

impl CheckpointExec {
    const NAME: &str = "CheckpointExec";
}

impl DisplayAs for CheckpointExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

impl ExecutionPlan for CheckpointExec {
    fn name(&self) -> &'static str {
        Self::NAME
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
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        Ok(Box::pin(Checkpoint { rows, waiting: None }))
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&input_stats[0]))
    }
}

struct Checkpoint {
    rows: SendableRecordBatchStream,
    /// The rest of a batch that is cut into slices because its rows are long.
    waiting: Option<Slices>,
}

impl Stream for Checkpoint {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        check()?;
        if slice_is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(part) = self.waiting.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Some(part));
        }
        let Some(batch) = ready!(self.rows.as_mut().poll_next(cx)) else {
            return Poll::Ready(None);
        };
        let mut parts = slices(batch);
        let first = parts.next();
        self.waiting = Some(parts);
        Poll::Ready(first)
    }
}

impl RecordBatchStream for Checkpoint {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}
