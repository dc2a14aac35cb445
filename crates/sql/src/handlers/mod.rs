//! Executes statements: one `match` on [`Statement`], one file per statement family.

mod backup;
mod conflict;
mod copy;
mod ddl;
mod delete;
mod describe;
mod dml;
mod explain;
mod insert;
mod keys;
mod literals;
mod returning;
mod row_positions;
mod rows;
mod set;
mod show;
mod target;
mod transaction;
mod update;
mod writes;

pub use copy::{CopyIn, CopyJob};
pub use describe::Described;
pub use dml::TableLocks;

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_plan::memory::MemoryStream;

use super::Frontend;
use super::parser::Statement;
use super::planner::Planner;
pub use super::planner::{Parameters, Rows};
use super::session::Session;
use super::system_catalog::{MetaAnswers, SystemSources};
use tidemark_ledger::metrics;
use tidemark_pg::error::SqlError;

/// The result of a statement.
pub struct Reply {
    pub outcome: Outcome,
    /// Sent as NOTICEs before the outcome.
    pub notices: Vec<String>,
}

/// The outcome of a statement, by kind of response.
pub enum Outcome {
    Empty,
    /// Rows; their number is appended to the command tag.
    Rows {
        rows: Rows,
        tag: &'static str,
    },
    /// The complete command tag.
    Done(String),
    /// The client has to send the rows.
    CopyIn(Box<CopyIn>),
    Begun,
    /// The transaction ended; the command tag is COMMIT or ROLLBACK.
    Ended(&'static str),
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, notices: vec![] }
    }
}

impl Outcome {
    /// Rows that are already in memory.
    pub fn batch(batch: RecordBatch, tag: &'static str) -> Result<Self, SqlError> {
        let schema = batch.schema();
        let stream = MemoryStream::try_new(vec![batch], SchemaRef::clone(&schema), None)?;
        Ok(Self::Rows { rows: Rows { schema, stream: Box::pin(stream) }, tag })
    }

    pub fn done(tag: impl Into<String>) -> Self {
        Self::Done(tag.into())
    }
}

impl Frontend {
    /// Runs one statement in a session.
    pub async fn run(
        &self,
        session: &mut Session,
        statement: &Statement,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        let begun = Instant::now();
        let ran = self.dispatch(session, statement, parameters).await;
        let outcome = if ran.is_ok() { metrics::OK } else { metrics::FAILED };
        let seconds = begun.elapsed().as_secs_f64();
        metrics::STATEMENT_SECONDS.with_label_values(&[outcome]).observe(seconds);
        ran
    }

    async fn dispatch(
        &self,
        session: &mut Session,
        statement: &Statement,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        transaction::refuse_in_failed(session, statement)?;
        match statement {
            Statement::Empty => Ok(Outcome::Empty.into()),
            Statement::Query(query) => self.query(session, query, parameters).await,
            Statement::Explain { analyze, verbose, statement } => {
                self.explain(session, statement, *analyze, *verbose, parameters).await
            }
            Statement::Insert(insert) => Box::pin(self.insert(session, insert, parameters)).await,
            Statement::Update(update) => self.update(session, update, parameters).await,
            Statement::Delete(delete) => self.delete(session, delete, parameters).await,
            Statement::Truncate { tables } => self.truncate(session, tables).await,
            Statement::Copy(copy) => self.copy_in(session, copy),
            Statement::CreateSchema { name, if_not_exists } => {
                self.create_schema(session, name, *if_not_exists).await
            }
            Statement::DropSchema { names, if_exists, cascade } => {
                self.drop_schemas(session, names, *if_exists, *cascade).await
            }
            Statement::CreateTable(create) => self.create_table(session, create, parameters).await,
            Statement::DropTable { names, if_exists, cascade } => {
                self.drop_tables(session, names, *if_exists, *cascade).await
            }
            Statement::CreateView(create) => self.create_view(session, create).await,
            Statement::DropView { names, if_exists, cascade } => {
                self.drop_views(session, names, *if_exists, *cascade).await
            }
            Statement::AlterTable(alter) => self.alter_table(session, alter).await,
            Statement::Flush => self.flush(session).await,
            Statement::Backup(options) => self.backup(session, options.clone()).await,
            Statement::DeleteMetaSnapshots(ids) => self.delete_snapshots(session, ids).await,
            Statement::AlterSystem { name, value } => {
                self.alter_system(session, name, value.clone()).await
            }
            Statement::Set { scope, name, value } => self.set(session, *scope, name, value).await,
            Statement::Reset { name } => self.reset(session, name.as_deref()),
            Statement::Show { kind, filter } => self.show(session, kind, filter.as_ref()).await,
            Statement::Begin { read_only, .. } => Ok(transaction::begin(session, *read_only)),
            Statement::Commit => self.commit_transaction(session).await,
            Statement::Rollback => Ok(transaction::end(session, "ROLLBACK")),
            Statement::Discard(discard) => transaction::discard(session, *discard),
            Statement::Deallocate { .. } => Ok(Outcome::done("DEALLOCATE").into()),
            Statement::NoOp(tag) => Ok(Outcome::done(*tag).into()),
        }
    }

    /// Returns a planner for the next statement of the session, over its current view.
    pub(super) fn planner(&self, session: &mut Session) -> Planner {
        let view = session.view(|| self.views.latest());
        let search_path = session.search_path(&view);
        let caller = session.caller(&search_path, &view);
        let system = SystemSources {
            meta: Arc::clone(&self.meta) as Arc<dyn MetaAnswers>,
            database: caller.session.database.clone(),
            user: caller.session.user.clone(),
            settings: Arc::clone(&caller.session.settings),
            params: Arc::clone(&self.replica.state().params),
            sessions: Arc::clone(&self.sessions),
        };
        Planner {
            engine: Arc::clone(&self.engine),
            views: Arc::clone(&self.views),
            view,
            system,
            caller,
            search_path,
            locals: Arc::default(),
            pending: session.transaction.as_ref().map(|t| Arc::clone(&t.pending)),
            memory: self.engine.budget.begin(),
            nested_views: 0,
        }
    }

    async fn query(
        &self,
        session: &mut Session,
        query: &sqlparser::ast::Query,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        let rows = self.planner(session).query(query, parameters).await?;
        Ok(Outcome::Rows { rows, tag: "SELECT" }.into())
    }
}

/// A schema of the fields.
fn schema_of(fields: Vec<datafusion::arrow::datatypes::Field>) -> SchemaRef {
    SchemaRef::new(Schema::new(fields))
}
