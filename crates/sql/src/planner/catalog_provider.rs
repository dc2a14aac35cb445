//! The read view as a DataFusion catalog: resolves names to tables, views and system relations.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::{DataFusionError, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::planner::Planner;
use crate::system_catalog;
use tidemark_engine::scan::SstTable;
use tidemark_ledger::catalog::{
    PG_CATALOG, RW_CATALOG, Relation, RelationBody, SYSTEM_SCHEMAS, View,
};
use tidemark_pg::PATH_SCHEMA;

/// The schema in which `UPDATE` and `DELETE` find their target, with the row position of each row.
pub const TARGET: &str = "\u{1}target";

/// Everything one statement can refer to.
pub struct ViewCatalog {
    pub planner: Planner,
    /// Schemas of unqualified names, in order; the system schemas follow.
    pub search_path: Arc<[String]>,
}

impl fmt::Debug for ViewCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewCatalog")
            .field("search_path", &self.search_path)
            .finish_non_exhaustive()
    }
}

impl ViewCatalog {
    /// Looks up a relation in one schema. [`Self::find_now`], boxed (`docs/hacking.md`, "Futures that are
    /// proven once").
    fn find<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>>> {
        self.find_now(schema, name).boxed()
    }

    async fn find_now(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if SYSTEM_SCHEMAS.contains(&schema) {
            let context = self.planner.system.over(&self.planner.view);
            return Ok(system_catalog::provider(schema, name, context));
        }
        match self.planner.view.catalog.relation(schema, name) {
            Some(relation) => self.relation(relation).await.map(Some),
            None => Ok(None),
        }
    }

    async fn relation(&self, relation: &Relation) -> Result<Arc<dyn TableProvider>> {
        match &relation.body {
            RelationBody::Table(_) => Ok(Arc::new(self.planner.scan_of(relation)?)),
            RelationBody::View(view) => self.expand(view).await,
        }
    }

    /// Plans the query of a view in the same read view.
    async fn expand(&self, view: &View) -> Result<Arc<dyn TableProvider>> {
        let planner = self.planner.inside_view()?;
        let plan = planner.plan_view(view).await.map_err(DataFusionError::from)?;
        Ok(Arc::new(ViewTable::new(plan, Some(view.query.clone()))))
    }

    /// The target of a statement that changes rows, with row positions.
    fn target(&self, name: &str) -> Result<Option<SstTable>> {
        let id = name.parse().ok();
        let relation = id.and_then(|id| self.planner.view.catalog.relation_by_id(id));
        relation.map(|r| self.planner.scan_of(r).map(SstTable::with_row_positions)).transpose()
    }
}

impl CatalogProviderList for ViewCatalogList {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![self.database.clone()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == self.database).then(|| Arc::clone(&self.catalog) as Arc<dyn CatalogProvider>)
    }
}

/// The only database.
#[derive(Debug)]
pub struct ViewCatalogList {
    pub database: String,
    pub catalog: Arc<SharedCatalog>,
}

/// The catalog of a statement, shared with its schema providers.
#[derive(Debug)]
pub struct SharedCatalog(pub Arc<ViewCatalog>);

impl CatalogProvider for SharedCatalog {
    fn schema_names(&self) -> Vec<String> {
        let user = self.0.planner.view.catalog.schemas().map(|schema| schema.name.clone());
        user.chain(SYSTEM_SCHEMAS.map(str::to_owned)).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let special = name == PATH_SCHEMA || name == TARGET || SYSTEM_SCHEMAS.contains(&name);
        let known = special || self.0.planner.view.catalog.schema(name).is_some();
        known.then(|| -> Arc<dyn SchemaProvider> {
            Arc::new(SchemaOf { name: name.to_owned(), catalog: Arc::clone(&self.0) })
        })
    }
}

#[derive(Debug)]
struct SchemaOf {
    name: String,
    catalog: Arc<ViewCatalog>,
}

#[async_trait]
impl SchemaProvider for SchemaOf {
    fn table_names(&self) -> Vec<String> {
        if SYSTEM_SCHEMAS.contains(&self.name.as_str()) {
            return system_catalog::relation_names(&self.name)
                .into_iter()
                .map(str::to_owned)
                .collect();
        }
        let catalog = &self.catalog.planner.view.catalog;
        let schema = catalog.schema(&self.name);
        let relations = schema.into_iter().flat_map(|schema| catalog.relations_in(schema.id));
        relations.map(|relation| relation.name.clone()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.name.as_str() {
            TARGET => {
                let target = self.catalog.target(name)?;
                Ok(target.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
            }
            PATH_SCHEMA => {
                if let Some(local) = self.catalog.planner.locals.get(name) {
                    return Ok(Some(Arc::clone(local)));
                }
                let path = self.catalog.search_path.iter().map(String::as_str);
                for schema in path.chain([PG_CATALOG, RW_CATALOG]) {
                    if let Some(found) = self.catalog.find(schema, name).await? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            schema => self.catalog.find(schema, name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
