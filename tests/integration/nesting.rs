//! Statements nested as deep as a text allows: each one is answered in time, and none ends the server.

use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::{Server, tempdir};

const DEPTHS: [usize; 7] = [10, 50, 100, 200, 400, 1000, 5000];
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '500ms'";
/// A planning step does not check the clock, and a debug build on a busy machine is slow.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

const TOO_COMPLEX: &str = "54001";

/// The beginning, the opening of each level, the innermost part, the closing of each level, and the end.
type Shape = [&'static str; 5];

const SHAPES: &[Shape] = &[
    // Parentheses of every kind.
    ["SELECT ", "(", "1", ")", ""],
    ["SELECT ", "abs(", "i", ")", " FROM t"],
    ["SELECT ", "row(", "1", ")", ""],
    ["SELECT ", "pow(", "1", ", 1)", ""],
    ["SELECT ", "map(1, ", "1", ")", ""],
    ["SELECT ", "coalesce(", "i", ", 1)", " FROM t"],
    ["SELECT ", "coalesce(i, ", "1", ")", " FROM t"],
    ["SELECT ", "sum(", "1", ") OVER ()", ""],
    ["SELECT ", "count(*) FILTER (WHERE exists(SELECT ", "1", "))", ""],
    ["SELECT ", "array[", "1", "]", ""],
    ["SELECT ", "a[", "1", "]", " FROM t"],
    ["SELECT ", "cast(", "i", " AS bigint)", " FROM t"],
    ["SELECT ", "extract(year FROM ", "now()", ")", ""],
    ["SELECT ", "1 = any(array[", "1", "])", ""],
    ["SELECT ", "1 IN (", "1", ")", ""],
    ["SELECT ", "i BETWEEN (", "1", ") AND 1", " FROM t"],
    ["SELECT ", "((", "true", ", true) < (false, true))", ""],
    ["SELECT 1 FROM t WHERE ", "(i = 1 OR ", "i = 2", ")", ""],
    ["SELECT ", "CASE WHEN true THEN ", "1", " END", ""],
    ["SELECT ", "CASE WHEN i = 1 THEN 1 ELSE ", "1", " END", " FROM t"],
    ["SELECT ", "abs(CASE WHEN i = 1 THEN ", "i", " END)", " FROM t"],
    ["SELECT ", "(CASE WHEN i = 1 THEN ", "i", " END + 1)", " FROM t"],
    ["SELECT i FROM t GROUP BY ", "(", "i", ")", ""],
    ["SELECT i FROM t ORDER BY ", "abs(", "i", ")", ""],
    // Queries and relations.
    ["SELECT ", "(SELECT ", "1", ")", ""],
    ["SELECT ", "exists(SELECT 1 WHERE ", "true", ")", ""],
    ["SELECT 1 FROM t WHERE ", "i IN (SELECT i FROM t WHERE ", "true", ")", ""],
    ["SELECT * FROM ", "(SELECT * FROM ", "t", ") q", ""],
    ["SELECT * FROM ", "(SELECT count(*) FROM ", "t", ") q", ""],
    ["WITH ", "a AS (WITH ", "b AS (SELECT 1) SELECT 1", ") SELECT 1", ""],
    ["SELECT 1 FROM ", "(", "t", " NATURAL JOIN t)", ""],
    ["SELECT 1 FROM ", "(", "(VALUES (1)) v", " CROSS JOIN (VALUES (1)) v)", ""],
    ["SELECT 1 FROM ", "t CROSS JOIN (", "t", ")", ""],
    ["SELECT 1 FROM t", "", "", " NATURAL JOIN t", ""],
    ["SELECT 1 FROM t", "", "", ", t", ""],
    ["SELECT 1 FROM t", "", "", " PIVOT (sum(i) FOR s IN (1))", ""],
    ["", "(", "SELECT 1", " UNION SELECT 1)", ""],
    ["SELECT 1", "", "", " UNION ALL SELECT 1", ""],
    ["SELECT 1", "", "", " EXCEPT SELECT 2", ""],
    // Chains.
    ["SELECT ", "NOT ", "true", "", ""],
    ["SELECT ", "- ", "i", "", " FROM t"],
    ["SELECT ", "~ ", "i", "", " FROM t"],
    ["SELECT ", "INTERVAL ", "'1 day'", "", ""],
    ["SELECT i", "", "", " + i", " FROM t"],
    ["SELECT i", "", "", " + offset", " FROM (SELECT 1 AS i, 2 AS \"offset\") t"],
    ["SELECT i", "", "", "::text::bigint", " FROM t"],
    ["SELECT NULL::int", "", "", "[]", ""],
    ["SELECT s", "", "", " || s", " FROM t"],
    ["SELECT s", "", "", " LIKE 'a'", " FROM t"],
    ["SELECT i", "", "", " IN (1)", " FROM t"],
    ["SELECT i", "", "", " IS NULL", " FROM t"],
    ["SELECT i = 1", "", "", " IS DISTINCT FROM true", " FROM t"],
    ["SELECT i", "", "", " OPERATOR(pg_catalog.+) i", " FROM t"],
    ["SELECT j", "", "", " -> 'a'", " FROM t"],
    ["SELECT a", "", "", "[1]", " FROM t"],
    ["SELECT s", "", "", " COLLATE \"C\"", " FROM t"],
    ["SELECT now()", "", "", " AT TIME ZONE 'UTC'", ""],
    ["SELECT 1 FROM t WHERE i <> 0", "", "", " AND i <> 1", ""],
    ["SELECT 1 FROM t WHERE i = 0", "", "", " OR i = 1", ""],
    ["SELECT 1 FROM t WHERE (i, i) IN ((1, 1)", "", "", ", (1, 2)", ")"],
    ["SELECT CASE i", "", "", " WHEN 1 THEN 2", " END FROM t"],
    // Statements of other kinds.
    ["", "EXPLAIN ", "SELECT 1", "", ""],
    ["INSERT INTO t (i) ", "(SELECT ", "1", ")", ""],
    ["INSERT INTO t (i) VALUES ((SELECT 1))", "", "", ", ((SELECT 2))", " ON CONFLICT DO NOTHING"],
    ["UPDATE t SET s = ", "lower(", "s", ")", ""],
    ["DELETE FROM t WHERE ", "NOT ", "true", "", ""],
    ["CREATE TABLE IF NOT EXISTS of_default (i int DEFAULT ", "(", "1", "))", ""],
    ["CREATE OR REPLACE VIEW of_parentheses AS SELECT ", "(", "1", ")", " AS x"],
];

fn statement([begin, open, inner, close, end]: &Shape, depth: usize) -> String {
    let (open, close) = (open.repeat(depth), close.repeat(depth));
    format!("{begin}{open}{inner}{close}{end}")
}

/// Similar statements, with distinct names.
fn numbered(depth: usize) -> [String; 4] {
    let each = |one: &dyn Fn(usize) -> String| (1..=depth).map(one).collect::<String>();
    let open = "(".repeat(depth);
    [
        format!("SELECT 1 FROM {open}t t0{}", each(&|n| format!(" CROSS JOIN t t{n})"))),
        format!("SELECT 1 FROM t t0{}", each(&|n| format!(" JOIN t t{n} ON t{n}.i = t0.i"))),
        format!("SELECT 1 FROM t{}", each(&|n| format!(", LATERAL (SELECT {n}) l{n}"))),
        format!(
            "WITH a0 AS (SELECT i FROM t){} SELECT * FROM a{depth}",
            each(&|n| format!(", a{n} AS (SELECT abs(abs(i)) AS i FROM a{})", n - 1))
        ),
    ]
}

/// Runs a statement; returns the code of its error, if any.
async fn outcome(client: &Client, sql: &str) -> Option<String> {
    let shown: String = sql.chars().take(80).collect();
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, client.batch_execute(sql)).await;
    let error = answer.unwrap_or_else(|_| panic!("no answer in time: {shown}")).err()?;
    Some(error.code().unwrap_or_else(|| panic!("{shown}: {error}")).code().to_owned())
}

