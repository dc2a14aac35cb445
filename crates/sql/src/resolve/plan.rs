//! Resolves types where several expressions share one: `IN`, `BETWEEN`, `IS DISTINCT FROM`, `CASE`, `coalesce`
//! and its like, `VALUES`, `UNION`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{
    Alias, Between, Case, Cast, InList, InSubquery, ScalarFunction, SetComparison,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Limit, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery,
    Union, Values,
};

use super::comparison::{Operands, compare};
use super::operand::Operand;
use super::types::{Meeting, as_type, common, compared};
use super::untyped::revealed;
use tidemark_ledger::catalog::ColumnType;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::EACH_ROW;

/// Gives every expression of a plan PostgreSQL's type.
///
/// # Errors
/// 42804 or 42883 for types that do not go together; the error of a literal that is no value of its type.
pub fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(resolve_node).data()
}

fn resolve_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Values(values) => LogicalPlan::Values(resolve_values(values)?),
        LogicalPlan::Union(union) => LogicalPlan::Union(resolve_union(union)?),
        LogicalPlan::Limit(limit) => LogicalPlan::Limit(resolve_limit(limit)?),
        plan => plan,
    };
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&scan.projected_schema);
    }
    let names = NamePreserver::new(&plan);
    let resolved = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let resolved = expr.transform_up(|expr| resolve_expr(expr, &schema))?;
        Ok(resolved.update_data(|expr| name.restore(expr)))
    })?;
    // The types of the inputs may have changed.
    Ok(Transformed::yes(resolved.data.recompute_schema()?))
}

/// Gives the parts of an operand their types. Those of operators in it have theirs, since operators are resolved
/// from the inside out.
pub(super) fn settle(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    if matches!(expr, Expr::BinaryExpr(_) | Expr::Column(_) | Expr::Literal(..)) {
        return Ok(expr);
    }
    let settled = expr.map_children(|child| Ok(Transformed::yes(settle(child, schema)?)))?;
    Ok(resolve_expr(settled.data, schema)?.data)
}

fn resolve_expr(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Some(literal) = revealed(&mut expr) {
        return Ok(Transformed::yes(literal));
    }
    match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) =>
        {
            compare_two(left, right, schema, &op.to_string())?;
        }
        Expr::Between(Between { expr, low, high, .. }) => {
            unify(&mut [expr, low, high], schema, Rule::Compared(">="))?;
        }
        Expr::InList(InList { expr, list, .. }) => {
            let mut all: Vec<&mut Expr> =
                std::iter::once(expr.as_mut()).chain(list.iter_mut()).collect();
            unify(&mut all, schema, Rule::Compared("="))?;
            for element in list.iter_mut().filter(|element| is_computed(element)) {
                *element = EACH_ROW.call(vec![std::mem::take(element)]);
            }
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
            compare_rows(expr, subquery, schema, "=")?;
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, .. }) => {
            compare_rows(expr, subquery, schema, &op.to_string())?;
        }
        Expr::Case(case) => resolve_case(case, schema)?,
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let Some(construct) = of_one_type(func.name()) else {
                return Ok(Transformed::no(expr));
            };
            unify(&mut args.iter_mut().collect::<Vec<_>>(), schema, construct)?;
        }
        _ => return Ok(Transformed::no(expr)),
    }
    Ok(Transformed::yes(expr))
}

/// Whether an element of a list depends on the row. The pass runs again over what it has made.
fn is_computed(element: &Expr) -> bool {
    let is_plain = match element {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => Arc::ptr_eq(&call.func, &EACH_ROW),
        _ => false,
    };
    !is_plain && element.exists(|inner| Ok(is_of_the_row(inner))).unwrap_or(true)
}

const fn is_of_the_row(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..))
}

/// The column of a subquery that is cast: the engine confuses a cast of a column with the column if they have one
/// name.
const COMPARED: &str = "\u{1}compared";

