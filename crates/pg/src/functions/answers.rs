//! Functions with a constant result: there is one user, who may do everything, no comments on objects, and
//! one encoding.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Arg, Rowwise, Value};
use tidemark_ledger::catalog::ColumnType;

const ANY: &[Arg] = &[Arg::Any];
const ANY_2: &[Arg] = &[Arg::Any, Arg::Any];
const ANY_3: &[Arg] = &[Arg::Any, Arg::Any, Arg::Any];
const ANY_4: &[Arg] = &[Arg::Any, Arg::Any, Arg::Any, Arg::Any];

/// `pg_*_is_visible`: true for every object.
const VISIBLE: [&str; 10] = [
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_type_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
];

/// `has_*_privilege`: always true.
const PRIVILEGES: [&str; 12] = [
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_server_privilege",
    "has_table_privilege",
    "has_type_privilege",
    "pg_has_role",
];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let visible = VISIBLE.map(|name| yes(name, &[ANY]));
    let privileges = PRIVILEGES.map(|name| yes(name, &[ANY_2, ANY_3, ANY_4]));
    let comments = [
        nothing("obj_description", &[ANY, ANY_2]),
        nothing("col_description", &[ANY_2]),
        nothing("shobj_description", &[ANY_2]),
    ];
    let texts = [
        text("version", &[&[]], super::version()),
        text("rw_version", &[&[]], super::version()),
        text("pg_get_userbyid", &[ANY], crate::USER),
        text("pg_encoding_to_char", &[ANY], "UTF8"),
        // There are no advisory locks, so all are unlocked.
        text("pg_advisory_unlock_all", &[&[]], ""),
    ];
    visible.into_iter().chain(privileges).chain(comments).chain(texts).collect()
}

fn yes(name: &'static str, overloads: &'static [&'static [Arg]]) -> Arc<ScalarUDF> {
    Rowwise::new(name, overloads, ColumnType::Boolean, |_| Ok(Value::Bool(true))).udf()
}

fn nothing(name: &'static str, overloads: &'static [&'static [Arg]]) -> Arc<ScalarUDF> {
    Rowwise::new(name, overloads, ColumnType::Text, |_| Ok(Value::Null)).udf()
}

fn text(
    name: &'static str,
    overloads: &'static [&'static [Arg]],
    answer: impl Into<String>,
) -> Arc<ScalarUDF> {
    let answer = answer.into();
    Rowwise::new(name, overloads, ColumnType::Text, move |_| Ok(Value::Text(answer.clone()))).udf()
}