async fn served(server: &Server) -> Client {
    let client = server.connect().await;
    let table = "CREATE TABLE t (i bigint PRIMARY KEY, s text, a bigint[], j jsonb)";
    client.batch_execute(table).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1, 'x', ARRAY[1, 2], '{\"a\": 1}')").await.unwrap();
    client
}

#[tokio::test]
async fn no_nesting_ends_the_server_or_keeps_it_busy() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = served(&server).await;
    client.batch_execute(STATEMENT_TIMEOUT).await.unwrap();
    for depth in DEPTHS {
        for shape in SHAPES {
            let sql = statement(shape, depth);
            outcome(&client, &sql).await;
        }
        for sql in numbered(depth) {
            outcome(&client, &sql).await;
        }
        assert_eq!(outcome(&server.connect().await, "SELECT 1").await, None);
    }
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn what_tools_write_is_answered() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = served(&server).await;
    let list = |one: &str, between: &str, count: usize| vec![one; count].join(between);
    let [_, joins, ..] = numbered(60);
    let answered = [
        statement(&["SELECT ", "(", "1", ")", ""], 50),
        statement(&["SELECT i", "", "", "::bigint", " FROM t"], 100),
        statement(&["SELECT ", "abs(", "i", ")", " FROM t"], 40),
        statement(&["SELECT * FROM ", "(SELECT * FROM ", "t", ") q", ""], 40),
        statement(&["SELECT ", "CASE WHEN i = 1 THEN 1 ELSE ", "1", " END", " FROM t"], 60),
        statement(&["CREATE TABLE of_default (i int DEFAULT ", "(", "1", "))", ""], 1),
        format!("SELECT 1 FROM t WHERE {}", list("i = 1", " OR ", 1000)),
        format!("SELECT 1 FROM t WHERE {}", list("i <> 2", " AND ", 500)),
        format!("SELECT 1 FROM t WHERE i IN ({})", list("1", ", ", 1000)),
        format!("SELECT 1 FROM t WHERE (i, i) IN ({})", list("(1, 1)", ", ", 50)),
        list("SELECT 1", " UNION ALL ", 400),
        joins,
    ];
    for sql in answered {
        assert_eq!(outcome(&client, &sql).await, None, "{sql}");
    }
    let parentheses = |count: usize| format!("{}1{}", "(".repeat(count), ")".repeat(count));
    let table = format!("CREATE TABLE deep (k int, i int DEFAULT {})", parentheses(150));
    client.batch_execute(&table).await.unwrap();
    client.batch_execute("INSERT INTO deep (k) VALUES (1), (2)").await.unwrap();
    let sum: i64 = client.query_one("SELECT sum(i) FROM deep", &[]).await.unwrap().get(0);
    assert_eq!(sum, 2);
}

#[tokio::test]
async fn views_inside_of_views_have_a_bound() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = served(&server).await;
    client.batch_execute("CREATE VIEW v0 AS SELECT i FROM t").await.unwrap();
    let mut levels = 0;
    let refused = loop {
        levels += 1;
        let view = format!("CREATE VIEW v{levels} AS SELECT i FROM v{}", levels - 1);
        if let Some(code) = outcome(&client, &view).await {
            break code;
        }
    };
    assert_eq!((refused.as_str(), levels > 50), (TOO_COMPLEX, true), "{levels}");
    // A view that could be created can be queried.
    let last = format!("SELECT * FROM v{}", levels - 1);
    assert_eq!(outcome(&client, &last).await, None);
}
