//! `AND` and `OR` that look at their right side only where the left side leaves the result open.
//!
//! DataFusion computes both sides for all rows of a batch, unless the left one decides all of them. So
//! `y <> 0 AND 10 / y > 1` would divide by zero, and with it `CASE WHEN y = 0 THEN false ELSE 10 / y > 1 END`,
//! which its optimizer makes of the same parts. Operands that may fail come last: its optimizer mixes the
//! conditions of a query with those of the queries inside it, which must hold before.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{and_kleene, is_null, not, or, or_kleene};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::expressions::{BinaryExpr, CastExpr, Literal};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// The operator with its expressions in order.
pub(super) fn evaluated(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>()
        && may_fail_inside(filter.predicate())
    {
        let predicate = ordered(filter.predicate());
        return Ok(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate).build()?));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>()
        && projection.expr().iter().any(|item| may_fail_inside(&item.expr))
    {
        let items = projection
            .expr()
            .iter()
            .map(|item| ProjectionExpr { expr: ordered(&item.expr), alias: item.alias.clone() });
        let input = Arc::clone(projection.input());
        let schema = projection.schema();
        let items: Vec<ProjectionExpr> = items.collect();
        return Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(items, input, &schema)?));
    }
    Ok(plan)
}

/// Whether the expression has an `AND` or `OR` of which an operand may fail.
fn may_fail_inside(expr: &Arc<dyn PhysicalExpr>) -> bool {
    (logical(expr).is_some() && may_fail(expr)) || expr.children().into_iter().any(may_fail_inside)
}

/// Whether a value of the expression may be an error.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let itself = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        matches!(binary.op(), Operator::Divide | Operator::Modulo)
    } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        !cast.cast_type().is_string() && !cast.expr().is::<Literal>()
    } else {
        expr.is::<ScalarFunctionExpr>()
    };
    itself || expr.children().into_iter().any(may_fail)
}

fn logical(expr: &Arc<dyn PhysicalExpr>) -> Option<(&BinaryExpr, Operator)> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    matches!(binary.op(), Operator::And | Operator::Or).then(|| (binary, *binary.op()))
}

/// The expression with such operands in order.
pub(super) fn ordered(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    if let Some((_, op)) = logical(expr) {
        let mut operands = vec![];
        operands_of(expr, op, &mut operands);
        let (failing, safe): (Vec<_>, Vec<_>) = operands.into_iter().partition(may_fail);
        let operands = safe.into_iter().map(|safe| (safe, false));
        let operands = operands.chain(failing.into_iter().map(|failing| (ordered(&failing), true)));
        let joined = operands.reduce(|(left, _), (right, fails)| {
            let both: Arc<dyn PhysicalExpr> = if fails {
                Arc::new(InOrder { left, op, right })
            } else {
                Arc::new(BinaryExpr::new(left, op, right))
            };
            (both, fails)
        });
        return joined.map_or_else(|| Arc::clone(expr), |(joined, _)| joined);
    }
    let children = expr.children();
    if !children.iter().any(|child| may_fail_inside(child)) {
        return Arc::clone(expr);
    }
    let children = children.into_iter().map(ordered).collect();
    Arc::clone(expr).with_new_children(children).unwrap_or_else(|_| Arc::clone(expr))
}

fn operands_of(expr: &Arc<dyn PhysicalExpr>, op: Operator, into: &mut Vec<Arc<dyn PhysicalExpr>>) {
    match logical(expr) {
        Some((binary, found)) if found == op => {
            operands_of(binary.left(), op, into);
            operands_of(binary.right(), op, into);
        }
        _ => into.push(Arc::clone(expr)),
    }
}

/// `AND` or `OR` whose right side is computed for the rows that need it.
#[derive(Debug, Eq)]
struct InOrder {
    left: Arc<dyn PhysicalExpr>,
    op: Operator,
    right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for InOrder {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for InOrder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.left, self.op, &self.right).hash(state);
    }
}

impl fmt::Display for InOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.left, self.op, self.right)
    }
}

impl InOrder {
    /// The rows for which the left side decides nothing.
    fn open(&self, left: &BooleanArray) -> Result<BooleanArray> {
        let continues = if self.op == Operator::And { left.clone() } else { not(left)? };
        let continues = BooleanArray::new(continues.values().clone(), None);
        Ok(or(&continues, &is_null(left)?)?)
    }
}

impl PhysicalExpr for InOrder {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let left = left.as_boolean();
        let open = self.open(left)?;
        if !open.has_true() {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.right.evaluate_selection(batch, &open)?.into_array(rows)?;
        let combine = if self.op == Operator::And { and_kleene } else { or_kleene };
        Ok(ColumnarValue::Array(Arc::new(combine(left, right.as_boolean())?)))
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        BinaryExpr::new(Arc::clone(&self.left), self.op, Arc::clone(&self.right))
            .return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let right = children.swap_remove(1);
        let left = children.swap_remove(0);
        Ok(Arc::new(Self { left, op: self.op, right }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.left.fmt_sql(f)?;
        write!(f, " {} ", self.op)?;
        self.right.fmt_sql(f)
    }
}
