//! Pushes a domain down through the operators of a subquery.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, EmptyRelation, Expr, ExprFunctionExt, Extension, Filter,
    GroupingSet, Join, JoinType, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort,
    SubqueryAlias, Union, Unnest, Values, Window, cast, lit,
};

use super::domain::{Bound, Domain, are_same, in_schema};
use crate::kept_rows::KeptRows;
use tidemark_pg::error::SqlError;

/// A plan with the columns of the given one, under the same names and in the same order, and those of the
/// domain after them.
pub(super) fn push(
    plan: &LogicalPlan,
    domain: &Domain,
    aliases: &AliasGenerator,
) -> Result<(LogicalPlan, Bound)> {
    Push { domain, aliases }.push(plan)
}

struct Push<'a> {
    domain: &'a Domain,
    aliases: &'a AliasGenerator,
}

type Pushed = Result<(LogicalPlan, Bound)>;

impl Push<'_> {
    fn push(&self, plan: &LogicalPlan) -> Pushed {
        if !self.domain.concerns(plan)? {
            return self.cross(plan);
        }
        match plan {
            LogicalPlan::Projection(node) => self.projection(node),
            LogicalPlan::Filter(node) => self.filter(node),
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Window(node) => self.window(node),
            // Rows in an order are rows in any order, except below a limit.
            LogicalPlan::Sort(Sort { input, fetch: None, .. }) => self.push(input),
            LogicalPlan::Limit(node) => self.limit(node),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (input, bound) = self.push(input)?;
                Ok((LogicalPlan::Distinct(Distinct::All(Arc::new(input))), bound))
            }
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::SubqueryAlias(node) => self.alias(node),
            LogicalPlan::Values(node) => self.values(node),
            LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) => {
                self.cross(plan)
            }
            LogicalPlan::Unnest(node) => self.unnest(node),
            LogicalPlan::Extension(node) => self.kept(node),
            LogicalPlan::RecursiveQuery(_) => Err(unsupported("WITH RECURSIVE")),
            other => Err(unsupported(&format!("the operator {}", other.display()))),
        }
    }

    /// Every row of a plan for every row of the domain.
    fn cross(&self, plan: &LogicalPlan) -> Pushed {
        let (rows, bound) = self.domain.instance(self.aliases)?;
        if let LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, schema }) = plan
            && schema.fields().is_empty()
        {
            return Ok((rows, bound));
        }
        let crossed = LogicalPlanBuilder::from(plan.clone()).cross_join(rows)?.build()?;
        Ok((crossed, bound))
    }

    /// Puts the columns of a plan in the order of `like`, under its names, and those of the domain last.
    fn ordered(
        &self,
        plan: LogicalPlan,
        columns: Vec<Column>,
        like: &DFSchema,
        bound: &Bound,
    ) -> Pushed {
        let named = columns.into_iter().zip(like.iter()).map(|(column, (qualifier, field))| {
            if column.relation.as_ref() == qualifier && column.name == *field.name() {
                Expr::Column(column)
            } else {
                Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
            }
        });
        let exprs: Vec<Expr> = named.chain(bound.iter().cloned().map(Expr::Column)).collect();
        Ok((LogicalPlanBuilder::from(plan).project(exprs)?.build()?, bound.clone()))
    }

    fn bind_all(&self, exprs: &[Expr], bound: &Bound) -> Result<Vec<Expr>> {
        let names = NamePreserver::new_for_projection();
        exprs
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                Ok(name.restore(self.domain.bind(expr.clone(), bound)?))
            })
            .collect()
    }

    fn bind_sort(&self, exprs: &[SortExpr], bound: &Bound) -> Result<Vec<SortExpr>> {
        exprs
            .iter()
            .map(|by| {
                let expr = self.domain.bind(by.expr.clone(), bound)?;
                Ok(SortExpr { expr, ..by.clone() })
            })
            .collect()
    }

    fn projection(&self, node: &Projection) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let mut exprs = self.bind_all(&node.expr, &bound)?;
        exprs.extend(bound.iter().cloned().map(Expr::Column));
        let projected = Projection::try_new(exprs, Arc::new(input))?;
        Ok((LogicalPlan::Projection(projected), bound))
    }

    fn filter(&self, node: &Filter) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let predicate = self.domain.bind(node.predicate.clone(), &bound)?;
        Ok((LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?), bound))
    }

    fn window(&self, node: &Window) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let names = NamePreserver::new_for_projection();
        let exprs = node.window_expr.iter().map(|expr| {
            let name = names.save(expr);
            let expr = self.domain.bind(expr.clone(), &bound)?;
            let parted = expr.transform(|inner| match inner {
                Expr::WindowFunction(mut window) => {
                    window.params.partition_by.extend(bound.iter().cloned().map(Expr::Column));
                    Ok(Transformed::new(
                        Expr::WindowFunction(window),
                        true,
                        TreeNodeRecursion::Jump,
                    ))
                }
                other => Ok(Transformed::no(other)),
            });
            Ok(name.restore(parted.data()?))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let windowed = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
        let columns = without(windowed.schema().columns(), &bound);
        self.ordered(windowed, columns, &node.schema, &bound)
    }

    /// A limit counts the rows of each row of the domain.
    fn limit(&self, node: &Limit) -> Pushed {
        match node.input.as_ref() {
            // A projection, like an alias, keeps the number of rows; below it, the order is known.
            LogicalPlan::Projection(inner) if sorts(&inner.input) => {
                let limit = Limit { input: Arc::clone(&inner.input), ..node.clone() };
                let input = Arc::new(LogicalPlan::Limit(limit));
                self.projection(&Projection::try_new(inner.expr.clone(), input)?)
            }
            LogicalPlan::SubqueryAlias(inner) if sorts(&inner.input) => {
                let limit = Limit { input: Arc::clone(&inner.input), ..node.clone() };
                let input = Arc::new(LogicalPlan::Limit(limit));
                self.alias(&SubqueryAlias::try_new(input, inner.alias.clone())?)
            }
            LogicalPlan::Sort(sort) => self.first(node, &sort.expr, &sort.input),
            other => self.first(node, &[], other),
        }
    }

    fn first(&self, limit: &Limit, order_by: &[SortExpr], input: &LogicalPlan) -> Pushed {
        let (rows, bound) = self.push(input)?;
        let number = self.aliases.next("__number");
        let numbered = row_number()
            .partition_by(bound.iter().cloned().map(Expr::Column).collect())
            .order_by(self.bind_sort(order_by, &bound)?)
            .build()?;
        let place = Expr::Column(Column::new_unqualified(&number));
        let bind = |expr: &Option<Box<Expr>>| match expr {
            Some(expr) => self.domain.bind(expr.as_ref().clone(), &bound).map(Some),
            None => Ok(None),
        };
        let place = cast(place, datafusion::arrow::datatypes::DataType::Int64);
        let skip = bind(&limit.skip)?.map(|skip| coalesce(vec![skip, lit(0_i64)]));
        let skip = skip.unwrap_or_else(|| lit(0_i64));
        let mut kept = place.clone().gt(skip.clone());
        if let Some(fetch) = bind(&limit.fetch)? {
            let within = (place - skip).lt_eq(fetch.clone());
            kept = kept.and(within.or(fetch.is_null()));
        }
        let columns = without(rows.schema().columns(), &bound);
        let rows = LogicalPlanBuilder::from(rows).window(vec![numbered.alias(&number)])?;
        let rows = rows.filter(kept)?.build()?;
        self.ordered(rows, columns, limit.input.schema(), &bound)
    }

    fn distinct_on(&self, node: &DistinctOn) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let keys = || bound.iter().cloned().map(Expr::Column);
        let on: Vec<Expr> = keys().chain(self.bind_all(&node.on_expr, &bound)?).collect();
        let mut exprs = self.bind_all(&node.select_expr, &bound)?;
        exprs.extend(keys());
        let sort = match &node.sort_expr {
            Some(sort) => {
                let first = keys().map(|key| key.sort(true, false));
                Some(first.chain(self.bind_sort(sort, &bound)?).collect())
            }
            None => None,
        };
        let distinct = DistinctOn::try_new(on, exprs, sort, Arc::new(input))?;
        Ok((LogicalPlan::Distinct(Distinct::On(distinct)), bound))
    }

    fn union(&self, node: &Union) -> Pushed {
        let inputs = node.inputs.iter().map(|input| {
            let (rows, bound) = self.push(input)?;
            let columns = without(rows.schema().columns(), &bound).into_iter().map(Expr::Column);
            let keys = bound.into_iter().zip(self.domain.names());
            let keys = keys.map(|(column, name)| Expr::Column(column).alias(name));
            let rows =
                LogicalPlanBuilder::from(rows).project(columns.chain(keys).collect::<Vec<_>>())?;
            Ok(Arc::new(rows.build()?))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let union = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let mut columns = union.schema().columns();
        let bound = columns.split_off(columns.len() - self.domain.names().len());
        self.ordered(union, columns, &node.schema, &bound)
    }

    fn alias(&self, node: &SubqueryAlias) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let qualified = |column: Column| Column::new(Some(node.alias.clone()), column.name);
        let aliased = SubqueryAlias::try_new(Arc::new(input), node.alias.clone())?;
        Ok((LogicalPlan::SubqueryAlias(aliased), bound.into_iter().map(qualified).collect()))
    }

    fn values(&self, node: &Values) -> Pushed {
        let types: Vec<_> = node.schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let inputs = node.values.iter().map(|row| {
            let (rows, bound) = self.domain.instance(self.aliases)?;
            let cells = row.iter().zip(&types).zip(node.schema.fields());
            let cells = cells.map(|((cell, to), field)| {
                let cell = self.domain.bind(cell.clone(), &bound)?;
                Ok(cast(cell, to.clone()).alias(field.name()))
            });
            let mut cells = cells.collect::<Result<Vec<_>>>()?;
            let keys = bound.into_iter().zip(self.domain.names());
            cells.extend(keys.map(|(column, name)| Expr::Column(column).alias(name)));
            Ok(Arc::new(LogicalPlanBuilder::from(rows).project(cells)?.build()?))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let rows = match <[Arc<LogicalPlan>; 1]>::try_from(inputs) {
            Ok([only]) => Arc::unwrap_or_clone(only),
            Err(inputs) => LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?),
        };
        let mut columns = rows.schema().columns();
        let bound = columns.split_off(columns.len() - self.domain.names().len());
        self.ordered(rows, columns, &node.schema, &bound)
    }

    fn unnest(&self, node: &Unnest) -> Pushed {
        let (input, bound) = self.push(&node.input)?;
        let rows = LogicalPlanBuilder::from(input)
            .unnest_columns_with_options(node.exec_columns.clone(), node.options.clone())?
            .build()?;
        Ok((rows, bound))
    }

    fn kept(&self, node: &Extension) -> Pushed {
        let Some(kept) = node.node.as_any().downcast_ref::<KeptRows>() else {
            return Err(unsupported(node.node.name()));
        };
        let (input, bound) = self.push(kept.input())?;
        Ok((kept.with_input(input), bound))
    }
}

// Operators for which it matters that there may be no rows.
impl Push<'_> {
    fn aggregate(&self, node: &Aggregate) -> Pushed {
        let is_never_empty = node.group_expr.is_empty() || has_empty_set(&node.group_expr);
        let (input, bound, marker) = if is_never_empty {
            self.with_every_key(&node.input)?
        } else {
            let (input, bound) = self.push(&node.input)?;
            (input, bound, None)
        };
        if marker.is_some() && !node.group_expr.is_empty() {
            return Err(unsupported("an empty grouping set"));
        }
        let keys = bound.iter().cloned().map(Expr::Column).collect::<Vec<_>>();
        let groups = grouped_by(self.bind_all(&node.group_expr, &bound)?, &keys);
        let aggregates = self.bind_all(&node.aggr_expr, &bound)?;
        let aggregates = match &marker {
            Some(marker) => filtered(aggregates, marker)?,
            None => aggregates,
        };
        let aggregated = Aggregate::try_new(Arc::new(input), groups, aggregates)?;
        let aggregated = LogicalPlan::Aggregate(aggregated);
        let columns = without(aggregated.schema().columns(), &bound);
        self.ordered(aggregated, columns, &node.schema, &bound)
    }

    /// The rows of a plan, and one for each row of the domain that has none; only the others have the marker.
    fn with_every_key(&self, plan: &LogicalPlan) -> Result<(LogicalPlan, Bound, Option<Column>)> {
        let (rows, bound) = self.push(plan)?;
        let marker = self.aliases.next("__is_row");
        let mut exprs: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.push(lit(true).alias(&marker));
        let rows = LogicalPlanBuilder::from(rows).project(exprs)?.build()?;
        let (keys, every) = self.domain.instance(self.aliases)?;
        let same = are_same(in_schema(&every, &keys), in_schema(&bound, &rows))?;
        let joined =
            LogicalPlanBuilder::from(keys).join_on(rows, JoinType::Left, [same])?.build()?;
        Ok((joined, every, Some(Column::new_unqualified(marker))))
    }

    fn join(&self, node: &Join) -> Pushed {
        use JoinType::{
            Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi,
        };
        let (mut left_is, mut right_is) =
            (self.domain.concerns(&node.left)?, self.domain.concerns(&node.right)?);
        match node.join_type {
            Inner => left_is |= !right_is,
            Left | LeftSemi | LeftAnti | LeftMark => left_is = true,
            Right | RightSemi | RightAnti | RightMark => right_is = true,
            Full => (left_is, right_is) = (true, true),
        }
        let side = |is: bool, plan: &LogicalPlan| {
            if is {
                self.push(plan).map(|(plan, bound)| (plan, Some(bound)))
            } else {
                Ok((plan.clone(), None))
            }
        };
        let ((left, of_left), (right, of_right)) =
            (side(left_is, &node.left)?, side(right_is, &node.right)?);
        let shown = match node.join_type {
            Right | RightSemi | RightAnti | RightMark => {
                of_right.clone().or_else(|| of_left.clone())
            }
            _ => of_left.clone().or_else(|| of_right.clone()),
        };
        let Some(bound) = shown else {
            return Err(SqlError::internal("a join without a domain").into());
        };
        let mut conditions = vec![];
        for (a, b) in &node.on {
            let both_null = node.null_equality == datafusion::common::NullEquality::NullEqualsNull;
            let (a, b) =
                (self.domain.bind(a.clone(), &bound)?, self.domain.bind(b.clone(), &bound)?);
            conditions.push(if both_null {
                are_same(
                    [(a, left.schema().as_ref())].into_iter(),
                    [(b, right.schema().as_ref())].into_iter(),
                )?
            } else {
                a.eq(b)
            });
        }
        if let (Some(of_left), Some(of_right)) = (&of_left, &of_right) {
            conditions.push(are_same(in_schema(of_left, &left), in_schema(of_right, &right))?);
        }
        if let Some(filter) = &node.filter {
            conditions.push(self.domain.bind(filter.clone(), &bound)?);
        }
        if conditions.is_empty() {
            conditions.push(lit(true));
        }
        let joined =
            LogicalPlanBuilder::from(left).join_on(right, node.join_type, conditions)?.build()?;
        let (joined, bound) = match (node.join_type, of_left, of_right) {
            (Full, Some(of_left), Some(of_right)) => self.of_either(joined, &of_left, &of_right)?,
            (_, of_left, of_right) => {
                let mut hidden = of_left.unwrap_or_default();
                hidden.extend(of_right.unwrap_or_default());
                let columns = without(joined.schema().columns(), &hidden);
                return self.ordered(joined, columns, &node.schema, &bound);
            }
        };
        let columns = without(joined.schema().columns(), &bound);
        self.ordered(joined, columns, &node.schema, &bound)
    }

    /// The columns of the domain after a full join: from the side that has a row.
    fn of_either(&self, joined: LogicalPlan, left: &Bound, right: &Bound) -> Pushed {
        let mut hidden = left.clone();
        hidden.extend(right.iter().cloned());
        let columns = without(joined.schema().columns(), &hidden).into_iter().map(Expr::Column);
        let names: Vec<String> = left.iter().map(|_| self.aliases.next("__either")).collect();
        let both = left.iter().zip(right).zip(&names).map(|((left, right), name)| {
            coalesce(vec![Expr::Column(left.clone()), Expr::Column(right.clone())]).alias(name)
        });
        let exprs: Vec<Expr> = columns.chain(both).collect();
        let rows = LogicalPlanBuilder::from(joined).project(exprs)?.build()?;
        Ok((rows, names.into_iter().map(Column::new_unqualified).collect()))
    }
}

