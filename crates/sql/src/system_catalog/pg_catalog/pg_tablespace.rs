//! `pg_tablespace`: the tablespaces clients expect; all data is in the state store.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{OWNER_OID, TABLESPACE_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 1213 "pg_tablespace", |_context, space: (u32, &str)| from tablespaces,
    {
        oid: Oid = space.0,
        spcname: Name = space.1,
        spcowner: Oid = OWNER_OID,
        spcacl: AclArray = NULL,
        spcoptions: TextArray = NULL,
    }
);

fn tablespaces(_: &SystemContext) -> Vec<(u32, &'static str)> {
    vec![(TABLESPACE_OID, "pg_default"), (TABLESPACE_OID + 1, "pg_global")]
}
