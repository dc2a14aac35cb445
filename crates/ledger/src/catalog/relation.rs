//! The objects of a catalog: schemas, and relations, which are tables or views.

use serde::{Deserialize, Serialize};

use super::ColumnType;
use crate::epoch::Lifetime;
use crate::id::{ColumnId, ObjectId};

/// A namespace of relations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub id: ObjectId,
    pub name: String,
    pub lifetime: Lifetime,
}

/// One definition of a table or view, valid during its lifetime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub id: ObjectId,
    pub schema_id: ObjectId,
    pub name: String,
    pub lifetime: Lifetime,
    pub body: RelationBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationBody {
    Table(Table),
    View(View),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub columns: Vec<Column>,
    /// Columns of the primary key, in key order; empty when there is none.
    pub primary_key: Vec<ColumnId>,
    /// The id the next added column takes.
    pub next_column_id: ColumnId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub id: ColumnId,
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
    /// `DEFAULT` expression as SQL, for new rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The value of the column in rows written before it was added, encoded by [`super::backfill`]; `None`
    /// for null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The query, as SQL.
    pub query: String,
    /// The schemas in which the query's unqualified names are looked up, in order.
    pub search_path: Vec<String>,
    pub columns: Vec<ViewColumn>,
    /// Relations the query reads.
    pub depends_on: Vec<ObjectId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewColumn {
    pub name: String,
    pub column_type: ColumnType,
}

impl Relation {
    pub fn as_table(&self) -> Option<&Table> {
        match &self.body {
            RelationBody::Table(table) => Some(table),
            RelationBody::View(_) => None,
        }
    }

    pub fn as_view(&self) -> Option<&View> {
        match &self.body {
            RelationBody::Table(_) => None,
            RelationBody::View(view) => Some(view),
        }
    }

    /// The word for it in messages: `table` or `view`.
    pub fn kind(&self) -> &'static str {
        match self.body {
            RelationBody::Table(_) => "table",
            RelationBody::View(_) => "view",
        }
    }
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// Columns of the primary key, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.primary_key.iter().filter_map(|id| self.column_by_id(*id))
    }
}
