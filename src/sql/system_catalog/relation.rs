//! What a system relation is: its columns, and the function that computes its rows.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;
use futures::future::BoxFuture;

use super::SystemContext;
use super::cell::{Row, array_of};
use crate::pg::error::SqlError;
use crate::pg::system_types::SystemType;

/// A name with its type.
pub type SystemColumn = (&'static str, SystemType);

/// A table or view over the read view.
#[derive(Debug)]
pub struct SystemRelation {
    pub name: &'static str,
    pub kind: RelationKind,
    pub columns: &'static [SystemColumn],
    pub rows: Rows,
}

/// What PostgreSQL takes the relation for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    View,
}

/// Where the rows come from.
#[derive(Debug)]
pub enum Rows {
    /// The relation describes what Tidemark has not; clients ask all the same.
    None,
    Of(fn(&SystemContext) -> Vec<Row>),
    /// The rows are elsewhere, and asked for at each scan.
    Fetched(for<'a> fn(&'a SystemContext, Wanted) -> BoxFuture<'a, FetchedRows>),
}

/// The columns that a scan wants of a relation. What only others need is not asked for: it may cost much.
#[derive(Clone, Debug)]
pub struct Wanted {
    columns: &'static [SystemColumn],
    projection: Option<Vec<usize>>,
}

impl Wanted {
    pub fn has(&self, name: &str) -> bool {
        let is_it = |at: &usize| self.columns.get(*at).is_some_and(|(column, _)| *column == name);
        self.projection.as_ref().is_none_or(|wanted| wanted.iter().any(is_it))
    }
}

type FetchedRows = Result<Vec<Row>, SqlError>;

impl RelationKind {
    /// `pg_class.relkind`.
    pub const fn code(self) -> char {
        match self {
            Self::Table => 'r',
            Self::View => 'v',
        }
    }
}

impl SystemRelation {
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|(name, column_type)| column_type.field(name));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// All rows, as they are now. Of columns that are not in `projection` the values may be missing.
    pub async fn batch(
        &self,
        context: &SystemContext,
        projection: Option<&Vec<usize>>,
    ) -> Result<RecordBatch> {
        let wanted = Wanted { columns: self.columns, projection: projection.cloned() };
        let rows = match self.rows {
            Rows::None => vec![],
            Rows::Of(rows) => rows(context),
            Rows::Fetched(rows) => rows(context, wanted).await?,
        };
        let columns = self.columns.iter().enumerate();
        let arrays = columns.map(|(place, (_, column_type))| {
            array_of(*column_type, rows.iter().map(|r| &r[place]))
        });
        Ok(RecordBatch::try_new(self.arrow_schema(), arrays.collect())?)
    }
}

/// A relation whose rows are made of items: `relation!(Table "name", |context, item: Item| from
/// source, { column: Type = value, ... })`. The source is a function of the context.
macro_rules! relation {
    (
        $kind:ident $name:literal, |$context:ident, $item:ident: $item_type:ty| from $source:expr,
        { $($column:ident: $column_type:ident = $value:expr,)* }
    ) => {
        $crate::sql::system_catalog::relation::SystemRelation {
            name: $name,
            kind: $crate::sql::system_catalog::relation::RelationKind::$kind,
            columns: &[$((
                stringify!($column),
                $crate::pg::system_types::SystemType::$column_type,
            )),*],
            rows: $crate::sql::system_catalog::relation::Rows::Of(|$context| {
                let items: Vec<$item_type> = $source($context);
                let row = |$item: &$item_type| {
                    vec![$($crate::sql::system_catalog::cell::Cell::from($value)),*]
                };
                items.iter().map(row).collect()
            }),
        }
    };
}

/// A relation without rows: `empty!(Table "name" { column: Type, ... })`.
macro_rules! empty {
    ($kind:ident $name:literal { $($column:ident: $column_type:ident),* $(,)? }) => {
        $crate::sql::system_catalog::relation::SystemRelation {
            name: $name,
            kind: $crate::sql::system_catalog::relation::RelationKind::$kind,
            columns: &[$((
                stringify!($column),
                $crate::pg::system_types::SystemType::$column_type,
            )),*],
            rows: $crate::sql::system_catalog::relation::Rows::None,
        }
    };
}

pub(super) use {empty, relation};
