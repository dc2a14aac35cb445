//! Rewrites correlated subqueries to forms that DataFusion can turn into joins.
//!
//! This pass works on the logical plan, not on the syntax tree: only the plan shows which columns come from
//! the outer query and how many rows are possible. It runs after DataFusion's analyzer rules.
//!
//! - `ORDER BY y LIMIT 1` becomes an aggregate.
//! - A subquery that may return several rows is collected into an array, from which [`ONLY_ROW`] takes the
//!   only element: more than one is an error, but only for the outer rows that are evaluated.
//! - Over the system catalogs it becomes a lateral join, which has no restrictions on its conditions. Their
//!   keys ensure that there is one row.
//! - `EXISTS` in a select list becomes a comparison of row counts.
//! - `IN` is a join where null and false are the same: as a condition of `WHERE` that is not negated. Elsewhere
//!   it becomes `CASE` over the rows that are equal and those that may be, since the join's mark is never null.
//! - Over an aggregate without groups, which has one row for each outer row, `EXISTS` becomes its `HAVING`, and
//!   `IN` a comparison with its value.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::expr_fn::{array_agg, count, first_value};
use datafusion::logical_expr::expr::{
    BinaryExpr, Exists, InSubquery, ScalarFunction, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Distinct, Expr, FetchType, Filter, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, SkipType, SortExpr, Subquery, lit, when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::system_catalog;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::ONLY_ROW;

/// The pass as an analyzer rule.
#[derive(Debug)]
pub struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &'static str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let aliases = AliasGenerator::new();
        let rewritten = plan.transform_up_with_subqueries(|node| rewrite(node, &aliases))?;
        if !rewritten.transformed {
            return Ok(rewritten.data);
        }
        // The plan nodes above a changed one recompute which columns are nullable.
        let again = |node: LogicalPlan| node.recompute_schema().map(Transformed::yes);
        rewritten.data.transform_up_with_subqueries(again).data()
    }
}

fn rewrite(node: LogicalPlan, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Projection(projection) if projection.expr.iter().any(has_subquery) => {
            let Projection { expr, input, .. } = projection;
            let input = Arc::unwrap_or_clone(input);
            let mut scope = Scope { input, joins: false, aliases };
            let names = NamePreserver::new_for_projection();
            let exprs = expr.into_iter().map(|expr| {
                let name = names.save(&expr);
                scope.rewrite(expr).map(|expr| name.restore(expr))
            });
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            let rewritten = Projection::try_new(exprs, Arc::new(scope.input))?;
            Ok(Transformed::yes(LogicalPlan::Projection(rewritten)))
        }
        LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => {
            let Filter { predicate, input, .. } = filter;
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            let columns = columns.collect::<Vec<_>>();
            let input = Arc::unwrap_or_clone(input);
            let mut scope = Scope { input, joins: true, aliases };
            let predicate = scope.rewrite_condition(predicate, true)?;
            let joined = scope.input.schema().fields().len() != columns.len();
            let filtered = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(scope.input))?);
            if !joined {
                return Ok(Transformed::yes(filtered));
            }
            LogicalPlanBuilder::from(filtered).project(columns)?.build().map(Transformed::yes)
        }
        other => Ok(Transformed::no(other)),
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |inner: &Expr| {
        matches!(
            inner,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        )
    };
    expr.exists(|inner| Ok(is_subquery(inner))).unwrap_or(true)
}

/// The expressions of one plan node and its input.
struct Scope<'a> {
    input: LogicalPlan,
    /// Whether the engine makes joins of `EXISTS` and `IN`: it does in filters only.
    joins: bool,
    aliases: &'a AliasGenerator,
}

