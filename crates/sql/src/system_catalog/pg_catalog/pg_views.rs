//! `pg_views`: users' views in readable form. System views have no definition in SQL.

use crate::system_catalog::SystemContext;
use crate::system_catalog::listing::{self, Listed, OWNER};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 12021 "pg_views", |_context, view: Listed| from views,
    {
        schemaname: Name = &view.schema,
        viewname: Name = &view.name,
        viewowner: Name = OWNER,
        definition: Text = view.view_query(),
    }
);

fn views(context: &SystemContext) -> Vec<Listed> {
    let relations = listing::user_relations(&context.view).into_iter();
    relations.filter(|relation| relation.kind == 'v').collect()
}
