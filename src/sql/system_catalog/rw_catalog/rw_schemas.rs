//! `rw_schemas`: users' schemas.

use std::sync::Arc;

use crate::ledger::catalog::Schema;
use crate::sql::system_catalog::SystemContext;
use crate::sql::system_catalog::cell::NULL;
use crate::sql::system_catalog::listing::OWNER_OID;
use crate::sql::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table "rw_schemas", |_context, schema: Arc<Schema>| from schemas,
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
