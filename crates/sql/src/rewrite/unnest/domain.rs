//! The values of the outer columns that a subquery refers to: each combination once.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};

/// The columns of a domain as a plan has them, in the order of the domain.
pub(super) type Bound = Vec<Column>;

pub(super) struct Domain {
    /// The columns of the outer query that it stands for. Further ones, which nothing refers to, follow.
    refers: Vec<Column>,
    /// What each column of the domain is to the outer query.
    pub(super) values: Vec<Expr>,
    names: Vec<String>,
    /// Has the columns `names`.
    rows: LogicalPlan,
}

impl Domain {
    /// The domain of the columns that `subquery` takes from `input` or from outside of it, and of `more` where
    /// it is something else.
    pub(super) fn of(
        subquery: &LogicalPlan,
        input: &LogicalPlan,
        more: Vec<Expr>,
        aliases: &AliasGenerator,
    ) -> Result<Self> {
        let references = references_of(subquery)?;
        let refers = references.iter().map(|(column, _)| column.clone()).collect();
        let is_of_input = |column: &Column| input.schema().has_column(column);
        let values = references.into_iter().map(|(column, reference)| {
            if is_of_input(&column) { Expr::Column(column) } else { reference }
        });
        let mut values: Vec<Expr> = values.collect();
        for value in more {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        let names: Vec<String> = values.iter().map(|_| aliases.next("__outer")).collect();
        let named = values.iter().zip(&names).map(|(value, name)| value.clone().alias(name));
        let rows = if names.is_empty() {
            LogicalPlanBuilder::empty(true)
        } else {
            let rows =
                LogicalPlanBuilder::from(input.clone()).project(named.collect::<Vec<_>>())?;
            // Not DISTINCT, which the engine drops if it takes the columns for unique.
            let groups = names.iter().map(|name| Expr::Column(Column::new_unqualified(name)));
            rows.aggregate(groups, Vec::<Expr>::new())?
        };
        let rows = rows.build()?;
        Ok(Self { refers, values, names, rows })
    }

    /// Its rows under a name of their own.
    pub(super) fn instance(&self, aliases: &AliasGenerator) -> Result<(LogicalPlan, Bound)> {
        let alias = aliases.next("__domain");
        let bound = self.names.iter().map(|name| Column::new(Some(alias.as_str()), name)).collect();
        let rows = LogicalPlanBuilder::from(self.rows.clone()).alias(alias.as_str())?.build()?;
        Ok((rows, bound))
    }

    /// The names of its columns, which no other column has.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a plan refers to the columns that it stands for.
    pub(super) fn concerns(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(references_of(plan)?.iter().any(|(column, _)| self.refers.contains(column)))
    }

    /// Replaces references to the outer query with the columns of the domain.
    pub(super) fn bind(&self, expr: Expr, bound: &[Column]) -> Result<Expr> {
        let replaced = expr.transform(|inner| match &inner {
            Expr::OuterReferenceColumn(_, column) => {
                match self.refers.iter().position(|refers| refers == column) {
                    Some(at) => Ok(Transformed::yes(Expr::Column(bound[at].clone()))),
                    None => Ok(Transformed::no(inner)),
                }
            }
            _ => Ok(Transformed::no(inner)),
        });
        replaced.data()
    }
}

/// The references of a plan to queries outside of it, each once. Those of a subquery in it to the plan itself
/// are not among them.
pub(super) fn references_of(plan: &LogicalPlan) -> Result<Vec<(Column, Expr)>> {
    let mut found = vec![];
    collect(plan, &mut found)?;
    Ok(found)
}

fn collect(plan: &LogicalPlan, found: &mut Vec<(Column, Expr)>) -> Result<()> {
    let mut add = |column: &Column, reference: &Expr| {
        if found.iter().all(|(known, _)| known != column) {
            found.push((column.clone(), reference.clone()));
        }
    };
    let mut inside = vec![];
    plan.apply_expressions(|expr| {
        expr.apply(|inner| {
            match inner {
                Expr::OuterReferenceColumn(_, column) => add(column, inner),
                Expr::ScalarSubquery(subquery) => inside.push(Arc::clone(&subquery.subquery)),
                Expr::Exists(exists) => inside.push(Arc::clone(&exists.subquery.subquery)),
                Expr::InSubquery(within) => inside.push(Arc::clone(&within.subquery.subquery)),
                Expr::SetComparison(compared) => {
                    inside.push(Arc::clone(&compared.subquery.subquery));
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let inputs = plan.inputs();
    for subquery in inside {
        for (column, reference) in references_of(&subquery)? {
            if inputs.iter().all(|input| !input.schema().has_column(&column)) {
                add(&column, &reference);
            }
        }
    }
    inputs.into_iter().try_for_each(|input| collect(input, found))
}

/// The condition that the values are the same, where null is the same as null. It is made of equalities that
/// null cannot satisfy: the engine mixes up the two kinds of keys when it reorders joins.
pub(super) fn are_same<'a>(
    left: impl Iterator<Item = (Expr, &'a DFSchema)>,
    right: impl Iterator<Item = (Expr, &'a DFSchema)>,
) -> Result<Expr> {
    let mut equal = vec![];
    for ((left, of_left), (right, of_right)) in left.zip(right) {
        if !left.nullable(of_left)? || !right.nullable(of_right)? {
            equal.push(left.eq(right));
            continue;
        }
        match ScalarValue::new_default(&left.get_type(of_left)?) {
            Ok(filler) if !filler.is_null() => {
                let both = [left.clone(), right.clone()]
                    .map(|side| coalesce(vec![side, lit(filler.clone())]));
                let [filled_left, filled_right] = both;
                equal.push(filled_left.eq(filled_right));
                equal.push(left.is_null().eq(right.is_null()));
            }
            _ => equal.push(datafusion::logical_expr::binary_expr(
                left,
                datafusion::logical_expr::Operator::IsNotDistinctFrom,
                right,
            )),
        }
    }
    Ok(conjunction(equal).unwrap_or_else(|| lit(true)))
}

/// Columns with the schema that they belong to.
pub(super) fn in_schema<'a>(
    columns: &'a [Column],
    plan: &'a LogicalPlan,
) -> impl Iterator<Item = (Expr, &'a DFSchema)> {
    columns.iter().map(|column| (Expr::Column(column.clone()), Arc::as_ref(plan.schema())))
}
