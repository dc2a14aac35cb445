//! `risectl meta verify-meta-snapshot`: intact snapshots, damaged ones, and ones that cannot be checked.

use crate::harness::{Server, data_files, files_below, risectl, run, sql, tempdir};

const FILL: &str = "CREATE TABLE large AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)";
const FOUND: &str = "SELECT verify_level, verify_coverage, verify_result, \
                     verified_at BETWEEN now() - interval '1 hour' AND now() + interval '1 minute' \
                     FROM rw_meta_snapshot ORDER BY meta_snapshot_id";

#[tokio::test]
async fn what_was_found_is_printed_and_remembered() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--compaction", "false"]).await;
    sql(&server, FILL).await;
    sql(&server, "BACKUP; BACKUP").await;
    assert_eq!(sql(&server, FOUND).await, "|||\n|||");
    risectl(&server, &["verify-meta-snapshot", "2"]).await.ok();
    assert_eq!(sql(&server, FOUND).await, "|||\nobjects|all|ok|t");
    let args =
        ["verify-meta-snapshot", "--all", "--level", "checksum", "--subset", "1/1", "--json"];
    let said = risectl(&server, &args).await.ok();
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json[1]["snapshot_id"], 2);
    assert_eq!(json[1]["result"], "ok");
    let listed = risectl(&server, &["list-meta-snapshots"]).await.ok();
    assert!(listed.contains("checksum") && listed.contains("verify_result"), "{listed}");

    let file = data_files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    risectl(&server, &["verify-meta-snapshot", "1"]).await.ok();
    let ended = risectl(&server, &["verify-meta-snapshot", "1", "--level", "checksum"]).await;
    assert!(ended.stdout.contains("(does not match its checksum)"), "{}", ended.stdout);
    assert!(ended.refused().contains("1 of the meta snapshots are damaged"));
    let found = sql(&server, FOUND).await;
    assert!(found.starts_with("checksum|all|damaged: referenced objects"), "{found}");

    let said = risectl(&server, &["verify-meta-snapshot", "2", "9"]).await.refused();
    assert!(said.contains("meta snapshot 9 not found"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_never_well() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, FILL).await;
    sql(&server, "BACKUP").await;
    assert!(server.stop().await.success());
    let url = format!("fs://{}", dir.path().join("store/state_store").display());
    let nowhere = format!("fs://{}", dir.path().join("nowhere").display());
    let program = env!("CARGO_BIN_EXE_risectl");
    let verify = ["meta", "verify-meta-snapshot", "1"];
    let here = ["--backup-storage-url", &url];
    run(program, &[&verify[..], &here].concat(), "").await.ok();
    let no_server = ["--meta-addr", "http://127.0.0.1:1"];
    let no_backups = ["--backup-storage-url", &nowhere];
    let no_data = [&here[..], &["--hummock-storage-url", &nowhere]].concat();
    for flags in [&no_server[..], &no_backups, &no_data] {
        let ended = run(program, &[&verify[..], flags].concat(), "").await;
        assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("could not verify: "), "{}", ended.stderr);
    }
    let server = Server::start(dir.path()).await;
    let found = sql(&server, FOUND).await;
    assert!(found.starts_with("objects|all|could not verify: "), "{found}");
}

#[tokio::test]
async fn a_drill_restores_asks_and_touches_nothing() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, FILL).await;
    sql(&server, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1), (2);").await;
    sql(&server, "BACKUP; DROP TABLE t; DROP TABLE large").await;
    assert!(server.stop().await.success());
    let store = dir.path().join("store");
    let before = files_below(&store);
    let url = format!("fs://{}", store.join("state_store").display());
    let program = env!("CARGO_BIN_EXE_risectl");
    let drill = ["meta", "drill", "1", "--checksum", "--backup-storage-url", &url];
    let drill = [&drill[..], &["--hummock-storage-url", &url]].concat();
    let queries = ["--sql", "SELECT sum(a) AS total FROM large", "--sql", "SELECT count(*) FROM t"];
    let said = run(program, &[&drill[..], &queries].concat(), "").await.ok();
    for expected in
        ["total", "500500", "restore into a scratch store", "drill succeeded: snapshot 1"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let large = "INSERT INTO large SELECT g FROM generate_series(1, 1000) AS g(g)";
    for write in [large, "DROP TABLE t", &format!("ROLLBACK; {large}")] {
        let said = run(program, &[&drill[..], &["--sql", write]].concat(), "").await.refused();
        assert!(said.contains("the restored cluster does not answer: "), "{said}");
    }
    assert_eq!(files_below(&store), before);
}

#[tokio::test]
async fn a_selftest_says_what_a_storage_can_do() {
    let dir = tempdir();
    let url = format!("fs://{}", dir.path().display());
    let program = env!("CARGO_BIN_EXE_risectl");
    let said = run(program, &["selftest", &url], "").await.ok();
    assert!(said.contains("conditional replace  ok"), "{said}");
    assert_eq!(said.lines().count(), 6);
    assert!(files_below(dir.path()).is_empty());
    let nowhere = format!("{url}/nowhere");
    let said = run(program, &["selftest", &nowhere], "").await.refused();
    assert!(said.contains("nowhere does not exist"), "{said}");
}
