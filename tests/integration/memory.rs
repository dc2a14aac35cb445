//! Statements that need too much memory end with an SQLSTATE, and the server stays within its budget.

use std::fmt::Write as _;

use futures::SinkExt as _;
use tokio_postgres::Client;

use crate::harness::{Server, tempdir};
use crate::wire::{Wire, bind, message, parse, query, sync};

const BUDGET_BYTES: usize = 256 << 20;
/// The process may be larger than its budget by a quarter. The pages of the program's own file, which for a build
/// with debug information are many, are not counted.
const PROCESS_BYTES_MAX: usize = BUDGET_BYTES / 4 * 5;
/// For statements of which the guard of the process sees much before it is counted. A debug build on a busy machine
/// leaves it little time, so this shows that they end; a release build shows how much they take.
const COUNTED_LATE_BYTES_MAX: usize = BUDGET_BYTES * 3;

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

/// Runs a statement to its end; returns the code of its error, if any.
async fn outcome(client: &Client, sql: &str) -> Option<String> {
    let error = client.batch_execute(sql).await.err()?;
    Some(error.code().unwrap_or_else(|| panic!("{}: {error}", shown(sql))).code().to_owned())
}

fn shown(sql: &str) -> String {
    sql.chars().take(200).collect()
}

/// `x` doubled this number of times, each time by a cross join of the previous query with itself.
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

/// Statements that would exceed the memory, and the codes they may end with.
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
    // An idle debug build takes more than half of this small budget.
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

/// Statements that would exceed the memory, in operators and functions that count late.
fn too_wide() -> Vec<String> {
    let wide = "(SELECT repeat(t || k, 1000) AS r FROM t)";
    vec![
        format!("SELECT length('{}')", "a".repeat(50_000_000)),
        format!("INSERT INTO t VALUES (0, '{}')", "a".repeat(30_000_000)),
        "SELECT length(('['||repeat('1,',20000000)||'1]')::jsonb::text)".to_owned(),
        "SELECT length((('['||repeat('1,',2000000)||'1]')::jsonb -> 1)::text)".to_owned(),
        "SELECT ('['||repeat('1e131071,',1000)||'1]')::jsonb -> 1".to_owned(),
        format!("SELECT count(*) FROM (SELECT r, count(*) FROM {wide} x GROUP BY r) y"),
        format!("SELECT count(DISTINCT r) FROM {wide} x"),
        format!("SELECT count(*) FROM {wide} x JOIN {wide} y USING (r)"),
        format!("SELECT length(r) FROM {wide} x ORDER BY r OFFSET 99999"),
    ]
}

