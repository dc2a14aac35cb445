//! `information_schema.key_column_usage`: columns of primary keys, in key order.

use super::{KeyColumn, key_columns};
use crate::system_catalog::cell::NULL;
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13003 "key_column_usage", |context, column: KeyColumn| from key_columns,
    {
        constraint_catalog: Name = &context.database,
        constraint_schema: Name = &column.key.table.schema,
        constraint_name: Name = &column.key.name,
        table_catalog: Name = &context.database,
        table_schema: Name = &column.key.table.schema,
        table_name: Name = &column.key.table.name,
        column_name: Name = &column.column,
        ordinal_position: Int4 = column.position,
        position_in_unique_constraint: Int4 = NULL,
    }
);
