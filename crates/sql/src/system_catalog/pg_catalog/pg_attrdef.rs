//! `pg_attrdef`: defaults of columns.

use crate::system_catalog::relation::{SystemRelation, relation};
use crate::system_catalog::{SystemContext, listing};

struct ColumnDefault {
    number: u32,
    table_oid: u32,
    position: i64,
    expression: String,
}

pub(super) const RELATION: SystemRelation = relation!(
    Table 2604 "pg_attrdef", |_context, default: ColumnDefault| from defaults,
    {
        oid: Oid = listing::USER_OID_BASE + default.number,
        adrelid: Oid = default.table_oid,
        adnum: Int2 = default.position,
        adbin: NodeTree = &default.expression,
    }
);

fn defaults(context: &SystemContext) -> Vec<ColumnDefault> {
    let mut defaults = vec![];
    for table in listing::user_relations(&context.view) {
        for (column, position) in table.columns.iter().zip(1..) {
            if let Some(expression) = column.shown_default() {
                let number = u32::try_from(defaults.len()).unwrap_or(u32::MAX >> 1);
                defaults.push(ColumnDefault { number, table_oid: table.oid, position, expression });
            }
        }
    }
    defaults
}
