//! Compares, sorts, groups and joins floats and intervals by their keys.
//!
//! The pass runs after type coercion, before the optimizer turns conditions into join keys.

mod frames;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions_aggregate::expr_fn::first_value;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, Case, InList, InSubquery, ScalarFunction, Sort as SortExpr,
    WindowFunction,
};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, DistinctOn, Expr, ExprSchemable as _, Join, LogicalPlan,
    LogicalPlanBuilder, Operator, Projection, Sort, Subquery, WindowFrameBound, WindowFrameUnits,
    when,
};
use datafusion::optimizer::AnalyzerRule;

use crate::aggregates::{is_sorted_when_distinct, keeps_first_of_equals};
use crate::error::SqlError;
use crate::kept_names::map_expressions;
use crate::order_keys::{ORDER_KEY, has_key, is_float, is_interval, pick_by_keys};
use crate::sqlstate::SqlState;
use crate::types::arrow::name_of;

#[derive(Debug)]
pub struct OrderKeys;

impl AnalyzerRule for OrderKeys {
    fn name(&self) -> &'static str {
        "order_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).data()
    }
}

/// Sorts windows by the keys of intervals, and checks filters. Runs before type coercion, which refuses frames over
/// other keys, and casts filters.
#[derive(Debug)]
pub struct WindowKeys;

impl AnalyzerRule for WindowKeys {
    fn name(&self) -> &'static str {
        "window_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            if !matches!(plan, LogicalPlan::Window(_) | LogicalPlan::Aggregate(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = merge_schema(&plan.inputs());
            map_expressions(plan, |expr| expr.transform_up(|expr| sort_by_keys(expr, &schema)))
        })
        .data()
    }
}

fn sort_by_keys(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Expr::AggregateFunction(call) = &expr {
        check_filter(call.params.filter.as_deref(), schema)?;
    }
    let Expr::WindowFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
    let params = &mut call.params;
    check_filter(params.filter.as_deref(), schema)?;
    let frame = &params.window_frame;
    let is_offset = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
            !offset.is_null()
        }
        WindowFrameBound::CurrentRow => false,
    };
    let is_range = frame.units == WindowFrameUnits::Range;
    let has_offset = is_range && (is_offset(&frame.start_bound) || is_offset(&frame.end_bound));
    let mut changed = false;
    for sort in &mut params.order_by {
        let Some(found) = type_of(&sort.expr, schema) else { continue };
        if has_offset && (is_interval(&found) || matches!(found, DataType::Time64(_))) {
            let name = name_of(&found, None);
            let what = format!("RANGE with an offset for column type {name}");
            return Err(SqlError::unsupported(what).into());
        }
        if is_interval(&found) {
            changed |= make_key(&mut sort.expr, schema);
        } else if is_range && !has_offset && has_no_ranges(&found) {
            // Without offsets, both are bounded by rows that are equal.
            params.window_frame.units = WindowFrameUnits::Groups;
            changed = true;
        }
    }
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Types for which the engine has no `RANGE` at all.
fn has_no_ranges(data_type: &DataType) -> bool {
    data_type.is_binary() || matches!(data_type, DataType::Time64(_) | DataType::Struct(_))
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&scan.projected_schema);
    }
    let plan =
        map_expressions(plan, |expr| expr.transform_up(|expr| in_expression(expr, &schema)))?;
    plan.transform_data(|plan| match plan {
        LogicalPlan::Sort(sort) => Ok(sorted(sort, &schema)),
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input),
        LogicalPlan::Distinct(Distinct::On(on)) => Ok(distinct_on(on)),
        other => Ok(Transformed::no(other)),
    })
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok()
}

fn needs_key(expr: &Expr, schema: &DFSchema) -> bool {
    !is_key(expr) && type_of(expr, schema).is_some_and(|found| has_key(&found))
}

fn key(expr: Expr) -> Expr {
    ORDER_KEY.call(vec![expr])
}

/// Replaces an expression by its key. Returns whether it did.
fn make_key(expr: &mut Expr, schema: &DFSchema) -> bool {
    if !needs_key(expr, schema) {
        return false;
    }
    *expr = match std::mem::take(expr) {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(key(*alias.expr));
            Expr::Alias(alias)
        }
        plain => key(plain),
    };
    true
}

fn is_key(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func == *ORDER_KEY)
}

