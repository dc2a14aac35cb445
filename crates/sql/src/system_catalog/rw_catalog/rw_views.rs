//! `rw_views`: users' views.

use super::{UserRelation, views};
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 14009 "rw_views", |_context, view: UserRelation| from views,
    {
        id: Int4 = view.relation.id,
        name: Varchar = &view.relation.name,
        schema_id: Int4 = view.relation.schema_id,
        owner: Int4 = OWNER_OID,
        definition: Varchar = view.listed.definition(),
        acl: Varchar = NULL,
    }
);
