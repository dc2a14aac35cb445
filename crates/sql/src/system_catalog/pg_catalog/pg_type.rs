//! `pg_type`: the built-in types.

use super::pg_proc::{ARRAY_IN, ARRAY_OUT, ARRAY_RECV, ARRAY_SEND};
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};
use crate::system_catalog::{PG_CATALOG_OID, SystemContext};
use tidemark_pg::types::{self, PgType};

pub(super) const RELATION: SystemRelation = relation!(
    Table 1247 "pg_type", |_context, pg_type: &PgType| from all_types,
    {
        oid: Oid = pg_type.oid,
        typname: Name = &pg_type.name,
        typnamespace: Oid = PG_CATALOG_OID,
        typowner: Oid = OWNER_OID,
        typlen: Int2 = pg_type.length,
        typbyval: Bool = pg_type.by_value(),
        typtype: Char = pg_type.kind(),
        typcategory: Char = pg_type.category,
        typispreferred: Bool = pg_type.is_preferred,
        typisdefined: Bool = true,
        typdelim: Char = ',',
        typrelid: Oid = 0,
        typsubscript: Regproc = 0,
        typelem: Oid = pg_type.element_oid,
        typarray: Oid = pg_type.array_oid,
        typinput: Regproc = of_arrays(pg_type, ARRAY_IN),
        typoutput: Regproc = of_arrays(pg_type, ARRAY_OUT),
        typreceive: Regproc = of_arrays(pg_type, ARRAY_RECV),
        typsend: Regproc = of_arrays(pg_type, ARRAY_SEND),
        typmodin: Regproc = 0,
        typmodout: Regproc = 0,
        typanalyze: Regproc = 0,
        typalign: Char = pg_type.align,
        typstorage: Char = pg_type.storage,
        typnotnull: Bool = false,
        typbasetype: Oid = 0,
        typtypmod: Int4 = -1,
        typndims: Int4 = 0,
        typcollation: Oid = pg_type.collation_oid,
        typdefaultbin: NodeTree = NULL,
        typdefault: Text = NULL,
        typacl: AclArray = NULL,
    }
);

fn all_types(_: &SystemContext) -> Vec<&'static PgType> {
    types::types().collect()
}

/// The function by which drivers recognise array types; 0 for other types.
fn of_arrays(pg_type: &PgType, procedure: u32) -> u32 {
    if pg_type.is_array() { procedure } else { 0 }
}