fn in_expression(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    match &mut expr {
        Expr::BinaryExpr(comparison) if compares(comparison.op) => {
            changed = compare(comparison, schema);
        }
        Expr::Between(Between { expr, low, high, .. }) => {
            for operand in [expr, low, high] {
                changed |= make_key(operand, schema);
            }
        }
        Expr::InList(InList { expr, list, .. }) => {
            for operand in std::iter::once(expr.as_mut()).chain(list) {
                changed |= make_key(operand, schema);
            }
        }
        Expr::Case(Case { expr: Some(operand), when_then_expr, .. }) => {
            let whens = when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
            for operand in std::iter::once(operand.as_mut()).chain(whens) {
                changed |= make_key(operand, schema);
            }
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. }) if needs_key(expr, schema) => {
            changed = make_key(expr, schema);
            *subquery = keys_of(subquery)?;
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if func.name() == "nullif" && args.iter().any(|arg| needs_key(arg, schema)) =>
        {
            if let [value, other] = args.as_slice() {
                let same = key(value.clone()).eq(key(other.clone()));
                let null = ScalarValue::try_from(value.get_type(schema)?)?;
                expr = when(same, Expr::Literal(null, None)).otherwise(value.clone())?;
                changed = true;
            }
        }
        Expr::ScalarFunction(call) if call.args.iter().any(|arg| needs_key(arg, schema)) => {
            if let Some(by_keys) = pick_by_keys(call.func.name()) {
                call.func = by_keys;
                changed = true;
            }
        }
        Expr::WindowFunction(call) => changed = in_window(call, schema)?,
        Expr::AggregateFunction(call) => changed = in_aggregate(call, schema),
        _ => {}
    }
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

fn check_filter(filter: Option<&Expr>, schema: &DFSchema) -> Result<()> {
    match filter.and_then(|filter| type_of(filter, schema)) {
        None | Some(DataType::Boolean | DataType::Null) => Ok(()),
        Some(other) => {
            let name = name_of(&other, None);
            let message = format!("argument of FILTER must be type boolean, not type {name}");
            Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).into())
        }
    }
}

fn compares(op: Operator) -> bool {
    op.supports_propagation()
        || matches!(op, Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
}

/// A comparison with a constant stays as it is, so that files can be skipped by it.
fn compare(comparison: &mut BinaryExpr, schema: &DFSchema) -> bool {
    let BinaryExpr { left, op, right } = comparison;
    let number = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => Some(*number),
        Expr::Literal(ScalarValue::Float32(Some(number)), _) => Some(f64::from(*number)),
        _ => None,
    };
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    let (constant, of_column) = match (number(left), number(right)) {
        (None, Some(constant)) => (constant, is_column(left)),
        (Some(constant), None) => (constant, is_column(right)),
        _ => (f64::NAN, false),
    };
    let exact = matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq)
        || matches!(op, Operator::Gt | Operator::GtEq);
    if exact && of_column && constant.is_finite() && constant != 0.0 {
        return false;
    }
    let left = make_key(left, schema);
    make_key(right, schema) || left
}

/// The subquery with the keys of its only column.
fn keys_of(subquery: &Subquery) -> Result<Subquery> {
    let plan = subquery.subquery.as_ref().clone();
    let columns = plan.schema().columns();
    let keys = columns.into_iter().map(|column| {
        let name = column.name.clone();
        key(Expr::Column(column)).alias(name)
    });
    let keys: Vec<_> = keys.collect();
    let plan = LogicalPlanBuilder::from(plan).project(keys)?.build()?;
    Ok(subquery.with_plan(Arc::new(plan)))
}

fn in_window(call: &mut WindowFunction, schema: &DFSchema) -> Result<bool> {
    let params = &mut call.params;
    let frame = &params.window_frame;
    if frame.units == WindowFrameUnits::Range
        && let Some(sort) = params.order_by.first()
    {
        let bounds = [&frame.start_bound, &frame.end_bound];
        frames::check(bounds, type_of(&sort.expr, schema).as_ref())?;
    }
    let mut changed = false;
    for partition in &mut params.partition_by {
        changed |= make_key(partition, schema);
    }
    for sort in &mut params.order_by {
        changed |= make_key(&mut sort.expr, schema);
    }
    Ok(changed)
}

fn in_aggregate(call: &mut AggregateFunction, schema: &DFSchema) -> bool {
    let params = &mut call.params;
    let name = call.func.name();
    let mut changed = false;
    for sort in &mut params.order_by {
        changed |= make_key(&mut sort.expr, schema);
    }
    if !params.distinct {
        return changed;
    }
    if !keeps_first_of_equals(name) {
        for arg in &mut params.args {
            let floats = type_of(arg, schema).is_some_and(|found| is_float(&found));
            changed |= (floats || name == "count") && make_key(arg, schema);
        }
    }
    let kept = params.args.iter().any(|arg| needs_key(arg, schema));
    if params.order_by.is_empty() && (is_sorted_when_distinct(name) || kept) {
        // Also keeps the optimizer from grouping by the argument.
        let keys = params.args.iter().take(1).map(|arg| {
            let sorted_by = if needs_key(arg, schema) { key(arg.clone()) } else { arg.clone() };
            sorted_by.sort(true, false)
        });
        params.order_by = keys.collect();
        changed = true;
    }
    changed
}

