//! The rewritten form of queries, and the names of their columns.

use sqlparser::ast::Query;

use crate::parser::{Statement, parse};
use tidemark_pg::error::SqlError;

fn parsed(sql: &str) -> Box<Query> {
    let parsed = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).remove(0);
    match parsed.statement {
        Statement::Query(query) => query,
        other => panic!("{sql} is no query but {other:?}"),
    }
}

fn rewritten(sql: &str) -> String {
    let mut query = parsed(sql);
    super::query(&mut query).unwrap_or_else(|error| panic!("{sql}: {error}"));
    query.to_string()
}

fn refused(sql: &str) -> SqlError {
    let mut query = parsed(sql);
    super::query(&mut query).expect_err(sql)
}

fn names(sql: &str, plan_fields: &[&str]) -> Vec<String> {
    let plan_fields: Vec<String> = plan_fields.iter().map(|name| (*name).to_owned()).collect();
    super::output_names(&parsed(sql), &plan_fields)
}

#[test]
fn ignored_clauses_are_refused() {
    let cases = [
        ("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE is not supported"),
        ("SELECT * FROM t FOR UPDATE", "FOR UPDATE is not supported"),
        ("SELECT * FROM (SELECT * FROM t FOR SHARE) x", "FOR SHARE is not supported"),
        ("SELECT * INTO u FROM t", "SELECT INTO is not supported"),
        ("SELECT * FROM f(1) WITH ORDINALITY", "WITH ORDINALITY is not supported"),
        ("SELECT a COLLATE \"de_DE\" FROM t", "collation \"de_DE\" is not supported"),
        ("SELECT * FROM t FETCH FIRST 3 ROWS WITH TIES", "FETCH ... WITH TIES is not supported"),
        (
            "WITH x AS (DELETE FROM t) SELECT 1",
            "a data-modifying statement in WITH is not supported",
        ),
    ];
    for (sql, message) in cases {
        let error = refused(sql);
        assert_eq!((error.sqlstate.code(), error.message.as_str()), ("0A000", message), "{sql}");
    }
}

