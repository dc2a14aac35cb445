//! Moving the backup location with `ALTER SYSTEM`.

use crate::harness::{Server, hummock, psql, risectl, run, sql, sql_error, tempdir, try_start};

const RISECTL: &str = env!("CARGO_BIN_EXE_risectl");

#[tokio::test]
async fn old_snapshots_go_out_of_sight_with_a_notice_and_come_back() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1);").await;
    assert_eq!(sql(&server, "BACKUP; BACKUP").await, "1\n2");
    let alter = "ALTER SYSTEM SET backup_storage_directory = 'elsewhere'";
    let ended = psql(&server, &["-c", alter], "").await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("NOTICE:  2 meta snapshots"), "{}", ended.stderr);
    let count = "SELECT count(*) FROM rw_meta_snapshot";
    assert_eq!(sql(&server, count).await, "0");
    assert_eq!(sql(&server, "BACKUP").await, "3");
    let elsewhere = dir.path().join("store/state_store/elsewhere/3.snapshot");
    assert!(elsewhere.is_file());

    // The setting survives a restart.
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, count).await, "1");
    sql(&server, "ALTER SYSTEM SET backup_storage_directory TO DEFAULT").await;
    let ids = "SELECT meta_snapshot_id FROM rw_meta_snapshot ORDER BY 1";
    assert_eq!(sql(&server, ids).await, "1\n2");
    assert_eq!(sql(&server, "BACKUP").await, "4");
}

#[tokio::test]
async fn a_location_that_cannot_be_written_is_not_taken() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "BACKUP").await;
    let file = dir.path().join("a_file");
    std::fs::write(&file, "not a directory").unwrap();
    let url = format!("fs://{}/below", file.display());
    let said = sql_error(&server, &format!("ALTER SYSTEM SET backup_storage_url = '{url}'")).await;
    assert!(said.contains("a_file"), "{said}");
    assert!(!said.contains("XX000"), "{said}");
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_meta_snapshot").await, "1");
    assert_eq!(sql(&server, "BACKUP").await, "2");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a directory");
}

#[tokio::test]
async fn secrets_in_urls_are_never_repeated() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--parallelism", "1"]).await;
    for url in ["s3://key:topsecret@host/bucket", "fs://key:topsecret@host/x", "topsecret"] {
        let statement = format!("ALTER SYSTEM SET backup_storage_url = '{url}'");
        let said = sql_error(&server, &statement).await;
        assert!(said.contains("22023: cannot parse parameter value"), "{said}");
        // psql prints the statement itself under LINE; the server's message must not contain any of it.
        let words = said.lines().filter(|line| !line.starts_with("LINE"));
        assert!(!words.collect::<String>().contains("topsecret"), "{said}");
    }
    assert!(!server.log().contains("topsecret"), "{}", server.log());
}

#[tokio::test]
async fn a_location_that_is_out_of_sight_is_not_empty() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--min-sst-retention-time-sec", "0"]).await;
    sql(&server, "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "BACKUP; DROP TABLE t; ALTER SYSTEM SET time_travel_retention_ms = 0").await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    // As if the backup file system were no longer mounted.
    let [backup, away] =
        ["backup", "away"].map(|name| dir.path().join("store/state_store").join(name));
    std::fs::rename(&backup, &away).unwrap();
    std::fs::create_dir(&backup).unwrap();
    for statement in ["BACKUP", "SELECT * FROM rw_meta_snapshot", "DELETE META SNAPSHOT 1"] {
        let said = sql_error(&server, statement).await;
        assert!(said.contains("has no manifest") && said.contains("HINT:  see whether"), "{said}");
    }
    let said = hummock(&server, &["trigger-full-gc", "-s", "0"]).await.refused();
    assert!(said.contains("has no manifest") && said.contains("forget-backup-location"), "{said}");
    let url = format!("fs://{}", dir.path().join("store/state_store").display());
    let offline = ["meta", "verify-meta-snapshot", "--all", "--backup-storage-url", &url];
    for ended in [
        risectl(&server, &["verify-meta-snapshot", "--all"]).await,
        run(RISECTL, &offline, "").await,
    ] {
        assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("has no manifest"), "{}", ended.stderr);
    }
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert!(sql_error(&server, "BACKUP").await.contains("has no manifest"));
    assert_eq!(std::fs::read_dir(&backup).unwrap().count(), 0);

    std::fs::remove_dir(&backup).unwrap();
    std::fs::rename(&away, &backup).unwrap();
    let then = format!("SET QUERY_EPOCH = {epoch}; SELECT count(*) FROM t");
    assert_eq!(sql(&server, &then).await, "1000");
    assert_eq!(sql(&server, "BACKUP").await, "2");
}

