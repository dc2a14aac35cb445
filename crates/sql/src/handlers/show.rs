//! `SHOW`: parameters, variables, and lists of objects.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::error::DataFusionError;

use super::{Outcome, Reply, schema_of};
use crate::parser::{LikeFilter, RelationName, ShowKind};
use crate::planner::Planner;
use crate::session::Session;
use crate::{Frontend, system_catalog};
use tidemark_engine::meta::command::Role;
use tidemark_engine::meta::workers::WorkerNode;
use tidemark_ledger::catalog::{Column, PUBLIC, Relation, RelationBody, SYSTEM_SCHEMAS};
use tidemark_ledger::params::PARAMS;
use tidemark_pg::error::SqlError;
use tidemark_pg::sqlstate::SqlState;

/// Rows of text under these headings; a filter applies to the first column.
struct Listing {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Frontend {
    pub(super) async fn show(
        &self,
        session: &mut Session,
        kind: &ShowKind,
        filter: Option<&LikeFilter>,
    ) -> Result<Reply, SqlError> {
        let planner = self.planner(session);
        let view = &planner.view;
        let listing = match kind {
            ShowKind::Parameters => return self.show_parameters(filter),
            ShowKind::Variable(name) => return show_variable(session, name),
            ShowKind::All => all_variables(session),
            ShowKind::Databases => names([session.database.clone()]),
            ShowKind::Schemas => {
                let user = view.catalog.schemas().map(|schema| schema.name.clone());
                names(user.chain(SYSTEM_SCHEMAS.map(str::to_owned)))
            }
            ShowKind::Tables { schema } => relations(&planner, schema.as_deref(), "table")?,
            ShowKind::Views { schema } => relations(&planner, schema.as_deref(), "view")?,
            ShowKind::MaterializedViews { .. } => names([]),
            ShowKind::Columns { table } => columns(&planner, table)?,
            ShowKind::CreateTable { name } => definition(&planner, name, "table")?,
            ShowKind::CreateView { name } => definition(&planner, name, "view")?,
            ShowKind::Cluster => return self.show_cluster(filter).await,
        };
        listing.filtered(filter).reply()
    }

    /// Lists the processes of the cluster, in RisingWave's columns.
    async fn show_cluster(&self, filter: Option<&LikeFilter>) -> Result<Reply, SqlError> {
        let mut nodes = self.meta.worker_nodes().await?;
        nodes.retain(|node| filter.is_none_or(|f| like(f, &node.info.addr)));
        let text = |value: &dyn Fn(&WorkerNode) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(nodes.iter().map(value)))
        };
        let number = |value: &dyn Fn(&WorkerNode) -> u32| -> ArrayRef {
            let numbers = nodes.iter().map(|node| i32::try_from(value(node)).ok());
            Arc::new(Int32Array::from_iter(numbers))
        };
        let serves = |node: &WorkerNode| node.info.role == Role::Frontend;
        let started = nodes.iter().map(|node| node.info.started_micros());
        let started = TimestampMicrosecondArray::from_iter_values(started).with_timezone("UTC");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("Id", number(&|node| node.id)),
            ("Addr", text(&|node| node.info.addr.clone())),
            ("Type", text(&|node| node.info.role.worker_type().to_owned())),
            ("State", text(&|node| node.state().to_owned())),
            ("Parallelism", number(&|node| node.info.parallelism)),
            ("Is Streaming", Arc::new(BooleanArray::from(vec![false; nodes.len()]))),
            (
                "Is Serving",
                Arc::new(BooleanArray::from_iter(nodes.iter().map(|n| Some(serves(n))))),
            ),
            ("Started At", Arc::new(started)),
        ];
        let batch = RecordBatch::try_from_iter(columns).map_err(DataFusionError::from)?;
        Ok(Outcome::batch(batch, "SHOW")?.into())
    }

    /// `Name | Value | Mutable`, as documented, in the order of the parameter table.
    fn show_parameters(&self, filter: Option<&LikeFilter>) -> Result<Reply, SqlError> {
        let params = Arc::clone(&self.replica.state().params);
        let shown: Vec<_> =
            PARAMS.iter().filter(|p| filter.is_none_or(|f| like(f, p.name))).collect();
        let text = |value: &dyn Fn(&tidemark_ledger::params::ParamSpec) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(shown.iter().map(|p| value(p))))
        };
        let schema = schema_of(vec![
            Field::new("Name", DataType::Utf8, false),
            Field::new("Value", DataType::Utf8, false),
            Field::new("Mutable", DataType::Boolean, false),
        ]);
        let columns = vec![
            text(&|p| p.name.to_owned()),
            text(&|p| params.shown(p.name)),
            Arc::new(BooleanArray::from_iter(shown.iter().map(|p| Some(p.mutable)))) as ArrayRef,
        ];
        let batch = RecordBatch::try_new(schema, columns).map_err(DataFusionError::from)?;
        Ok(Outcome::batch(batch, "SHOW")?.into())
    }
}

impl Listing {
    fn filtered(mut self, filter: Option<&LikeFilter>) -> Self {
        if let Some(filter) = filter {
            self.rows.retain(|row| row.first().is_some_and(|name| like(filter, name)));
        }
        self
    }

