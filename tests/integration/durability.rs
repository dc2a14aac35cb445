//! `kill -9` at any moment loses no acknowledged write.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio_postgres::Client;

use crate::harness::{Server, tempdir, wait_until};

const ROUNDS: usize = 5;
const WRITERS: i64 = 3;
/// Number of inserts acknowledged in a round before the server is killed.
const ACKNOWLEDGED_PER_ROUND: i64 = 30;

/// Inserts `(writer, n)` for n = 1, 2, … until the connection is lost. `acknowledged` is the last
/// acknowledged n.
async fn write(client: Client, writer: i64, from: i64, acknowledged: Arc<AtomicI64>) {
    for n in from + 1.. {
        let statement = format!("INSERT INTO log VALUES ({writer}, {n}, 'row {n}')");
        if client.batch_execute(&statement).await.is_err() {
            return;
        }
        acknowledged.store(n, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_inserts_survive_kill_9_again_and_again() {
    let dir = tempdir();
    let mut server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE log (writer bigint, n bigint, t text)").await.unwrap();
    let acknowledged: Vec<Arc<AtomicI64>> = (0..WRITERS).map(|_| Arc::default()).collect();
    for round in 1..=ROUNDS {
        let begun: Vec<i64> = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).collect();
        let mut writers = vec![];
        for ((writer, at), from) in (0..).zip(&acknowledged).zip(&begun) {
            writers.push(tokio::spawn(write(
                server.connect().await,
                writer,
                *from,
                Arc::clone(at),
            )));
        }
        let goal = begun.iter().sum::<i64>() + ACKNOWLEDGED_PER_ROUND;
        let total = || acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).sum::<i64>();
        wait_until("inserts are acknowledged", async || (total() >= goal).then_some(())).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        server = Server::start(dir.path()).await;
        check(&server, &acknowledged, round).await;
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Checks that every writer's rows have no gaps and no duplicates, at least up to the last acknowledged one.
/// The row after it may exist too: its acknowledgement was lost, and the writer continues after it.
async fn check(server: &Server, acknowledged: &[Arc<AtomicI64>], round: usize) {
    let client = server.connect().await;
    for (writer, at) in (0_i64..).zip(acknowledged) {
        let query = "SELECT count(*), coalesce(max(n), 0), count(DISTINCT n) FROM log \
                     WHERE writer = $1";
        let row = client.query_one(query, &[&writer]).await.unwrap();
        let (count, last, distinct): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let sure = at.load(Ordering::SeqCst);
        assert!(last == sure || last == sure + 1, "round {round}: {last} of {sure} are there");
        assert_eq!((count, distinct), (last, last), "round {round}: writer {writer} has gaps");
        at.store(last, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn ddl_deletes_and_snapshots_survive_kill_9() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (k int PRIMARY KEY, v text);
             INSERT INTO app.t VALUES (1, 'a'), (2, 'b'), (3, 'c');
             UPDATE app.t SET v = 'B' WHERE k = 2; DELETE FROM app.t WHERE k = 3;
             ALTER TABLE app.t ADD COLUMN w int DEFAULT 7; CREATE VIEW v AS SELECT k, w FROM app.t;
             CREATE TABLE gone (x int); DROP TABLE gone; BACKUP;
             ALTER SYSTEM SET time_travel_retention_ms = 700000;",
        )
        .await
        .unwrap();
    server.kill();

    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let rows = client.query("SELECT k, v, w FROM app.t ORDER BY k", &[]).await.unwrap();
    let rows: Vec<(i32, &str, i32)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(rows, [(1, "a", 7), (2, "B", 7)]);
    let count: i64 = client.query_one("SELECT count(*) FROM v", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
    assert!(client.query("SELECT * FROM gone", &[]).await.is_err());
    let id: i64 = client
        .query_one("SELECT meta_snapshot_id FROM rw_meta_snapshot", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(id, 1);
    let id: i64 = client.query_one("BACKUP", &[]).await.unwrap().get(0);
    assert_eq!(id, 2);
}
