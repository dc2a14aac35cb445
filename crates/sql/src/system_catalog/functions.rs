//! Functions over the catalog: what clients call beside reading the tables.
//!
//! Arguments are oids or names, whichever the client has; where PostgreSQL takes a `regclass`, both do.

mod call;
mod definitions;
mod names;
mod sizes;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use self::call::CatalogFunction;
use super::listing::{self, Listed};
use crate::read_view::ReadView;

/// All functions over `view`, for a session that looks up unqualified names in `search_path`.
pub fn functions_in(view: &ReadView, search_path: &[String]) -> Vec<Arc<ScalarUDF>> {
    let lookup = Arc::new(Lookup { view: view.clone(), search_path: search_path.to_vec() });
    let specs = [definitions::FUNCTIONS, names::FUNCTIONS, sizes::FUNCTIONS].into_iter().flatten();
    let bound = specs.map(|spec| CatalogFunction::bound(spec, &lookup));
    bound.map(|function| Arc::new(ScalarUDF::from(function))).collect()
}

/// Where the functions look.
#[derive(Debug)]
struct Lookup {
    view: ReadView,
    search_path: Vec<String>,
}

impl Lookup {
    fn by_oid(&self, oid: i64) -> Option<Listed> {
        listing::by_oid(&self.view, u32::try_from(oid).ok()?)
    }

    /// Schemas of unqualified names, in order: the system's come first, whatever the session says.
    fn schemas(&self) -> impl Iterator<Item = &str> {
        ["pg_catalog", "rw_catalog"].into_iter().chain(self.search_path.iter().map(String::as_str))
    }

    /// Whether an unqualified name finds the relation.
    fn is_visible(&self, relation: &Listed) -> bool {
        let found = self.schemas().find_map(|s| listing::by_name(&self.view, s, &relation.name));
        found.is_some_and(|found| found.oid == relation.oid)
    }
}
