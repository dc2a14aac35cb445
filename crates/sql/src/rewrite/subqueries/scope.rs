//! Rewrites the subqueries in the expressions of one node.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, Spans};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::{array_agg, count, first_value, max};
use datafusion::logical_expr::expr::{
    BinaryExpr, Exists, InSubquery, ScalarFunction, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    SortExpr, Subquery, binary_expr, lit, when,
};

use super::super::unnest::{Outer, is_correlated};
use super::shape::{
    has_one_row, has_subquery, is_first_row, is_left_alone, is_only_group, is_simple_aggregate,
    may_be_null, only_compares, refers_only_to, refers_outside, subqueries_of,
};
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::{MAYBE_NULL, ONLY_ROW};
use tidemark_pg::order_keys::has_key;
use tidemark_pg::sqlstate::SqlState;

pub(super) struct Scope<'a> {
    pub(super) outer: Outer<'a>,
    /// The input, without what is joined to it.
    input: LogicalPlan,
    /// Whether the engine makes joins of `EXISTS` and `IN`: it does in filters only.
    joins: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        input: LogicalPlan,
        joins: bool,
        exprs: &[Expr],
        aliases: &'a AliasGenerator,
    ) -> Result<Self> {
        let mut outer = Outer::new(input.clone(), aliases);
        let mut unnested = vec![];
        for found in exprs.iter().flat_map(subqueries_of) {
            if !is_left_alone(&found)? && !is_simple(&found.plan, &input)? {
                unnested.push(found.plan);
            }
        }
        if !unnested.is_empty() {
            outer.prepare(&unnested.iter().collect::<Vec<_>>())?;
        }
        Ok(Self { outer, input, joins })
    }

    /// Rewrites a condition for which null is as good as false. `all` says that it must hold for each row.
    pub(super) fn rewrite_condition(&mut self, condition: Expr, all: bool) -> Result<Expr> {
        match in_form(condition) {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_and_or(op) => {
                let all = all && op == Operator::And;
                let left = Box::new(self.rewrite_condition(*left, all)?);
                let right = Box::new(self.rewrite_condition(*right, all)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Not(inner) => match in_form(*inner) {
                Expr::InSubquery(within) => self.rewrite_in(negate(within), all),
                other => self.rewrite(Expr::Not(Box::new(other))),
            },
            Expr::InSubquery(within) => self.rewrite_in(within, all),
            other => self.rewrite(other),
        }
    }

    /// Rewrites `IN` as a condition for which null is as good as false.
    fn rewrite_in(&mut self, within: InSubquery, all: bool) -> Result<Expr> {
        let plan = &within.subquery.subquery;
        if !self.is_joined(plan)? || is_only_group(plan, false) || refers_outside(&within.expr) {
            return self.rewrite(Expr::InSubquery(within));
        }
        let subquery = with_own_name(exact(within.subquery)?)?;
        let within = InSubquery { subquery, ..within };
        let is_correlated = !within.subquery.outer_ref_columns.is_empty();
        match (within.negated, is_correlated) {
            (false, _) => Ok(Expr::InSubquery(within)),
            // The engine's anti join knows nulls, but not those of constants.
            (true, false) if all && !within.expr.column_refs().is_empty() => {
                Ok(Expr::InSubquery(within))
            }
            (true, false) => self.rewrite(Expr::InSubquery(within)),
            (true, true) => {
                let within = Within::of(within, &self.input)?;
                let may_be_equal = Expr::IsNotFalse(Box::new(within.is_equal()));
                within.exists(may_be_equal, true)
            }
        }
    }

    /// Whether the engine's semi and anti joins answer exactly what the subquery says.
    fn is_joined(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(self.joins && refers_only_to(plan, &self.input)? && only_compares(plan, false)?)
    }

    pub(super) fn rewrite(&mut self, expr: Expr) -> Result<Expr> {
        let rewritten = expr.transform_down(|expr| {
            let value = match in_form(expr) {
                Expr::ScalarSubquery(subquery) => self.scalar(exact(subquery)?)?,
                Expr::Exists(exists) => self.exists(exists)?,
                Expr::InSubquery(within) => self.within(within)?,
                Expr::SetComparison(compared) => self.compared(compared)?,
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
        });
        rewritten.data()
    }

    fn scalar(&mut self, subquery: Subquery) -> Result<Expr> {
        if subquery.outer_ref_columns.is_empty() {
            return nullable(subquery).map(Expr::ScalarSubquery);
        }
        let plan = first_of_limited(LogicalPlan::clone(&subquery.subquery), &self.input)?;
        let value = only_column(&plan)?;
        if refers_only_to(&plan, &self.input)? {
            if is_simple_aggregate(&plan)? {
                return Ok(Expr::ScalarSubquery(with_plan(&subquery, plan)));
            }
            // The rows are collected, so that several are an error, but only for outer rows that are evaluated.
            if only_compares(&plan, true)? {
                let all =
                    LogicalPlanBuilder::from(plan).aggregate(no_groups(), [array_agg(value)])?;
                let all = with_plan(&subquery, all.build()?);
                return Ok(only_row(Expr::ScalarSubquery(all)));
            }
        }
        self.scalar_unnested(&plan, value)
    }

    fn scalar_unnested(&mut self, plan: &LogicalPlan, value: Expr) -> Result<Expr> {
        let unnested = self.outer.unnest(plan, vec![])?;
        let rows = LogicalPlanBuilder::from(unnested.rows.clone());
        let one_row = has_one_row(plan) || is_limited_to_one(plan)?;
        let results = if one_row {
            rows.project(unnested.key_exprs().into_iter().chain([value]))?
        } else {
            rows.aggregate(unnested.key_exprs(), [array_agg(value)])?
        };
        let columns = self.outer.join(&unnested, results.build()?, JoinType::Left, None)?;
        let value = last(columns)?;
        Ok(if one_row { value } else { only_row(value) })
    }

    fn exists(&mut self, exists: Exists) -> Result<Expr> {
        let Exists { subquery, negated } = exists;
        let subquery = exact(subquery)?;
        let plan = &subquery.subquery;
        if is_only_group(plan, false) {
            return Ok(lit(!negated));
        }
        if self.is_joined(plan)? {
            return Ok(Expr::Exists(Exists { subquery, negated }));
        }
        if refers_only_to(plan, &self.input)? && only_compares(plan, true)? {
            return counted(subquery, negated);
        }
        let unnested = self.outer.unnest(plan, vec![])?;
        let found = LogicalPlanBuilder::from(unnested.rows.clone())
            .aggregate(unnested.key_exprs(), Vec::<Expr>::new())?
            .build()?;
        let keys = found.schema().columns().into_iter().map(Expr::Column);
        let found =
            LogicalPlanBuilder::from(found).project(keys.chain([lit(true).alias("found")]))?;
        let columns = self.outer.join(&unnested, found.build()?, JoinType::Left, None)?;
        let found = last(columns)?;
        Ok(if negated { found.is_not_true() } else { found.is_true() })
    }

    /// Rewrites `x IN (query)`: true if a row is equal, null if there is none but a null is involved, else
    /// false.
    fn within(&mut self, within: InSubquery) -> Result<Expr> {
        let within = InSubquery { subquery: exact(within.subquery)?, ..within };
        let plan = &within.subquery.subquery;
        only_column(plan)?;
        let (joined, correlated) = (self.is_joined(plan)?, is_correlated(plan)?);
        if is_only_group(plan, false) {
            let InSubquery { expr, subquery, negated } = within;
            let value = Box::new(self.scalar(subquery)?);
            let op = if negated { Operator::NotEq } else { Operator::Eq };
            return Ok(Expr::BinaryExpr(BinaryExpr { left: expr, op, right: value }));
        }
        if !refers_only_to(plan, &self.input)?
            || !only_compares(plan, !joined)?
            || needs_own_column(&within)
            || correlated_by_key(&within.expr, &self.input)
        {
            return self.any(
                *within.expr,
                Operator::Eq,
                &within.subquery.subquery,
                false,
                within.negated,
            );
        }
        let negated = within.negated;
        let subquery = with_own_name(within.subquery)?;
        let within = Within::of(InSubquery { subquery, ..within }, &self.input)?;
        let (equal, unknown) = if joined && correlated {
            let is_unknown = within.is_equal().is_null();
            (within.exists(within.is_equal(), false)?, within.exists(is_unknown, false)?)
        } else {
            let any = counted(within.subquery.clone(), false)?;
            let null = within.value.clone().is_null();
            let unknown = within.counted(null)?.or(within.expr.clone().is_null().and(any));
            (within.counted(within.is_equal())?, unknown)
        };
        when(equal, lit(!negated))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(negated))
    }

    /// Rewrites `x > ALL (query)` and its kin.
    fn compared(&mut self, compared: SetComparison) -> Result<Expr> {
        let SetComparison { expr, subquery, op, quantifier } = compared;
        only_column(&subquery.subquery)?;
        let all = quantifier == SetQuantifier::All;
        self.any(*expr, op, &subquery.subquery, all, all)
    }

    /// Whether the comparison holds for any row, or, if `unless`, does not hold for any; null if it is null for
    /// any and else false. `negated` turns the answer around.
    fn any(
        &mut self,
        expr: Expr,
        op: Operator,
        plan: &LogicalPlan,
        unless: bool,
        negated: bool,
    ) -> Result<Expr> {
        let value = only_column(plan)?;
        let is_constant = !expr.any_column_refs() && !refers_outside(&expr) && !expr.is_volatile();
        let more = if is_constant { vec![] } else { vec![expr.clone()] };
        let unnested = self.outer.unnest(plan, more)?;
        let wanted = unnested.operand(&expr);
        let holds = binary_expr(wanted, op, value);
        let holds = if unless { Expr::Not(Box::new(holds)) } else { holds };
        let certainty = when(holds.clone().is_true(), lit(2_i32))
            .when(holds.is_unknown(), lit(1_i32))
            .otherwise(lit(0_i32))?;
        let results = LogicalPlanBuilder::from(unnested.rows.clone())
            .aggregate(unnested.key_exprs(), [max(certainty).alias("certainty")])?
            .build()?;
        let columns = self.outer.join(&unnested, results, JoinType::Left, None)?;
        let certainty = last(columns)?;
        when(certainty.clone().eq(lit(2_i32)), lit(!negated))
            .when(certainty.eq(lit(1_i32)), lit(ScalarValue::Boolean(None)))
            .otherwise(lit(negated))
    }
}

/// Whether the engine's own rules may be able to join it.
fn is_simple(plan: &LogicalPlan, input: &LogicalPlan) -> Result<bool> {
    Ok(refers_only_to(plan, input)? && (only_compares(plan, false)? || is_simple_aggregate(plan)?))
}

/// Whether the operand is of the outer query and compared by its key: the engine's rules look for columns.
fn correlated_by_key(operand: &Expr, input: &LogicalPlan) -> bool {
    operand.any_column_refs()
        && operand.get_type(input.schema()).is_ok_and(|operand_type| has_key(&operand_type))
}

/// Whether the operand may not be put into the subquery as it is.
fn needs_own_column(within: &InSubquery) -> bool {
    within.expr.is_volatile() || has_subquery(&within.expr) || refers_outside(&within.expr)
}

/// The subquery with the references to outer queries that it really has: the planner counts those between
/// subqueries inside it too.
fn exact(subquery: Subquery) -> Result<Subquery> {
    let outer_ref_columns = super::super::unnest::references(&subquery.subquery)?;
    Ok(Subquery { outer_ref_columns, ..subquery })
}

/// Names the value of a subquery: a cast has the name of its column, which the engine may add.
fn with_own_name(subquery: Subquery) -> Result<Subquery> {
    let LogicalPlan::Projection(projection) = subquery.subquery.as_ref() else {
        return Ok(subquery);
    };
    match projection.expr.as_slice() {
        [value] if !matches!(value, Expr::Column(_)) => {
            let value = value.clone().unalias().alias("__value");
            let named = Projection::try_new(vec![value], Arc::clone(&projection.input))?;
            Ok(with_plan(&subquery, LogicalPlan::Projection(named)))
        }
        _ => Ok(subquery),
    }
}

/// The value of a subquery is null if it has no row, whatever its column says.
fn nullable(subquery: Subquery) -> Result<Subquery> {
    let plan = &subquery.subquery;
    if may_be_null(plan) {
        return Ok(subquery);
    }
    let value = only_column(plan)?;
    let name = value.schema_name().to_string();
    let maybe = ScalarFunction::new_udf(Arc::clone(&MAYBE_NULL), vec![value]);
    let plan = LogicalPlanBuilder::from(LogicalPlan::clone(plan))
        .project([Expr::ScalarFunction(maybe).alias(name)])?
        .build()?;
    Ok(with_plan(&subquery, plan))
}

fn with_plan(subquery: &Subquery, plan: LogicalPlan) -> Subquery {
    Subquery { subquery: Arc::new(plan), ..subquery.clone() }
}

fn only_row(rows: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&ONLY_ROW), vec![rows]))
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

