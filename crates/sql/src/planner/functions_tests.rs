//! Calls the functions through SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::{SessionConfig, SessionContext};

use tidemark_pg::carried;
use tidemark_pg::engine_errors::from_datafusion;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions::{Caller, SessionInfo, all, version};
use tidemark_pg::types::spelling::SqlTypes;

use crate::parser::{Statement, parse};
use crate::resolve::operators::Operators;
use crate::rewrite;
use crate::rewrite::subqueries::Subqueries;

fn context() -> SessionContext {
    use datafusion::execution::session_state::SessionStateBuilder;
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let settings = BTreeMap::from([("query_epoch".to_owned(), "0".to_owned())]);
    let session = SessionInfo {
        pid: 7,
        user: "root".to_owned(),
        database: "dev".to_owned(),
        schema: "public".to_owned(),
        settings: Arc::new(settings),
    };
    let caller = Caller { session, params: Arc::default() };
    carried::put(config.options_mut(), Arc::new(caller));
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(Operators)])
        .with_default_features()
        .with_analyzer_rule(Arc::new(Subqueries));
    let context =
        SessionContext::new_with_state(builder.with_type_planner(Arc::new(SqlTypes)).build());
    for function in all() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

async fn value(sql: &str) -> Result<Option<String>, SqlError> {
    let Statement::Query(mut query) = parse(sql)?.remove(0).statement else {
        return Err(SqlError::internal("not a query"));
    };
    rewrite::query(&mut query)?;
    let context = context();
    let statement = sqlparser::ast::Statement::Query(query);
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let plan = context.state().statement_to_plan(statement).await.map_err(from_datafusion)?;
    let frame = context.execute_logical_plan(plan).await.map_err(from_datafusion)?;
    let batches = frame.collect().await.map_err(from_datafusion)?;
    let column = batches[0].column(0);
    let options = FormatOptions::default();
    let printer = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
    Ok((!datafusion::arrow::array::Array::is_null(column, 0)).then(|| printer.value(0).to_string()))
}

