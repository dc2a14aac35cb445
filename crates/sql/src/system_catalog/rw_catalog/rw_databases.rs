//! `rw_databases`: the only database.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{DATABASE_OID, OWNER_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 14001 "rw_databases", |_context, name: String| from databases,
    {
        id: Int4 = DATABASE_OID,
        name: Varchar = name,
        owner: Int4 = OWNER_OID,
        acl: Varchar = NULL,
    }
);

fn databases(context: &SystemContext) -> Vec<String> {
    vec![context.database.clone()]
}
