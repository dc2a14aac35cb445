//! Rows that are computed once per statement, however often its plan refers to them.
//!
//! A query of `WITH` that is volatile, or `MATERIALIZED`, has the same rows wherever it is referred to. The
//! logical operator is a fence: no condition, limit or column is pushed below it. The physical one computes all
//! rows when the first of them is asked for, and keeps them in memory until the statement is over.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use futures::TryStreamExt as _;
use tokio::sync::OnceCell;

use tidemark_pg::error::SqlError;

/// Numbers of kept rows; those of a view are in the plans of many statements.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Returns a number that no other rows have.
pub fn next_number() -> u64 {
    NEXT.fetch_add(1, atomic::Ordering::Relaxed)
}

/// The logical operator. All of one number in a statement have the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeptRows {
    number: u64,
    input: LogicalPlan,
}

impl PartialOrd for KeptRows {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.number.partial_cmp(&other.number)
    }
}

impl KeptRows {
    /// Keeps the rows of a plan; clones of the returned plan share them.
    pub fn of(input: LogicalPlan) -> LogicalPlan {
        Self { number: next_number(), input }.plan()
    }

    pub fn numbered(number: u64, input: LogicalPlan) -> LogicalPlan {
        Self { number, input }.plan()
    }

    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    pub fn with_input(&self, input: LogicalPlan) -> LogicalPlan {
        Self { number: self.number, input }.plan()
    }

    fn plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

impl UserDefinedLogicalNodeCore for KeptRows {
    fn name(&self) -> &'static str {
        "KeptRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptRows: {}", self.number)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().unwrap_or_default();
        Ok(Self { number: self.number, input })
    }
}

/// DataFusion's planner of physical plans, which knows kept rows too.
#[derive(Debug)]
pub struct KeepingPlanner;

#[async_trait]
impl QueryPlanner for KeepingPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keeper = Arc::new(Keeper::default());
        DefaultPhysicalPlanner::with_extension_planners(vec![keeper])
            .create_physical_plan(plan, session)
            .await
    }
}

/// Rows by their number, for one physical plan.
#[derive(Debug, Default)]
struct Keeper {
    kept: Mutex<HashMap<u64, Arc<Kept>>>,
}

#[async_trait]
impl ExtensionPlanner for Keeper {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<KeptRows>(), physical_inputs)
        else {
            return Ok(None);
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = Arc::clone(kept.entry(node.number).or_default());
        Ok(Some(Arc::new(KeptRowsExec::new(Arc::clone(input), rows))))
    }
}

/// The rows, once they are computed, and their memory.
#[derive(Debug, Default)]
struct Kept {
    rows: OnceCell<(Vec<RecordBatch>, MemoryReservation)>,
}

/// The physical operator.
#[derive(Debug)]
struct KeptRowsExec {
    input: Arc<dyn ExecutionPlan>,
    kept: Arc<Kept>,
    properties: Arc<PlanProperties>,
}

impl KeptRowsExec {
    const NAME: &str = "KeptRowsExec";

    fn new(input: Arc<dyn ExecutionPlan>, kept: Arc<Kept>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, kept, properties: Arc::new(properties) }
    }
}

impl DisplayAs for KeptRowsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAME)
    }
}

impl ExecutionPlan for KeptRowsExec {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
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
        Ok(Arc::new(Self::new(children.swap_remove(0), Arc::clone(&self.kept))))
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
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (input, kept) = (Arc::clone(&self.input), Arc::clone(&self.kept));
        let rows = async move {
            let (rows, _) = kept.rows.get_or_try_init(|| all_rows(input, context)).await?;
            let rows: Vec<Result<RecordBatch>> = rows.iter().cloned().map(Ok).collect();
            Ok::<_, DataFusionError>(futures::stream::iter(rows))
        };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

async fn all_rows(
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<(Vec<RecordBatch>, MemoryReservation)> {
    if input.properties().output_partitioning().partition_count() != 1 {
        return Err(SqlError::internal("kept rows come from one partition").into());
    }
    let memory = MemoryConsumer::new(KeptRowsExec::NAME).register(context.memory_pool());
    let mut stream = input.execute(0, context)?;
    let mut rows = vec![];
    while let Some(batch) = stream.try_next().await? {
        memory.try_grow(batch.get_array_memory_size())?;
        rows.push(batch);
    }
    Ok((rows, memory))
}
