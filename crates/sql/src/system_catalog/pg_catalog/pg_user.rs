//! `pg_user` and `pg_shadow`: the older names of the roles that may log in.

use super::pg_roles::{Role, roles};
use crate::system_catalog::cell::NULL;
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 12020 "pg_user", |_context, role: Role| from roles,
    {
        usename: Name = &role.name,
        usesysid: Oid = role.oid,
        usecreatedb: Bool = true,
        usesuper: Bool = true,
        userepl: Bool = false,
        usebypassrls: Bool = true,
        passwd: Text = "********",
        valuntil: Timestamptz = NULL,
        useconfig: TextArray = NULL,
    }
);

pub(super) const SHADOW: SystemRelation = relation!(
    View 12077 "pg_shadow", |_context, role: Role| from roles,
    {
        usename: Name = &role.name,
        usesysid: Oid = role.oid,
        usecreatedb: Bool = true,
        usesuper: Bool = true,
        userepl: Bool = false,
        usebypassrls: Bool = true,
        passwd: Text = NULL,
        valuntil: Timestamptz = NULL,
        useconfig: TextArray = NULL,
    }
);
