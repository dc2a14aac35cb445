//! Moving the place of the backups with `ALTER SYSTEM`.

use crate::harness::{Server, psql, sql, sql_error, tempdir};

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

    // The choice outlives the server.
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, count).await, "1");
    sql(&server, "ALTER SYSTEM SET backup_storage_directory TO DEFAULT").await;
    let ids = "SELECT meta_snapshot_id FROM rw_meta_snapshot ORDER BY 1";
    assert_eq!(sql(&server, ids).await, "1\n2");
    assert_eq!(sql(&server, "BACKUP").await, "4");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_not_taken() {
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
        // psql prints the statement itself under LINE; the server's own words hold nothing of it.
        let words = said.lines().filter(|line| !line.starts_with("LINE"));
        assert!(!words.collect::<String>().contains("topsecret"), "{said}");
    }
    assert!(!server.log().contains("topsecret"), "{}", server.log());
}
