//! `rw_tables`: users' tables.

use super::{UserRelation, tables};
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 14007 "rw_tables", |_context, table: UserRelation| from tables,
    {
        id: Int4 = table.relation.id,
        name: Varchar = &table.relation.name,
        schema_id: Int4 = table.relation.schema_id,
        owner: Int4 = OWNER_OID,
        definition: Varchar = table.listed.definition(),
        acl: Varchar = NULL,
    }
);
