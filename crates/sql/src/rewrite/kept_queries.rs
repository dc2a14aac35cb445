//! Queries of `WITH` that are computed once: `MATERIALIZED`, and volatile ones.
//!
//! DataFusion plans a query of `WITH` again wherever it is referred to, so that `random()` in it would differ.
//! In the syntax tree, such a query gets an alias with a number; in the plan, [`KeepQueries`] replaces the alias
//! by an operator that keeps the rows.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, Volatility};
use datafusion::optimizer::AnalyzerRule;
use sqlparser::ast::{
    Cte, CteAsMaterialized, Expr, Query, SelectItem, TableFactor, VisitMut, VisitorMut,
    WildcardAdditionalOptions, visit_expressions, visit_relations,
};

use crate::kept_rows::{KeptRows, next_number};
use crate::parser::folded;
use crate::trees::{quoted, relation, select, table_alias};

/// What the alias of a kept query begins with; no user can write it.
const PREFIX: &str = "\u{1}kept ";

/// Marks the queries in `node` that are computed once.
pub fn mark<N: VisitMut>(node: &mut N, state: &SessionState) {
    let flow = node.visit(&mut Marker { state });
    debug_assert!(flow.is_continue(), "marking never stops");
}

struct Marker<'a> {
    state: &'a SessionState,
}

impl VisitorMut for Marker<'_> {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            let is_kept = match cte.materialized {
                Some(CteAsMaterialized::Materialized) => true,
                Some(CteAsMaterialized::NotMaterialized) | None => {
                    is_volatile(&cte.query, self.state)
                }
            };
            if is_kept && !refers_to_itself(cte) {
                mark_query(&mut cte.query);
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_volatile(query: &Query, state: &SessionState) -> bool {
    let flow = visit_expressions(query, |expr| match expr {
        Expr::Function(function) if is_volatile_name(&function.name.to_string(), state) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

fn is_volatile_name(name: &str, state: &SessionState) -> bool {
    let function = state.scalar_functions().get(&name.to_lowercase());
    function.is_some_and(|function| function.signature().volatility == Volatility::Volatile)
}

fn refers_to_itself(cte: &Cte) -> bool {
    let name = folded(&cte.alias.name);
    let flow = visit_relations(&cte.query, |relation| match relation.0.as_slice() {
        [only] if only.as_ident().is_some_and(|ident| folded(ident) == name) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

/// Rewrites a query to `SELECT * FROM (query) AS "kept number"`.
fn mark_query(query: &mut Query) {
    let subquery = Box::new(std::mem::replace(query, select(vec![]).query()));
    let alias = Some(table_alias(quoted(format!("{PREFIX}{}", next_number()))));
    let kept = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    *query = select(vec![all]).from([relation(kept)]).query();
}

/// Replaces the marks in a plan, as an analyzer rule.
#[derive(Debug)]
pub struct KeepQueries;

impl AnalyzerRule for KeepQueries {
    fn name(&self) -> &'static str {
        "keep_queries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let kept = plan.transform_up_with_subqueries(|node| match number_of(&node) {
            Some(number) => Ok(Transformed::new(
                KeptRows::numbered(number, node),
                true,
                TreeNodeRecursion::Continue,
            )),
            None => Ok(Transformed::no(node)),
        });
        kept.data()
    }
}

fn number_of(node: &LogicalPlan) -> Option<u64> {
    match node {
        LogicalPlan::SubqueryAlias(alias) => alias.alias.table().strip_prefix(PREFIX)?.parse().ok(),
        _ => None,
    }
}