/// Whether the rows of a plan, below nodes that keep their number, are sorted.
fn sorts(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(node) => sorts(&node.input),
        LogicalPlan::SubqueryAlias(node) => sorts(&node.input),
        _ => false,
    }
}

fn without(columns: Vec<Column>, hidden: &[Column]) -> Vec<Column> {
    columns.into_iter().filter(|column| !hidden.contains(column)).collect()
}

/// Adds keys to the columns that rows are grouped by, in every grouping set.
fn grouped_by(mut groups: Vec<Expr>, keys: &[Expr]) -> Vec<Expr> {
    match groups.as_mut_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            sets.iter_mut().for_each(|set| set.extend_from_slice(keys));
        }
        _ => groups.extend_from_slice(keys),
    }
    groups
}

fn has_empty_set(groups: &[Expr]) -> bool {
    match groups {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        [Expr::GroupingSet(_)] => true,
        _ => false,
    }
}

/// Makes aggregates ignore the rows without the marker.
fn filtered(aggregates: Vec<Expr>, marker: &Column) -> Result<Vec<Expr>> {
    let is_row = || Expr::Column(marker.clone()).is_not_null();
    let names = NamePreserver::new_for_projection();
    let filtered = aggregates.into_iter().map(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform(|inner| match inner {
            Expr::AggregateFunction(mut aggregate) => {
                let filter = match aggregate.params.filter.take() {
                    Some(filter) => is_row().and(*filter),
                    None => is_row(),
                };
                aggregate.params.filter = Some(Box::new(filter));
                Ok(Transformed::new(
                    Expr::AggregateFunction(aggregate),
                    true,
                    TreeNodeRecursion::Jump,
                ))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(name.restore(expr.data()?))
    });
    filtered.collect()
}

fn unsupported(what: &str) -> datafusion::error::DataFusionError {
    SqlError::unsupported(format!("{what} in a subquery that refers to the outer query")).into()
}
