//! `rw_users`: the users that may log in.

use crate::system_catalog::pg_catalog::{Role, roles};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 14008 "rw_users", |_context, role: Role| from roles,
    {
        id: Int4 = role.oid,
        name: Varchar = &role.name,
        is_super: Bool = true,
        create_db: Bool = true,
        create_user: Bool = true,
        can_login: Bool = true,
    }
);
