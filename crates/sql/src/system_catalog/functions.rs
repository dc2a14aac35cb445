//! Functions over the catalog that clients call in addition to reading its tables.
//!
//! Arguments may be oids or names; both are accepted where PostgreSQL takes a `regclass`.

mod call;
mod definitions;
mod names;
mod privileges;
mod sizes;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF};

use self::call::CatalogFunction;
use super::listing::{self, Listed};
use crate::read_view::ReadView;
use tidemark_ledger::catalog::{PG_CATALOG, RW_CATALOG};
use tidemark_pg::carried::Carried;

/// All functions. They read the [`Lookup`] that the plan carries, unless [`Lookup::bind`] gave them another.
pub fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let specs = [definitions::FUNCTIONS, names::FUNCTIONS, privileges::FUNCTIONS, sizes::FUNCTIONS]
        .into_iter()
        .flatten();
    specs.map(|spec| Arc::new(ScalarUDF::from(CatalogFunction::new(spec))))
}

/// What the functions read: a view, and the schemas in which unqualified names are looked up, in order.
#[derive(Debug)]
pub struct Lookup {
    pub view: ReadView,
    pub search_path: Arc<[String]>,
}

impl Carried for Lookup {
    const NAME: &'static str = "catalog_lookup";
}

impl Lookup {
    /// Makes the functions that `plan` calls read this lookup, whatever the plan that uses `plan` carries.
    pub fn bind(self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let lookup = Arc::new(self);
        plan.transform_up_with_subqueries(|plan| {
            plan.map_expressions(|expr| expr.transform_up(|expr| Ok(bound(expr, &lookup))))
        })
        .data()
    }
}

fn bound(expr: Expr, lookup: &Arc<Lookup>) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(call) => match CatalogFunction::bound(&call.func, lookup) {
            None => Transformed::no(Expr::ScalarFunction(call)),
            Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, ..call })),
        },
        other => Transformed::no(other),
    }
}

impl Lookup {
    fn by_oid(&self, oid: i64) -> Option<Listed> {
        listing::by_oid(&self.view, u32::try_from(oid).ok()?)
    }

    /// Schemas of unqualified names, in order: system schemas come first, whatever the session's path.
    fn schemas(&self) -> impl Iterator<Item = &str> {
        [PG_CATALOG, RW_CATALOG].into_iter().chain(self.search_path.iter().map(String::as_str))
    }

    /// Whether the unqualified name resolves to the relation.
    fn is_visible(&self, relation: &Listed) -> bool {
        let found = self.schemas().find_map(|s| listing::by_name(&self.view, s, &relation.name));
        found.is_some_and(|found| found.oid == relation.oid)
    }
}
