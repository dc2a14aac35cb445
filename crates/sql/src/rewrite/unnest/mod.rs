//! Turns any correlated subquery into a join.
//!
//! A subquery that refers to columns of an outer row has a result for each combination of their values: its
//! *domain*. The subquery is computed for the whole domain at once, by joining it with the domain and carrying
//! the columns of the domain up through each of its operators ([`push`]): an aggregate groups by them, a limit
//! counts rows for each of them, and so on. The outer rows are then joined with the results that belong to
//! them, where null belongs to null. An operator that has a row even for no input, as an aggregate without
//! groups, starts from the domain itself. The idea is that of Neumann and Kemper, "Unnesting Arbitrary
//! Queries".
//!
//! The outer rows are computed twice. If that could make a difference, or the subquery is volatile, they are
//! numbered and kept ([`crate::kept_rows`]), and the number is part of the domain.

mod domain;
mod push;

use datafusion::common::Column;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder};

use crate::kept_rows::KeptRows;
use domain::{Domain, are_same, in_schema, references_of};

/// The input of an operator, to which the results of subqueries are joined.
pub struct Outer<'a> {
    /// The rows without these results.
    base: LogicalPlan,
    pub joined: LogicalPlan,
    /// The number of each row, if rows are told apart by it.
    number: Option<Expr>,
    aliases: &'a AliasGenerator,
}

/// The rows of a subquery for its whole domain.
pub struct Unnested {
    domain: Domain,
    pub rows: LogicalPlan,
    /// The columns of the domain in `rows`.
    pub keys: Vec<Column>,
}

impl Unnested {
    /// What a value of the outer query is in `rows`.
    pub fn operand(&self, value: &Expr) -> Expr {
        match self.domain.values.iter().position(|known| known == value) {
            Some(at) => Expr::Column(self.keys[at].clone()),
            None => value.clone(),
        }
    }

    pub fn key_exprs(&self) -> Vec<Expr> {
        self.keys.iter().cloned().map(Expr::Column).collect()
    }
}

impl<'a> Outer<'a> {
    pub fn new(input: LogicalPlan, aliases: &'a AliasGenerator) -> Self {
        Self { base: input.clone(), joined: input, number: None, aliases }
    }

    /// Computes a subquery for the domain of the outer columns in it, and of `more`.
    pub fn unnest(&mut self, subquery: &LogicalPlan, mut more: Vec<Expr>) -> Result<Unnested> {
        more.extend(self.number.clone());
        let domain = Domain::of(subquery, &self.base, more, self.aliases)?;
        let (rows, keys) = push::push(subquery, &domain, self.aliases)?;
        Ok(Unnested { domain, rows, keys })
    }

    /// Numbers the rows if these subqueries may not be computed for equal rows together, or the rows not twice.
    /// It comes before [`Self::unnest`].
    pub fn prepare(&mut self, subqueries: &[&LogicalPlan]) -> Result<()> {
        let mut keep = is_unstable(&self.base)?;
        for subquery in subqueries {
            keep |= is_volatile(subquery)?;
        }
        if keep && self.number.is_none() {
            self.number_rows()?;
        }
        Ok(())
    }

    fn number_rows(&mut self) -> Result<()> {
        let name = self.aliases.next("__row");
        let numbered = LogicalPlanBuilder::from(self.base.clone())
            .window(vec![row_number().alias(&name)])?
            .build()?;
        self.base = KeptRows::of(numbered);
        self.joined = self.base.clone();
        self.number = Some(Expr::Column(Column::new_unqualified(name)));
        Ok(())
    }

    /// Joins the outer rows with `results`, whose first columns are the keys of `unnested`. Returns the names of
    /// all columns of the results.
    pub fn join(
        &mut self,
        unnested: &Unnested,
        results: LogicalPlan,
        join_type: JoinType,
        condition: Option<Expr>,
    ) -> Result<Vec<Column>> {
        let alias = self.aliases.next("__subquery");
        let results = LogicalPlanBuilder::from(results).alias(alias.as_str())?.build()?;
        self.join_as_is(unnested, results, join_type, condition)
    }

    /// Like [`Self::join`], without a new name for the results.
    pub fn join_as_is(
        &mut self,
        unnested: &Unnested,
        results: LogicalPlan,
        join_type: JoinType,
        condition: Option<Expr>,
    ) -> Result<Vec<Column>> {
        let columns = results.schema().columns();
        let keys = &columns[..unnested.keys.len()];
        let values = unnested.domain.values.iter().cloned();
        let outer = self.joined.schema().clone();
        let same =
            are_same(values.map(|value| (value, outer.as_ref())), in_schema(keys, &results))?;
        let condition = match condition {
            Some(condition) => same.and(condition),
            None => same,
        };
        let joined = std::mem::take(&mut self.joined);
        self.joined =
            LogicalPlanBuilder::from(joined).join_on(results, join_type, [condition])?.build()?;
        Ok(columns)
    }
}

/// Whether two runs of the plan may give different rows.
fn is_unstable(plan: &LogicalPlan) -> Result<bool> {
    let mut unstable = is_volatile(plan)?;
    plan.apply_with_subqueries(|node| {
        unstable |= matches!(node, LogicalPlan::Limit(_));
        Ok(if is_kept(node) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    Ok(unstable)
}

pub fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    let mut volatile = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            // Errors of only_row depend on its argument alone.
            volatile |= expr.exists(|inner| Ok(inner.is_volatile_node() && !is_only_row(inner)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if is_kept(node) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    Ok(volatile)
}

fn is_only_row(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func == *tidemark_pg::functions::ONLY_ROW)
}

fn is_kept(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Extension(node) if node.node.as_any().is::<KeptRows>())
}

/// Whether a plan refers to columns of outer queries.
pub fn is_correlated(plan: &LogicalPlan) -> Result<bool> {
    Ok(!references_of(plan)?.is_empty())
}

/// The references of a plan to columns of outer queries.
pub fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    Ok(references_of(plan)?.into_iter().map(|(column, _)| column).collect())
}

/// The same as expressions.
pub fn references(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    Ok(references_of(plan)?.into_iter().map(|(_, reference)| reference).collect())
}