fn only_column(plan: &LogicalPlan) -> Result<Expr> {
    <[Expr; 1]>::try_from(columns_of(plan)).map(|[column]| column).map_err(|_| {
        SqlError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column").into()
    })
}

fn last(mut columns: Vec<Column>) -> Result<Expr> {
    columns.pop().map(Expr::Column).ok_or_else(no_column)
}

fn no_column() -> DataFusionError {
    SqlError::internal("a result without columns").into()
}

const fn no_groups() -> [Expr; 0] {
    []
}

/// Rewrites `SELECT x ... ORDER BY y LIMIT 1` to `SELECT first_value(x ORDER BY y) ...`, if the engine then
/// joins it.
fn first_of_limited(plan: LogicalPlan, outer: &LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Limit(limit) = &plan else { return Ok(plan) };
    if !is_first_row(limit)? {
        return Ok(plan);
    }
    if has_one_row(&limit.input) {
        return Ok(LogicalPlan::clone(&limit.input));
    }
    let (value, order_by, input) = sorted(&limit.input);
    let Some(value) = value.filter(|_| order_by.iter().all(|by| !has_subquery(&by.expr))) else {
        return Ok(plan);
    };
    if !refers_only_to(&plan, outer)? || !only_compares(input, true)? {
        return Ok(plan);
    }
    let first = first_value(value, order_by);
    let first = LogicalPlanBuilder::from(input.clone()).aggregate(no_groups(), [first])?.build()?;
    Ok(if is_simple_aggregate(&first)? { first } else { plan })
}

