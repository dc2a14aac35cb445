//! `RETURNING`: evaluated as a query over the rows a statement wrote or deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;
use sqlparser::ast::{Ident, Query, SelectItem};

use super::target::Target;
use super::{Outcome, Reply};
use crate::planner::{Locals, Parameters, Planner, Rows};
use crate::trees;
use tidemark_ledger::sst::schema::table_schema;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Name of the rows in that query; users cannot write it.
const RETURNED: &str = "\u{1}returned";

/// A `RETURNING` clause, and the rows it is evaluated over, collected as they are written.
#[derive(Clone, Debug)]
pub struct Returning {
    items: Vec<SelectItem>,
    /// The name of the table in the statement.
    alias: Ident,
    schema: SchemaRef,
    rows: Arc<Mutex<Vec<RecordBatch>>>,
    /// The rows for the client, once computed.
    answer: Arc<Mutex<Option<Answer>>>,
}

#[derive(Debug)]
struct Answer {
    /// The columns as users see them, and as the batches have them.
    shown: SchemaRef,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Returning {
    /// Returns `None` if the statement has no such clause.
    pub fn new(items: Option<&Vec<SelectItem>>, target: &Target) -> Option<Self> {
        Some(Self {
            items: items?.clone(),
            alias: target.alias.clone(),
            schema: table_schema(&target.table),
            rows: Arc::default(),
            answer: Arc::default(),
        })
    }

    /// Plans the clause, so that its errors are found before anything is written.
    pub async fn check(&self, planner: &Planner, parameters: &Parameters) -> Result<(), SqlError> {
        self.describe(planner, &parameters.types).await.map(|_| ())
    }

    /// Drops the rows of a failed attempt before a retry.
    pub fn clear(&self) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Collects rows of the table's schema.
    pub fn push(&self, batch: RecordBatch) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }

    /// Passes the rows through and collects them.
    pub fn tap(&self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let (schema, sink) = (rows.schema(), self.clone());
        let rows = rows.inspect_ok(move |batch| sink.push(batch.clone()));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Returns the schema of the rows for the client.
    pub async fn describe(
        &self,
        planner: &Planner,
        parameters: &[sqlparser::ast::DataType],
    ) -> Result<SchemaRef, SqlError> {
        let (planner, query) = (self.planner(planner)?, self.query());
        let plan = planner.plan(&planner.state()?, &query, parameters).await?;
        refuse_aggregates(&plan)?;
        Ok(planner.output_schema(&query, &plan))
    }

    /// Computes the rows for the client. Runs before the commit, so that an error changes nothing.
    pub async fn compute(
        &self,
        planner: &Planner,
        parameters: &Parameters,
    ) -> Result<(), SqlError> {
        let Rows { schema: shown, stream } =
            self.planner(planner)?.query(&self.query(), parameters).await?;
        let schema = stream.schema();
        let answer = Answer { shown, schema, batches: stream.try_collect().await? };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(())
    }

    /// Returns the reply of a finished statement.
    pub async fn reply(
        &self,
        planner: &Planner,
        parameters: &Parameters,
        tag: &'static str,
    ) -> Result<Reply, SqlError> {
        let take = || self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut answer = take();
        if answer.is_none() {
            // Nothing was written, so the rows were not computed before.
            self.compute(planner, parameters).await?;
            answer = take();
        }
        let Some(Answer { shown, schema, batches }) = answer else {
            return Err(SqlError::internal("the answer was just computed"));
        };
        let stream = Box::pin(MemoryStream::try_new(batches, schema, None)?);
        Ok(Outcome::Rows { rows: Rows { schema: shown, stream }, tag }.into())
    }

    fn planner(&self, planner: &Planner) -> Result<Planner, SqlError> {
        let mut batches = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for batch in &mut batches {
            let columns = batch.columns().to_vec();
            *batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
                .map_err(datafusion::error::DataFusionError::from)?;
        }
        let rows = MemTable::try_new(Arc::clone(&self.schema), vec![batches])?;
        let locals: Locals = BTreeMap::from([(RETURNED.to_owned(), Arc::new(rows) as _)]);
        Ok(Planner { locals: Arc::new(locals), ..planner.clone() })
    }

    fn query(&self) -> Query {
        let rows = trees::table(&[RETURNED], Some(self.alias.clone()));
        trees::select(self.items.clone()).from([rows]).query()
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
            Err(SqlError::new(SqlState::GROUPING_ERROR, message))
        }
    }
}
