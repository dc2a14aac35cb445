//! `pg_attribute`: columns of tables, views and indexes.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedColumn};
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_pg::types::PgType;

struct Attribute {
    relation_oid: u32,
    position: i64,
    column: ListedColumn,
    pg_type: &'static PgType,
}

pub(super) const RELATION: SystemRelation = relation!(
    Table 1249 "pg_attribute", |_context, attribute: Attribute| from attributes,
    {
        attrelid: Oid = attribute.relation_oid,
        attname: Name = &attribute.column.name,
        atttypid: Oid = attribute.pg_type.oid,
        attstattarget: Int4 = -1,
        attlen: Int2 = attribute.pg_type.length,
        attnum: Int2 = attribute.position,
        attndims: Int4 = attribute.column.type_ref.dimensions,
        attcacheoff: Int4 = -1,
        atttypmod: Int4 = attribute.column.type_ref.modifier,
        attbyval: Bool = attribute.pg_type.by_value(),
        attalign: Char = attribute.pg_type.align,
        attstorage: Char = attribute.pg_type.storage,
        attcompression: Char = "",
        attnotnull: Bool = attribute.column.not_null,
        atthasdef: Bool = attribute.column.default.is_some(),
        atthasmissing: Bool = false,
        attidentity: Char = "",
        attgenerated: Char = "",
        attisdropped: Bool = false,
        attislocal: Bool = true,
        attinhcount: Int4 = 0,
        attcollation: Oid = attribute.pg_type.collation_oid,
        attacl: AclArray = NULL,
        attoptions: TextArray = NULL,
        attfdwoptions: TextArray = NULL,
        attmissingval: TextArray = NULL,
    }
);

fn attributes(context: &SystemContext) -> Vec<Attribute> {
    let mut attributes = vec![];
    for class in listing::classes(&context.view) {
        for (column, position) in class.columns.into_iter().zip(1..) {
            let pg_type = column.type_ref.pg_type();
            attributes.push(Attribute { relation_oid: class.oid, position, column, pg_type });
        }
    }
    attributes
}
