//! `pg_collation`: text is compared by its bytes, whatever the collation is called.

use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};
use crate::system_catalog::{PG_CATALOG_OID, SystemContext};

pub(super) const RELATION: SystemRelation = relation!(
    Table 3456 "pg_collation", |_context, collation: (u32, &str, char)| from collations,
    {
        oid: Oid = collation.0,
        collname: Name = collation.1,
        collnamespace: Oid = PG_CATALOG_OID,
        collowner: Oid = OWNER_OID,
        collprovider: Char = collation.2,
        collisdeterministic: Bool = true,
        collencoding: Int4 = -1,
        collcollate: Text = "C",
        collctype: Text = "C",
        colliculocale: Text = NULL,
        collversion: Text = NULL,
    }
);

fn collations(_: &SystemContext) -> Vec<(u32, &'static str, char)> {
    vec![(100, "default", 'd'), (950, "C", 'c'), (951, "POSIX", 'c')]
}
