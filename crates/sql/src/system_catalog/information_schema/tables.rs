//! `information_schema.tables`: tables and views.

use super::yes_or_no;
use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, Listed};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13006 "tables", |context, table: Listed| from relations,
    {
        table_catalog: Name = &context.database,
        table_schema: Name = &table.schema,
        table_name: Name = &table.name,
        table_type: Varchar = if table.kind == 'v' { "VIEW" } else { "BASE TABLE" },
        self_referencing_column_name: Name = NULL,
        reference_generation: Varchar = NULL,
        user_defined_type_catalog: Name = NULL,
        user_defined_type_schema: Name = NULL,
        user_defined_type_name: Name = NULL,
        is_insertable_into: Varchar = yes_or_no(table.kind == 'r' && table.relation.is_some()),
        is_typed: Varchar = "NO",
        commit_action: Varchar = NULL,
    }
);

fn relations(context: &SystemContext) -> Vec<Listed> {
    listing::relations(&context.view)
}
