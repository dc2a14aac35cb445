//! `pg_indexes`: the indexes behind primary keys, in readable form.

use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedKey};
use crate::system_catalog::relation::{SystemRelation, relation};
use crate::system_catalog::{SystemContext, ddl};

pub(super) const RELATION: SystemRelation = relation!(
    View 12009 "pg_indexes", |_context, key: ListedKey| from keys,
    {
        schemaname: Name = &key.table.schema,
        tablename: Name = &key.table.name,
        indexname: Name = &key.name,
        tablespace: Name = NULL,
        indexdef: Text = ddl::index_definition(key),
    }
);

fn keys(context: &SystemContext) -> Vec<ListedKey> {
    listing::keys(&context.view)
}