#[tokio::test]
async fn who_lost_its_snapshots_goes_on_in_another_location() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "BACKUP").await;
    let backup = dir.path().join("store/state_store/backup");
    std::fs::remove_dir_all(&backup).unwrap();
    assert!(sql_error(&server, "BACKUP").await.contains("has no manifest"));
    sql(&server, "ALTER SYSTEM SET backup_storage_directory = 'elsewhere'").await;
    let url = format!("fs://{}", dir.path().join("store/state_store").display());
    let location = ["--backup-storage-url", &url, "--backup-storage-directory", "backup"];
    risectl(&server, &[&["forget-backup-location"], &location[..]].concat()).await.ok();
    sql(&server, "ALTER SYSTEM SET backup_storage_directory = 'backup'").await;
    assert_eq!(sql(&server, "BACKUP").await, "2");
}

#[tokio::test]
async fn a_second_cluster_gets_nothing_from_the_snapshots_of_the_first() {
    let (one, two) = (tempdir(), tempdir());
    let first = Server::start(one.path()).await;
    sql(&first, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); BACKUP").await;
    let url = format!("fs://{}", one.path().join("store/state_store").display());
    let said = try_start(two.path(), &["--backup-storage-url", &url]).await.refused();
    assert!(said.contains("is the backup directory of another cluster"), "{said}");
    assert!(said.contains("HINT: Restore one of them"), "{said}");
    let second = Server::start(two.path()).await;
    let alter = format!("ALTER SYSTEM SET backup_storage_url = '{url}'");
    let said = sql_error(&second, &alter).await;
    assert!(said.contains("is the backup directory of another cluster"), "{said}");
    assert_eq!(sql(&second, "SELECT count(*) FROM rw_meta_snapshot").await, "0");
    sql(&second, "ALTER SYSTEM SET backup_storage_directory = 'second'").await;
    sql(&second, &alter).await;
    assert_eq!(sql(&second, "BACKUP").await, "1");
    assert_eq!(sql(&first, "SELECT meta_snapshot_id FROM rw_meta_snapshot").await, "1");
}

#[tokio::test]
async fn an_older_manifest_that_was_put_back_is_not_believed() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--min-sst-retention-time-sec", "0"]).await;
    sql(&server, "ALTER SYSTEM SET time_travel_retention_ms = 0; BACKUP").await;
    let manifest = dir.path().join("store/state_store/backup/manifest.json");
    let old = std::fs::read(&manifest).unwrap();
    sql(&server, "CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "BACKUP; DROP TABLE t").await;
    let epoch = "SELECT max(max_committed_epoch) FROM rw_meta_snapshot";
    let epoch = sql(&server, epoch).await;
    let new = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &old).unwrap();
    let refused = async |server: &Server| {
        for statement in ["BACKUP", "SELECT * FROM rw_meta_snapshot", "DELETE META SNAPSHOT 1"] {
            let said = sql_error(server, statement).await;
            assert!(said.contains("XX001") && said.contains("is an older one"), "{said}");
        }
        let said = hummock(server, &["trigger-full-gc", "-s", "0"]).await.refused();
        assert!(said.contains("is an older one"), "{said}");
    };
    refused(&server).await;
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    refused(&server).await;
    std::fs::write(&manifest, &new).unwrap();
    let then = format!("SET QUERY_EPOCH = {epoch}; SELECT count(*) FROM t");
    assert_eq!(sql(&server, &then).await, "1000");
    assert_eq!(sql(&server, "BACKUP").await, "3");
}
