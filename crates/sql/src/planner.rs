//! Plans and runs checked queries: a statement sees nothing but its [`ReadView`].

pub mod catalog_provider;
mod limits;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ParamValues;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, Statement as PlanStatement};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::Expr;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{self, Query};
use futures::{FutureExt as _, StreamExt as _};

use super::engine::Engine;
use super::parser::{self, RelationName, Statement};
use super::pending::Pending;
use super::planning_state::PlanningState;
use super::read_view::ReadView;
use super::resolve;
use super::rewrite;
use super::system_catalog::{Lookup, SystemSources};
use super::views::Views;
use crate::planner::catalog_provider::{SharedCatalog, ViewCatalog, ViewCatalogList};
use tidemark_engine::scan::{Files, SstTable};
use tidemark_ledger::catalog::{Relation, View};
use tidemark_ledger::id::ObjectId;
use tidemark_ledger::version::LiveFile;
use tidemark_pg::carried;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::Caller;
use tidemark_pg::memory::{StatementMemory, doubling, planning};
use tidemark_pg::query_runtime;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::wire::pg_type;

/// Plans a statement, or a part of one, over one read view.
#[derive(Clone)]
pub struct Planner {
    pub engine: Arc<Engine>,
    pub view: ReadView,
    /// Where the views of other epochs come from.
    pub views: Arc<Views>,
    /// What system relations show besides the view.
    pub system: SystemSources,
    pub caller: Arc<Caller>,
    /// Schemas in which unqualified names are looked up, in order.
    pub search_path: Arc<[String]>,
    /// Tables of this statement only, by name; they take precedence over all others.
    pub locals: Arc<Locals>,
    /// The writes of the session's open transaction.
    pub pending: Option<Arc<Pending>>,
    /// Memory of the statement's plans and queries.
    pub memory: Arc<StatementMemory>,
    /// How many views the query is nested in.
    pub nested_views: usize,
}

/// Tables that exist for one statement only, by name.
pub type Locals = BTreeMap<String, Arc<dyn TableProvider>>;

/// A stream of rows with the schema that clients see.
pub struct Rows {
    /// PostgreSQL's names with Arrow's types.
    pub schema: SchemaRef,
    pub stream: SendableRecordBatchStream,
}

impl Planner {
    /// Returns the planner for the query of a view that this planner's query refers to.
    pub fn inside_view(&self) -> Result<Self, SqlError> {
        self.memory.expand_view()?;
        if self.nested_views == planning::NESTED_VIEWS_MAX {
            return Err(planning::nested_views());
        }
        Ok(Self { nested_views: self.nested_views + 1, ..self.clone() })
    }

    /// Returns the planner of the same statement over another view. The writes of an open transaction are laid
    /// over its own view only.
    pub fn over(&self, view: ReadView) -> Self {
        let pending = self.pending.clone().filter(|_| view.epoch == self.view.epoch);
        Self { view, pending, ..self.clone() }
    }

    /// Returns DataFusion's state for one statement.
    pub fn state(&self) -> PlanningState {
        self.state_in(&self.search_path)
    }

    fn state_in(&self, search_path: &Arc<[String]>) -> PlanningState {
        let mut state = self.engine.planning_state(&self.memory, |options| {
            carried::put(options, Arc::clone(&self.caller));
            carried::put(options, Arc::new(self.lookup_in(search_path)));
        });
        let catalog = ViewCatalog { planner: self.clone(), search_path: Arc::clone(search_path) };
        state.register_catalog_list(Arc::new(ViewCatalogList {
            database: self.caller.session.database.clone(),
            catalog: Arc::new(SharedCatalog(Arc::new(catalog))),
        }));
        state
    }

    fn lookup_in(&self, search_path: &Arc<[String]>) -> Lookup {
        Lookup { view: self.view.clone(), search_path: Arc::clone(search_path) }
    }

    /// Resolves a name to a user's relation.
    pub fn relation(&self, name: &RelationName) -> Option<&Arc<Relation>> {
        let in_schema = |schema: &str| self.view.catalog.relation(schema, &name.name);
        match &name.schema {
            Some(schema) => in_schema(schema),
            None => self.search_path.iter().find_map(|schema| in_schema(schema)),
        }
    }

    /// Schema and name of the relation a name refers to, or would have if it were created.
    pub fn resolve(&self, name: &RelationName) -> (String, String) {
        let found = self.relation(name).map(|relation| relation.schema_id);
        let schema = found.and_then(|id| self.view.catalog.schema_by_id(id));
        let schema = schema.map(|schema| schema.name.clone());
        (schema.unwrap_or_else(|| self.schema_for_new(name)), name.name.clone())
    }

