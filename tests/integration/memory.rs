//! What takes more memory than there is ends with an SQLSTATE, and the server stays within its budget.

use std::fmt::Write as _;

use tokio_postgres::Client;

use crate::harness::{Server, tempdir};

const BUDGET_BYTES: usize = 256 << 20;
/// The process may be larger than its budget by a quarter. The pages of the program's own file, which for a
/// build with debug information are many, are not counted.
const PROCESS_BYTES_MAX: usize = BUDGET_BYTES / 4 * 5;

const VALUE_TOO_LONG: &str = "54000";
const TOO_COMPLEX: &str = "54001";
const OUT_OF_MEMORY: &str = "53200";

async fn server(dir: &std::path::Path) -> (Server, Client) {
    let budget = BUDGET_BYTES.to_string();
    let flags = ["--total-memory-bytes", &budget, "--meta-cache-bytes", "1048576"];
    let server = Server::start_with(dir, &flags).await;
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE TABLE t (k int PRIMARY KEY, t varchar);
             INSERT INTO t SELECT g, 'row number ' || g FROM generate_series(1, 100000) g(g);",
        )
        .await
        .unwrap();
    (server, client)
}

/// Runs a statement to its end; the code of its error, if it has one.
async fn outcome(client: &Client, sql: &str) -> Option<String> {
    let error = client.batch_execute(sql).await.err()?;
    Some(error.code().unwrap_or_else(|| panic!("{}: {error}", shown(sql))).code().to_owned())
}

fn shown(sql: &str) -> String {
    sql.chars().take(200).collect()
}

/// `x` doubled this many times, each time by a cross join of the one before.
fn doubled(times: usize) -> String {
    let mut sql = "WITH c0 AS (SELECT 1 AS x)".to_owned();
    for level in 1..=times {
        let before = level - 1;
        write!(sql, ", c{level} AS (SELECT a.x FROM c{before} a, c{before} b)").unwrap();
    }
    write!(sql, " SELECT count(*) FROM c{times}").unwrap();
    sql
}

fn nested_replace(times: usize) -> String {
    let open = "replace(".repeat(times);
    let close = ", 'a', 'aaaaaaaaaaaaaaaa')".repeat(times);
    format!("SELECT length({open}'a'{close})")
}

