//! Reading the past while the present changes, with the files it needs.

use crate::harness::{Server, files_below, sql, sql_error, tempdir};

/// Query for the current epoch.
const NOW: &str = "SELECT max_committed_epoch FROM rw_catalog.rw_hummock_current_version";

async fn at(server: &Server, epoch: &str, query: &str) -> String {
    sql(server, &format!("SET QUERY_EPOCH = {epoch}; {query}")).await
}

#[tokio::test]
async fn a_dropped_table_is_read_at_its_epoch_after_a_restart() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, 'y');").await;
    sql(&server, "BACKUP").await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    sql(&server, "DROP TABLE t").await;
    let rows = "SELECT * FROM t ORDER BY a";
    assert_eq!(at(&server, &epoch, rows).await, "1|x\n2|y");
    assert!(sql_error(&server, rows).await.contains("42P01"));
    server.kill();
    let server = Server::start(dir.path()).await;
    assert_eq!(at(&server, &epoch, rows).await, "1|x\n2|y");
    assert!(at(&server, &epoch, "\\d t").await.contains("b|text"));
}

#[tokio::test]
async fn two_epochs_of_one_snapshot_give_two_answers() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2);")
        .await;
    let first = sql(&server, NOW).await;
    sql(
        &server,
        "UPDATE t SET v = v * 10; DELETE FROM t WHERE a = 2; INSERT INTO t VALUES (3, 3);",
    )
    .await;
    let second = sql(&server, NOW).await;
    sql(&server, "BACKUP; TRUNCATE t;").await;
    let rows = "SELECT * FROM t ORDER BY a";
    assert_eq!(at(&server, &first, rows).await, "1|1\n2|2");
    assert_eq!(at(&server, &second, rows).await, "1|10\n3|3");
    assert_eq!(sql(&server, rows).await, "");
}

#[tokio::test]
async fn files_of_a_snapshot_survive_truncate_and_drop() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "CREATE TABLE u AS SELECT a FROM t").await;
    sql(&server, "BACKUP").await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    let data = dir.path().join("store/state_store/hummock_001");
    let before: Vec<_> = files_below(&data).into_iter().filter(is_data).collect();
    assert!(!before.is_empty());
    sql(&server, "DELETE FROM t WHERE a > 500; TRUNCATE t; DROP TABLE t; DROP TABLE u; FLUSH")
        .await;
    server.kill();
    let server = Server::start(dir.path()).await;
    let after = files_below(&data);
    assert!(before.iter().all(|file| after.contains(file)), "a file went away");
    let sums = "SELECT sum(t.a), count(*) FROM t JOIN u ON t.a = u.a";
    assert_eq!(at(&server, &epoch, sums).await, "500500|1000");
}

fn is_data((path, _): &(std::path::PathBuf, u64)) -> bool {
    path.extension().is_some_and(|extension| extension == "data")
}

#[tokio::test]
async fn epochs_that_no_snapshot_holds_are_refused_with_the_nearest_that_one_does() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let said = sql_error(&server, "SET QUERY_EPOCH = 4000000000000000").await;
    assert!(said.contains("backup include epoch 4000000000000000 not found"), "{said}");
    assert!(said.contains("There is no meta snapshot yet"), "{said}");
    sql(&server, "CREATE TABLE t (a int); BACKUP;").await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    let beyond = epoch.parse::<u64>().unwrap() + 1;
    let said = sql_error(&server, &format!("SET QUERY_EPOCH = {beyond}")).await;
    assert!(said.contains("22023"), "{said}");
    assert!(said.contains("HINT:  Nearest valid ranges: ") && said.contains(&epoch), "{said}");
}

#[tokio::test]
async fn a_damaged_snapshot_cannot_be_read_and_says_so() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); BACKUP;").await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    let file = dir.path().join("store/state_store/backup/1.snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&file, bytes).unwrap();
    let said = sql_error(&server, &format!("SET QUERY_EPOCH = {epoch}")).await;
    assert!(said.contains("1.snapshot") && said.contains("damaged"), "{said}");
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "0");
}
