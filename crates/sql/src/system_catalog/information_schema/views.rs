//! `information_schema.views`: users' views. System views have no definition in SQL.

use crate::system_catalog::SystemContext;
use crate::system_catalog::listing::{self, Listed};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13007 "views", |context, view: Listed| from views,
    {
        table_catalog: Name = &context.database,
        table_schema: Name = &view.schema,
        table_name: Name = &view.name,
        view_definition: Varchar = view.view_query(),
        check_option: Varchar = "NONE",
        is_updatable: Varchar = "NO",
        is_insertable_into: Varchar = "NO",
        is_trigger_updatable: Varchar = "NO",
        is_trigger_deletable: Varchar = "NO",
        is_trigger_insertable_into: Varchar = "NO",
    }
);

fn views(context: &SystemContext) -> Vec<Listed> {
    let relations = listing::user_relations(&context.view).into_iter();
    relations.filter(|relation| relation.kind == 'v').collect()
}
