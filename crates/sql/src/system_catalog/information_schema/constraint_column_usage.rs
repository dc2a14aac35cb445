//! `information_schema.constraint_column_usage`: columns of primary keys.

use super::{KeyColumn, key_columns};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13002 "constraint_column_usage", |context, column: KeyColumn| from key_columns,
    {
        table_catalog: Name = &context.database,
        table_schema: Name = &column.key.table.schema,
        table_name: Name = &column.key.table.name,
        column_name: Name = &column.column,
        constraint_catalog: Name = &context.database,
        constraint_schema: Name = &column.key.table.schema,
        constraint_name: Name = &column.key.name,
    }
);
