//! Statements that compute for long: others continue meanwhile, and stopped ones release their threads and
//! memory.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::SinkExt as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::etcd_server::free_addr;
use crate::harness::{Server, http_get, said, tempdir, wait_until};

/// Time limit for `SELECT 1` during a heavy statement, in a debug build on a busy machine.
const QUICK: Duration = Duration::from_secs(2);
/// Time limit for a stopped statement to end, likewise.
const SOON: Duration = Duration::from_secs(5);
/// How long `SELECT 1` is repeated during each heavy statement.
const ASKED_FOR: Duration = Duration::from_millis(500);

/// Descriptions and texts of statements that run for minutes unless they are stopped.
const HEAVY: &[(&str, &str)] = &[
    ("nested loops", "SELECT count(*) FROM wide a, wide b WHERE a.i * b.i % 7 = -3"),
    ("cross join", "SELECT sum(length(a.s || b.s)) FROM wide a CROSS JOIN wide b"),
    (
        "generated rows",
        "SELECT count(*) FROM generate_series(1, 1000) a(x) \
        CROSS JOIN generate_series(1, 100000000) b(y) WHERE (x * y) % 7 = 3",
    ),
    (
        "many-way join",
        "SELECT count(*) FROM wide a JOIN wide b ON a.g = b.g JOIN wide c ON b.g = c.g \
        JOIN wide d ON c.g = d.g WHERE a.i + d.i = -1",
    ),
    (
        "join on one key with a filter",
        "SELECT count(*) FROM wide a JOIN wide b ON a.one = b.one \
        AND a.i * b.i % 1000003 = -1",
    ),
    (
        "left join without a key",
        "SELECT count(b.i) FROM wide a LEFT JOIN wide b \
        ON a.i * b.i % 1000003 = -1",
    ),
    (
        "semi-join",
        "SELECT count(*) FROM wide a WHERE EXISTS \
        (SELECT 1 FROM wide b WHERE b.i > a.i AND b.i * a.i % 1000003 = -17)",
    ),
    (
        "correlated sub-query",
        "SELECT count(*) FROM wide a WHERE a.i IN (SELECT b.i * c.i FROM wide b, wide c \
        WHERE b.g = a.g AND b.i * c.i % 1000003 = -1)",
    ),
    ("regular expression", "SELECT count(*) FROM long a, long b WHERE a.t || b.t ~ '(xy+)+z'"),
    (
        "regular expression replaced",
        "SELECT sum(length(regexp_replace(a.t || b.t, \
        '([a-z]+)([0-9]+)', '\\2\\1', 'g'))) FROM long a, long b",
    ),
    (
        "LIKE over long strings",
        "SELECT count(*) FROM long a, long b \
        WHERE a.t || b.t LIKE '%ab%cd%ef%gh'",
    ),
    (
        "md5 over and over",
        "SELECT count(*) FROM wide a, wide b \
        WHERE md5(md5(md5(md5(a.s || b.s)))) = ''",
    ),
    (
        "jsonb",
        "SELECT count(*) FROM wide a, wide b \
        WHERE (('{\"a\": [' || a.i || ', ' || b.i || ']}')::jsonb -> 'a' ->> 1) = '-1'",
    ),
    ("sort", "SELECT md5(a.s || b.s) m FROM wide a, wide b ORDER BY m OFFSET 1000"),
    (
        "aggregate of many groups",
        "SELECT count(*) FROM \
        (SELECT md5(a.s || b.s) m, count(*) FROM wide a, wide b GROUP BY 1) x",
    ),
    (
        "window over one partition",
        "SELECT sum(r) FROM \
        (SELECT rank() OVER (ORDER BY a.i * b.i) r FROM wide a, wide b) x",
    ),
    ("string_agg", "SELECT length(string_agg(a.s, ',')) FROM wide a, wide b"),
    ("array_agg", "SELECT array_length(array_agg(a.i * b.i), 1) FROM wide a, wide b"),
    (
        "UNION",
        "SELECT count(*) FROM (SELECT a.i, b.i AS j FROM wide a, wide b \
        UNION SELECT b.i, a.i FROM wide a, wide b) x",
    ),
    (
        "EXCEPT",
        "SELECT count(*) FROM (SELECT a.i * b.i FROM wide a, wide b \
        EXCEPT SELECT i FROM wide) x",
    ),
    (
        "recursion",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r \
        WHERE n < 1000000000) SELECT count(*) FROM r",
    ),
    (
        "EXPLAIN ANALYZE",
        "EXPLAIN ANALYZE SELECT count(*) FROM wide a, wide b \
        WHERE a.i * b.i % 7 = -3",
    ),
    ("INSERT of a query", "INSERT INTO taken SELECT a.i FROM wide a, wide b"),
    (
        "DELETE",
        "DELETE FROM wide WHERE i IN \
        (SELECT a.i FROM wide a, wide b WHERE a.i * b.i % 1000003 = -1)",
    ),
    (
        "UPDATE",
        "UPDATE wide SET g = 0 WHERE EXISTS \
        (SELECT 1 FROM wide b WHERE wide.i * b.i % 1000003 = -1)",
    ),
];

