//! `pg_am`: access methods of tables and primary keys.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{INDEX_ACCESS_METHOD, TABLE_ACCESS_METHOD};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 2601 "pg_am", |_context, method: (u32, &str, char)| from access_methods,
    {
        oid: Oid = method.0,
        amname: Name = method.1,
        amhandler: Regproc = NULL,
        amtype: Char = method.2,
    }
);

/// Primary keys are called `btree`, which clients know as an ordered index.
fn access_methods(_: &SystemContext) -> Vec<(u32, &'static str, char)> {
    vec![(TABLE_ACCESS_METHOD, "hummock", 't'), (INDEX_ACCESS_METHOD, "btree", 'i')]
}
