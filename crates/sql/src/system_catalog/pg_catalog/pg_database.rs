//! `pg_database`: the only database.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{DATABASE_OID, ENCODING, OWNER_OID, TABLESPACE_OID};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 1262 "pg_database", |_context, name: String| from databases,
    {
        oid: Oid = DATABASE_OID,
        datname: Name = name,
        datdba: Oid = OWNER_OID,
        encoding: Int4 = ENCODING,
        datlocprovider: Char = 'c',
        datistemplate: Bool = false,
        datallowconn: Bool = true,
        datconnlimit: Int4 = -1,
        datfrozenxid: Xid = 0,
        datminmxid: Xid = 0,
        dattablespace: Oid = TABLESPACE_OID,
        datcollate: Text = "C",
        datctype: Text = "C",
        daticulocale: Text = NULL,
        datcollversion: Text = NULL,
        datacl: AclArray = NULL,
    }
);

fn databases(context: &SystemContext) -> Vec<String> {
    vec![context.database.clone()]
}
