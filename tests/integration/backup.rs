//! Snapshots by `risectl` and by SQL: creating, listing and deleting them.

use crate::harness::{Server, risectl, run, sql, tempdir};

#[tokio::test]
async fn risectl_takes_lists_and_deletes_snapshots() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);").await;
    let said = risectl(&server, &["backup-meta"]).await.ok();
    assert_eq!(said.trim_end().rsplit(' ').next(), Some("1"), "{said}");
    assert!(said.contains("backup job succeeded: job 1"), "{said}");
    let said = risectl(&server, &["backup-meta", "--remarks", "before the fix"]).await.ok();
    assert!(said.contains("backup job succeeded: job 2"), "{said}");
    assert_eq!(sql(&server, "BACKUP").await, "3");

    let listed = risectl(&server, &["list-meta-snapshots"]).await.ok();
    assert!(listed.contains("before the fix") && listed.contains("(3 rows)"), "{listed}");
    let json = risectl(&server, &["list-meta-snapshots", "--json"]).await.ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ids: Vec<_> = json.as_array().unwrap().iter().map(|s| s["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    let remarks = "SELECT coalesce(remarks, '-') FROM rw_meta_snapshot ORDER BY meta_snapshot_id";
    assert_eq!(sql(&server, remarks).await, "-\nbefore the fix\n-");

    // The files are at the documented paths, and the manifest lists them.
    let directory = dir.path().join("store/state_store/backup");
    let manifest = std::fs::read_to_string(directory.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["snapshot_metadata"].as_array().unwrap().len(), 3);
    assert!((1..=3).all(|id| directory.join(format!("{id}.snapshot")).is_file()));

    let said = risectl(&server, &["delete-meta-snapshots", "9", "1"]).await.refused();
    assert!(said.contains("meta snapshot 9 not found"), "{said}");
    assert!(said.contains("HINT: the meta snapshots in"), "{said}");
    let ids = "SELECT meta_snapshot_id FROM rw_meta_snapshot ORDER BY 1";
    assert_eq!(sql(&server, ids).await, "1\n2\n3");
    risectl(&server, &["delete-meta-snapshots", "1", "2"]).await.ok();
    assert_eq!(sql(&server, ids).await, "3");
    assert!(!directory.join("1.snapshot").exists() && !directory.join("2.snapshot").exists());
    assert_eq!(sql(&server, "BACKUP").await, "4");
    risectl(&server, &["delete-meta-snapshots", "--snapshot-ids", "3,4"]).await.ok();
    assert_eq!(sql(&server, ids).await, "");
    let said = risectl(&server, &["delete-meta-snapshots", "3"]).await.refused();
    assert!(said.contains("meta snapshot 3 not found"), "{said}");
}

#[tokio::test]
async fn ids_rise_over_restarts_and_are_never_used_twice() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "BACKUP").await, "1");
    sql(&server, "DELETE META SNAPSHOTS 1").await;
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "BACKUP").await, "2");
    sql(&server, "DELETE META SNAPSHOTS 2").await;
    server.kill();
    let server = Server::start(dir.path()).await;
    let id: u64 = sql(&server, "BACKUP").await.parse().unwrap();
    assert!(id >= 3, "{id} was used before");
}

#[tokio::test]
async fn the_tag_of_each_statement_is_the_documented_one() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let (host, port) = (server.sql.ip().to_string(), server.sql.port().to_string());
    let script = "CREATE TABLE t (a int);
        INSERT INTO t VALUES (1), (2);
        UPDATE t SET a = 3;
        DELETE FROM t WHERE a = 1;
        ALTER SYSTEM SET time_travel_retention_ms = 700000;
        SET QUERY_EPOCH = 0;
        BACKUP;
        DELETE META SNAPSHOTS 1;
        FLUSH;
        TRUNCATE t;
        DROP TABLE t;";
    let args = ["-X", "-h", &host, "-p", &port, "-U", "root", "-d", "dev"];
    let said = run("psql", &args, script).await.ok();
    let expected = "CREATE TABLE\nINSERT 0 2\nUPDATE 2\nDELETE 0\nALTER_SYSTEM\nSET\n \
                    snapshot_id \n-------------\n           1\n(1 row)\n\n\
                    DELETE_META_SNAPSHOTS\nFLUSH\nTRUNCATE TABLE\nDROP TABLE\n";
    assert_eq!(said, expected);
}

#[tokio::test]
async fn risectl_without_a_server_says_where_it_looked() {
    let args = ["meta", "backup-meta", "--meta-addr", "http://127.0.0.1:1"];
    let said = run(env!("CARGO_BIN_EXE_risectl"), &args, "").await.refused();
    assert!(said.contains("cannot reach the meta role at http://127.0.0.1:1"), "{said}");
    assert!(said.contains("HINT: Check that the server runs and that RW_META_ADDR"), "{said}");
    // The same commands are a subcommand of the server's binary.
    let args = ["risectl", "meta", "list-meta-snapshots", "--meta-addr", "127.0.0.1:1"];
    let said = run(env!("CARGO_BIN_EXE_tidemark"), &args, "").await.refused();
    assert!(said.contains("cannot reach the meta role"), "{said}");
}

#[tokio::test]
async fn a_damaged_manifest_is_named_and_nothing_is_overwritten() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "BACKUP").await;
    let manifest = dir.path().join("store/state_store/backup/manifest.json");
    std::fs::write(&manifest, "{ not json").unwrap();
    let said = risectl(&server, &["backup-meta"]).await.refused();
    assert!(said.contains("manifest.json is damaged"), "{said}");
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), "{ not json");
    let said = risectl(&server, &["list-meta-snapshots"]).await.refused();
    assert!(said.contains("manifest.json is damaged"), "{said}");
    sql(&server, "CREATE TABLE t (a int)").await;
}
