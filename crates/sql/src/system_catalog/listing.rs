//! Lists relations, indexes and schemas for the catalogs, both users' and system ones.
//!
//! In `pg_catalog` a user's object has the oid `16384 + id`, above all built-in ones; `rw_catalog` shows the
//! bare id.

use std::sync::Arc;

use super::relation::SystemRelation;
use super::{SYSTEM_SCHEMAS, SystemSchema};
use crate::read_view::ReadView;
use tidemark_ledger::catalog::{Relation, RelationBody};
use tidemark_ledger::id::ObjectId;
use tidemark_pg::types::{TypeRef, format_type};

/// The first oid of users' objects in `pg_catalog`.
pub const USER_OID_BASE: u32 = 16384;
/// Base of the oids of primary key indexes, which are not separate objects: the table's id is added.
pub const INDEX_OID_BASE: u32 = 1 << 29;
/// The same for the constraints.
const CONSTRAINT_OID_BASE: u32 = 1 << 30;

/// Suffix of the name of a primary key, after the table's name.
const KEY_SUFFIX: &str = "_pkey";

/// The role that owns everything.
pub const OWNER_OID: u32 = 10;
pub const OWNER: &str = tidemark_pg::USER;
/// The only database, and its tablespace in PostgreSQL.
pub const DATABASE_OID: u32 = 5;
pub const TABLESPACE_OID: u32 = 1663;
/// PostgreSQL's number of UTF8, the only encoding.
pub const ENCODING: i32 = 6;
/// Access methods of tables and of primary keys.
pub const TABLE_ACCESS_METHOD: u32 = 2;
pub const INDEX_ACCESS_METHOD: u32 = 403;

/// A row of `pg_class`.
#[derive(Clone, Debug)]
pub struct Listed {
    pub oid: u32,
    pub schema_oid: u32,
    pub schema: String,
    pub name: String,
    /// `pg_class.relkind`: `r`, `v` or `i`.
    pub kind: char,
    pub columns: Vec<ListedColumn>,
    /// The user's relation, or for an index the relation it belongs to.
    pub relation: Option<Arc<Relation>>,
}

/// A row of `pg_attribute`.
#[derive(Clone, Debug)]
pub struct ListedColumn {
    pub name: String,
    pub type_ref: TypeRef,
    pub not_null: bool,
    pub default: Option<String>,
}

impl ListedColumn {
    /// The default as PostgreSQL prints it: a string literal with its type, other expressions as they were
    /// written.
    pub fn shown_default(&self) -> Option<String> {
        let default = self.default.as_ref()?;
        let inside = default.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let is_literal = inside.is_some_and(|text| !text.replace("''", "").contains('\''));
        // The constants of these types are printed bare.
        let is_bare = ["boolean", "smallint", "integer", "bigint"];
        let type_name = format_type(self.type_ref.oid, None);
        if is_literal && !is_bare.contains(&type_name.as_str()) {
            return Some(format!("{default}::{type_name}"));
        }
        Some(default.clone())
    }
}

/// The primary key of a table.
#[derive(Clone, Debug)]
pub struct ListedKey {
    pub index_oid: u32,
    pub constraint_oid: u32,
    /// The name of both the index and the constraint.
    pub name: String,
    pub table: Listed,
    /// Column numbers in the table, from 1, in key order.
    pub positions: Vec<i64>,
}

/// The oid of a user's schema or relation.
pub const fn oid_of(id: ObjectId) -> u32 {
    USER_OID_BASE.saturating_add(id.0)
}

/// The id of the user's schema or relation with this oid.
fn id_of(oid: u32) -> Option<ObjectId> {
    if oid < INDEX_OID_BASE { oid.checked_sub(USER_OID_BASE).map(ObjectId) } else { None }
}

/// Every schema, with its oid.
pub fn schemas(view: &ReadView) -> Vec<(u32, String)> {
    let system = SYSTEM_SCHEMAS.iter().map(|s| (s.oid, s.name.to_owned()));
    let users = view.catalog.schemas().map(|s| (oid_of(s.id), s.name.clone()));
    system.chain(users).collect()
}

/// Every relation: system relations, then users' relations by id.
pub fn relations(view: &ReadView) -> Vec<Listed> {
    let system = SYSTEM_SCHEMAS.iter().flat_map(SystemSchema::listed);
    let users = view.catalog.relations().filter_map(|r| user_relation(view, r));
    system.chain(users).collect()
}

/// Users' relations only, by id.
pub fn user_relations(view: &ReadView) -> Vec<Listed> {
    view.catalog.relations().filter_map(|r| user_relation(view, r)).collect()
}

/// The primary keys of users' tables.
pub fn keys(view: &ReadView) -> Vec<ListedKey> {
    user_relations(view).into_iter().filter_map(Listed::key).collect()
}

/// Every relation and index: the rows of `pg_class`.
pub fn classes(view: &ReadView) -> Vec<Listed> {
    let indexes = keys(view).into_iter().map(|key| key.index());
    let mut classes = relations(view);
    classes.extend(indexes);
    classes
}

/// The relation or index with this oid.
pub fn by_oid(view: &ReadView, oid: u32) -> Option<Listed> {
    if oid >= INDEX_OID_BASE {
        let id = ObjectId(oid - INDEX_OID_BASE);
        let table = user_relation(view, view.catalog.relation_by_id(id)?)?;
        return table.key().map(|key| key.index());
    }
    match id_of(oid) {
        Some(id) => user_relation(view, view.catalog.relation_by_id(id)?),
        None => {
            let mut schemas = SYSTEM_SCHEMAS.iter();
            schemas.find_map(|schema| schema.listed_where(|relation| relation.oid == oid))
        }
    }
}

