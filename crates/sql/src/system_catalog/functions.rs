//! Functions over the catalog that clients call in addition to reading its tables.
//!
//! Arguments may be oids or names; both are accepted where PostgreSQL takes a `regclass`.

mod call;
mod definitions;
mod names;
mod sizes;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use self::call::CatalogFunction;
use super::listing::{self, Listed};
use crate::read_view::ReadView;

/// Returns all functions over `view`, for a session that looks up unqualified names in `search_path`.
pub fn functions_in(view: &ReadView, search_path: &[String]) -> Vec<Arc<ScalarUDF>> {
    let lookup = Arc::new(Lookup { view: view.clone(), search_path: search_path.to_vec() });
    let specs = [definitions::FUNCTIONS, names::FUNCTIONS, sizes::FUNCTIONS].into_iter().flatten();
    let bound = specs.map(|spec| CatalogFunction::bound(spec, &lookup));
    bound.map(|function| Arc::new(ScalarUDF::from(function))).collect()
}

/// The view and search path of the functions.
#[derive(Debug)]
struct Lookup {
    view: ReadView,
    search_path: Vec<String>,
}

impl Lookup {
    fn by_oid(&self, oid: i64) -> Option<Listed> {
        listing::by_oid(&self.view, u32::try_from(oid).ok()?)
    }

    /// Schemas of unqualified names, in order: system schemas come first, whatever the session's path.
    fn schemas(&self) -> impl Iterator<Item = &str> {
        ["pg_catalog", "rw_catalog"].into_iter().chain(self.search_path.iter().map(String::as_str))
    }

    /// Whether the unqualified name resolves to the relation.
    fn is_visible(&self, relation: &Listed) -> bool {
        let found = self.schemas().find_map(|s| listing::by_name(&self.view, s, &relation.name));
        found.is_some_and(|found| found.oid == relation.oid)
    }
}