    /// The schema in which a relation of this name is created.
    pub fn schema_for_new(&self, name: &RelationName) -> String {
        name.schema.clone().unwrap_or_else(|| self.caller.session.schema.clone())
    }

    /// The rows of the table that are alive in this view.
    pub fn scan_of(&self, relation: &Relation) -> datafusion::error::Result<SstTable> {
        let table = relation.as_table().ok_or_else(|| {
            datafusion::error::DataFusionError::from(SqlError::internal("a view has no files"))
        })?;
        let seen = self.seen(relation.id);
        let schema = self.view.catalog.schema_by_id(relation.schema_id);
        let schema = schema.map_or("?", |schema| &schema.name);
        let scan = self.scan_files(table, seen).named(&format!("{schema}.{}", relation.name));
        Ok(scan.with_key_filters(&self.engine.key_filters))
    }

    /// The files of a table as this statement sees them.
    pub fn files_of(&self, table: ObjectId) -> Vec<LiveFile> {
        self.seen(table).all()
    }

    /// The files that may contain one of `keys`, which are sorted.
    pub fn files_with_keys(&self, table: ObjectId, keys: &[Bytes]) -> Vec<LiveFile> {
        self.seen(table).with_keys(keys)
    }

    fn seen(&self, table: ObjectId) -> Seen {
        Seen { view: self.view.clone(), pending: self.pending.clone(), table }
    }

    /// A scan of these files of a table.
    pub fn scan_files(
        &self,
        table: &tidemark_ledger::catalog::Table,
        files: impl Files + 'static,
    ) -> SstTable {
        SstTable::new(
            Arc::new(table.clone()),
            files,
            self.engine.store_url.clone(),
            &self.engine.blocks,
            self.view.params.value(tidemark_ledger::params::DATA_DIRECTORY),
            Arc::clone(&self.engine.statistics),
        )
    }

    /// Plans a query; `parameters` are the types of `$1`, `$2`, …
    pub async fn plan(
        &self,
        state: &SessionState,
        query: &Query,
        parameters: &[ast::DataType],
    ) -> Result<LogicalPlan, SqlError> {
        doubling::check(query)?;
        planning::check_references(query)?;
        planning::check_joins(query, &self.memory)?;
        planning::charge_literals(query, &self.memory)?;
        rewrite::check_calls(query, state)?;
        let mut query = query.clone();
        self.evaluate_limits(&mut query).await?;
        rewrite::merge_columns(&mut query, state).await?;
        rewrite::kept_queries::mark(&mut query, state);
        rewrite::query(&mut query)?;
        resolve::literals::type_numbers(&mut query);
        resolve::untyped::hide_types(&mut query);
        rewrite::own_names(&mut query, state);
        query_runtime::check()?;
        let statement = ast::Statement::Query(Box::new(query));
        plan_statement(state, statement, parameters).await
    }

    /// The schema of a plan's rows with PostgreSQL's column names.
    pub fn output_schema(&self, query: &Query, plan: &LogicalPlan) -> SchemaRef {
        let fields = plan.schema().fields();
        let plan_names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let names = rewrite::output_names(query, &plan_names);
        let named = fields.iter().zip(names).map(|(field, name)| renamed(field, name));
        Arc::new(Schema::new(named.collect::<Vec<_>>()))
    }

    /// Plans a view's query; the columns get the view's names.
    pub async fn plan_view(&self, view: &View) -> Result<LogicalPlan, SqlError> {
        self.plan_stored(view).await.map_err(SqlError::elsewhere)
    }

    async fn plan_stored(&self, view: &View) -> Result<LogicalPlan, SqlError> {
        let search_path: Arc<[String]> = view.search_path.as_slice().into();
        let state = self.state_in(&search_path);
        let query = parse_query(&view.query)?;
        let plan = self.plan(&state, &query, &[]).await?;
        // Names in the view mean what they meant when it was created, whoever reads it.
        let plan = self.lookup_in(&search_path).bind(plan)?;
        rename_columns(plan, view.columns.iter().map(|column| column.name.as_str()))
    }

