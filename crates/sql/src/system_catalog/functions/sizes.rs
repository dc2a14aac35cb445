//! Sizes of objects in the state store, in bytes.

use super::Lookup;
use super::call::{Argument, Evaluated, FunctionSpec};
use super::names::{missing, relation_argument};
use crate::read_view::ReadView;
use crate::system_catalog::cell::Cell;
use crate::system_catalog::listing::Listed;
use tidemark_pg::DATABASE;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::SystemType;

pub(super) const FUNCTIONS: &[FunctionSpec] = &[
    FunctionSpec::strict("pg_relation_size", (1, 2), SystemType::Int8, live),
    FunctionSpec::strict("pg_table_size", (1, 1), SystemType::Int8, live),
    // Includes files that only the past needs, as PostgreSQL includes indexes.
    FunctionSpec::strict("pg_total_relation_size", (1, 1), SystemType::Int8, kept),
    FunctionSpec::strict("pg_indexes_size", (1, 1), SystemType::Int8, |_, _| Ok(Cell::from(0))),
    FunctionSpec::strict("pg_database_size", (1, 1), SystemType::Int8, |lookup, arguments| {
        if let Argument::Text(name) = &arguments[0]
            && name != DATABASE
        {
            return Err(missing(SqlState::INVALID_CATALOG_NAME, "database", name));
        }
        Ok(Cell::from(lookup.view.version.data_files().map(|sst| sst.size_bytes).sum::<u64>()))
    }),
    FunctionSpec::null("pg_tablespace_size", (1, 1), SystemType::Int8),
];

fn live(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    size(lookup, &arguments[0], Listed::live_bytes)
}

fn kept(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    size(lookup, &arguments[0], Listed::kept_bytes)
}

fn size(lookup: &Lookup, of: &Argument, bytes: fn(&Listed, &ReadView) -> u64) -> Evaluated {
    let relation = relation_argument(lookup, of)?;
    Ok(Cell::from(relation.map(|relation| bytes(&relation, &lookup.view))))
}
