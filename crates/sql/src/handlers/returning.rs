//! `RETURNING`: evaluated as a query over the rows a statement wrote or deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;
use sqlparser::ast::{DataType, Ident, Query, SelectItem};

use super::target::Target;
use crate::planner::{Locals, Parameters, Planner, Rows};
use crate::trees;
use tidemark_ledger::sst::schema::table_schema;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Name of the rows in that query; users cannot write it.
const RETURNED: &str = "\u{1}returned";

/// A `RETURNING` clause.
#[derive(Clone, Debug)]
pub struct Returning {
    items: Vec<SelectItem>,
    /// The name of the table in the statement.
    alias: Ident,
    /// The schema of the table's rows.
    schema: SchemaRef,
}

impl Returning {
    /// Returns `None` if the statement has no such clause.
    pub fn new(items: Option<&Vec<SelectItem>>, target: &Target) -> Option<Self> {
        let (alias, schema) = (target.alias.clone(), table_schema(&target.table));
        Some(Self { items: items?.clone(), alias, schema })
    }

    /// Like [`Self::new`], but plans the clause, so that its errors are found before anything is written.
    pub async fn planned(
        items: Option<&Vec<SelectItem>>,
        target: &Target,
        planner: &Planner,
        parameters: &Parameters,
    ) -> Result<Option<Self>, SqlError> {
        let returning = Self::new(items, target);
        if let Some(returning) = &returning {
            returning.describe(planner, &parameters.types).await?;
        }
        Ok(returning)
    }

    /// Returns the schema of the rows for the client.
    pub async fn describe(
        &self,
        planner: &Planner,
        parameters: &[DataType],
    ) -> Result<SchemaRef, SqlError> {
        let (planner, query) = (self.planner(planner, vec![])?, self.query());
        let plan = planner.plan(&planner.state(), &query, parameters).await?;
        refuse_aggregates(&plan)?;
        Ok(planner.output_schema(&query, &plan))
    }

    /// Evaluates the clause over rows of the table.
    async fn evaluate(
        &self,
        rows: Vec<RecordBatch>,
        planner: &Planner,
        parameters: &Parameters,
    ) -> Result<Answer, SqlError> {
        let planner = self.planner(planner, rows)?;
        let Rows { schema: shown, stream } = planner.query(&self.query(), parameters).await?;
        let schema = stream.schema();
        Ok(Answer { shown, schema, batches: stream.try_collect().await? })
    }

    /// A planner that also sees the rows.
    fn planner(&self, planner: &Planner, mut rows: Vec<RecordBatch>) -> Result<Planner, SqlError> {
        for batch in &mut rows {
            let columns = batch.columns().to_vec();
            let named = RecordBatch::try_new(Arc::clone(&self.schema), columns);
            *batch = named.map_err(DataFusionError::from)?;
        }
        let rows = MemTable::try_new(Arc::clone(&self.schema), vec![rows])?;
        let locals: Locals = BTreeMap::from([(RETURNED.to_owned(), Arc::new(rows) as _)]);
        Ok(Planner { locals: Arc::new(locals), ..planner.clone() })
    }

    fn query(&self) -> Query {
        let rows = trees::table(&[RETURNED], Some(self.alias.clone()));
        trees::select(self.items.clone()).from([rows]).query()
    }
}

/// The rows of a `RETURNING` clause for the client.
#[derive(Debug)]
pub struct Answer {
    /// The columns as users see them, and as the batches have them.
    shown: SchemaRef,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Answer {
    pub fn rows(self) -> Result<Rows, SqlError> {
        let stream = Box::pin(MemoryStream::try_new(self.batches, self.schema, None)?);
        Ok(Rows { schema: self.shown, stream })
    }
}

/// Collects the rows that one attempt of a statement writes or deletes, if it has a `RETURNING` clause.
#[derive(Debug)]
pub struct Recorder<'a> {
    clause: Option<&'a Returning>,
    rows: Arc<Mutex<Vec<RecordBatch>>>,
}

impl<'a> Recorder<'a> {
    pub fn new(clause: Option<&'a Returning>) -> Self {
        Self { clause, rows: Arc::default() }
    }

    /// Collects rows whose columns are those of the table.
    pub fn push(&self, batch: RecordBatch) {
        if self.clause.is_some() {
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
        }
    }

    /// Passes the rows through and collects them.
    pub fn tap(&self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        if self.clause.is_none() {
            return rows;
        }
        let (schema, sink) = (rows.schema(), Arc::clone(&self.rows));
        let rows = rows.inspect_ok(move |batch| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(batch.clone());
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Evaluates the clause over the rows. Runs before the commit, so that an error changes nothing.
    pub async fn answer(
        self,
        planner: &Planner,
        parameters: &Parameters,
    ) -> Result<Option<Answer>, SqlError> {
        let Some(clause) = self.clause else { return Ok(None) };
        let rows = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        clause.evaluate(rows, planner, parameters).await.map(Some)
    }
}

fn refuse_aggregates(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut found = None;
    plan.apply(|node| {
        found = match node {
            LogicalPlan::Aggregate(_) => Some("aggregate"),
            LogicalPlan::Window(_) => Some("window"),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })?;
    match found {
        None => Ok(()),
        Some(kind) => {
            let message = format!("{kind} functions are not allowed in RETURNING");
            let is_window = kind == "window";
            let sqlstate =
                if is_window { SqlState::WINDOWING_ERROR } else { SqlState::GROUPING_ERROR };
            Err(SqlError::new(sqlstate, message))
        }
    }
}
