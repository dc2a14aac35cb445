//! `pg_constraint`: the primary keys.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedKey};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 2606 "pg_constraint", |_context, key: ListedKey| from keys,
    {
        oid: Oid = key.constraint_oid,
        conname: Name = &key.name,
        connamespace: Oid = key.table.schema_oid,
        contype: Char = 'p',
        condeferrable: Bool = false,
        condeferred: Bool = false,
        convalidated: Bool = true,
        conrelid: Oid = key.table.oid,
        contypid: Oid = 0,
        conindid: Oid = key.index_oid,
        conparentid: Oid = 0,
        confrelid: Oid = 0,
        confupdtype: Char = " ",
        confdeltype: Char = " ",
        confmatchtype: Char = " ",
        conislocal: Bool = true,
        coninhcount: Int4 = 0,
        connoinherit: Bool = true,
        conkey: Int2Array = key.positions.clone(),
        confkey: Int2Array = NULL,
        conpfeqop: OidArray = NULL,
        conppeqop: OidArray = NULL,
        conffeqop: OidArray = NULL,
        confdelsetcols: Int2Array = NULL,
        conexclop: OidArray = NULL,
        conbin: NodeTree = NULL,
    }
);

fn keys(context: &SystemContext) -> Vec<ListedKey> {
    listing::keys(&context.view)
}
