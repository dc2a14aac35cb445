//! `CREATE`, `DROP` and `ALTER` of schemas, tables and views.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::Array as _;
use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use sqlparser::ast::Query;

use super::rows::{Conform, assign};
use super::{Outcome, Reply, describe, insert};
use crate::Frontend;
use crate::parser::{
    AlterOperation, AlterTable, ColumnDefinition, CreateTable, CreateView, RelationName,
    TableSource,
};
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use tidemark_engine::meta::command::{
    AlterStep, CatalogCommand, CreateTable as Create, NewColumn, RelationKind,
};
use tidemark_ledger::catalog::{
    Column, ColumnType, Relation, RelationBody, Table, View, ViewColumn, backfill,
};
use tidemark_ledger::id::{ColumnId, ObjectId};
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::committing;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::arrow::storable_type;

impl Frontend {
    pub(super) async fn create_schema(
        &self,
        session: &Session,
        name: &str,
        if_not_exists: bool,
    ) -> Result<Reply, SqlError> {
        session.check_alone("CREATE SCHEMA")?;
        let command = CatalogCommand::CreateSchema { name: name.to_owned(), if_not_exists };
        self.change(command, "CREATE SCHEMA").await
    }

    pub(super) async fn drop_schemas(
        &self,
        session: &Session,
        names: &[String],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Reply, SqlError> {
        session.check_alone("DROP SCHEMA")?;
        let drop =
            |name: &String| CatalogCommand::DropSchema { name: name.clone(), if_exists, cascade };
        self.change(CatalogCommand::All(names.iter().map(drop).collect()), "DROP SCHEMA").await
    }

    pub(super) async fn drop_tables(
        &self,
        session: &mut Session,
        names: &[RelationName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Reply, SqlError> {
        session.check_alone("DROP TABLE")?;
        let commands =
            drops(&self.planner(session), RelationKind::Table, names, if_exists, cascade);
        self.change(CatalogCommand::All(commands), "DROP TABLE").await
    }

    pub(super) async fn drop_views(
        &self,
        session: &mut Session,
        names: &[RelationName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Reply, SqlError> {
        session.check_alone("DROP VIEW")?;
        let commands = drops(&self.planner(session), RelationKind::View, names, if_exists, cascade);
        self.change(CatalogCommand::All(commands), "DROP VIEW").await
    }

    pub(super) async fn create_table(
        &self,
        session: &mut Session,
        create: &CreateTable,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        session.check_alone("CREATE TABLE")?;
        let planner = self.planner(session);
        let (schema, name) = (planner.schema_for_new(&create.name), create.name.name.clone());
        let (columns, primary_key) = match &create.source {
            TableSource::Columns { columns, primary_key } => {
                let state = planner.state();
                let columns = columns.iter().map(|column| Ok(new_column(&state, column)?.0));
                (columns.collect::<Result<_, SqlError>>()?, primary_key.clone())
            }
            TableSource::Query(_)
                if create.if_not_exists
                    && planner.view.catalog.relation(&schema, &name).is_some() =>
            {
                return Ok(skipped(&name, "CREATE TABLE AS"));
            }
            TableSource::Query(query) => {
                return self.create_table_as(&planner, schema, name, query, parameters).await;
            }
        };
        let command = CatalogCommand::CreateTable(Create {
            schema,
            name,
            columns,
            primary_key,
            if_not_exists: create.if_not_exists,
            id: None,
            rows: vec![],
        });
        self.change(command, "CREATE TABLE").await
    }

    async fn create_table_as(
        &self,
        planner: &Planner,
        schema: String,
        name: String,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        let state = planner.state();
        let plan = planner.plan(&state, query, &parameters.types).await?;
        let output = planner.output_schema(query, &plan);
        let columns = output.fields().iter().map(|field| {
            let (name, column_type) = (field.name().clone(), storable_type(field)?);
            Ok(NewColumn { name, column_type, not_null: false, default: None, backfill: None })
        });
        let columns: Vec<NewColumn> = columns.collect::<Result<_, SqlError>>()?;
        // Checked before the rows are written; the meta role checks again at the commit.
        check_new_name(planner, &schema, &name)?;
        let id = self.meta.reserve_object().await?;
        let table = Arc::new(table_of(&columns));
        let rows = planner.execute(state, plan, parameters.values.clone()).await?;
        let rows = insert::conformed(Conform::new(Arc::clone(&table), &schema, &name), rows);
        let staged = self.stage(planner, id, &table, rows).await?;
        let command = CatalogCommand::CreateTable(Create {
            schema,
            name,
            columns,
            primary_key: vec![],
            if_not_exists: false,
            id: Some(id),
            rows: staged.files.clone(),
        });
        let reply = self.change(command, "CREATE TABLE AS").await?;
        Ok(Reply { outcome: Outcome::Done(format!("SELECT {}", staged.rows)), ..reply })
    }

    pub(super) async fn create_view(
        &self,
        session: &mut Session,
        create: &CreateView,
    ) -> Result<Reply, SqlError> {
        session.check_alone("CREATE VIEW")?;
        let mut planner = self.planner(session);
        // The view counts as a nesting level around its query, so that every stored view can be queried.
        planner.nested_views = 1;
        let (schema, name) = (planner.schema_for_new(&create.name), create.name.name.clone());
        if create.if_not_exists && planner.view.catalog.relation(&schema, &name).is_some() {
            return Ok(skipped(&name, "CREATE VIEW"));
        }
        if describe::highest_parameter(&create.query)? > 0 {
            let message = "a view cannot have parameters";
            return Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, message));
        }
        let state = planner.state();
        let plan = planner.plan(&state, &create.query, &[]).await?;
        let output = planner.output_schema(&create.query, &plan);
        if create.columns.len() > output.fields().len() {
            return Err(SqlError::syntax("CREATE VIEW specifies more column names than columns"));
        }
        let columns = output.fields().iter().enumerate().map(|(position, field)| {
            let name = create.columns.get(position).unwrap_or(field.name()).clone();
            Ok(ViewColumn { name, column_type: storable_type(field)? })
        });
        let columns = columns.collect::<Result<Vec<_>, SqlError>>()?;
        if create.or_replace
            && let Some(replaced) = planner.view.catalog.relation(&schema, &name)
        {
            check_replacement(replaced, &columns)?;
        }
        let view = View {
            query: create.query_text.clone(),
            search_path: planner.search_path.to_vec(),
            columns,
            depends_on: dependencies(&planner, &create.query),
        };
        let or_replace = create.or_replace;
        let command = CatalogCommand::CreateView { schema, name, view, or_replace };
        self.change(command, "CREATE VIEW").await
    }

    pub(super) async fn alter_table(
        &self,
        session: &mut Session,
        alter: &AlterTable,
    ) -> Result<Reply, SqlError> {
        session.check_alone("ALTER TABLE")?;
        let planner = self.planner(session);
        let step = alter_step(&planner, &alter.operation)?;
        let (schema, name) = planner.resolve(&alter.name);
        let if_exists = alter.if_exists;
        let command = CatalogCommand::AlterTable { schema, name, if_exists, step };
        self.change(command, "ALTER TABLE").await
    }

    /// Sends a command to the meta role, and waits until this session sees the change.
    async fn change(&self, command: CatalogCommand, tag: &'static str) -> Result<Reply, SqlError> {
        let committed = committing(self.meta.change_catalog(&command)).await?;
        self.replica.at_revision(committed.revision).await;
        Ok(Reply { outcome: Outcome::done(tag), notices: committed.notices })
    }
}

fn drops(
    planner: &Planner,
    kind: RelationKind,
    names: &[RelationName],
    if_exists: bool,
    cascade: bool,
) -> Vec<CatalogCommand> {
    let drop = |name: &RelationName| {
        let (schema, name) = planner.resolve(name);
        CatalogCommand::DropRelation { kind, schema, name, if_exists, cascade }
    };
    names.iter().map(drop).collect()
}

fn check_new_name(planner: &Planner, schema: &str, name: &str) -> Result<(), SqlError> {
    if planner.view.catalog.relation(schema, name).is_some() {
        return Err(SqlError::new(
            SqlState::DUPLICATE_TABLE,
            format!("relation \"{name}\" already exists"),
        ));
    }
    Ok(())
}

/// Returns the definition of a new column, and the value of its default if that is not null.
fn new_column(
    state: &SessionState,
    column: &ColumnDefinition,
) -> Result<(NewColumn, Option<ArrayRef>), SqlError> {
    let ColumnDefinition { name, column_type, not_null, default } = column;
    // The text is what is stored.
    let default = default.as_ref().map(ToString::to_string);
    let value = default.as_deref().map(|sql| default_value(state, sql, name, column_type));
    let value = value.transpose()?.filter(|value| value.null_count() == 0);
    let column = NewColumn {
        name: name.clone(),
        column_type: column_type.clone(),
        not_null: *not_null,
        default,
        backfill: None,
    };
    Ok((column, value))
}

/// Evaluates a `DEFAULT` now, and thereby checks that it can be planned and has the column's type.
fn default_value(
    state: &SessionState,
    default: &str,
    column: &str,
    column_type: &ColumnType,
) -> Result<ArrayRef, SqlError> {
    let expr = insert::default_expr(state, Some(default))?;
    let schema = DFSchema::empty();
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    // `now()` and the like only have a value after simplification.
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr, &schema)?)?;
    let physical = state.create_physical_expr(expr, &schema)?;
    let row = datafusion::arrow::record_batch::RecordBatch::try_new_with_options(
        Arc::new(datafusion::arrow::datatypes::Schema::empty()),
        vec![],
        &datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(1)),
    );
    let row = row.map_err(DataFusionError::from)?;
    let value = match physical.evaluate(&row)? {
        ColumnarValue::Array(array) => array,
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    if value.data_type().is_null() {
        return Ok(new_null_array(&column_type.arrow_type(), 1));
    }
    assign(&value, column, column_type)
}

/// Returns the table as it will be created, for writing its first rows.
fn table_of(columns: &[NewColumn]) -> Table {
    let mut next = ColumnId(1);
    let columns: Vec<Column> = columns
        .iter()
        .map(|column| {
            let id = next;
            next = ColumnId(id.0 + 1);
            column.clone().with_id(id)
        })
        .collect();
    Table { columns, primary_key: vec![], next_column_id: next }
}

/// The reply if the relation exists and the statement says `IF NOT EXISTS`.
fn skipped(name: &str, tag: &str) -> Reply {
    let notices = vec![format!("relation \"{name}\" already exists, skipping")];
    Reply { outcome: Outcome::done(tag), notices }
}

fn alter_step(planner: &Planner, operation: &AlterOperation) -> Result<AlterStep, SqlError> {
    Ok(match operation {
        AlterOperation::AddColumn { if_not_exists, column } => {
            let column = added_column(&planner.state(), column)?;
            AlterStep::AddColumn { column, if_not_exists: *if_not_exists }
        }
        AlterOperation::DropColumn { if_exists, name } => {
            AlterStep::DropColumn { name: name.clone(), if_exists: *if_exists }
        }
        AlterOperation::RenameColumn { from, to } => {
            AlterStep::RenameColumn { from: from.clone(), to: to.clone() }
        }
        AlterOperation::RenameTable { to } => AlterStep::RenameTo { name: to.clone() },
        AlterOperation::SetDataType { column, column_type } => {
            AlterStep::WidenColumn { name: column.clone(), to: column_type.clone() }
        }
    })
}

/// Returns the definition of a column that is added to a table, with the value of the existing rows.
fn added_column(state: &SessionState, column: &ColumnDefinition) -> Result<NewColumn, SqlError> {
    let (mut column, value) = new_column(state, column)?;
    if column.not_null && value.is_none() {
        let name = &column.name;
        return Err(SqlError::new(
            SqlState::NOT_NULL_VIOLATION,
            format!("column \"{name}\" must have a default to be added as NOT NULL"),
        )
        .hint("Add DEFAULT value: the rows there are need one."));
    }
    let backfill = value.map(|value| backfill::encode(&value)).transpose();
    column.backfill = backfill.map_err(DataFusionError::from)?;
    Ok(column)
}

/// Returns the ids of the users' relations that a query refers to directly.
fn dependencies(planner: &Planner, query: &Query) -> Vec<ObjectId> {
    let mut found = HashSet::new();
    let outcome = sqlparser::ast::visit_relations(query, |name| {
        if let Ok(name) = RelationName::try_from(name) {
            found.extend(planner.relation(&name).map(|r| r.id));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    debug_assert!(outcome.is_continue(), "the visitor never breaks off");
    let mut ids: Vec<ObjectId> = found.into_iter().collect();
    ids.sort();
    ids
}

/// Fails unless the columns of a view are those of the view it replaces, and perhaps more (42P16).
fn check_replacement(replaced: &Relation, columns: &[ViewColumn]) -> Result<(), SqlError> {
    let RelationBody::View(view) = &replaced.body else { return Ok(()) };
    let invalid = |message: String| Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    if columns.len() < view.columns.len() {
        return invalid("cannot drop columns from view".to_owned());
    }
    for (old, new) in view.columns.iter().zip(columns) {
        if old.name != new.name {
            return invalid(format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                old.name, new.name
            ));
        }
        if old.column_type != new.column_type {
            return invalid(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                old.name, old.column_type, new.column_type
            ));
        }
    }
    Ok(())
}
