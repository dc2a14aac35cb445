//! `pg_index`: the indexes behind primary keys.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, ListedKey};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 2610 "pg_index", |_context, key: ListedKey| from keys,
    {
        indexrelid: Oid = key.index_oid,
        indrelid: Oid = key.table.oid,
        indnatts: Int2 = i64::try_from(key.positions.len()).ok(),
        indnkeyatts: Int2 = i64::try_from(key.positions.len()).ok(),
        indisunique: Bool = true,
        indnullsnotdistinct: Bool = false,
        indisprimary: Bool = true,
        indisexclusion: Bool = false,
        indimmediate: Bool = true,
        indisclustered: Bool = false,
        indisvalid: Bool = true,
        indcheckxmin: Bool = false,
        indisready: Bool = true,
        indislive: Bool = true,
        indisreplident: Bool = false,
        indkey: Int2Vector = key.positions.clone(),
        indcollation: OidVector = collations(key),
        indclass: OidVector = vec![0; key.positions.len()],
        indoption: Int2Vector = vec![0; key.positions.len()],
        indexprs: NodeTree = NULL,
        indpred: NodeTree = NULL,
    }
);

fn keys(context: &SystemContext) -> Vec<ListedKey> {
    listing::keys(&context.view)
}

fn collations(key: &ListedKey) -> Vec<i64> {
    key.columns().map(|column| column.type_ref.pg_type().collation_oid.into()).collect()
}
