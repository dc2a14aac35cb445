//! `rw_catalog`: the catalog specific to Tidemark, with RisingWave's names. Ids are the internal ones, as in
//! `state_table_info`.

mod rw_accepted_losses;
mod rw_databases;
mod rw_hummock_current_version;
mod rw_hummock_pinned_versions;
mod rw_hummock_sstables;
mod rw_hummock_version;
mod rw_meta_snapshot;
mod rw_relations;
mod rw_schemas;
mod rw_table_stats;
mod rw_tables;
mod rw_users;
mod rw_views;
mod rw_worker_nodes;

use std::sync::Arc;

use super::SystemContext;
use super::listing::{self, Listed};
use super::relation::SystemRelation;
use tidemark_ledger::catalog::Relation;

/// Every relation of the schema.
pub(super) const RELATIONS: &[&[SystemRelation]] = &[&[
    rw_databases::RELATION,
    rw_hummock_current_version::RELATION,
    rw_meta_snapshot::RELATION,
    rw_relations::RELATION,
    rw_schemas::RELATION,
    rw_table_stats::RELATION,
    rw_tables::RELATION,
    rw_users::RELATION,
    rw_views::RELATION,
    rw_hummock_version::RELATION,
    rw_hummock_sstables::RELATION,
    rw_hummock_pinned_versions::RELATION,
    rw_worker_nodes::RELATION,
    rw_accepted_losses::RELATION,
]];

/// A user's relation and its listing.
struct UserRelation {
    relation: Arc<Relation>,
    listed: Listed,
}

fn user_relations(context: &SystemContext) -> Vec<UserRelation> {
    let listed = listing::user_relations(&context.view).into_iter();
    let relations = listed.filter_map(|listed| {
        let relation = Arc::clone(listed.relation.as_ref()?);
        Some(UserRelation { relation, listed })
    });
    relations.collect()
}

fn tables(context: &SystemContext) -> Vec<UserRelation> {
    user_relations(context).into_iter().filter(|r| r.relation.as_table().is_some()).collect()
}

fn views(context: &SystemContext) -> Vec<UserRelation> {
    user_relations(context).into_iter().filter(|r| r.relation.as_view().is_some()).collect()
}
