//! `information_schema.schemata`: schemas.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, OWNER};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 13004 "schemata", |context, schema: (u32, String)| from schemas,
    {
        catalog_name: Name = &context.database,
        schema_name: Name = &schema.1,
        schema_owner: Name = OWNER,
        default_character_set_catalog: Name = NULL,
        default_character_set_schema: Name = NULL,
        default_character_set_name: Name = NULL,
        sql_path: Varchar = NULL,
    }
);

fn schemas(context: &SystemContext) -> Vec<(u32, String)> {
    listing::schemas(&context.view)
}
