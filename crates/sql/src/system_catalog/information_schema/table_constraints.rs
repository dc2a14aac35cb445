//! `information_schema.table_constraints`: the primary keys.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedKey};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13005 "table_constraints", |context, key: ListedKey| from keys,
    {
        constraint_catalog: Name = &context.database,
        constraint_schema: Name = &key.table.schema,
        constraint_name: Name = &key.name,
        table_catalog: Name = &context.database,
        table_schema: Name = &key.table.schema,
        table_name: Name = &key.table.name,
        constraint_type: Varchar = "PRIMARY KEY",
        is_deferrable: Varchar = "NO",
        initially_deferred: Varchar = "NO",
        enforced: Varchar = "YES",
        nulls_distinct: Varchar = NULL,
    }
);

fn keys(context: &SystemContext) -> Vec<ListedKey> {
    listing::keys(&context.view)
}
