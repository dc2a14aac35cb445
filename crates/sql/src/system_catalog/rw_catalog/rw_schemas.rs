//! `rw_schemas`: users' schemas.

use std::sync::Arc;

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_ledger::catalog::Schema;

pub(super) const RELATION: SystemRelation = relation!(
    Table 14005 "rw_schemas", |_context, schema: Arc<Schema>| from schemas,
    {
        id: Int4 = schema.id,
        name: Varchar = &schema.name,
        owner: Int4 = OWNER_OID,
        acl: Varchar = NULL,
    }
);

fn schemas(context: &SystemContext) -> Vec<Arc<Schema>> {
    context.view.catalog.schemas().cloned().collect()
}