fn sorted(mut sort: Sort, schema: &DFSchema) -> Transformed<LogicalPlan> {
    let mut changed = false;
    for SortExpr { expr, .. } in &mut sort.expr {
        changed |= make_key(expr, schema);
    }
    let sort = LogicalPlan::Sort(sort);
    if changed { Transformed::yes(sort) } else { Transformed::no(sort) }
}

fn joined(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    for (left, right) in &mut join.on {
        changed |= make_key(left, join.left.schema());
        changed |= make_key(right, join.right.schema());
    }
    let join = LogicalPlan::Join(join);
    Ok(if changed { Transformed::yes(join) } else { Transformed::no(join) })
}

fn distinct_on(mut on: DistinctOn) -> Transformed<LogicalPlan> {
    let schema = Arc::clone(on.input.schema());
    let mut changed = false;
    for expr in &mut on.on_expr {
        changed |= make_key(expr, &schema);
    }
    for sort in on.sort_expr.iter_mut().flatten() {
        changed |= make_key(&mut sort.expr, &schema);
    }
    let on = LogicalPlan::Distinct(Distinct::On(on));
    if changed { Transformed::yes(on) } else { Transformed::no(on) }
}

/// Whether a row of the schema has a value that needs a key.
fn keyed_columns(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| has_key(field.data_type()))
}

/// `DISTINCT` becomes a grouping by all columns.
fn distinct(input: Arc<LogicalPlan>) -> Result<Transformed<LogicalPlan>> {
    if !keyed_columns(input.schema()) {
        return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
    }
    let columns: Vec<_> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let aggregate = Aggregate::try_new(input, columns, vec![])?;
    grouped(aggregate)
}

/// Groups by keys. Of the values that are equal, a group shows the first; a grouping set without them shows null.
fn grouped(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(aggregate.input.schema());
    let exprs: Vec<Expr> = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => sets.distinct_expr().into_iter().cloned().collect(),
        exprs => exprs.to_vec(),
    };
    if !exprs.iter().any(|expr| needs_key(expr, &schema)) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let output = Arc::clone(&aggregate.schema);
    let column = |at: usize| {
        let (relation, field) = output.qualified_field(at);
        (relation.cloned(), field.name().clone())
    };
    let mut keys = vec![];
    let mut aggr_expr = aggregate.aggr_expr.clone();
    let mut projected = vec![];
    for (at, expr) in exprs.iter().enumerate() {
        let (relation, name) = column(at);
        if !needs_key(expr, &schema) {
            projected.push(Expr::Column(Column::new(relation, name)));
            continue;
        }
        let (by, first) = (format!("\u{1}key {at}"), format!("\u{1}first {at}"));
        let plain = expr.clone().unalias();
        aggr_expr.push(first_value(plain.clone(), vec![]).alias(&first));
        keys.push((expr.clone(), key(plain).alias(&by)));
        let [by, first] = [by, first].map(|name| Expr::Column(Column::new_unqualified(name)));
        let null = ScalarValue::try_from(output.field(at).data_type())?;
        let shown = when(by.is_null(), Expr::Literal(null, None)).otherwise(first)?;
        projected.push(shown.alias_qualified(relation, name));
    }
    for at in exprs.len()..output.fields().len() {
        let (relation, name) = column(at);
        projected.push(Expr::Column(Column::new(relation, name)));
    }
    let keyed = |expr: Expr| match keys.iter().find(|(known, _)| *known == expr) {
        Some((_, key)) => Ok(Transformed::yes(key.clone())),
        None => Ok(Transformed::no(expr)),
    };
    let group_expr = aggregate.group_expr.into_iter().map(|expr| match expr {
        sets @ Expr::GroupingSet(_) => sets.map_children(keyed).data(),
        expr => keyed(expr).data(),
    });
    let group_expr = group_expr.collect::<Result<Vec<_>>>()?;
    let inner = Aggregate::try_new(aggregate.input, group_expr, aggr_expr)?;
    let inner = Arc::new(LogicalPlan::Aggregate(inner));
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(projected, inner)?)))
}