#[tokio::test]
async fn functions_answer_as_postgres_does() {
    let cases = [
        ("SELECT '{\"b\": 1, \"a\": [1, \"x\"]}'::jsonb", Some("{\"a\": [1, \"x\"], \"b\": 1}")),
        ("SELECT '{\"a\": {\"b\": [1, 2]}}'::jsonb -> 'a' -> 'b' ->> 1", Some("2")),
        ("SELECT '[1, 2]'::jsonb -> -1", Some("2")),
        ("SELECT '\"s\"'::jsonb ->> 0", Some("s")),
        ("SELECT true AND 't'", Some("true")),
        ("SELECT '{\"a\": null}'::jsonb ->> 'a'", None),
        ("SELECT '{\"a\": null}'::jsonb -> 'a'", Some("null")),
        ("SELECT '{\"a\": {\"b\": \"c\"}}'::jsonb #>> '{a,b}'", Some("c")),
        (
            "SELECT '{\"a\": 12345678901234567890.10}'::jsonb ->> 'a'",
            Some("12345678901234567890.10"),
        ),
        ("SELECT '{\"a\": 1, \"b\": 2}'::jsonb || '{\"b\": 3}'", Some("{\"a\": 1, \"b\": 3}")),
        ("SELECT '[1]'::jsonb || '2'::jsonb || '{}'", Some("[1, 2, {}]")),
        ("SELECT '{\"a\": [1, {\"b\": 2.0}]}'::jsonb @> '{\"a\": [{\"b\": 2}]}'", Some("true")),
        ("SELECT '3' <@ '[1, 3]'::jsonb", Some("true")),
        ("SELECT '[1]'::jsonb @> '2'", Some("false")),
        ("SELECT '{\"a\":1}' = '{\"a\": 1}'::jsonb", Some("true")),
        ("SELECT ARRAY[1, 2] = '{1,2}'", Some("true")),
        ("SELECT format('%I=%L', 'A', 5)", Some("\"A\"='5'")),
        ("SELECT ARRAY(SELECT x * 2 FROM unnest(ARRAY[1, 2]) x)", Some("[2, 4]")),
        ("SELECT ARRAY(SELECT 1 WHERE false)", Some("[]")),
        ("SELECT sum(g) FROM generate_series(1, 3) g", Some("6")),
        ("SELECT EXISTS (SELECT 1 WHERE false)", Some("false")),
        (
            "SELECT (SELECT y FROM (VALUES (1, 'a'), (2, 'b')) v(k, y) WHERE k = g) FROM generate_series(2, 2) g",
            Some("b"),
        ),
        (
            "SELECT (SELECT y FROM (VALUES (1, 'a'), (1, 'b')) v(k, y) WHERE k = g ORDER BY y DESC LIMIT 1) FROM generate_series(1, 1) g",
            Some("b"),
        ),
        (
            "SELECT NOT EXISTS (SELECT 1 FROM (VALUES (1)) v(k) WHERE k = g) FROM generate_series(5, 5) g",
            Some("true"),
        ),
        ("SELECT g IN (SELECT 1) FROM generate_series(1, 1) g", Some("true")),
        (
            "SELECT g NOT IN (SELECT * FROM (VALUES (2), (NULL)) v) FROM generate_series(1, 1) g",
            None,
        ),
        (
            "SELECT g + 1 IN (SELECT * FROM (VALUES (1), (3)) v) FROM generate_series(1, 1) g",
            Some("false"),
        ),
        ("SELECT NULL::int IN (SELECT 1 WHERE false)", Some("false")),
        (
            "SELECT json_build_object('a', 1, 'b', ARRAY['x'], 'c', NULL)",
            Some("{\"a\": 1, \"b\": [\"x\"], \"c\": null}"),
        ),
        ("SELECT to_jsonb(1.50)", Some("1.50")),
        ("SELECT array_upper(ARRAY[5, 6], 1)", Some("2")),
        ("SELECT array_lower(ARRAY[5, 6], 2)", None),
        ("SELECT (information_schema._pg_expandarray(ARRAY[7])).n", Some("1")),
        ("SELECT (e).x FROM (SELECT information_schema._pg_expandarray(ARRAY[7]) e) s", Some("7")),
        ("SELECT 'a_b' LIKE 'a/_b' ESCAPE '/'", Some("true")),
        ("SELECT 'axb' LIKE 'a/_b' ESCAPE '/'", Some("false")),
        ("SELECT jsonb_typeof('[1]'::jsonb)", Some("array")),
        ("SELECT jsonb_array_length('[1, 2, 3]'::jsonb)", Some("3")),
        ("SELECT pg_typeof('{}'::jsonb)", Some("jsonb")),
        ("SELECT pg_typeof(1::int)", Some("integer")),
        ("SELECT pg_typeof('2020-01-01'::timestamptz)", Some("timestamp with time zone")),
        ("SELECT quote_ident('A b')", Some("\"A b\"")),
        ("SELECT quote_nullable(NULL)", Some("NULL")),
        ("SELECT quote_literal(NULL)", None),
        ("SELECT pg_size_pretty(123456789)", Some("118 MB")),
        ("SELECT current_schema()", Some("public")),
        ("SELECT current_user", Some("root")),
        ("SELECT current_setting('QUERY_EPOCH')", Some("0")),
        ("SELECT current_setting('nope', true)", None),
        ("SELECT obj_description(1, 'pg_class')", None),
        ("SELECT 'abc'::varchar(2)", Some("ab")),
        ("SELECT 2.5::int", Some("3")),
        ("SELECT (2.5::float8)::int", Some("2")),
        ("SELECT true::text", Some("true")),
        ("SELECT (TIMESTAMP '2020-01-02 03:04:05')::text", Some("2020-01-02 03:04:05")),
        ("SELECT ('\\x0aff'::bytea)::text", Some("\\x0aff")),
        (
            "SELECT (TIMESTAMP '2020-07-01 12:00:00' AT TIME ZONE 'Europe/Berlin')::text",
            Some("2020-07-01 10:00:00+00"),
        ),
        (
            "SELECT (TIMESTAMPTZ '2020-01-01 12:00:00+00' AT TIME ZONE 'Europe/Berlin')::text",
            Some("2020-01-01 13:00:00"),
        ),
    ];
    for (sql, expected) in cases {
        let found = value(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(found.as_deref(), expected, "{sql}");
    }
}

#[tokio::test]
async fn bad_calls_fail_with_the_codes_of_postgres() {
    let cases = [
        ("SELECT '{'::jsonb", "22P02"),
        ("SELECT 'x'::int", "22P02"),
        ("SELECT '99999999999'::int", "22003"),
        ("SELECT jsonb_array_length('{}'::jsonb)", "22023"),
        ("SELECT current_setting('nope')", "42704"),
        ("SELECT set_config('query_epoch', '5', false)", "0A000"),
        ("SELECT json_get(true, 'a')", "42883"),
        ("SELECT now() AT TIME ZONE 'Mars/Olympus'", "22023"),
        ("SELECT '[1]'::jsonb || 'x'", "22P02"),
        ("SELECT ARRAY[1] = 'x'", "22P02"),
        (
            "SELECT (SELECT y FROM (VALUES (1, 'a'), (1, 'b')) v(k, y) WHERE k = g) FROM generate_series(1, 1) g",
            "21000",
        ),
    ];
    for (sql, code) in cases {
        let error = value(sql).await.expect_err(sql);
        assert_eq!(error.sqlstate.code(), code, "{sql}: {error}");
    }
}

#[test]
fn the_version_names_both_systems() {
    assert!(version().starts_with("PostgreSQL 14.10-Tidemark-"));
}
