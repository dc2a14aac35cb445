//! `information_schema`: the SQL standard's view of the catalog.

mod columns;
mod constraint_column_usage;
mod empty;
mod key_column_usage;
mod schemata;
mod table_constraints;
mod table_privileges;
mod tables;
mod views;

use super::SystemContext;
use super::listing::{self, ListedKey};
use super::relation::SystemRelation;

/// Every relation of the schema.
pub(super) const RELATIONS: &[&[SystemRelation]] = &[
    &[
        columns::RELATION,
        constraint_column_usage::RELATION,
        key_column_usage::RELATION,
        schemata::RELATION,
        table_constraints::RELATION,
        table_privileges::ROLE_TABLE_GRANTS,
        table_privileges::TABLE_PRIVILEGES,
        tables::RELATION,
        views::RELATION,
    ],
    empty::RELATIONS,
];

/// Booleans in the standard's form.
fn yes_or_no(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

/// A column of a primary key.
struct KeyColumn {
    key: ListedKey,
    column: String,
    /// Its position in the key, from 1.
    position: i64,
}

fn key_columns(context: &SystemContext) -> Vec<KeyColumn> {
    let columns = listing::keys(&context.view).into_iter().flat_map(|key| {
        let names: Vec<String> = key.columns().map(|column| column.name.clone()).collect();
        let positions = names.into_iter().zip(1..);
        positions.map(move |(column, position)| KeyColumn { key: key.clone(), column, position })
    });
    columns.collect()
}