#[test]
fn operators_and_names_become_what_the_planner_knows() {
    let cases = [
        ("SELECT a -> 'k' ->> 0 FROM t", "SELECT json_get_text(json_get(a, 'k'), 0) FROM t"),
        ("SELECT a #>> '{x,1}' FROM t", "SELECT json_get_path_text(a, '{x,1}') FROM t"),
        (
            "SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
            "SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname ~ '(?s)^(t)$'",
        ),
        ("SELECT pg_catalog.upper(a) FROM t", "SELECT upper(a) FROM t"),
        (
            "SELECT * FROM pg_catalog.generate_series(1, 2) AS g",
            "SELECT * FROM generate_series(1, 2) AS g (\"g\")",
        ),
        (
            "SELECT * FROM pg_catalog.unnest(ARRAY[1])",
            "SELECT * FROM UNNEST(ARRAY[1]) AS unnest (\"unnest\")",
        ),
        (
            "SELECT ARRAY(SELECT a FROM t ORDER BY b)",
            "SELECT coalesce((SELECT array_agg(a ORDER BY b) FROM t), make_array())",
        ),
        (
            "SELECT ARRAY(SELECT DISTINCT a FROM t)",
            "SELECT coalesce((SELECT array_agg(value) FROM (SELECT DISTINCT a FROM t) AS elements (value)), make_array())",
        ),
        (
            "SELECT ARRAY(SELECT DISTINCT a FROM t ORDER BY 1 DESC)",
            "SELECT coalesce((SELECT array_agg(value ORDER BY value DESC) FROM (SELECT DISTINCT a FROM t) AS elements (value)), make_array())",
        ),
        (
            "SELECT ARRAY(SELECT a FROM t GROUP BY a ORDER BY count(*) LIMIT 2)",
            "SELECT coalesce((SELECT array_agg(value ORDER BY order_1) FROM (SELECT a, count(*) AS order_1 FROM t GROUP BY a ORDER BY count(*) LIMIT 2) AS elements (value, order_1)), make_array())",
        ),
        (
            "SELECT ARRAY(SELECT 'x' || e.v FROM unnest(a) AS e(v)) FROM t",
            "SELECT coalesce(array_transform(a, v -> 'x' || v), make_array()) FROM t",
        ),
        ("SELECT a SIMILAR TO 'x%' FROM t", "SELECT (a ~ '^(?:x(?s:.*))$') FROM t"),
        ("SELECT a FROM t FETCH FIRST 2 ROWS ONLY", "SELECT a FROM t LIMIT 2"),
        ("SELECT now() AT TIME ZONE 'UTC'", "SELECT timezone('UTC', now())"),
        ("SELECT current_schema", "SELECT current_schema()"),
        ("SELECT a LIKE 'x/_' ESCAPE '/'", "SELECT a LIKE like_escape('x/_', '/')"),
        ("SELECT generate_subscripts(a, 1)", "SELECT unnest(array_subscripts(a, 1))"),
        (
            "SELECT k FROM generate_subscripts(ARRAY[7], 1) k",
            "SELECT k FROM UNNEST(array_subscripts(ARRAY[7], 1)) k (\"k\")",
        ),
        (
            "SELECT c.tableoid FROM pg_catalog.pg_class c",
            "SELECT to_regclass_oid('pg_catalog.pg_class') AS \"tableoid\" FROM pg_catalog.pg_class c",
        ),
        ("SELECT count(*), a @> b FROM t GROUP BY 2", "SELECT count(*), a @> b FROM t GROUP BY 2"),
    ];
    for (sql, expected) in cases {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

#[test]
fn casts_become_ours() {
    let cases = [
        ("SELECT '\\x01'::bytea", "SELECT sql_cast('\\x01', 'bytea')"),
        ("SELECT a::json FROM t", "SELECT sql_cast(a, 'jsonb') FROM t"),
        ("SELECT DATE '2020-01-01'", "SELECT sql_cast('2020-01-01', 'date')"),
        (
            "SELECT CAST(a AS VARCHAR(3)) FROM t",
            "SELECT sql_cast(a, 'character varying(3)') FROM t",
        ),
        ("SELECT 't'::regclass", "SELECT regclass_name(to_regclass_oid('t'))"),
        ("SELECT 1 WHERE 't'::regclass = 5", "SELECT 1 WHERE to_regclass_oid('t') = 5"),
        ("SELECT 't'::regclass::oid", "SELECT to_oid(to_regclass_oid('t'))"),
        ("SELECT c.oid::pg_catalog.regclass FROM c", "SELECT regclass_name(c.oid) FROM c"),
        ("SELECT 't'::regclass::text", "SELECT regclass_name(to_regclass_oid('t'))"),
        ("SELECT a::pg_catalog.oid FROM t", "SELECT to_oid(a) FROM t"),
        ("SELECT $1::oid", "SELECT $1::oid"),
        ("SELECT $1::int", "SELECT $1::INT"),
        ("SELECT NULL::timestamp", "SELECT NULL::TIMESTAMP"),
        ("SELECT '{1,2}'::int[]", "SELECT sql_cast('{1,2}', 'integer[]')"),
        ("SELECT INTERVAL '1' DAY", "SELECT sql_cast('1 DAY', 'interval')"),
    ];
    for (sql, expected) in cases {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
    assert_eq!(refused("SELECT 1::nonsense").sqlstate.code(), "42704");
}

#[test]
fn columns_have_the_names_of_postgres() {
    let cases = [
        ("SELECT 1", "?column?"),
        ("SELECT a + 1 FROM t", "?column?"),
        ("SELECT t.A FROM t", "a"),
        ("SELECT a AS \"Q\" FROM t", "Q"),
        ("SELECT count(*) FROM t", "count"),
        ("SELECT pg_catalog.SUM(a) FROM t", "sum"),
        ("SELECT 1::int", "int4"),
        ("SELECT a::text FROM t", "a"),
        ("SELECT count(*)::bigint FROM t", "count"),
        ("SELECT 'x'::varchar(3)", "varchar"),
        ("SELECT 't'::pg_catalog.regclass", "regclass"),
        ("SELECT TIMESTAMPTZ '2020-01-01'", "timestamptz"),
        ("SELECT CASE WHEN a THEN 1 END FROM t", "case"),
        ("SELECT CASE WHEN a THEN 1 ELSE b END FROM t", "b"),
        ("SELECT COALESCE(a, b) FROM t", "coalesce"),
        ("SELECT ARRAY[1, 2]", "array"),
        ("SELECT ARRAY(SELECT 1)", "array"),
        ("SELECT EXISTS (SELECT 1)", "exists"),
        ("SELECT EXTRACT(year FROM a) FROM t", "extract"),
        ("SELECT (SELECT max(a) FROM t)", "max"),
        ("SELECT substring(a FROM 1 FOR 2) FROM t", "substring"),
        ("SELECT trim(a) FROM t", "btrim"),
        ("SELECT a[1] FROM t", "a"),
        ("SELECT current_date", "current_date"),
        ("SELECT interval '1 day'", "interval"),
        ("SELECT a -> 'k' FROM t", "?column?"),
        ("SELECT row_number() OVER () FROM t", "row_number"),
        ("SELECT a AS x FROM t UNION SELECT b FROM t", "x"),
    ];
    for (sql, expected) in cases {
        assert_eq!(names(sql, &["plan name"]), [expected], "{sql}");
    }
}

#[test]
fn wildcards_keep_the_names_of_the_plan() {
    assert_eq!(
        names("SELECT 1, *, count(*) FROM t", &["p", "a", "b", "q"]),
        ["?column?", "a", "b", "count"]
    );
    assert_eq!(names("SELECT * FROM t", &["a", "b"]), ["a", "b"]);
    assert_eq!(names("SELECT 1, t.* FROM t", &["p", "a"]), ["?column?", "a"]);
    assert_eq!(names("VALUES (1, 2)", &["column1", "column2"]), ["column1", "column2"]);
    assert_eq!(names("SELECT 1, 2", &["odd"]), ["odd"]);
}

#[test]
fn nested_columns_can_be_used_by_their_names() {
    let cases = [
        (
            "SELECT count FROM (SELECT count(*) FROM t) x",
            "SELECT count FROM (SELECT count(*) AS \"count\" FROM t) x",
        ),
        (
            "WITH x AS (SELECT max(a), 1 FROM t) SELECT * FROM x",
            "WITH x AS (SELECT max(a) AS \"max\", 1 AS \"?column?\" FROM t) SELECT * FROM x",
        ),
        // A duplicate name is useless, and a name that a clause uses keeps its meaning.
        (
            "SELECT * FROM (SELECT max(a), max(b) FROM t) x",
            "SELECT * FROM (SELECT max(a), max(b) FROM t) x",
        ),
        (
            "SELECT * FROM (SELECT sum(a) FROM t GROUP BY sum) x",
            "SELECT * FROM (SELECT sum(a) FROM t GROUP BY sum) x",
        ),
        ("SELECT * FROM (SELECT a, 1) x (p, q)", "SELECT * FROM (SELECT a, 1) x (p, q)"),
    ];
    for (sql, expected) in cases {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

#[test]
fn equal_names_are_told_apart() {
    let cases = [
        ("SELECT 1, 1", "SELECT 1, 1 AS \"?column?#2\""),
        ("SELECT a, b, A FROM t", "SELECT a, b, A AS \"a#3\" FROM t"),
        ("SELECT *, a FROM t", "SELECT *, a AS \"a#2\" FROM t"),
        ("SELECT t.*, u.a FROM t, u", "SELECT t.*, u.a FROM t, u"),
        ("SELECT t.*, t.a FROM t", "SELECT t.*, t.a AS \"a#2\" FROM t"),
        ("SELECT t.a, u.a FROM t, u", "SELECT t.a, u.a FROM t, u"),
        (
            "SELECT EXISTS (SELECT 1), EXISTS (SELECT 2)",
            "SELECT EXISTS (SELECT 1), EXISTS (SELECT 2) AS \"exists#2\"",
        ),
        ("SELECT a AS x, b AS x FROM t", "SELECT a AS x, b AS \"x#2\" FROM t"),
        ("SELECT a, a::text FROM t", "SELECT a, sql_cast(a, 'text') AS \"a#2\" FROM t"),
    ];
    for (sql, expected) in cases {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}
