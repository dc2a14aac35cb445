//! `pg_stat_user_tables`: the number of rows of users' tables; other counters are not kept.

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::NULL;
use crate::system_catalog::listing::{self, Listed};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    View 12016 "pg_stat_user_tables", |context, table: Listed| from tables,
    {
        relid: Oid = table.oid,
        schemaname: Name = &table.schema,
        relname: Name = &table.name,
        seq_scan: Int8 = 0,
        seq_tup_read: Int8 = 0,
        idx_scan: Int8 = NULL,
        idx_tup_fetch: Int8 = NULL,
        n_tup_ins: Int8 = 0,
        n_tup_upd: Int8 = 0,
        n_tup_del: Int8 = 0,
        n_tup_hot_upd: Int8 = 0,
        n_live_tup: Int8 = table.rows(&context.view),
        n_dead_tup: Int8 = 0,
        n_mod_since_analyze: Int8 = 0,
        n_ins_since_vacuum: Int8 = 0,
        last_vacuum: Timestamptz = NULL,
        last_autovacuum: Timestamptz = NULL,
        last_analyze: Timestamptz = NULL,
        last_autoanalyze: Timestamptz = NULL,
        vacuum_count: Int8 = 0,
        autovacuum_count: Int8 = 0,
        analyze_count: Int8 = 0,
        autoanalyze_count: Int8 = 0,
    }
);

fn tables(context: &SystemContext) -> Vec<Listed> {
    let relations = listing::user_relations(&context.view).into_iter();
    relations.filter(|relation| relation.kind == 'r').collect()
}