/// A server with tables for heavy statements, and its metrics.
struct Busy {
    server: Server,
    http: String,
    _dir: TempDir,
}

impl Busy {
    async fn start() -> Self {
        let dir = tempdir();
        let http: SocketAddr = free_addr();
        let http = http.to_string();
        let flags = ["--prometheus-listener-addr", &http, "--total-memory-bytes", "1500000000"];
        let server = Server::start_with(dir.path(), &flags).await;
        let client = server.connect().await;
        client
            .batch_execute(
                "CREATE TABLE wide (i bigint, g bigint, one bigint, s text);
                 INSERT INTO wide SELECT x, x % 10, 1, 'row ' || x FROM generate_series(1, 50000) a(x);
                 CREATE TABLE long (t text);
                 INSERT INTO long SELECT repeat('abc123xyyyy' || x, 2000) FROM generate_series(1, 500) a(x);
                 CREATE TABLE taken (i bigint)",
            )
            .await
            .unwrap();
        let busy = Self { server, http, _dir: dir };
        busy.is_idle().await;
        busy
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = http_get(&self.http, "/metrics").await;
        let mut lines = metrics.lines();
        // A counter that was never used is not exported.
        lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Waits until no statement has tasks or memory.
    async fn is_idle(&self) {
        wait_until("what ran has let go of threads and memory", async || {
            let tasks = self.metric("tidemark_query_tasks ").await;
            let bytes = self.metric("tidemark_query_memory_bytes ").await;
            (tasks == 0.0 && bytes == 0.0).then_some(())
        })
        .await;
    }

    /// A client, and the task that owns its socket.
    async fn connect_apart(&self) -> (Client, JoinHandle<()>) {
        let addr = self.server.sql;
        let config = format!("host={} port={} user=root dbname=dev", addr.ip(), addr.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        (client, tokio::spawn(async move { drop(connection.await) }))
    }

    async fn is_busy(&self) {
        wait_until("a statement runs", async || {
            (self.metric("tidemark_query_tasks ").await > 0.0).then_some(())
        })
        .await;
    }
}

/// Repeats a query for one row. Returns the longest response time.
async fn slowest_select(client: &Client) -> Duration {
    let (all, mut slowest) = (Instant::now(), Duration::ZERO);
    while all.elapsed() < ASKED_FOR {
        let begun = Instant::now();
        client.simple_query("SELECT 1").await.unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

/// Cancels a statement. Returns how it ended and how long that took.
async fn cancelled<T>(
    heavy: &Client,
    running: JoinHandle<Result<T, tokio_postgres::Error>>,
) -> (String, Duration) {
    let begun = Instant::now();
    heavy.cancel_token().cancel_query(NoTls).await.unwrap();
    match running.await.unwrap() {
        Ok(_) => ("it came to its end".to_owned(), begun.elapsed()),
        Err(error) => (said(&error), begun.elapsed()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on_next_to_a_heavy_statement_and_a_stopped_one_lets_go() {
    let busy = Busy::start().await;
    let quick = busy.server.connect().await;
    let mut wrong = String::new();
    for (what, statement) in HEAVY {
        let heavy = std::sync::Arc::new(busy.server.connect().await);
        let running = std::sync::Arc::clone(&heavy);
        let running = tokio::spawn(async move { running.simple_query(statement).await });
        busy.is_busy().await;
        let slowest = slowest_select(&quick).await;
        let (outcome, ended) = cancelled(&heavy, running).await;
        busy.is_idle().await;
        if slowest > QUICK || ended > SOON || !outcome.starts_with("57014: canceling statement") {
            writeln!(wrong, "{what}: SELECT 1 in {slowest:?}, ended in {ended:?}: {outcome}")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planning_for_long_holds_up_no_other_client_and_ends_when_its_time_is_over() {
    let busy = Busy::start().await;
    let (quick, heavy) = (busy.server.connect().await, busy.server.connect().await);
    let numbers = |from, to| (from..to).map(|n: u32| n.to_string()).collect::<Vec<_>>();
    let list = format!("SELECT count(*) FROM wide WHERE i IN ({})", numbers(0, 20_000).join(", "));
    let rows = format!("SELECT count(*) FROM (VALUES ({})) v", numbers(0, 20_000).join("), ("));
    let mut doubled = "WITH c0 AS (SELECT i FROM wide)".to_owned();
    for level in 1..9 {
        let below = level - 1;
        let more = format!(", c{level} AS (SELECT a.i FROM c{below} a JOIN c{below} b USING (i))");
        doubled.push_str(&more);
    }
    doubled.push_str(" SELECT count(*) FROM c8");
    heavy.batch_execute("SET statement_timeout = '300ms'").await.unwrap();
    for statement in [list, rows, doubled] {
        let (planned, slowest) = tokio::join!(
            async {
                let begun = Instant::now();
                let outcome = heavy.simple_query(&statement).await;
                (outcome.map(drop).map_err(|error| said(&error)), begun.elapsed())
            },
            slowest_select(&quick)
        );
        assert!(slowest < QUICK, "SELECT 1 in {slowest:?}");
        // On a fast machine planning finishes in time.
        if let (Err(error), took) = planned {
            assert_eq!(error, "57014: canceling statement due to statement timeout");
            assert!(took < SOON, "stopped after {took:?}");
        }
        busy.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_takes_its_statement_with_it() {
    let busy = Busy::start().await;
    let (heavy, connection) = busy.connect_apart().await;
    let running = tokio::spawn(async move { heavy.simple_query(HEAVY[0].1).await.map(drop) });
    busy.is_busy().await;
    // The socket is closed without any message.
    connection.abort();
    assert!(running.await.unwrap().is_err());
    busy.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_stopped_like_any_statement() {
    let busy = Busy::start().await;
    let (client, quick) = (busy.server.connect().await, busy.server.connect().await);
    let lines = bytes::Bytes::from("12345\n".repeat(100_000));
    let error = {
        let mut sink =
            Box::pin(client.copy_in::<_, bytes::Bytes>("COPY taken FROM STDIN").await.unwrap());
        sink.send(lines.clone()).await.unwrap();
        busy.is_busy().await;
        assert!(slowest_select(&quick).await < QUICK);
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        // The rows so far are released, although the client may continue to send.
        wait_until("the COPY has ended", async || {
            (busy.metric("tidemark_query_tasks ").await == 0.0).then_some(())
        })
        .await;
        refusal(sink, &lines).await
    };
    assert_eq!(error, "57014: canceling statement due to user request");
    busy.is_idle().await;

    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let mut sink =
        Box::pin(client.copy_in::<_, bytes::Bytes>("COPY taken FROM STDIN").await.unwrap());
    sink.send(lines.clone()).await.unwrap();
    wait_until("the time of the COPY is over", async || {
        (busy.metric("tidemark_query_tasks ").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(refusal(sink, &lines).await, "57014: canceling statement due to statement timeout");
    client.batch_execute("RESET statement_timeout").await.unwrap();
    busy.is_idle().await;

    let (gone, connection) = busy.connect_apart().await;
    let mut sink =
        Box::pin(gone.copy_in::<_, bytes::Bytes>("COPY taken FROM STDIN").await.unwrap());
    sink.send(lines).await.unwrap();
    busy.is_busy().await;
    connection.abort();
    busy.is_idle().await;
    let row = quick.query_one("SELECT count(*) FROM taken", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

type Sink = std::pin::Pin<Box<tokio_postgres::CopyInSink<bytes::Bytes>>>;

/// The server's error for a `COPY` whose client continues to send.
async fn refusal(mut sink: Sink, lines: &bytes::Bytes) -> String {
    let error = match sink.send(lines.clone()).await {
        Ok(()) => sink.as_mut().finish().await.unwrap_err(),
        Err(error) => error,
    };
    said(&error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_copy_that_is_too_long_is_refused_before_it_takes_the_memory() {
    let busy = Busy::start().await;
    let client = busy.server.connect().await;
    client.batch_execute("CREATE TABLE texts (t text)").await.unwrap();
    let mut sink =
        Box::pin(client.copy_in::<_, bytes::Bytes>("COPY texts FROM STDIN").await.unwrap());
    let part = bytes::Bytes::from(vec![b'x'; 8 << 20]);
    let mut refused = None;
    for _ in 0..50 {
        if let Err(error) = sink.send(part.clone()).await {
            refused = Some(error);
            break;
        }
    }
    let error = match refused {
        Some(error) => error,
        None => sink.as_mut().finish().await.unwrap_err(),
    };
    let said = said(&error);
    assert!(said.starts_with("54000: a row has more than "), "{said}");
    busy.is_idle().await;
    let status = format!("/proc/{}/status", busy.server.pid());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 1 << 20, "{peak_kib} KiB");
}
