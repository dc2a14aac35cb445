//! Turns a catalog command into catalog changes. Pure: every error of a command is found here.

use crate::meta::command::{AlterStep, CatalogCommand, CreateTable, NewColumn, RelationKind};
use tidemark_ledger::catalog::{
    CatalogAt, CatalogChange, Column, ColumnType, Relation, RelationBody, SYSTEM_SCHEMAS, Schema,
    Table, View,
};
use tidemark_ledger::epoch::{Epoch, Lifetime};
use tidemark_ledger::id::{ColumnId, ObjectId};
use tidemark_ledger::meta_error::{ErrorKind, MetaError};

/// The result of a command.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changes: Vec<CatalogChange>,
    pub notices: Vec<String>,
    /// Tables that are dropped, with all their files.
    pub dropped_tables: Vec<ObjectId>,
    /// The table that is created, if any.
    pub created: Option<ObjectId>,
}

/// What a command runs on: the catalog as it is, the epoch of the change, and the next object id.
pub struct Context<'a> {
    pub catalog: &'a CatalogAt,
    pub epoch: Epoch,
    pub next_id: &'a mut ObjectId,
}

impl Context<'_> {
    pub fn run(&mut self, command: CatalogCommand) -> Result<Outcome, MetaError> {
        match command {
            CatalogCommand::CreateSchema { name, if_not_exists } => {
                self.create_schema(name, if_not_exists)
            }
            CatalogCommand::DropSchema { name, if_exists, cascade } => {
                self.drop_schema(&name, if_exists, cascade)
            }
            CatalogCommand::CreateTable(create) => self.create_table(create),
            CatalogCommand::DropRelation { kind, schema, name, if_exists, cascade } => {
                self.drop_relation(kind, &schema, &name, if_exists, cascade)
            }
            CatalogCommand::AlterTable { schema, name, if_exists, step } => {
                self.alter_table(&schema, &name, if_exists, step)
            }
            CatalogCommand::CreateView { schema, name, view, or_replace } => {
                self.create_view(&schema, name, view, or_replace)
            }
            CatalogCommand::All(commands) => self.run_all(commands),
        }
    }

    /// Runs commands one after another, each on the result of those before it. All of them or none.
    fn run_all(&mut self, commands: Vec<CatalogCommand>) -> Result<Outcome, MetaError> {
        let mut all = Outcome::default();
        let mut catalog = self.catalog.clone();
        for command in commands {
            let mut one =
                Context { catalog: &catalog, epoch: self.epoch, next_id: &mut *self.next_id };
            let outcome = one.run(command)?;
            catalog = catalog.after(&outcome.changes, self.epoch);
            all.changes.extend(outcome.changes);
            all.notices.extend(outcome.notices);
            all.dropped_tables.extend(outcome.dropped_tables);
        }
        Ok(all)
    }

    fn create_schema(&mut self, name: String, if_not_exists: bool) -> Result<Outcome, MetaError> {
        refuse_system_schema(&name)?;
        if name.starts_with("pg_") {
            return Err(MetaError::new(
                ErrorKind::ReservedName,
                format!("unacceptable schema name \"{name}\""),
            )
            .detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        if self.catalog.schema(&name).is_some() {
            let message = format!("schema \"{name}\" already exists");
            return tolerate(ErrorKind::DuplicateSchema, message, if_not_exists);
        }
        let schema = Schema { id: self.take_id(), name, lifetime: Lifetime::since(self.epoch) };
        Ok(Outcome { changes: vec![CatalogChange::CreateSchema(schema)], ..Outcome::default() })
    }

    fn drop_schema(
        &self,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<Outcome, MetaError> {
        refuse_system_schema(name)?;
        let Some(schema) = self.catalog.schema(name) else {
            let message = format!("schema \"{name}\" does not exist");
            return tolerate(ErrorKind::UndefinedSchema, message, if_exists);
        };
        let inside: Vec<_> = self.catalog.relations_in(schema.id).cloned().collect();
        if !inside.is_empty() && !cascade {
            let names: Vec<_> = inside.iter().map(|r| self.described(r)).collect();
            return Err(needed(&format!("schema {name}"), &names));
        }
        let mut outcome = Outcome::default();
        for relation in inside {
            self.drop_cascading(&relation, &mut outcome);
        }
        outcome.changes.push(CatalogChange::DropSchema(schema.id));
        Ok(outcome)
    }

    fn create_table(&mut self, create: CreateTable) -> Result<Outcome, MetaError> {
        let schema = self.schema_for_new(&create.schema)?;
        if self.catalog.relation(&create.schema, &create.name).is_some() {
            let message = format!("relation \"{}\" already exists", create.name);
            return tolerate(ErrorKind::DuplicateRelation, message, create.if_not_exists);
        }
        let id = create.id.unwrap_or_else(|| self.take_id());
        let table = new_table(create.columns, &create.primary_key)?;
        let relation = Relation {
            id,
            schema_id: schema,
            name: create.name,
            lifetime: Lifetime::since(self.epoch),
            body: RelationBody::Table(table),
        };
        Ok(Outcome {
            changes: vec![CatalogChange::Define(relation)],
            created: Some(id),
            ..Outcome::default()
        })
    }

    fn create_view(
        &mut self,
        schema: &str,
        name: String,
        view: View,
        or_replace: bool,
    ) -> Result<Outcome, MetaError> {
        let schema_id = self.schema_for_new(schema)?;
        refuse_twice(view.columns.iter().map(|column| column.name.as_str()))?;
        let mut id = None;
        if let Some(existing) = self.catalog.relation(schema, &name) {
            if !or_replace {
                let message = format!("relation \"{name}\" already exists");
                return Err(MetaError::new(ErrorKind::DuplicateRelation, message));
            }
            self.expect_kind(existing, RelationKind::View)?;
            if self.reads(&view, existing.id) {
                let message = format!("view \"{name}\" cannot read itself");
                return Err(MetaError::new(ErrorKind::InvalidDefinition, message));
            }
            id = Some(existing.id);
        }
        let relation = Relation {
            id: id.unwrap_or_else(|| self.take_id()),
            schema_id,
            name,
            lifetime: Lifetime::since(self.epoch),
            body: RelationBody::View(view),
        };
        Ok(Outcome { changes: vec![CatalogChange::Define(relation)], ..Outcome::default() })
    }

    /// Whether a view reads `relation`, directly or through other views.
    fn reads(&self, view: &View, relation: ObjectId) -> bool {
        let mut seen: Vec<ObjectId> = vec![];
        let mut open = view.depends_on.clone();
        while let Some(id) = open.pop() {
            if id == relation {
                return true;
            }
            if !seen.contains(&id) {
                seen.push(id);
                let below = self.catalog.relation_by_id(id).and_then(|r| r.as_view());
                open.extend(below.into_iter().flat_map(|view| &view.depends_on));
            }
        }
        false
    }

    fn drop_relation(
        &self,
        kind: RelationKind,
        schema: &str,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<Outcome, MetaError> {
        refuse_system_schema(schema)?;
        let Some(relation) = self.catalog.relation(schema, name) else {
            let message = format!("{} \"{name}\" does not exist", kind.noun());
            return tolerate(ErrorKind::UndefinedRelation, message, if_exists);
        };
        self.expect_kind(relation, kind)?;
        let dependents = self.catalog.dependents_of(relation.id);
        if !dependents.is_empty() && !cascade {
            let names: Vec<_> = dependents.iter().map(|r| self.described(r)).collect();
            return Err(needed(&format!("{} {name}", kind.noun()), &names));
        }
        let mut outcome = Outcome::default();
        self.drop_cascading(relation, &mut outcome);
        Ok(outcome)
    }

    /// Drops a relation and every view that depends on it, directly or through other views.
    fn drop_cascading(&self, relation: &Relation, outcome: &mut Outcome) {
        let drop = CatalogChange::DropRelation(relation.id);
        if outcome.changes.contains(&drop) {
            return;
        }
        outcome.changes.push(drop);
        if relation.as_table().is_some() {
            outcome.dropped_tables.push(relation.id);
        }
        for dependent in self.catalog.dependents_of(relation.id) {
            outcome.notices.push(format!("drop cascades to {}", self.described(&dependent)));
            self.drop_cascading(&dependent, outcome);
        }
    }

    fn alter_table(
        &self,
        schema: &str,
        name: &str,
        if_exists: bool,
        step: AlterStep,
    ) -> Result<Outcome, MetaError> {
        refuse_system_schema(schema)?;
        let Some(relation) = self.catalog.relation(schema, name) else {
            let message = format!("relation \"{name}\" does not exist");
            return tolerate(ErrorKind::UndefinedRelation, message, if_exists);
        };
        self.expect_kind(relation, RelationKind::Table)?;
        let mut altered = Relation::clone(relation);
        altered.lifetime = Lifetime::since(self.epoch);
        let RelationBody::Table(table) = &mut altered.body else {
            return Err(MetaError::new(ErrorKind::Internal, "a table is not a table"));
        };
        match step {
            AlterStep::AddColumn { column, if_not_exists } => {
                if table.column(&column.name).is_some() {
                    let message =
                        format!("column \"{}\" of relation \"{name}\" already exists", column.name);
                    return tolerate(ErrorKind::DuplicateColumn, message, if_not_exists);
                }
                table.columns.push(column.with_id(table.next_column_id));
                table.next_column_id = ColumnId(table.next_column_id.0 + 1);
            }
            AlterStep::DropColumn { name: column, if_exists } => {
                let Some(found) = table.column(&column).map(|c| c.id) else {
                    return tolerate(
                        ErrorKind::UndefinedColumn,
                        no_column(&column, name),
                        if_exists,
                    );
                };
                self.refuse_if_viewed(relation, &format!("column {column} of table {name}"))?;
                if table.primary_key.contains(&found) {
                    let message =
                        format!("cannot drop column \"{column}\": it is part of the primary key");
                    return Err(MetaError::new(ErrorKind::InvalidDefinition, message));
                }
                table.columns.retain(|c| c.id != found);
                if table.columns.is_empty() {
                    let message = format!("cannot drop the only column of table \"{name}\"");
                    return Err(MetaError::new(ErrorKind::InvalidDefinition, message)
                        .hint("Use DROP TABLE to drop the table."));
                }
            }
            AlterStep::RenameColumn { from, to } => {
                if table.column(&to).is_some() && from != to {
                    let message = format!("column \"{to}\" of relation \"{name}\" already exists");
                    return Err(MetaError::new(ErrorKind::DuplicateColumn, message));
                }
                self.refuse_if_viewed(relation, &format!("column {from} of table {name}"))?;
                let found = table.columns.iter_mut().find(|c| c.name == from);
                let Some(column) = found else {
                    return Err(MetaError::new(ErrorKind::UndefinedColumn, no_column(&from, name)));
                };
                column.name = to;
            }
            AlterStep::WidenColumn { name: column, to } => {
                let key = table.primary_key.clone();
                let found = table.columns.iter_mut().find(|c| c.name == column);
                let Some(found) = found else {
                    return Err(MetaError::new(
                        ErrorKind::UndefinedColumn,
                        no_column(&column, name),
                    ));
                };
                refuse_narrower(found, &to, key.contains(&found.id))?;
                self.refuse_if_viewed(relation, &format!("column {column} of table {name}"))?;
                found.column_type = to;
            }
            AlterStep::RenameTo { name: to } => {
                if self.catalog.relation(schema, &to).is_some() {
                    let message = format!("relation \"{to}\" already exists");
                    return Err(MetaError::new(ErrorKind::DuplicateRelation, message));
                }
                self.refuse_if_viewed(relation, &format!("table {name}"))?;
                altered.name = to;
            }
        }
        Ok(Outcome { changes: vec![CatalogChange::Define(altered)], ..Outcome::default() })
    }

    /// Views are stored as SQL text: a name in it must not change underneath.
    fn refuse_if_viewed(&self, relation: &Relation, what: &str) -> Result<(), MetaError> {
        let dependents = self.catalog.dependents_of(relation.id);
        if dependents.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = dependents.iter().map(|r| self.described(r)).collect();
        Err(MetaError::new(
            ErrorKind::DependentObjects,
            format!("cannot alter {what} because other objects depend on it"),
        )
        .detail(depend_lines(&names, what))
        .hint("Drop the dependent views first, and create them again afterwards."))
    }

    fn schema_for_new(&self, name: &str) -> Result<ObjectId, MetaError> {
        refuse_system_schema(name)?;
        if name.is_empty() {
            let message = "no schema has been selected to create in";
            return Err(MetaError::new(ErrorKind::UndefinedSchema, message)
                .hint("No schema of search_path exists: name the schema, or SET search_path."));
        }
        self.catalog.schema(name).map(|schema| schema.id).ok_or_else(|| {
            MetaError::new(ErrorKind::UndefinedSchema, format!("schema \"{name}\" does not exist"))
        })
    }

    fn expect_kind(&self, relation: &Relation, kind: RelationKind) -> Result<(), MetaError> {
        if relation.kind() == kind.noun() {
            return Ok(());
        }
        let name = &relation.name;
        Err(MetaError::new(
            ErrorKind::WrongRelationKind,
            format!("\"{name}\" is not a {}", kind.noun()),
        )
        .hint(format!(
            "Use DROP {0} to remove a {1}.",
            relation.kind().to_uppercase(),
            relation.kind()
        )))
    }

    fn described(&self, relation: &Relation) -> String {
        format!("{} {}", relation.kind(), relation.name)
    }

    fn take_id(&mut self) -> ObjectId {
        let id = *self.next_id;
        *self.next_id = ObjectId(id.0 + 1);
        id
    }
}

fn new_table(columns: Vec<NewColumn>, primary_key: &[String]) -> Result<Table, MetaError> {
    refuse_twice(columns.iter().map(|column| column.name.as_str()))?;
    refuse_twice(primary_key.iter().map(String::as_str))?;
    let mut table = Table { columns: vec![], primary_key: vec![], next_column_id: ColumnId(1) };
    for column in columns {
        table.columns.push(column.with_id(table.next_column_id));
        table.next_column_id = ColumnId(table.next_column_id.0 + 1);
    }
    for name in primary_key {
        let Some(column) = table.columns.iter_mut().find(|column| column.name == *name) else {
            let message = format!("column \"{name}\" named in key does not exist");
            return Err(MetaError::new(ErrorKind::UndefinedColumn, message));
        };
        if matches!(column.column_type, ColumnType::Interval | ColumnType::Jsonb) {
            let message = format!(
                "column \"{name}\" cannot be in a primary key: {} has values that are equal and \
                 look different",
                column.column_type
            );
            return Err(MetaError::new(ErrorKind::InvalidDefinition, message));
        }
        column.not_null = true;
        table.primary_key.push(column.id);
    }
    Ok(table)
}

fn refuse_twice<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), MetaError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(MetaError::new(ErrorKind::DuplicateColumn, message));
        }
    }
    Ok(())
}