    /// Runs a plan.
    pub async fn execute(
        &self,
        state: PlanningState,
        plan: LogicalPlan,
        values: ParamValues,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        planning::charge_values(&values, &self.memory)?;
        let plan = plan.with_param_values(values)?;
        let planned = async move {
            let physical = state.create_physical_plan(&plan).await?;
            Ok((physical, state.task_context()))
        };
        let rows = self.engine.queries.run(planned.boxed()).await?;
        let (schema, pin) = (rows.schema(), self.view.pin.clone());
        // Pins the files while rows are read.
        let rows = rows.inspect(move |_| {
            let _needed = &pin;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// Plans and runs a query.
    pub async fn query(&self, query: &Query, parameters: &Parameters) -> Result<Rows, SqlError> {
        let state = self.state();
        let plan = self.plan(&state, query, &parameters.types).await?;
        let schema = self.output_schema(query, &plan);
        refuse_rows(&schema)?;
        let stream = self.execute(state, plan, parameters.values.clone()).await?;
        // The executed plan has the exact types: an optimizer may have narrowed them.
        let schema = with_types_of(&schema, &stream.schema());
        parameters.check_told(&schema)?;
        Ok(Rows { schema, stream })
    }
}

/// Refuses columns whose values are rows: they would be shown in another way than PostgreSQL's.
fn refuse_rows(schema: &Schema) -> Result<(), SqlError> {
    let is_row = |field: &Arc<Field>| matches!(field.data_type(), DataType::Struct(_));
    if schema.fields().iter().any(is_row) {
        return Err(SqlError::unsupported("a row as a column of the result")
            .hint("Select the columns of the row."));
    }
    Ok(())
}

/// The files of a table as a statement sees them.
#[derive(Debug)]
struct Seen {
    view: ReadView,
    /// The writes of its transaction.
    pending: Option<Arc<Pending>>,
    table: ObjectId,
}

impl Seen {
    fn with_pending(&self, files: Vec<LiveFile>) -> Vec<LiveFile> {
        match &self.pending {
            Some(pending) => pending.files(self.table, files),
            None => files,
        }
    }
}

impl Files for Seen {
    fn all(&self) -> Vec<LiveFile> {
        self.with_pending(self.view.version.files_at(self.table, self.view.epoch))
    }

    fn with_keys(&self, keys: &[Bytes]) -> Vec<LiveFile> {
        let (version, epoch) = (&self.view.version, self.view.epoch);
        let mut files = self.with_pending(version.files_with_keys(self.table, epoch, keys));
        files.retain(|file| file.sst.may_hold_any(keys));
        files
    }
}

/// What the client says of a statement besides its text.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The SQL types of `$1`, `$2`, …
    pub types: Vec<ast::DataType>,
    pub values: ParamValues,
    /// The columns of the result as the client was told when it prepared the statement.
    pub told: Option<SchemaRef>,
}

impl Parameters {
    pub fn none() -> Self {
        Self { types: vec![], values: ParamValues::List(vec![]), told: None }
    }

    /// Refuses rows of other types than the client was told (0A000): it would decode them by those. A statement
    /// that changes rows is refused before it commits.
    fn check_told(&self, now: &Schema) -> Result<(), SqlError> {
        let types =
            |schema: &Schema| schema.fields().iter().map(|f| pg_type(f)).collect::<Vec<_>>();
        match &self.told {
            Some(told) if types(told) != types(now) => {
                let message = "cached plan must not change result type";
                Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                    .hint("Prepare the statement again.")
                    .routine("RevalidateCachedQuery"))
            }
            _ => Ok(()),
        }
    }
}

/// Plans a statement with parameters of known types.
async fn plan_statement(
    state: &SessionState,
    statement: ast::Statement,
    parameters: &[ast::DataType],
) -> Result<LogicalPlan, SqlError> {
    let statement = if parameters.is_empty() {
        statement
    } else {
        ast::Statement::Prepare {
            name: ast::Ident::new("p"),
            data_types: parameters.to_vec(),
            statement: Box::new(statement),
        }
    };
    let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await?;
    query_runtime::check()?;
    planning::check(&plan, state.config_options())?;
    rewrite::subqueries::check_levels(&plan)?;
    let plan = match plan {
        LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => {
            Arc::unwrap_or_clone(prepare.input)
        }
        plan => plan,
    };
    Ok(resolve::plan::resolve(plan)?)
}

/// Parses the query text that a view stores.
pub fn parse_query(text: &str) -> Result<Query, SqlError> {
    let statements = parser::parse(text)?;
    match statements.into_iter().next().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(SqlError::internal("a view does not hold a query")),
    }
}

/// Renames the columns of a plan.
pub fn rename_columns<'a>(
    plan: LogicalPlan,
    names: impl Iterator<Item = &'a str>,
) -> Result<LogicalPlan, SqlError> {
    let columns = plan.schema().columns();
    let renamed = columns.into_iter().zip(names).map(|(column, name)| {
        if column.relation.is_none() && column.name == name {
            Expr::Column(column)
        } else {
            Expr::Column(column).alias(name)
        }
    });
    let exprs: Vec<_> = renamed.collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

fn renamed(field: &Field, name: String) -> Field {
    field.clone().with_name(name)
}

fn with_types_of(named: &Schema, typed: &Schema) -> SchemaRef {
    let fields = named
        .fields()
        .iter()
        .zip(typed.fields())
        .map(|(named, typed)| named.as_ref().clone().with_data_type(typed.data_type().clone()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod functions_tests;