#[tokio::test]
async fn what_takes_too_much_memory_ends_no_other_statement() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let (other, bytes_max) =
        (server.connect().await, COUNTED_LATE_BYTES_MAX + server.own_bytes_peak());
    let mut wrong = vec![];
    for sql in too_wide() {
        let mut ended = std::pin::pin!(outcome(&client, &sql));
        let code = loop {
            tokio::select! {
                code = &mut ended => break code,
                small = outcome(&other, "SELECT 1") => assert_eq!(small, None, "{}", shown(&sql)),
            }
        };
        let peak = server.own_bytes_peak();
        let expected = [None, Some(OUT_OF_MEMORY), Some(VALUE_TOO_LONG)];
        if !expected.contains(&code.as_deref()) || peak > bytes_max {
            wrong.push(format!("{code:?}, {} MiB: {}", peak >> 20, shown(&sql)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(outcome(&client, "SELECT count(*) FROM t").await, None, "the connection goes on");
}

#[tokio::test]
async fn what_sessions_keep_is_counted_until_it_is_let_go() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let mut wire = Wire::log_in(&server).await;
    let long = format!("SELECT '{}'", "a".repeat(5_000_000));
    let mut prepare =
        async |name: &str, sql: &str| wire.say(&[parse(name, sql), sync()].concat()).await;
    assert_eq!(prepare("s0", &long).await, "1 Z");
    let mut said = vec![];
    for n in 1..20 {
        said.push(prepare(&format!("s{n}"), &long).await);
    }
    let refused = "[ERROR 53200: out of memory for prepared statements] Z";
    assert!(said.iter().filter(|said| *said == refused).count() > 10, "{said:?}");
    assert_eq!(prepare("short", "SELECT 1").await, "1 Z", "a short one has room");
    assert_eq!(outcome(&client, "SELECT 1").await, None, "and others are not concerned");
    assert!(wire.say(&query("DEALLOCATE ALL")).await.ends_with("C Z"));
    let gone = wire.say(&[bind("", "s0"), sync()].concat()).await;
    assert!(gone.starts_with("[ERROR 26000"), "{gone}");
    assert_eq!(wire.say(&[parse("again", &long), sync()].concat()).await, "1 Z");
    assert!(server.own_bytes_peak() <= PROCESS_BYTES_MAX);
}

#[tokio::test]
async fn values_bound_to_portals_are_counted() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let mut wire = Wire::log_in(&server).await;
    let statement = b"a\0SELECT length($1)\0\0\x01\0\0\0\x19";
    wire.say(&[message(b'P', statement), sync()].concat()).await;
    wire.say(&query("BEGIN")).await;
    let value = vec![b'b'; 10_000_000];
    let mut refused = 0;
    for n in 0..20 {
        let head = format!("p{n}\0a\0\0\0\0\x01");
        let length = i32::try_from(value.len()).unwrap().to_be_bytes();
        let body = [head.as_bytes(), &length, &value, b"\0\0"].concat();
        let said = wire.say(&[message(b'B', &body), sync()].concat()).await;
        refused += usize::from(said == "[ERROR 53200: out of memory for portals] Z");
    }
    assert!(refused > 10);
    assert!(wire.say(&query("ROLLBACK")).await.ends_with("C Z"));
    assert_eq!(outcome(&client, "SELECT 1").await, None);
    assert!(server.own_bytes_peak() <= PROCESS_BYTES_MAX);
}

#[tokio::test]
async fn names_of_applications_are_cut_and_shown() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let mut others = vec![];
    for _ in 0..10 {
        let other = server.connect().await;
        let set = format!("SET application_name = '{}'", "n".repeat(5_000_000));
        assert_eq!(outcome(&other, &set).await, None);
        others.push(other);
    }
    let longest = "SELECT max(length(application_name))::bigint FROM pg_stat_activity";
    assert_eq!(client.query_one(longest, &[]).await.unwrap().get::<_, i64>(0), 63);
    assert!(server.own_bytes_peak() <= PROCESS_BYTES_MAX);
}

#[tokio::test]
async fn a_long_row_of_copy_is_refused_before_it_is_kept() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let bytes_max = COUNTED_LATE_BYTES_MAX + server.own_bytes_peak();
    let piece = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let mut sink = std::pin::pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
    sink.send(bytes::Bytes::from_static(b"1\t")).await.unwrap();
    for _ in 0..400 {
        if sink.send(piece.clone()).await.is_err() {
            break;
        }
    }
    let error = sink.finish().await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some(VALUE_TOO_LONG), "{error}");
    // Rows of ten megabytes, of which only some may wait.
    let mut sink = std::pin::pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
    for row in 0..8 {
        sink.send(bytes::Bytes::from(format!("{row}\t"))).await.unwrap();
        for _ in 0..10 {
            sink.send(piece.clone()).await.unwrap();
        }
        sink.send(bytes::Bytes::from_static(b"\n")).await.unwrap();
    }
    let copied = sink.finish().await;
    let code = copied.err().map(|error| error.code().unwrap().code().to_owned());
    assert!(code.is_none() || code.as_deref() == Some(OUT_OF_MEMORY), "{code:?}");
    let peak = server.own_bytes_peak();
    assert!(peak <= bytes_max, "{} MiB", peak >> 20);
}

#[tokio::test]
async fn portals_that_wait_for_their_client_keep_little() {
    let dir = tempdir();
    let (server, client) = server(dir.path()).await;
    let bytes_max = COUNTED_LATE_BYTES_MAX + server.own_bytes_peak();
    // One row, without ending the transaction.
    let one = [message(b'E', b"\0\0\0\0\x01"), message(b'H', b"")].concat();
    let sql = "SELECT a.t || b.k FROM t a, t b WHERE b.k <= 20 ORDER BY 1";
    let mut wires = vec![];
    for _ in 0..20 {
        let mut wire = Wire::log_in(&server).await;
        wire.send(&[parse("", sql), bind("", ""), one.clone()].concat()).await;
        wires.push(wire);
    }
    for wire in &mut wires {
        let last = loop {
            let (kind, _) = wire.answer().await.expect("the connection goes on");
            if matches!(kind, b's' | b'E') {
                break kind;
            }
        };
        assert!(matches!(last, b's' | b'E'));
        assert_eq!(outcome(&client, "SELECT 1").await, None);
    }
    let peak = server.own_bytes_peak();
    assert!(peak <= bytes_max, "{} MiB", peak >> 20);
}
