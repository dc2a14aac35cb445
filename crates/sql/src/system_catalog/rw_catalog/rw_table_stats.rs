//! `rw_table_stats`: rows and bytes of users' tables at the session's epoch. Keys and values are stored
//! together; the bytes of both are counted as key bytes.

use super::{UserRelation, tables};
use crate::system_catalog::relation::{SystemRelation, relation};

pub(super) const RELATION: SystemRelation = relation!(
    Table 14006 "rw_table_stats", |context, table: UserRelation| from tables,
    {
        id: Int4 = table.relation.id,
        total_key_count: Int8 = table.listed.rows(&context.view),
        total_key_size: Int8 = table.listed.live_bytes(&context.view),
        total_value_size: Int8 = 0,
    }
);
