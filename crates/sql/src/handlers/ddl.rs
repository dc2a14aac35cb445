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
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, Expr, IndexColumn, Query, TableConstraint,
};

use super::rows::{Conform, assign};
use super::{Outcome, Reply, describe, insert};
use crate::Frontend;
use crate::parser::{AlterOperation, AlterTable, CreateView, RelationName, Statement, folded};
use crate::planner::{Parameters, Planner};
use crate::session::Session;
use tidemark_engine::meta::command::{
    AlterStep, CatalogCommand, CreateTable as Create, NewColumn, RelationKind,
};
use tidemark_ledger::catalog::{Column, ColumnType, Table, View, ViewColumn, backfill};
use tidemark_ledger::id::{ColumnId, ObjectId};
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::committing;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::arrow::storable_type;
use tidemark_pg::types::spelling::column_type;

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
        let name = RelationName::try_from(&create.name)?;
        let (schema, name) = (planner.schema_for_new(&name), name.name);
        if let Some(query) = &create.query {
            let exists = planner.view.catalog.relation(&schema, &name).is_some();
            if !(exists && create.if_not_exists) {
                return self
                    .create_table_as(&planner, schema, name, create, query, parameters)
                    .await;
            }
        }
        let state = planner.state();
        let columns = create.columns.iter().map(|column| new_column(&state, column));
        let command = CatalogCommand::CreateTable(Create {
            schema,
            name,
            columns: columns.collect::<Result<_, _>>()?,
            primary_key: primary_key(create)?,
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
        create: &CreateTable,
        query: &Query,
        parameters: &Parameters,
    ) -> Result<Reply, SqlError> {
        refuse_declared(create)?;
        let state = planner.state();
        let plan = planner.plan(&state, query, &parameters.types).await?;
        let output = planner.output_schema(query, &plan);
        let names: Vec<String> = create.columns.iter().map(|c| folded(&c.name)).collect();
        let columns = output.fields().iter().enumerate().map(|(position, field)| {
            let name = names.get(position).unwrap_or(field.name()).clone();
            let column_type = storable_type(field)?;
            Ok(NewColumn { name, column_type, not_null: false, default: None, backfill: None })
        });
        let columns: Vec<NewColumn> = columns.collect::<Result<_, SqlError>>()?;
        if names.len() > columns.len() {
            return Err(SqlError::syntax("too many column names were specified"));
        }
        // Checked before the rows are written; the meta role checks again at the commit.
        check_new_name(planner, &schema, &name)?;
        let id = self.meta.reserve_object().await?;
        let table = Arc::new(table_of(&columns));
        let rows = planner.execute(state, plan, parameters.values.clone()).await?;
        let rows = insert::conformed(Conform::new(Arc::clone(&table), &name), rows);
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
            let notices = vec![format!("relation \"{name}\" already exists, skipping")];
            return Ok(Reply { outcome: Outcome::done("CREATE VIEW"), notices });
        }
        if describe::placeholders(&Statement::Query(create.query.clone()))? > 0 {
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
        let view = View {
            query: create.query_text.clone(),
            search_path: planner.search_path.to_vec(),
            columns: columns.collect::<Result<_, SqlError>>()?,
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
        let [operation] = alter.operations.as_slice() else {
            return Err(SqlError::unsupported("ALTER TABLE with several actions")
                .hint("Run one ALTER TABLE for each."));
        };
        let step = alter_step(&planner, operation)?;
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

/// Refuses column types and constraints in `CREATE TABLE AS`: types come from the query, only names may be
/// given.
fn refuse_declared(create: &CreateTable) -> Result<(), SqlError> {
    let declared = |column: &ColumnDef| {
        column.data_type != sqlparser::ast::DataType::Unspecified || !column.options.is_empty()
    };
    if create.columns.iter().any(declared) || !create.constraints.is_empty() {
        return Err(SqlError::unsupported("CREATE TABLE AS with column types or constraints")
            .hint("Create the table first, then INSERT INTO it."));
    }
    Ok(())
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

fn new_column(state: &SessionState, column: &ColumnDef) -> Result<NewColumn, SqlError> {
    let name = folded(&column.name);
    let column_type = column_type(&column.data_type)?;
    let mut not_null = false;
    let mut default = None;
    for option in &column.options {
        match &option.option {
            ColumnOption::NotNull => not_null = true,
            ColumnOption::Default(expr) => {
                default_value(state, expr, &name, &column_type)?;
                default = Some(expr.to_string());
            }
            _ => {}
        }
    }
    Ok(NewColumn { name, column_type, not_null, default, backfill: None })
}

/// Evaluates a `DEFAULT` now, and thereby checks that it can be planned and has the column's type.
fn default_value(
    state: &SessionState,
    expr: &Expr,
    column: &str,
    column_type: &ColumnType,
) -> Result<ArrayRef, SqlError> {
    let expr = insert::default_expr(state, Some(&expr.to_string()))?;
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

fn primary_key(create: &CreateTable) -> Result<Vec<String>, SqlError> {
    let mut keys: Vec<Vec<String>> = vec![];
    for column in &create.columns {
        let options = column.options.iter();
        if options.filter(|o| matches!(o.option, ColumnOption::PrimaryKey(_))).count() > 0 {
            keys.push(vec![folded(&column.name)]);
        }
    }
    for constraint in &create.constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            keys.push(key.columns.iter().map(key_column).collect::<Result<_, _>>()?);
        }
    }
    match keys.len() {
        0 => Ok(vec![]),
        1 => Ok(keys.remove(0)),
        _ => Err(SqlError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("multiple primary keys for table \"{}\" are not allowed", create.name),
        )),
    }
}

fn key_column(column: &IndexColumn) -> Result<String, SqlError> {
    match &column.column.expr {
        Expr::Identifier(ident) => Ok(folded(ident)),
        other => Err(SqlError::syntax(format!("{other} is not a column"))),
    }
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

fn alter_step(planner: &Planner, operation: &AlterOperation) -> Result<AlterStep, SqlError> {
    Ok(match operation {
        AlterOperation::AddColumn { if_not_exists, column } => {
            if column.options.iter().any(|o| matches!(o.option, ColumnOption::PrimaryKey(_))) {
                return Err(SqlError::unsupported("ALTER TABLE ADD COLUMN ... PRIMARY KEY")
                    .hint("Make a table with the key, and INSERT the rows into it."));
            }
            let state = planner.state();
            let mut column_def = new_column(&state, column)?;
            let default = column.options.iter().find_map(|option| match &option.option {
                ColumnOption::Default(expr) => Some(expr),
                _ => None,
            });
            let value = default
                .map(|expr| default_value(&state, expr, &column_def.name, &column_def.column_type))
                .transpose()?
                .filter(|value| value.null_count() == 0);
            if column_def.not_null && value.is_none() {
                let name = &column_def.name;
                return Err(SqlError::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!("column \"{name}\" must have a default to be added as NOT NULL"),
                )
                .hint("Add DEFAULT value: the rows there are need one."));
            }
            column_def.backfill = value
                .map(|value| backfill::encode(&value))
                .transpose()
                .map_err(DataFusionError::from)?;
            AlterStep::AddColumn { column: column_def, if_not_exists: *if_not_exists }
        }
        AlterOperation::DropColumn { if_exists, name, cascade: false } => {
            AlterStep::DropColumn { name: name.clone(), if_exists: *if_exists }
        }
        AlterOperation::DropColumn { cascade: true, .. } => {
            return Err(SqlError::unsupported("ALTER TABLE DROP COLUMN ... CASCADE")
                .hint("Drop the dependent views first."));
        }
        AlterOperation::RenameColumn { from, to } => {
            AlterStep::RenameColumn { from: from.clone(), to: to.clone() }
        }
        AlterOperation::RenameTable { to } => AlterStep::RenameTo { name: to.clone() },
        AlterOperation::SetNotNull { .. } => {
            return Err(SqlError::unsupported("ALTER TABLE ALTER COLUMN SET NOT NULL"));
        }
        AlterOperation::DropNotNull { .. } => {
            return Err(SqlError::unsupported("ALTER TABLE ALTER COLUMN DROP NOT NULL"));
        }
        AlterOperation::SetDefault { .. } | AlterOperation::DropDefault { .. } => {
            return Err(SqlError::unsupported("ALTER TABLE ALTER COLUMN SET or DROP DEFAULT"));
        }
        AlterOperation::SetDataType { using: Some(_), .. } => {
            return Err(SqlError::unsupported("ALTER TABLE ALTER COLUMN TYPE ... USING").hint(
                "A wider type needs no USING. For others, add a column and UPDATE it from the old one.",
            ));
        }
        AlterOperation::SetDataType { column, data_type, using: None } => {
            AlterStep::WidenColumn { name: column.clone(), to: column_type(data_type)? }
        }
    })
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
