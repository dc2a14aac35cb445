//! `pg_class`: tables, views and the indexes behind primary keys.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{
    self, INDEX_ACCESS_METHOD, Listed, OWNER_OID, TABLE_ACCESS_METHOD,
};
use crate::system_catalog::relation::{SystemRelation, relation};

/// The unit of sizes in PostgreSQL.
const PAGE_BYTES: u64 = 8192;

pub(super) const RELATION: SystemRelation = relation!(
    Table 1259 "pg_class", |context, class: Listed| from classes,
    {
        oid: Oid = class.oid,
        relname: Name = &class.name,
        relnamespace: Oid = class.schema_oid,
        reltype: Oid = 0,
        reloftype: Oid = 0,
        relowner: Oid = OWNER_OID,
        relam: Oid = access_method(class),
        relfilenode: Oid = 0,
        reltablespace: Oid = 0,
        relpages: Int4 = class.live_bytes(&context.view).div_ceil(PAGE_BYTES),
        reltuples: Float4 = tuples(context, class),
        relallvisible: Int4 = 0,
        reltoastrelid: Oid = 0,
        relhasindex: Bool = class.has_key(),
        relisshared: Bool = false,
        relpersistence: Char = 'p',
        relkind: Char = class.kind,
        relnatts: Int2 = i64::try_from(class.columns.len()).ok(),
        relchecks: Int2 = 0,
        // False for views too: pg_rewrite is empty.
        relhasrules: Bool = false,
        relhastriggers: Bool = false,
        relhassubclass: Bool = false,
        relrowsecurity: Bool = false,
        relforcerowsecurity: Bool = false,
        relispopulated: Bool = true,
        relreplident: Char = replica_identity(class),
        relispartition: Bool = false,
        relrewrite: Oid = 0,
        relfrozenxid: Xid = 0,
        relminmxid: Xid = 0,
        relacl: AclArray = NULL,
        reloptions: TextArray = NULL,
        relpartbound: NodeTree = NULL,
    }
);

fn classes(context: &SystemContext) -> Vec<Listed> {
    listing::classes(&context.view)
}

fn access_method(class: &Listed) -> u32 {
    match class.kind {
        'r' => TABLE_ACCESS_METHOD,
        'i' => INDEX_ACCESS_METHOD,
        _ => 0,
    }
}

/// The primary key for user tables, nothing for relations that cannot be replicated.
fn replica_identity(class: &Listed) -> char {
    if class.kind == 'r' && class.schema != "pg_catalog" { 'd' } else { 'n' }
}

/// Rows of a user's table; -1, which means unknown, for all others.
fn tuples(context: &SystemContext, class: &Listed) -> f64 {
    class.rows(&context.view).map_or(-1.0, |rows| rows as f64)
}
