//! `rw_relations`: users' tables and views, with the statements that create them.

use super::{UserRelation, user_relations};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 14004 "rw_relations", |_context, item: UserRelation| from user_relations,
    {
        id: Int4 = item.relation.id,
        name: Varchar = &item.relation.name,
        schema_id: Int4 = item.relation.schema_id,
        relation_type: Varchar = item.relation.kind(),
        definition: Varchar = item.listed.definition(),
    }
);
