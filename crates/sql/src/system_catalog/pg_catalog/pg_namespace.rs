//! `pg_namespace`: schemas.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, OWNER_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 2615 "pg_namespace", |_context, schema: (u32, String)| from schemas,
    {
        oid: Oid = schema.0,
        nspname: Name = &schema.1,
        nspowner: Oid = OWNER_OID,
        nspacl: AclArray = NULL,
    }
);

fn schemas(context: &SystemContext) -> Vec<(u32, String)> {
    listing::schemas(&context.view)
}
