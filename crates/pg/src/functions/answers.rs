//! Functions with a constant result: there is one user, no comments on objects, and one encoding.

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::rowwise::{Arg, Rowwise, Value};
use tidemark_ledger::catalog::ColumnType;

const ANY: &[Arg] = &[Arg::Any];
const ANY_2: &[Arg] = &[Arg::Any, Arg::Any];

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

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let visible = VISIBLE.map(|name| yes(name, &[ANY]));
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
    visible.into_iter().chain(comments).chain(texts).collect()
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