/// Statements that would take more than there is, and what they end with.
fn too_much() -> Vec<(String, &'static [&'static str])> {
    let cases: [(&str, &'static [&'static str]); 18] = [
        ("SELECT lpad('x', 2000000000)", &[VALUE_TOO_LONG]),
        ("SELECT rpad(t, 2000000000) FROM t", &[VALUE_TOO_LONG]),
        ("SELECT repeat('x', 2000000000)", &[VALUE_TOO_LONG]),
        ("SELECT repeat(t, 10000000) FROM t", &[OUT_OF_MEMORY]),
        ("SELECT sum(length(lpad(t, 100000000))) FROM t", &[OUT_OF_MEMORY]),
        ("SELECT count(*) FROM t WHERE length(repeat(t, 10000000)) > 5", &[OUT_OF_MEMORY]),
        ("SELECT array_repeat(1, 1000000000)", &[VALUE_TOO_LONG]),
        ("SELECT array_repeat(t, 10000000) FROM t", &[OUT_OF_MEMORY]),
        ("SELECT range(1, 1000000000)", &[VALUE_TOO_LONG]),
        ("SELECT range(k, k + 100000000) FROM t", &[OUT_OF_MEMORY]),
        (
            "SELECT regexp_replace(repeat(t, 1000), '.', repeat('x', 100000), 'g') FROM t",
            &[VALUE_TOO_LONG],
        ),
        ("SELECT concat_ws(repeat('x', 50000000), t, t, t) FROM t", &[OUT_OF_MEMORY]),
        (
            "SELECT array_to_string(range(10000), repeat('x', 100000) || t) FROM t",
            &[VALUE_TOO_LONG, OUT_OF_MEMORY],
        ),
        ("SELECT format('%1000000s', t) FROM t", &[OUT_OF_MEMORY]),
        ("SELECT array_agg(k) OVER (ORDER BY k) FROM t", &[OUT_OF_MEMORY]),
        ("SELECT array_agg(k) OVER () FROM t", &[OUT_OF_MEMORY]),
        ("SELECT array_agg(a.t || b.k) FROM t a, t b", &[OUT_OF_MEMORY]),
        ("SELECT string_agg(a.t || b.k, ',') FROM t a, t b", &[OUT_OF_MEMORY]),
    ];
    let mut cases: Vec<_> = cases.map(|(sql, codes)| (sql.to_owned(), codes)).into();
    cases.push((nested_replace(10), &[VALUE_TOO_LONG, OUT_OF_MEMORY]));
    cases.push((doubled(14), &[TOO_COMPLEX]));
    cases.push((doubled(60), &[TOO_COMPLEX]));
    let joined: String = (0..3000).map(|n| format!(", t t{n}")).collect();
    cases.push((format!("SELECT count(*) FROM t{joined}"), &[TOO_COMPLEX]));
    let numbers = "1,".repeat(5_000_000);
    cases.push((format!("SELECT {numbers}1"), &[VALUE_TOO_LONG]));
    cases.push((format!("SELECT 1 WHERE 1 IN ({numbers}1)"), &[VALUE_TOO_LONG]));
    cases.push(("SELECT 1;".repeat(1_000_000), &[VALUE_TOO_LONG]));
    cases.push((format!("VALUES {}(1)", "(1),".repeat(1_000_000)), &[VALUE_TOO_LONG]));
    cases
}

#[tokio::test]
async fn what_takes_too_much_memory_ends_and_the_server_stays_within_its_budget() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    // A debug build without a statement takes more than half of so small a budget.
    let bytes_max = PROCESS_BYTES_MAX + server.own_bytes_peak();
    let mut wrong = vec![];
    for (sql, codes) in too_much() {
        let code = outcome(&client, &sql).await;
        let peak = server.own_bytes_peak();
        if !code.as_deref().is_some_and(|code| codes.contains(&code)) || peak > bytes_max {
            wrong.push(format!("{code:?}, {} MiB: {}", peak >> 20, shown(&sql)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(outcome(&client, "SELECT count(*) FROM t").await, None, "the connection goes on");
}

#[tokio::test]
async fn large_results_that_fit_are_answered() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    for (sql, expected) in [
        ("SELECT length(repeat('x', 50000000))", "50000000"),
        // Gigabytes, in pieces.
        ("SELECT sum(length(repeat(t, 1000))) FROM t", "1588895000"),
        ("SELECT count(*) FROM t WHERE length(repeat(t, 1000)) > 5", "100000"),
        (
            "SELECT count(*) FROM (SELECT repeat(t, 100000) AS r FROM t LIMIT 50) x WHERE r > ''",
            "50",
        ),
        ("SELECT max(cardinality(range(0, k % 1000)))::bigint FROM t", "999"),
        (
            "SELECT sum(cardinality(a))::bigint
             FROM (SELECT array_agg(k) OVER (PARTITION BY k / 100) AS a FROM t) x",
            "9999802",
        ),
        (&doubled(8), "1"),
        (&format!("SELECT length('{}')", "x, ".repeat(3_000_000)), "9000000"),
        (&format!("SELECT 1 WHERE 1 IN ({}1)", "1,".repeat(10_000)), "1"),
    ] {
        let row = client.query_one(sql, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{}: {error:?}", shown(sql)));
        let text = match row.try_get::<_, i64>(0) {
            Ok(number) => number.to_string(),
            Err(_) => row.get::<_, i32>(0).to_string(),
        };
        assert_eq!(text, expected, "{}", shown(sql));
    }
    assert!(server.own_bytes_peak() <= PROCESS_BYTES_MAX);
}
