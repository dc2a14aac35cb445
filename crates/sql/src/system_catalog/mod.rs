//! The system catalogs: `pg_catalog`, `information_schema` and `rw_catalog` as tables over the read view.
//!
//! Each relation consists of its columns and a function from the view to its rows; DataFusion does the rest.
//! Because the rows come from the view, a dropped table is in `pg_class` again at an epoch when it existed.
//! `listing` lists objects with their oids, [`tidemark_pg::types`] has `pg_type`, `functions` has the
//! functions clients call, `ddl` prints definitions as SQL.

pub mod ddl;
pub mod functions;
pub mod listing;

mod cell;
mod information_schema;
mod pg_catalog;
mod provider;
mod relation;
mod rw_catalog;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use futures::future::BoxFuture;

pub use self::ddl::{create_table_sql, create_view_sql};
pub use self::functions::{Lookup, functions};
use self::listing::Listed;
use self::provider::SystemTable;
use self::relation::SystemRelation;
use super::read_view::ReadView;
use crate::sessions::Sessions;
use tidemark_engine::meta::maintenance::SnapshotUsage;
use tidemark_engine::meta::workers::{PinnedVersion, WorkerNode};
use tidemark_ledger::backup::ReadManifest;
use tidemark_ledger::params::Params;
use tidemark_pg::error::SqlError;

/// Oid of the schema `pg_catalog`.
const PG_CATALOG_OID: u32 = 11;

/// The sources of the rows of system relations, except the read view.
#[derive(Clone)]
pub struct SystemSources {
    pub meta: Arc<dyn MetaAnswers>,
    pub database: String,
    pub user: String,
    /// The session's settings, by name.
    pub settings: Arc<BTreeMap<String, String>>,
    /// The current parameters of the cluster, even if the view is of the past.
    pub params: Arc<Params>,
    /// The sessions of this server.
    pub sessions: Arc<Sessions>,
}

/// What the rows of system relations are computed from: the read view of the statement, and the other sources.
/// Made where a relation is looked up, so that it has no view besides that of its planner.
#[derive(Clone)]
pub struct SystemContext {
    pub view: ReadView,
    sources: SystemSources,
}

impl SystemSources {
    /// The context of a statement that reads `view`.
    pub fn over(&self, view: &ReadView) -> SystemContext {
        SystemContext { view: view.clone(), sources: self.clone() }
    }
}

impl Deref for SystemContext {
    type Target = SystemSources;

    fn deref(&self) -> &SystemSources {
        &self.sources
    }
}

/// The information that only the meta role has.
pub trait MetaAnswers: Send + Sync {
    fn snapshots(&self) -> BoxFuture<'_, Result<ReadManifest, SqlError>>;
    /// The bytes that deleting each snapshot would free; empty as long as that is unknown.
    fn usage(&self) -> BoxFuture<'_, Result<Vec<SnapshotUsage>, SqlError>>;
    fn worker_nodes(&self) -> BoxFuture<'_, Result<Vec<WorkerNode>, SqlError>>;
    fn pinned_versions(&self) -> BoxFuture<'_, Result<Vec<PinnedVersion>, SqlError>>;
}

impl fmt::Debug for SystemContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemContext").field("epoch", &self.view.epoch).finish_non_exhaustive()
    }
}

/// A schema whose relations are computed from the catalog.
struct SystemSchema {
    name: &'static str,
    oid: u32,
    relations: &'static [&'static [SystemRelation]],
}

static SYSTEM_SCHEMAS: [SystemSchema; 3] = [
    SystemSchema { name: "pg_catalog", oid: PG_CATALOG_OID, relations: pg_catalog::RELATIONS },
    SystemSchema {
        name: "information_schema",
        oid: 13000,
        relations: information_schema::RELATIONS,
    },
    SystemSchema { name: "rw_catalog", oid: 14000, relations: rw_catalog::RELATIONS },
];

impl SystemSchema {
    fn find(name: &str) -> Option<&'static Self> {
        SYSTEM_SCHEMAS.iter().find(|schema| schema.name == name)
    }

    fn relations(&self) -> impl Iterator<Item = &'static SystemRelation> + use<> {
        self.relations.iter().copied().flatten()
    }

    fn relation(&self, name: &str) -> Option<&'static SystemRelation> {
        self.relations().find(|relation| relation.name == name)
    }

    /// The relations as rows of `pg_class`.
    fn listed(&self) -> impl Iterator<Item = Listed> + '_ {
        self.relations().map(|relation| listing::system_relation(self, relation))
    }

    /// The first relation that satisfies `wanted`, as a row of `pg_class`.
    fn listed_where(&self, wanted: impl Fn(&SystemRelation) -> bool) -> Option<Listed> {
        let found = self.relations().find(|relation| wanted(relation));
        found.map(|relation| listing::system_relation(self, relation))
    }
}

/// The names of the relations of a system schema.
pub fn relation_names(schema: &str) -> Vec<&'static str> {
    let schema = SystemSchema::find(schema);
    schema.into_iter().flat_map(SystemSchema::relations).map(|relation| relation.name).collect()
}

/// The columns of a system relation.
pub fn arrow_schema(schema: &str, name: &str) -> Option<SchemaRef> {
    Some(SystemSchema::find(schema)?.relation(name)?.arrow_schema())
}

/// Returns a system relation over `context`. Its rows are computed at each scan.
pub fn provider(
    schema: &str,
    name: &str,
    context: SystemContext,
) -> Option<Arc<dyn TableProvider>> {
    let relation = SystemSchema::find(schema)?.relation(name)?;
    Some(Arc::new(SystemTable::new(relation, context)))
}

/// Whether a table is a system relation.
pub fn is_system_table(table: &dyn TableProvider) -> bool {
    table.is::<SystemTable>()
}

#[cfg(test)]
mod tests;
