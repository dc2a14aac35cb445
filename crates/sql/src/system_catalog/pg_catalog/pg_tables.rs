//! `pg_tables`: tables in readable form.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, Listed, OWNER};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 12017 "pg_tables", |_context, table: Listed| from tables,
    {
        schemaname: Name = &table.schema,
        tablename: Name = &table.name,
        tableowner: Name = OWNER,
        tablespace: Name = NULL,
        hasindexes: Bool = table.has_key(),
        hasrules: Bool = false,
        hastriggers: Bool = false,
        rowsecurity: Bool = false,
    }
);

fn tables(context: &SystemContext) -> Vec<Listed> {
    let relations = listing::relations(&context.view).into_iter();
    relations.filter(|relation| relation.kind == 'r').collect()
}