/// Splits a plan into the value of its rows, their order, and the input that has the columns of both.
fn sorted(plan: &LogicalPlan) -> (Option<Expr>, Vec<SortExpr>, &LogicalPlan) {
    match plan {
        LogicalPlan::Sort(sort) => {
            (columns_of(&sort.input).into_iter().next(), sort.expr.clone(), &sort.input)
        }
        LogicalPlan::Projection(Projection { expr, input, .. }) => match input.as_ref() {
            LogicalPlan::Sort(sort) => {
                let value = expr.first().map(|value| value.clone().unalias());
                (value, sort.expr.clone(), &sort.input)
            }
            _ => (columns_of(plan).into_iter().next(), vec![], plan),
        },
        _ => (columns_of(plan).into_iter().next(), vec![], plan),
    }
}

fn is_limited_to_one(plan: &LogicalPlan) -> Result<bool> {
    match plan {
        LogicalPlan::Limit(limit) => is_first_row(limit),
        _ => Ok(false),
    }
}

/// Rewrites `EXISTS (query)` to `(SELECT count(*) > 0 FROM (query))`.
fn counted(subquery: Subquery, negated: bool) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = subquery;
    let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery))
        // Not the usual count(1), which may be a column of the subquery.
        .aggregate(no_groups(), [count(lit(true))])?
        .build()?;
    let number = columns_of(&rows).swap_remove(0);
    let found = if negated { number.lt_eq(lit(0_i64)) } else { number.gt(lit(0_i64)) };
    let found = LogicalPlanBuilder::from(rows).project([found])?.build()?;
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(found), outer_ref_columns, spans }))
}

