//! Defines a system relation: its columns and the function that computes its rows.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::prelude::Expr;
use futures::future::BoxFuture;

use super::SystemContext;
use super::cell::{Row, array_of};
use tidemark_engine::scan::guarantees;
use tidemark_pg::error::SqlError;
use tidemark_pg::types::SystemType;

/// Name and type of a column.
pub type SystemColumn = (&'static str, SystemType);

/// A table or view over the read view.
#[derive(Debug)]
pub struct SystemRelation {
    pub name: &'static str,
    /// PostgreSQL's own, where it has a fixed one for it; else one below those of users' objects. Never changes.
    pub oid: u32,
    pub kind: RelationKind,
    pub columns: &'static [SystemColumn],
    pub rows: Rows,
}

/// The kind of relation that PostgreSQL reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    View,
}

/// The source of the rows.
#[derive(Debug)]
pub enum Rows {
    /// Always empty: the relation describes a feature that Tidemark does not have.
    None,
    Of(fn(&SystemContext) -> Vec<Row>),
    /// The rows are fetched from elsewhere at each scan.
    Fetched(for<'a> fn(&'a SystemContext, Wanted) -> BoxFuture<'a, FetchedRows>),
}

/// The columns that a scan needs and the constraints from its filters. Data that only other columns or rows
/// need is not fetched, as it may be expensive.
#[derive(Debug)]
pub struct Wanted {
    columns: &'static [SystemColumn],
    projection: Option<Vec<usize>>,
    filters: Vec<LiteralGuarantee>,
}

impl Wanted {
    /// Creates it for a scan with these filters. Filters without a physical form yet, such as subqueries, are
    /// ignored.
    pub fn new(
        relation: &SystemRelation,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        session: &dyn Session,
    ) -> Result<Self> {
        let filters = guarantees(filters, &relation.arrow_schema(), session)?;
        Ok(Self { columns: relation.columns, projection: projection.cloned(), filters })
    }

    /// Whether the filters may accept rows with this value of an int8 column.
    pub fn may_be(&self, name: &str, value: i64) -> bool {
        let mut of_column = self.filters.iter().filter(|filter| filter.column.name == name);
        of_column.all(|filter| {
            let named = filter.literals.contains(&ScalarValue::Int64(Some(value)));
            named == (filter.guarantee == Guarantee::In)
        })
    }

    /// Whether the column is needed.
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

    /// Returns the current rows that are wanted, and possibly others. Values of unwanted columns may be
    /// missing.
    pub async fn batch(&self, context: &SystemContext, wanted: Wanted) -> Result<RecordBatch> {
        let rows = match self.rows {
            Rows::None => vec![],
            Rows::Of(rows) => rows(context),
            Rows::Fetched(rows) => rows(context, wanted).await?,
        };
        let columns = self.columns.iter().enumerate();
        let arrays = columns.map(|(position, (_, column_type))| {
            array_of(*column_type, rows.iter().map(|r| &r[position]))
        });
        Ok(RecordBatch::try_new(self.arrow_schema(), arrays.collect())?)
    }
}

/// A relation whose rows are computed from items: `relation!(Table 1 "name", |context, item: Item| from source,
/// { column: Type = value, ... })`. The source is a function of the context.
macro_rules! relation {
    (
        $kind:ident $oid:literal $name:literal, |$context:ident, $item:ident: $item_type:ty| from $source:expr,
        { $($column:ident: $column_type:ident = $value:expr,)* }
    ) => {
        $crate::system_catalog::relation::SystemRelation {
            name: $name,
            oid: $oid,
            kind: $crate::system_catalog::relation::RelationKind::$kind,
            columns: &[$((
                stringify!($column),
                tidemark_pg::types::SystemType::$column_type,
            )),*],
            rows: $crate::system_catalog::relation::Rows::Of(|$context| {
                let items: Vec<$item_type> = $source($context);
                let row = |$item: &$item_type| {
                    vec![$($crate::system_catalog::cell::Cell::from($value)),*]
                };
                items.iter().map(row).collect()
            }),
        }
    };
}

/// A relation without rows: `empty!(Table 1 "name" { column: Type, ... })`.
macro_rules! empty {
    ($kind:ident $oid:literal $name:literal { $($column:ident: $column_type:ident),* $(,)? }) => {
        $crate::system_catalog::relation::SystemRelation {
            name: $name,
            oid: $oid,
            kind: $crate::system_catalog::relation::RelationKind::$kind,
            columns: &[$((
                stringify!($column),
                tidemark_pg::types::SystemType::$column_type,
            )),*],
            rows: $crate::system_catalog::relation::Rows::None,
        }
    };
}

pub(super) use {empty, relation};
