//! `pg_proc`: the few functions by which drivers recognise array types.

use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};
use crate::system_catalog::{PG_CATALOG_OID, SystemContext};

/// An input or output function of arrays, for text or binary.
pub(in crate::system_catalog) struct Procedure {
    pub oid: u32,
    pub name: &'static str,
    arguments: &'static [i64],
    result: u32,
}

pub(super) const ARRAY_IN: u32 = 750;
pub(super) const ARRAY_OUT: u32 = 751;
pub(super) const ARRAY_RECV: u32 = 2400;
pub(super) const ARRAY_SEND: u32 = 2401;

static PROCEDURES: [Procedure; 4] = [
    Procedure { oid: ARRAY_IN, name: "array_in", arguments: &[2275, 26, 23], result: 2277 },
    Procedure { oid: ARRAY_OUT, name: "array_out", arguments: &[2277], result: 2275 },
    Procedure { oid: ARRAY_RECV, name: "array_recv", arguments: &[2281, 26, 23], result: 2277 },
    Procedure { oid: ARRAY_SEND, name: "array_send", arguments: &[2277], result: 17 },
];

pub(super) const RELATION: SystemRelation = relation!(
    Table 1255 "pg_proc", |_context, procedure: &Procedure| from procedure_rows,
    {
        oid: Oid = procedure.oid,
        proname: Name = procedure.name,
        pronamespace: Oid = PG_CATALOG_OID,
        proowner: Oid = OWNER_OID,
        prolang: Oid = 12,
        procost: Float4 = 1.0,
        prorows: Float4 = 0.0,
        provariadic: Oid = 0,
        prosupport: Regproc = 0,
        prokind: Char = 'f',
        prosecdef: Bool = false,
        proleakproof: Bool = false,
        proisstrict: Bool = true,
        proretset: Bool = false,
        provolatile: Char = 's',
        proparallel: Char = 's',
        pronargs: Int2 = i64::try_from(procedure.arguments.len()).ok(),
        pronargdefaults: Int2 = 0,
        prorettype: Oid = procedure.result,
        proargtypes: OidVector = procedure.arguments.to_vec(),
        proallargtypes: OidArray = NULL,
        proargmodes: CharArray = NULL,
        proargnames: TextArray = NULL,
        proargdefaults: NodeTree = NULL,
        protrftypes: OidArray = NULL,
        prosrc: Text = procedure.name,
        probin: Text = NULL,
        prosqlbody: NodeTree = NULL,
        proconfig: TextArray = NULL,
        proacl: AclArray = NULL,
    }
);

/// The functions that have a row in `pg_proc`.
pub(in crate::system_catalog) fn procedures() -> &'static [Procedure] {
    &PROCEDURES
}

fn procedure_rows(_: &SystemContext) -> Vec<&'static Procedure> {
    procedures().iter().collect()
}