/// The parts of `expr IN (query)`.
struct Within {
    expr: Expr,
    /// `expr` as the subquery refers to it.
    wanted: Expr,
    /// The only column of the subquery.
    value: Expr,
    subquery: Subquery,
    /// The columns of `expr`, as references to the outer query.
    outer: Vec<Expr>,
}

impl Within {
    fn of(within: InSubquery, input: &LogicalPlan) -> Result<Self> {
        let InSubquery { expr, subquery, .. } = within;
        let value = only_column(&subquery.subquery)?;
        let mut outer = vec![];
        let wanted = expr.as_ref().clone().transform(|inner| match inner {
            Expr::Column(column) => {
                let field = Arc::clone(input.schema().qualified_field_from_column(&column)?.1);
                let reference = Expr::OuterReferenceColumn(field, column);
                outer.push(reference.clone());
                Ok(Transformed::yes(reference))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(Self { wanted: wanted.data()?, expr: *expr, value, subquery, outer })
    }

    fn is_equal(&self) -> Expr {
        self.value.clone().eq(self.wanted.clone())
    }

    /// The rows of the subquery for which `condition` holds.
    fn rows_where(&self, condition: Expr) -> Result<Subquery> {
        let refers = condition.exists(|e| Ok(matches!(e, Expr::OuterReferenceColumn(..))))?;
        let rows = LogicalPlanBuilder::from(LogicalPlan::clone(&self.subquery.subquery));
        let rows = rows.filter(condition)?.build()?;
        let mut outer = self.subquery.outer_ref_columns.clone();
        if refers {
            outer.extend(self.outer.iter().cloned());
        }
        let spans: Spans = self.subquery.spans.clone();
        Ok(Subquery { subquery: Arc::new(rows), outer_ref_columns: outer, spans })
    }

    /// Whether there are such rows, by their number.
    fn counted(&self, condition: Expr) -> Result<Expr> {
        counted(self.rows_where(condition)?, false)
    }

    /// Whether there are such rows, by a join.
    fn exists(&self, condition: Expr, negated: bool) -> Result<Expr> {
        Ok(Expr::Exists(Exists { subquery: self.rows_where(condition)?, negated }))
    }
}

/// Turns `= ANY (query)` and `<> ALL (query)` into `IN` and `NOT IN`, which they are.
fn in_form(expr: Expr) -> Expr {
    use Operator::{Eq, NotEq};
    use SetQuantifier::{All, Any};
    let (expr, subquery, negated) = match expr {
        Expr::SetComparison(SetComparison { expr, subquery, op: Eq, quantifier: Any }) => {
            (expr, subquery, false)
        }
        Expr::SetComparison(SetComparison { expr, subquery, op: NotEq, quantifier: All }) => {
            (expr, subquery, true)
        }
        other => return other,
    };
    Expr::InSubquery(InSubquery { expr, subquery, negated })
}

fn is_and_or(op: Operator) -> bool {
    matches!(op, Operator::And | Operator::Or)
}

fn negate(within: InSubquery) -> InSubquery {
    InSubquery { negated: !within.negated, ..within }
}
