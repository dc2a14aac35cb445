//! A system relation as a DataFusion table, whose rows are computed at each scan.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::SystemContext;
use super::relation::{RelationKind, Rows, SystemRelation, Wanted};

/// A system relation bound to its context.
pub(super) struct SystemTable {
    relation: &'static SystemRelation,
    schema: SchemaRef,
    context: SystemContext,
}

impl SystemTable {
    pub(super) fn new(relation: &'static SystemRelation, context: SystemContext) -> Self {
        Self { relation, schema: relation.arrow_schema(), context }
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemTable").field("name", &self.relation.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        match self.relation.kind {
            RelationKind::Table => TableType::Base,
            RelationKind::View => TableType::View,
        }
    }

    /// Plans relations without rows as empty. Clients use them in queries that could not be executed
    /// otherwise; the optimizer removes what it knows to be empty.
    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        let Rows::None = self.relation.rows else { return None };
        let schema = DFSchema::try_from(Arc::clone(&self.schema)).ok()?;
        let plan = EmptyRelation { produce_one_row: false, schema: Arc::new(schema) };
        Some(Cow::Owned(LogicalPlan::EmptyRelation(plan)))
    }

    /// Fetched relations may use filters to return fewer rows; the filters are applied again above the scan.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = match self.relation.rows {
            Rows::Fetched(_) => TableProviderFilterPushDown::Inexact,
            Rows::None | Rows::Of(_) => TableProviderFilterPushDown::Unsupported,
        };
        Ok(vec![pushed; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = Wanted::new(self.relation, projection, filters, session)?;
        let batch = self.relation.batch(&self.context, wanted).await?;
        let partitions = [vec![batch]];
        let schema = Arc::clone(&self.schema);
        Ok(MemorySourceConfig::try_new_exec(&partitions, schema, projection.cloned())?)
    }
}