/// Compares a value with the column of a subquery, which is cast inside it.
fn compare_rows(
    value: &mut Expr,
    subquery: &mut Subquery,
    schema: &DFSchema,
    symbol: &str,
) -> Result<()> {
    // The engine refuses a subquery of several columns, and names it better.
    let Ok([column]) = <[Column; 1]>::try_from(subquery.subquery.schema().columns()) else {
        return Ok(());
    };
    let mut compared = Expr::Column(column.clone());
    let right = Operand::of(&compared, subquery.subquery.schema());
    let mut operands = Operands { left: Operand::of(value, schema), right };
    compare(value, &mut compared, &mut operands, symbol)?;
    if compared != Expr::Column(column.clone()) {
        let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(Arc::clone(&subquery.subquery)));
        subquery.subquery = Arc::new(rows.project([compared.alias(COMPARED)])?.build()?);
    }
    Ok(())
}

fn compare_two(left: &mut Expr, right: &mut Expr, schema: &DFSchema, symbol: &str) -> Result<()> {
    let mut operands = Operands::of(left, right, schema);
    compare(left, right, &mut operands, symbol)
}

/// How the type that several expressions share is found.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Each is compared with the first by this operator.
    Compared(&'static str),
    /// They are the branches of this construct.
    Branches(&'static str),
}

/// Functions whose arguments and result share one type.
fn of_one_type(function: &str) -> Option<Rule> {
    match function {
        "coalesce" => Some(Rule::Branches("COALESCE")),
        "greatest" => Some(Rule::Branches("GREATEST")),
        "least" => Some(Rule::Branches("LEAST")),
        "make_array" => Some(Rule::Branches("ARRAY")),
        "nullif" => Some(Rule::Compared("=")),
        _ => None,
    }
}

/// Brings expressions to one type.
fn unify(exprs: &mut [&mut Expr], schema: &DFSchema, rule: Rule) -> Result<()> {
    let mut operands: Vec<Operand> = exprs.iter().map(|expr| Operand::of(expr, schema)).collect();
    if operands.iter().any(|operand| matches!(operand, Operand::Other(_))) {
        return Ok(());
    }
    let Some(wanted) = shared(&operands, rule)? else { return Ok(()) };
    for (expr, operand) in exprs.iter_mut().zip(&mut operands) {
        match operand.typed() {
            Some(from) => **expr = as_type(std::mem::take(*expr), from, &wanted)?,
            None => operand.adopt(expr, &wanted)?,
        }
    }
    Ok(())
}

/// The type that operands share; `None` if all are untyped.
fn shared(operands: &[Operand], rule: Rule) -> Result<Option<ColumnType>, SqlError> {
    let typed: Vec<ColumnType> = operands.iter().filter_map(Operand::typed).cloned().collect();
    let symbol = match rule {
        Rule::Branches(construct) => return common(&typed, construct),
        Rule::Compared(symbol) => symbol,
    };
    let Some((first, rest)) = typed.split_first() else { return Ok(None) };
    let mut wanted = first.clone();
    for other in rest {
        match compared(&wanted, other) {
            Meeting::Never => {
                let (left, right) = (Operand::Typed(wanted), Operand::Typed(other.clone()));
                return Err(Operands { left, right }.no_operator(symbol));
            }
            Meeting::As(common) => wanted = common,
            Meeting::AsIs => {}
        }
    }
    Ok(Some(wanted))
}

fn resolve_case(case: &mut Case, schema: &DFSchema) -> Result<()> {
    if let Some(tested) = &mut case.expr {
        let values = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
        let mut all: Vec<&mut Expr> = std::iter::once(tested.as_mut()).chain(values).collect();
        unify(&mut all, schema, Rule::Compared("="))?;
    }
    // PostgreSQL looks at ELSE first.
    let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    let mut all: Vec<&mut Expr> =
        case.else_expr.as_deref_mut().into_iter().chain(results).collect();
    unify(&mut all, schema, Rule::Branches("CASE"))
}

/// Types the columns of `VALUES` anew: the planner has cast the cells by its own rules.
fn resolve_values(values: Values) -> Result<Values> {
    let Values { schema, values: mut rows } = values;
    let none = DFSchema::empty();
    let columns = rows.first().map_or(0, Vec::len);
    let mut changed = false;
    for column in 0..columns {
        let mut cells: Vec<&mut Expr> =
            rows.iter_mut().filter_map(|row| row.get_mut(column)).collect();
        for cell in &mut cells {
            changed |= undo_cast(cell);
        }
        let operands: Vec<_> = cells.iter().map(|cell| Operand::of(cell, &none)).collect();
        if operands.iter().any(Operand::is_unknown) || changed {
            unify(&mut cells, &none, Rule::Branches("VALUES"))?;
            changed = true;
        }
    }
    if !changed {
        return Ok(Values { schema, values: rows });
    }
    match LogicalPlanBuilder::values(rows)?.build()? {
        LogicalPlan::Values(values) => Ok(values),
        _ => Err(SqlError::internal("VALUES has become something else").into()),
    }
}

/// Removes the planner's cast of a cell, or what it made of `NULL` or of a quoted literal. Returns whether there was one.
fn undo_cast(cell: &mut Expr) -> bool {
    match cell {
        Expr::Literal(value, None) if value.is_null() && !value.data_type().is_null() => {
            *cell = Expr::Literal(ScalarValue::Null, None);
            true
        }
        Expr::Cast(Cast { expr, field }) if !is_own_cast(expr, field.data_type()) => {
            *cell = std::mem::take(expr);
            undo_cast(cell);
            true
        }
        cell => match revealed(cell) {
            Some(literal) => {
                *cell = literal;
                true
            }
            None => false,
        },
    }
}

/// Whether the cast gives a number, a parameter or `NULL` its type, rather than a cell that of its column.
fn is_own_cast(value: &Expr, to: &DataType) -> bool {
    match value {
        Expr::Placeholder(_) => true,
        Expr::Literal(ScalarValue::Null, _) => true,
        Expr::Literal(value, _) => value.data_type() == DataType::Int64 && *to == DataType::Int32,
        _ => false,
    }
}

fn resolve_union(union: Union) -> Result<Union> {
    let Union { mut inputs, schema } = union;
    let mut changed = false;
    for column in 0..schema.fields().len() {
        let operands: Vec<Operand> = inputs.iter().map(|input| column_of(input, column)).collect();
        if operands.iter().any(|operand| matches!(operand, Operand::Other(_))) {
            continue;
        }
        let Some(wanted) = shared(&operands, Rule::Branches("UNION"))? else { continue };
        for (input, operand) in inputs.iter_mut().zip(operands) {
            if operand.typed() != Some(&wanted) {
                let plan = std::mem::take(Arc::make_mut(input));
                *input = Arc::new(with_column(plan, column, operand, &wanted)?);
                changed = true;
            }
        }
    }
    if changed { Union::try_new_with_loose_types(inputs) } else { Ok(Union { inputs, schema }) }
}

/// What a plan returns in a column. Of a projection, the expression itself, which may be an untyped literal.
fn column_of(plan: &LogicalPlan, column: usize) -> Operand {
    if let LogicalPlan::Projection(projection) = plan
        && let Some(expr) = projection.expr.get(column)
    {
        return Operand::of(unaliased(expr), projection.input.schema());
    }
    let schema = plan.schema();
    Operand::of(&Expr::Column(schema.columns().swap_remove(column)), schema)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(Alias { expr, .. }) => unaliased(expr),
        expr => expr,
    }
}

/// A plan whose column has another type.
fn with_column(
    plan: LogicalPlan,
    column: usize,
    mut operand: Operand,
    wanted: &ColumnType,
) -> Result<LogicalPlan> {
    let (input, mut exprs) = match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => (input, expr),
        plan => {
            let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
            (Arc::new(plan), columns)
        }
    };
    if let Some(expr) = exprs.get_mut(column) {
        let name = expr.qualified_name();
        let mut value = unaliased(expr).clone();
        match operand.typed() {
            Some(from) => value = as_type(value, from, wanted)?,
            None => operand.adopt(&mut value, wanted)?,
        }
        *expr = value.alias_qualified(name.0, name.1);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
}

/// A parameter that counts rows is a `bigint`.
fn resolve_limit(mut limit: Limit) -> Result<Limit> {
    for count in [&mut limit.fetch, &mut limit.skip].into_iter().flatten() {
        let mut operand = Operand::of(count, &DFSchema::empty());
        operand.adopt(count, &ColumnType::BigInt)?;
    }
    Ok(limit)
}