impl Scope<'_> {
    /// Rewrites a condition for which null is as good as false. `all` says that it must hold for each row.
    fn rewrite_condition(&mut self, condition: Expr, all: bool) -> Result<Expr> {
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
        let is_correlated = !within.subquery.outer_ref_columns.is_empty();
        if !is_joined(&within.subquery) || has_subquery(&within.expr) {
            return self.rewrite(Expr::InSubquery(within));
        }
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

    fn rewrite(&mut self, expr: Expr) -> Result<Expr> {
        let rewritten = expr.transform_down(|expr| match in_form(expr) {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let value = self.scalar(subquery)?;
                Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
            }
            Expr::Exists(exists) if !(self.joins && is_joined(&exists.subquery)) => {
                let Exists { subquery, negated } = exists;
                Ok(Transformed::new(found(subquery, negated)?, true, TreeNodeRecursion::Jump))
            }
            Expr::InSubquery(within) => {
                let found = found_within(within, &self.input, self.joins)?;
                Ok(Transformed::new(found, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        });
        rewritten.data()
    }

    fn scalar(&mut self, subquery: Subquery) -> Result<Expr> {
        let plan = first_of_limited(Arc::unwrap_or_clone(subquery.subquery))?;
        if is_empty(&plan) && !plan.schema().fields().is_empty() {
            return Ok(lit(ScalarValue::try_from(plan.schema().field(0).data_type())?));
        }
        let one_row = only_group(&plan).is_some() || plan.max_rows().is_some_and(|rows| rows <= 1);
        let in_catalogs = !one_row && reads_only_catalogs(&plan)?;
        let [value] = <[Expr; 1]>::try_from(columns_of(&plan)).map_err(|columns| {
            let columns = columns.len();
            DataFusionError::Plan(format!("subquery must return only one column, not {columns}"))
        })?;
        if in_catalogs {
            return self.join(with_plan(subquery.outer_ref_columns, subquery.spans, plan));
        }
        if one_row {
            let plan = with_plan(subquery.outer_ref_columns, subquery.spans, plan);
            return Ok(Expr::ScalarSubquery(plan));
        }
        let all = LogicalPlanBuilder::from(plan).aggregate(no_groups(), [array_agg(value)])?;
        let all = with_plan(subquery.outer_ref_columns, subquery.spans, all.build()?);
        let only = ScalarFunction::new_udf(Arc::clone(&ONLY_ROW), vec![Expr::ScalarSubquery(all)]);
        Ok(Expr::ScalarFunction(only))
    }

    /// Joins the subquery to the input; returns its value as a column.
    fn join(&mut self, subquery: Subquery) -> Result<Expr> {
        let alias = self.aliases.next("__lateral");
        let right =
            LogicalPlanBuilder::from(LogicalPlan::Subquery(subquery)).alias(alias)?.build()?;
        let value = right.schema().columns().swap_remove(0);
        let input = std::mem::take(&mut self.input);
        self.input =
            LogicalPlanBuilder::from(input).join_on(right, JoinType::Left, [lit(true)])?.build()?;
        Ok(Expr::Column(value))
    }
}

fn with_plan(
    outer_ref_columns: Vec<Expr>,
    spans: datafusion::common::Spans,
    plan: LogicalPlan,
) -> Subquery {
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans }
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

const fn no_groups() -> [Expr; 0] {
    []
}

/// Rewrites `SELECT x ... ORDER BY y LIMIT 1` to `SELECT first_value(x ORDER BY y) ...`.
fn first_of_limited(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Limit(limit) = &plan else { return Ok(plan) };
    if !is_first_row(limit)? {
        return Ok(plan);
    }
    if limit.input.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(LogicalPlan::clone(&limit.input));
    }
    let (value, order_by, input) = sorted(&limit.input);
    let Some(value) = value else { return Ok(plan) };
    let first = first_value(value, order_by);
    LogicalPlanBuilder::from(input.clone()).aggregate(no_groups(), [first])?.build()
}

fn is_first_row(limit: &Limit) -> Result<bool> {
    Ok(matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)))
        && matches!(limit.get_skip_type()?, SkipType::Literal(0)))
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

/// Whether the plan is empty for all outer rows; the rewrite to a join would lose it.
fn is_empty(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            is_empty(&join.left) || is_empty(&join.right)
        }
        LogicalPlan::Join(join) if join.join_type == JoinType::Left => is_empty(&join.left),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().all(is_empty),
        _ => false,
    }
}

/// Whether the plan reads nothing but system catalogs. Relations without rows appear as empty plans.
fn reads_only_catalogs(plan: &LogicalPlan) -> Result<bool> {
    let mut only = true;
    plan.apply_with_subqueries(|node| {
        only &= match node {
            LogicalPlan::TableScan(scan) => {
                system_catalog::is_system_table(source_as_provider(&scan.source)?.as_ref())
            }
            LogicalPlan::EmptyRelation(empty) => !empty.produce_one_row,
            node => !node.inputs().is_empty(),
        };
        Ok(if only { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(only)
}

/// Whether the engine's semi and anti joins answer exactly what the subquery says.
fn is_joined(subquery: &Subquery) -> bool {
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    !(is_correlated && (only_group(&subquery.subquery).is_some() || is_limited(&subquery.subquery)))
}

/// An aggregate without groups, below nodes that keep its one row or filter it.
struct OnlyGroup<'a> {
    /// The last filter of its row, if there is one.
    having: Option<&'a Filter>,
}

fn only_group(plan: &LogicalPlan) -> Option<OnlyGroup<'_>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty().then_some(OnlyGroup { having: None })
        }
        LogicalPlan::Filter(filter) => {
            only_group(&filter.input).map(|_| OnlyGroup { having: Some(filter) })
        }
        LogicalPlan::Projection(Projection { input, .. }) => only_group(input),
        LogicalPlan::SubqueryAlias(alias) => only_group(&alias.input),
        LogicalPlan::Sort(sort) => only_group(&sort.input),
        LogicalPlan::Distinct(Distinct::All(input)) => only_group(input),
        _ => None,
    }
}

