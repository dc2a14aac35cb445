//! Functions that print definitions, and functions about features that Tidemark does not have.

use super::Lookup;
use super::call::{Argument, Evaluated, FunctionSpec};
use super::names::{missing, oid_argument, relation_argument};
use crate::system_catalog::cell::Cell;
use crate::system_catalog::ddl;
use crate::system_catalog::listing::{self, ListedKey};
use tidemark_pg::quote::quote_identifier;
use tidemark_pg::sqlstate::SqlState;
use tidemark_pg::types::{SystemType, format_type};

pub(super) const FUNCTIONS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "format_type",
        arguments: (2, 2),
        result: SystemType::Text,
        strict: false,
        evaluate: |_, arguments| Ok(type_name(&arguments[0], &arguments[1])),
    },
    FunctionSpec::strict("pg_get_viewdef", (1, 2), SystemType::Text, view_definition),
    FunctionSpec::strict("pg_get_indexdef", (1, 3), SystemType::Text, index_definition),
    FunctionSpec::strict("pg_get_constraintdef", (1, 2), SystemType::Text, constraint_definition),
    // PostgreSQL stores a tree, Tidemark stores SQL.
    FunctionSpec::strict("pg_get_expr", (2, 3), SystemType::Text, |_, arguments| {
        Ok(text_of(&arguments[0]))
    }),
    FunctionSpec::strict("pg_relation_is_publishable", (1, 1), SystemType::Bool, is_user_table),
    FunctionSpec::strict(
        "pg_relation_is_updatable",
        (2, 2),
        SystemType::Int4,
        |lookup, arguments| {
            let table = relation_argument(lookup, &arguments[0])?.filter(|r| r.kind == 'r');
            // Bits of UPDATE (4), INSERT (8) and DELETE (16).
            Ok(Cell::from(if table.is_some_and(|t| t.relation.is_some()) { 28 } else { 0 }))
        },
    ),
    FunctionSpec::strict("pg_column_is_updatable", (3, 3), SystemType::Bool, is_user_table),
    FunctionSpec::strict("pg_statistics_obj_is_visible", (1, 1), SystemType::Bool, no),
    FunctionSpec::strict("pg_opfamily_is_visible", (1, 1), SystemType::Bool, no),
    FunctionSpec::strict("getdatabaseencoding", (0, 0), SystemType::Name, |_, _| {
        Ok(Cell::from("UTF8"))
    }),
    FunctionSpec::strict("pg_char_to_encoding", (1, 1), SystemType::Int4, |_, arguments| {
        let is_ours = matches!(&arguments[0], Argument::Text(name) if name == "UTF8");
        Ok(Cell::from(if is_ours { listing::ENCODING } else { -1 }))
    }),
    FunctionSpec::strict("pg_is_in_recovery", (0, 0), SystemType::Bool, no),
    FunctionSpec::strict("pg_is_other_temp_schema", (1, 1), SystemType::Bool, no),
    FunctionSpec::strict("pg_my_temp_schema", (0, 0), SystemType::Oid, zero),
    FunctionSpec::strict("pg_stat_get_numscans", (1, 1), SystemType::Int8, zero),
    FunctionSpec::strict("pg_tablespace_location", (1, 1), SystemType::Text, empty),
    FunctionSpec::strict("pg_get_function_arguments", (1, 1), SystemType::Text, empty),
    FunctionSpec::strict("pg_get_function_identity_arguments", (1, 1), SystemType::Text, empty),
    FunctionSpec::null("pg_get_function_result", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_function_sqlbody", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_functiondef", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_partkeydef", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_partition_constraintdef", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_ruledef", (1, 2), SystemType::Text),
    FunctionSpec::null("pg_get_serial_sequence", (2, 2), SystemType::Text),
    FunctionSpec::null("pg_get_statisticsobjdef", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_statisticsobjdef_columns", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_get_triggerdef", (1, 2), SystemType::Text),
    FunctionSpec::null("pg_relation_filenode", (1, 1), SystemType::Oid),
    FunctionSpec::null("pg_relation_filepath", (1, 1), SystemType::Text),
    FunctionSpec::null("pg_sequence_last_value", (1, 1), SystemType::Int8),
    FunctionSpec::null("pg_stat_get_last_analyze_time", (1, 1), SystemType::Timestamptz),
];

fn type_name(oid: &Argument, modifier: &Argument) -> Cell {
    let Some(oid) = oid_argument(oid) else { return Cell::Null };
    let modifier = match modifier {
        Argument::Int(modifier) => Some(*modifier),
        _ => None,
    };
    Cell::from(format_type(u32::try_from(oid).unwrap_or(u32::MAX), modifier))
}

fn view_definition(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let relation = relation_argument(lookup, &arguments[0])?;
    if let (None, Argument::Text(name)) = (&relation, &arguments[0]) {
        return Err(missing(SqlState::UNDEFINED_TABLE, "relation", name));
    }
    Ok(Cell::from(relation.and_then(|relation| relation.view_query())))
}

/// Prints the whole index, or for a number other than zero the column with this number.
fn index_definition(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let index = relation_argument(lookup, &arguments[0])?;
    let Some(index) = index.filter(|relation| relation.kind == 'i') else { return Ok(Cell::Null) };
    match arguments.get(1) {
        Some(Argument::Int(number)) if *number != 0 => {
            let position = usize::try_from(number - 1).ok();
            let column = position.and_then(|position| index.columns.get(position));
            Ok(Cell::from(column.map(|column| quote_identifier(&column.name))))
        }
        _ => {
            let key = key_where(lookup, |key| key.index_oid == index.oid);
            Ok(Cell::from(key.map(|key| ddl::index_definition(&key))))
        }
    }
}

fn constraint_definition(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let oid = oid_argument(&arguments[0]);
    let key = key_where(lookup, |key| Some(i64::from(key.constraint_oid)) == oid);
    Ok(Cell::from(key.map(|key| ddl::constraint_definition(&key))))
}

fn key_where(lookup: &Lookup, wanted: impl Fn(&ListedKey) -> bool) -> Option<ListedKey> {
    listing::keys(&lookup.view).into_iter().find(wanted)
}

fn is_user_table(lookup: &Lookup, arguments: &[Argument]) -> Evaluated {
    let relation = relation_argument(lookup, &arguments[0])?;
    Ok(Cell::from(relation.is_some_and(|r| r.kind == 'r' && r.relation.is_some())))
}

fn text_of(argument: &Argument) -> Cell {
    match argument {
        Argument::Text(text) => Cell::from(text),
        _ => Cell::Null,
    }
}

fn no(_: &Lookup, _: &[Argument]) -> Evaluated {
    Ok(Cell::from(false))
}

fn zero(_: &Lookup, _: &[Argument]) -> Evaluated {
    Ok(Cell::from(0))
}

fn empty(_: &Lookup, _: &[Argument]) -> Evaluated {
    Ok(Cell::from(""))
}
