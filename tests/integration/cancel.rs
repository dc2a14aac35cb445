//! Stopping a statement with a cancel request, psql's Ctrl-C, or a timeout.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::harness::{Server, said, send_signal, sql, tempdir, wait_until};

/// Runs for minutes unless it is stopped.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000) AS a(x) \
                    CROSS JOIN generate_series(1, 100000000) AS b(y) WHERE (x * y) % 7 = 3";
/// Time limit for a stopped statement to end, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_stops_a_running_query_and_the_session_goes_on() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let token = client.cancel_token();
    let begun = Instant::now();
    let query = client.simple_query(LONG);
    tokio::pin!(query);
    // A request before the query starts has no effect, so it is repeated until the query fails.
    let error = loop {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            outcome = &mut query => break outcome.unwrap_err(),
            () = pause => token.cancel_query(NoTls).await.unwrap(),
        }
    };
    assert_eq!(said(&error), "57014: canceling statement due to user request");
    assert!(begun.elapsed() < SOON);
    let one: i64 = client.query_one("SELECT 1::bigint", &[]).await.unwrap().get(0);
    assert_eq!(one, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_stops_rows_that_flow() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let token = client.cancel_token();
    let query = "SELECT x, y FROM generate_series(1, 1000) AS a(x) \
                 CROSS JOIN generate_series(1, 1000000000) AS b(y)";
    let rows = client.query_raw::<_, i32, _>(query, []).await.unwrap();
    tokio::pin!(rows);
    let mut cancelled = false;
    let error = loop {
        match futures::TryStreamExt::try_next(&mut rows).await {
            Ok(Some(_)) if cancelled => {}
            Ok(Some(_)) => {
                token.cancel_query(NoTls).await.unwrap();
                cancelled = true;
            }
            Ok(None) => panic!("the query came to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(said(&error), "57014: canceling statement due to user request");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let begun = Instant::now();
    let error = client.simple_query(LONG).await.unwrap_err();
    assert_eq!(said(&error), "57014: canceling statement due to statement timeout");
    assert!(begun.elapsed() < SOON);
    client.batch_execute("RESET statement_timeout; SELECT 1").await.unwrap();
}

/// The server sends without pause, and the client reads everything at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_flow_run_out_of_time() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("SET statement_timeout = '300ms'").await.unwrap();
    let begun = Instant::now();
    let query = "SELECT g FROM generate_series(1, 1000000000) AS x(g)";
    let rows = client.query_raw::<_, i32, _>(query, []).await.unwrap();
    tokio::pin!(rows);
    let error = loop {
        match futures::TryStreamExt::try_next(&mut rows).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the query came to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(said(&error), "57014: canceling statement due to statement timeout");
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn a_portal_that_goes_on_has_new_time() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let query = "SELECT g FROM generate_series(1, 1000000000) AS x(g)";
    let portal = transaction.bind(query, &[]).await.unwrap();
    transaction.batch_execute("SET statement_timeout = '2s'").await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        let rows = transaction.query_portal(&portal, 5).await.unwrap();
        assert_eq!(rows.len(), 5);
    }
    transaction.batch_execute("SET statement_timeout = '200ms'; SELECT 1").await.unwrap();
    let error = transaction.query_portal(&portal, 0).await.unwrap_err();
    assert_eq!(said(&error), "57014: canceling statement due to statement timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_in_psql_stops_the_query_and_not_the_server() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let (host, port) = (server.sql.ip().to_string(), server.sql.port().to_string());
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["-X", "-h", &host, "-p", &port, "-U", "root", "-d", "dev", "-c", LONG]);
    psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = psql.spawn().unwrap();
    let pid = child.id().unwrap();
    wait_until("psql gives up its query", async || {
        let ended = child.try_wait().unwrap().is_some();
        if !ended && is_connected(&server, pid) {
            send_signal(pid, "INT");
        }
        ended.then_some(())
    })
    .await;
    let output = child.wait_with_output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("canceling statement due to user request"), "{stderr}");
    assert_eq!(sql(&server, "SELECT 1").await, "1");
}

/// Whether the process has sent its query: psql would be killed by the signal while still connecting.
fn is_connected(server: &Server, pid: u32) -> bool {
    let port = format!(":{:04X}", server.sql.port());
    let established = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let lines = established.lines().filter(|line| line.contains(&port));
    // State 01 is an established connection.
    let sent = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).is_some_and(|remote| remote.ends_with(&port))
            && fields.get(3) == Some(&"01")
            && handler_of_sigint(pid)
    };
    lines.into_iter().any(sent)
}

/// Whether the process catches SIGINT, as psql does after its start.
fn handler_of_sigint(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 0b10 != 0
}