/// Whether a number of rows is skipped or left out: the rewrite to a join would lose it.
fn is_limited(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().any(is_limited),
        _ => false,
    }
}

/// Rewrites `EXISTS (query)`.
fn found(subquery: Subquery, negated: bool) -> Result<Expr> {
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    match only_group(&subquery.subquery) {
        Some(OnlyGroup { having: None }) => return Ok(lit(!negated)),
        Some(OnlyGroup { having: Some(having) }) if is_correlated => {
            if !matches!(having.input.as_ref(), LogicalPlan::Aggregate(_)) {
                return Err(unsupported("a condition on an aggregate"));
            }
            let plan = LogicalPlanBuilder::from(LogicalPlan::clone(&having.input));
            let plan = plan.project([having.predicate.clone()])?.build()?;
            let plan = with_plan(subquery.outer_ref_columns, subquery.spans, plan);
            let holds = Expr::ScalarSubquery(plan);
            return Ok(if negated { holds.is_not_true() } else { holds.is_true() });
        }
        _ => {}
    }
    match subquery.subquery.as_ref() {
        LogicalPlan::Limit(limit) if is_correlated => found_in_limited(limit, &subquery, negated),
        plan if is_correlated && is_limited(plan) => Err(unsupported("LIMIT or OFFSET")),
        _ => counted(subquery, negated, 0),
    }
}

/// Rewrites `EXISTS (query LIMIT n OFFSET m)`.
fn found_in_limited(limit: &Limit, subquery: &Subquery, negated: bool) -> Result<Expr> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
        (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return Err(unsupported("LIMIT or OFFSET of an expression"));
    };
    let all = Subquery { subquery: Arc::clone(&limit.input), ..subquery.clone() };
    match (skip, fetch) {
        (_, Some(0)) => Ok(lit(negated)),
        (0, _) => found(all, negated),
        _ if only_group(&limit.input).is_some() => Ok(lit(negated)),
        _ if is_limited(&limit.input) => Err(unsupported("LIMIT or OFFSET")),
        _ => counted(all, negated, i64::try_from(skip).unwrap_or(i64::MAX)),
    }
}

fn unsupported(what: &str) -> DataFusionError {
    SqlError::unsupported(format!("{what} in a subquery that refers to the outer query")).into()
}

/// Rewrites `EXISTS (query OFFSET skipped)` to `(SELECT count(*) > skipped FROM (query))`.
fn counted(subquery: Subquery, negated: bool, skipped: i64) -> Result<Expr> {
    let Subquery { subquery, outer_ref_columns, spans } = subquery;
    let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery))
        .aggregate(no_groups(), [count(lit(1_i64))])?
        .build()?;
    let number = columns_of(&rows).swap_remove(0);
    let found = if negated { number.lt_eq(lit(skipped)) } else { number.gt(lit(skipped)) };
    let found = LogicalPlanBuilder::from(rows).project([found])?.build()?;
    Ok(Expr::ScalarSubquery(with_plan(outer_ref_columns, spans, found)))
}

/// Rewrites `x IN (query)`: true if a row is equal, null if there is none but a null is involved, else false.
fn found_within(within: InSubquery, input: &LogicalPlan, joins: bool) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = within;
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    match only_group(&subquery.subquery) {
        Some(OnlyGroup { having: None }) => {
            let value = Box::new(Expr::ScalarSubquery(subquery));
            let op = if negated { Operator::NotEq } else { Operator::Eq };
            return Ok(Expr::BinaryExpr(BinaryExpr { left: expr, op, right: value }));
        }
        Some(_) if is_correlated => return Err(unsupported("a condition on an aggregate")),
        _ if is_correlated && is_limited(&subquery.subquery) => {
            return Err(unsupported("LIMIT or OFFSET"));
        }
        _ => {}
    }
    let within = Within::of(InSubquery { expr, subquery, negated }, input)?;
    let (equal, unknown) = if joins && is_correlated {
        let is_unknown = within.is_equal().is_null();
        (within.exists(within.is_equal(), false)?, within.exists(is_unknown, false)?)
    } else {
        let any = counted(within.subquery.clone(), false, 0)?;
        let null = within.value.clone().is_null();
        let unknown = within.counted(null)?.or(within.expr.clone().is_null().and(any));
        (within.counted(within.is_equal())?, unknown)
    };
    when(equal, lit(!negated))
        .when(unknown, lit(ScalarValue::Boolean(None)))
        .otherwise(lit(negated))
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
        let value = columns_of(&subquery.subquery).swap_remove(0);
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
        Ok(with_plan(outer, self.subquery.spans.clone(), rows))
    }

    /// Whether there are such rows, by their number.
    fn counted(&self, condition: Expr) -> Result<Expr> {
        counted(self.rows_where(condition)?, false, 0)
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
