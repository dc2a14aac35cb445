//! `pg_roles`: the roles that may log in.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{OWNER, OWNER_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

/// Oid of the session's user if it is not the owner.
const SESSION_USER_OID: u32 = OWNER_OID + 1;

/// A user of the database.
pub(in crate::system_catalog) struct Role {
    pub oid: u32,
    pub name: String,
}

pub(super) const RELATION: SystemRelation = relation!(
    View 12013 "pg_roles", |_context, role: Role| from roles,
    {
        rolname: Name = &role.name,
        rolsuper: Bool = true,
        rolinherit: Bool = true,
        rolcreaterole: Bool = true,
        rolcreatedb: Bool = true,
        rolcanlogin: Bool = true,
        rolreplication: Bool = false,
        rolconnlimit: Int4 = -1,
        rolpassword: Text = "********",
        rolvaliduntil: Timestamptz = NULL,
        rolbypassrls: Bool = true,
        rolconfig: TextArray = NULL,
        oid: Oid = role.oid,
    }
);

/// The owner of everything, and the session's user.
pub(in crate::system_catalog) fn roles(context: &SystemContext) -> Vec<Role> {
    let mut roles = vec![Role { oid: OWNER_OID, name: OWNER.to_owned() }];
    if context.user != OWNER {
        roles.push(Role { oid: SESSION_USER_OID, name: context.user.clone() });
    }
    roles
}