    fn reply(self) -> Result<Reply, SqlError> {
        let fields = self.headings.iter().map(|h| Field::new(*h, DataType::Utf8, true));
        let schema = schema_of(fields.collect());
        let columns = (0..self.headings.len()).map(|column| -> ArrayRef {
            let values = self.rows.iter().map(|row| row.get(column));
            Arc::new(StringArray::from_iter(values))
        });
        let batch =
            RecordBatch::try_new(schema, columns.collect()).map_err(DataFusionError::from)?;
        Ok(Outcome::batch(batch, "SHOW")?.into())
    }
}

fn names(names: impl IntoIterator<Item = String>) -> Listing {
    Listing { headings: vec!["Name"], rows: names.into_iter().map(|name| vec![name]).collect() }
}

fn show_variable(session: &Session, name: &str) -> Result<Reply, SqlError> {
    let value = session.variables.value(name)?.to_owned();
    let schema = schema_of(vec![Field::new(name.to_ascii_lowercase(), DataType::Utf8, false)]);
    let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let batch = RecordBatch::try_new(schema, vec![column]).map_err(DataFusionError::from)?;
    Ok(Outcome::batch(batch, "SHOW")?.into())
}

fn all_variables(session: &Session) -> Listing {
    let rows = session.variables.all().map(|(name, value, description)| {
        vec![name.to_owned(), value.to_owned(), description.to_owned()]
    });
    Listing { headings: vec!["Name", "Setting", "Description"], rows: rows.collect() }
}

fn relations(planner: &Planner, schema: Option<&str>, kind: &str) -> Result<Listing, SqlError> {
    let view = &planner.view;
    let schema = schema.unwrap_or(&planner.caller.session.schema);
    let Some(found) = view.catalog.schema(schema) else {
        if SYSTEM_SCHEMAS.contains(&schema) {
            let inside = system_catalog::relation_names(schema).into_iter().map(str::to_owned);
            return Ok(names(inside.filter(|_| kind == "table")));
        }
        // The default schema may have been dropped: the list is empty then, not an error.
        if schema == PUBLIC {
            return Ok(names([]));
        }
        return Err(SqlError::new(
            SqlState::INVALID_SCHEMA_NAME,
            format!("schema \"{schema}\" does not exist"),
        ));
    };
    let inside = view.catalog.relations_in(found.id).filter(|r| r.kind() == kind);
    Ok(names(inside.map(|relation| relation.name.clone())))
}

fn find<'a>(planner: &'a Planner, name: &RelationName) -> Result<(String, &'a Relation), SqlError> {
    match planner.relation(name) {
        Some(relation) => Ok((planner.resolve(name).0, relation)),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_TABLE,
            format!("relation \"{name}\" does not exist"),
        )),
    }
}

fn columns(planner: &Planner, name: &RelationName) -> Result<Listing, SqlError> {
    let headings = vec!["Name", "Type", "Is Nullable", "Is Key", "Default"];
    let rows = match &find(planner, name)?.1.body {
        RelationBody::Table(table) => {
            let key = |column: &Column| yes(table.primary_key.contains(&column.id));
            let row = |column: &Column| {
                vec![
                    column.name.clone(),
                    column.column_type.to_string(),
                    yes(!column.not_null),
                    key(column),
                    column.default.clone().unwrap_or_default(),
                ]
            };
            table.columns.iter().map(row).collect()
        }
        RelationBody::View(view) => view
            .columns
            .iter()
            .map(|c| {
                vec![
                    c.name.clone(),
                    c.column_type.to_string(),
                    yes(true),
                    yes(false),
                    String::new(),
                ]
            })
            .collect(),
    };
    Ok(Listing { headings, rows })
}

fn yes(is: bool) -> String {
    if is { "true" } else { "false" }.to_owned()
}

fn definition(planner: &Planner, name: &RelationName, kind: &str) -> Result<Listing, SqlError> {
    let (schema, relation) = find(planner, name)?;
    if relation.kind() != kind {
        return Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a {kind}"),
        ));
    }
    let sql = match &relation.body {
        RelationBody::Table(_) => system_catalog::create_table_sql(&schema, relation),
        RelationBody::View(_) => system_catalog::create_view_sql(&schema, relation),
    };
    let row = vec![format!("{schema}.{}", relation.name), sql];
    Ok(Listing { headings: vec!["Name", "Create Sql"], rows: vec![row] })
}

/// SQL's `LIKE`: `%` matches any text, `_` any character.
fn like(filter: &LikeFilter, name: &str) -> bool {
    let fold = |s: &str| if filter.case_insensitive { s.to_lowercase() } else { s.to_owned() };
    let (pattern, name) = (fold(&filter.pattern), fold(name));
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches_like(&pattern, &name)
}

fn matches_like(pattern: &[char], text: &[char]) -> bool {
    // For each length of text, whether the pattern read so far can match up to there.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for symbol in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            let here = reached[at];
            match symbol {
                '%' => next[at] = here || (at > 0 && next[at - 1]),
                '_' if here && at < text.len() => next[at + 1] = true,
                c if here && text.get(at) == Some(c) && *c != '_' => next[at + 1] = true,
                _ => {}
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_percent_and_underscore() {
        let like = |pattern: &str, name: &str| {
            let pattern = pattern.to_owned();
            like(&LikeFilter { pattern, case_insensitive: false }, name)
        };
        assert!(like("backup%", "backup_storage_url") && like("%", "") && like("a_c", "abc"));
        assert!(!like("a_c", "ac") && !like("backup", "backups") && !like("A%", "abc"));
        assert!(like("%storage%", "backup_storage_url") && like("%url", "backup_storage_url"));
    }
}