fn refuse_system_schema(name: &str) -> Result<(), MetaError> {
    if SYSTEM_SCHEMAS.contains(&name) {
        return Err(MetaError::new(
            ErrorKind::ReservedName,
            format!("permission denied: \"{name}\" is a system schema"),
        ));
    }
    Ok(())
}

fn no_column(column: &str, table: &str) -> String {
    format!("column \"{column}\" of relation \"{table}\" does not exist")
}

/// `IF [NOT] EXISTS` turns the error into a notice.
fn tolerate(kind: ErrorKind, message: String, tolerated: bool) -> Result<Outcome, MetaError> {
    if tolerated {
        Ok(Outcome { notices: vec![format!("{message}, skipping")], ..Outcome::default() })
    } else {
        Err(MetaError::new(kind, message))
    }
}

fn needed(what: &str, by: &[String]) -> MetaError {
    MetaError::new(
        ErrorKind::DependentObjects,
        format!("cannot drop {what} because other objects depend on it"),
    )
    .detail(depend_lines(by, what))
    .hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

/// Refuses a type under which the stored values would not read the same: data files are not rewritten.
fn refuse_narrower(column: &Column, to: &ColumnType, in_key: bool) -> Result<(), MetaError> {
    let (name, from) = (&column.name, &column.column_type);
    let reason = if !from.widens_to(to) {
        format!("Not every value of type {from} is a value of type {to}.")
    } else if in_key && !from.keeps_key_bytes(to) {
        "The column is part of the primary key, and its values would sort by other bytes."
            .to_owned()
    } else {
        return Ok(());
    };
    let message = format!("column \"{name}\" cannot change its type from {from} to {to}");
    Err(MetaError::new(ErrorKind::NotSupported, message).detail(reason).hint(
        "Add a column of the new type, UPDATE it from the old one with a cast, drop the old one and rename the new one; for a key, make a new table.",
    ))
}

fn depend_lines(names: &[String], what: &str) -> String {
    let lines: Vec<_> = names.iter().map(|name| format!("{name} depends on {what}")).collect();
    lines.join("\n")
}
