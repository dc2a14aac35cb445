//! `information_schema.table_privileges` and `role_table_grants`: the owner has every privilege on users' tables
//! and views.

use crate::system_catalog::SystemContext;
use crate::system_catalog::listing::{self, Listed, OWNER};
use crate::system_catalog::relation::{SystemRelation, relation};

const PRIVILEGES: [&str; 7] =
    ["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];

struct Privilege {
    table: Listed,
    name: &'static str,
}

pub(super) const TABLE_PRIVILEGES: SystemRelation = relation!(
    View 13019 "table_privileges", |context, privilege: Privilege| from privileges,
    {
        grantor: Name = OWNER,
        grantee: Name = OWNER,
        table_catalog: Name = &context.database,
        table_schema: Name = &privilege.table.schema,
        table_name: Name = &privilege.table.name,
        privilege_type: Varchar = privilege.name,
        is_grantable: Varchar = "YES",
        with_hierarchy: Varchar = privilege.with_hierarchy(),
    }
);

pub(super) const ROLE_TABLE_GRANTS: SystemRelation = relation!(
    View 13022 "role_table_grants", |context, privilege: Privilege| from privileges,
    {
        grantor: Name = OWNER,
        grantee: Name = OWNER,
        table_catalog: Name = &context.database,
        table_schema: Name = &privilege.table.schema,
        table_name: Name = &privilege.table.name,
        privilege_type: Varchar = privilege.name,
        is_grantable: Varchar = "YES",
        with_hierarchy: Varchar = privilege.with_hierarchy(),
    }
);

impl Privilege {
    fn with_hierarchy(&self) -> &'static str {
        super::yes_or_no(self.name == "SELECT")
    }
}

fn privileges(context: &SystemContext) -> Vec<Privilege> {
    let tables = listing::user_relations(&context.view).into_iter();
    let privileges =
        tables.flat_map(|table| PRIVILEGES.map(|name| Privilege { table: table.clone(), name }));
    privileges.collect()
}