/// The relation or index of this name.
pub fn by_name(view: &ReadView, schema: &str, name: &str) -> Option<Listed> {
    if let Some(system) = SYSTEM_SCHEMAS.iter().find(|s| s.name == schema) {
        return system.listed_where(|relation| relation.name == name);
    }
    if let Some(relation) = view.catalog.relation(schema, name) {
        return user_relation(view, relation);
    }
    let table = view.catalog.relation(schema, name.strip_suffix(KEY_SUFFIX)?)?;
    user_relation(view, table)?.key().map(|key| key.index())
}

/// The name of the schema with this oid.
pub fn schema_name(view: &ReadView, oid: u32) -> Option<String> {
    schemas(view).into_iter().find(|(schema_oid, _)| *schema_oid == oid).map(|(_, name)| name)
}

fn user_relation(view: &ReadView, relation: &Arc<Relation>) -> Option<Listed> {
    let schema = view.catalog.schema_by_id(relation.schema_id)?;
    Some(Listed {
        oid: oid_of(relation.id),
        schema_oid: oid_of(schema.id),
        schema: schema.name.clone(),
        name: relation.name.clone(),
        kind: if relation.as_table().is_some() { 'r' } else { 'v' },
        columns: user_columns(&relation.body),
        relation: Some(Arc::clone(relation)),
    })
}

fn user_columns(body: &RelationBody) -> Vec<ListedColumn> {
    match body {
        RelationBody::Table(table) => {
            let columns = table.columns.iter().map(|column| ListedColumn {
                name: column.name.clone(),
                type_ref: TypeRef::from(&column.column_type),
                not_null: column.not_null || table.primary_key.contains(&column.id),
                default: column.default.clone(),
            });
            columns.collect()
        }
        RelationBody::View(view) => {
            let columns = view.columns.iter().map(|column| ListedColumn {
                name: column.name.clone(),
                type_ref: TypeRef::from(&column.column_type),
                not_null: false,
                default: None,
            });
            columns.collect()
        }
    }
}

/// A system relation with its oid.
pub(super) fn system_relation(schema: &SystemSchema, relation: &'static SystemRelation) -> Listed {
    let columns = relation.columns.iter().map(|(name, column_type)| ListedColumn {
        name: (*name).to_owned(),
        type_ref: TypeRef::of_oid(column_type.oid()),
        not_null: false,
        default: None,
    });
    Listed {
        oid: relation.oid,
        schema_oid: schema.oid,
        schema: schema.name.to_owned(),
        name: relation.name.to_owned(),
        kind: relation.kind.code(),
        columns: columns.collect(),
        relation: None,
    }
}

impl Listed {
    /// Whether it is a table with a primary key.
    pub fn has_key(&self) -> bool {
        let table = self.relation.as_ref().and_then(|r| r.as_table());
        self.kind == 'r' && table.is_some_and(|t| !t.primary_key.is_empty())
    }

    pub fn key(self) -> Option<ListedKey> {
        if !self.has_key() {
            return None;
        }
        let relation = self.relation.as_ref()?;
        let table = relation.as_table()?;
        let indices = table
            .primary_key
            .iter()
            .filter_map(|id| table.columns.iter().position(|c| c.id == *id));
        Some(ListedKey {
            index_oid: INDEX_OID_BASE | relation.id.0,
            constraint_oid: CONSTRAINT_OID_BASE | relation.id.0,
            name: format!("{}{KEY_SUFFIX}", self.name),
            positions: indices.filter_map(|index| i64::try_from(index + 1).ok()).collect(),
            table: self,
        })
    }

    /// Rows of a user's table at the view's epoch; `None` for other relations.
    pub fn rows(&self, view: &ReadView) -> Option<u64> {
        let table = self.user_table()?;
        Some(view.version.rows_at(table, view.epoch))
    }

    /// Bytes of the files of a user's table that are alive at the view's epoch.
    pub fn live_bytes(&self, view: &ReadView) -> u64 {
        let Some(table) = self.user_table() else { return 0 };
        view.version.files_at(table, view.epoch).iter().map(|file| file.sst.size_bytes).sum()
    }

    /// Bytes of all files of a user's table that are still in the version.
    pub fn kept_bytes(&self, view: &ReadView) -> u64 {
        let Some(table) = self.user_table() else { return 0 };
        view.version.table_files(table).map(|file| file.sst.size_bytes).sum()
    }

    fn user_table(&self) -> Option<ObjectId> {
        self.relation.as_ref().filter(|_| self.kind == 'r').map(|r| r.id)
    }
}

impl ListedKey {
    /// The index as `pg_class` lists it.
    pub fn index(&self) -> Listed {
        Listed {
            oid: self.index_oid,
            schema_oid: self.table.schema_oid,
            schema: self.table.schema.clone(),
            name: self.name.clone(),
            kind: 'i',
            columns: self.columns().cloned().collect(),
            relation: self.table.relation.clone(),
        }
    }

    /// Its columns in key order.
    pub fn columns(&self) -> impl Iterator<Item = &ListedColumn> {
        let indices = self.positions.iter().filter_map(|p| usize::try_from(p - 1).ok());
        indices.filter_map(|index| self.table.columns.get(index))
    }
}
