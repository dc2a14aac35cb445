//! `pg_language`: the languages of functions.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::OWNER_OID;
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 2612 "pg_language", |_context, language: (u32, &str)| from languages,
    {
        oid: Oid = language.0,
        lanname: Name = language.1,
        lanowner: Oid = OWNER_OID,
        lanispl: Bool = false,
        lanpltrusted: Bool = false,
        lanplcallfoid: Oid = 0,
        laninline: Oid = 0,
        lanvalidator: Oid = 0,
        lanacl: AclArray = NULL,
    }
);

fn languages(_: &SystemContext) -> Vec<(u32, &'static str)> {
    vec![(12, "internal"), (14, "sql")]
}
