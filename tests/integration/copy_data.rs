//! Snapshots that survive the loss of the data directory, as they include copies of their data files.

use std::path::{Path, PathBuf};

use crate::harness::{
    Server, data_files, files_below, lose_meta_store, restore, risectl, run, sql, sql_error,
    tempdir,
};

const LARGE: &str = "CREATE TABLE large AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)";
const MORE: &str = "CREATE TABLE more AS SELECT g AS a FROM generate_series(1, 2000) AS g(g)";

/// Paths of the copies in the backup directory.
fn copies(dir: &Path) -> Vec<PathBuf> {
    let files = files_below(&dir.join("store/state_store/backup/data"));
    files.into_iter().map(|(path, _)| path).collect()
}

#[tokio::test]
async fn a_snapshot_with_copies_is_restored_without_the_data_directory() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--compaction", "false"]).await;
    sql(&server, LARGE).await;
    sql(&server, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1), (2);").await;
    assert_eq!(sql(&server, "BACKUP WITH (copy_data = true, remarks = 'far')").await, "1");
    let told = "SELECT copy_data, remarks FROM rw_meta_snapshot";
    assert_eq!(sql(&server, told).await, "t|far");
    server.kill();
    lose_meta_store(dir.path());
    std::fs::remove_dir_all(dir.path().join("store/state_store/hummock_001")).unwrap();

    let said = restore(dir.path(), 1, &[], &[]).await.refused();
    assert!(said.contains("referenced objects not found"), "{said}");
    let elsewhere = format!("fs://{}", dir.path().join("elsewhere").display());
    let flags = [("--hummock-storage-url", elsewhere.as_str())];
    let said = restore(dir.path(), 1, &flags, &["--copy-data", "--dry-run"]).await.ok();
    assert!(said.contains("to be copied          1 with "), "{said}");
    assert!(!dir.path().join("elsewhere").exists());
    restore(dir.path(), 1, &flags, &["--copy-data"]).await.ok();
    let state_store = format!("hummock+{elsewhere}");
    let server = Server::start_with(dir.path(), &["--state-store", &state_store]).await;
    assert_eq!(sql(&server, "SELECT sum(a) FROM large").await, "500500");
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
    sql(&server, "INSERT INTO t VALUES (3)").await;
    assert_eq!(sql(&server, "BACKUP").await, "2");
}

#[tokio::test]
async fn only_new_files_are_copied_and_the_last_snapshot_takes_its_copies_along() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--compaction", "false"]).await;
    sql(&server, LARGE).await;
    risectl(&server, &["backup-meta", "--copy-data"]).await.ok();
    let first = copies(dir.path());
    assert_eq!(first.len(), data_files(dir.path()).len());
    let written = std::fs::metadata(&first[0]).unwrap().modified().unwrap();
    sql(&server, MORE).await;
    assert_eq!(sql(&server, "BACKUP").await, "2");
    assert_eq!(copies(dir.path()), first, "a plain backup copies nothing");
    assert_eq!(sql(&server, "BACKUP WITH (copy_data)").await, "3");
    assert_eq!(copies(dir.path()).len(), first.len() + 1);
    assert_eq!(std::fs::metadata(&first[0]).unwrap().modified().unwrap(), written);

    // Leftovers of a failed backup are deleted with the next snapshot that has copies.
    let orphan = dir.path().join("store/state_store/backup/data/987654.data");
    std::fs::write(&orphan, "nobody names it").unwrap();
    sql(&server, "DELETE META SNAPSHOTS 2").await;
    assert!(orphan.exists());
    sql(&server, "DELETE META SNAPSHOTS 3").await;
    assert_eq!(copies(dir.path()), first);
    sql(&server, "DELETE META SNAPSHOTS 1").await;
    assert_eq!(copies(dir.path()), [] as [PathBuf; 0]);
    assert_eq!(data_files(dir.path()).len(), 2);
}

#[tokio::test]
async fn data_is_copied_to_another_location_in_several_tries() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--compaction", "false"]).await;
    sql(&server, LARGE).await;
    sql(&server, MORE).await;
    assert_eq!(sql(&server, "BACKUP").await, "1");
    assert!(server.stop().await.success());
    lose_meta_store(dir.path());
    // As left by an earlier attempt: one of the files exists.
    let (files, new) = (data_files(dir.path()), dir.path().join("new/moved"));
    std::fs::create_dir_all(&new).unwrap();
    let there = new.join(files[0].file_name().unwrap());
    std::fs::copy(&files[0], &there).unwrap();
    let written = std::fs::metadata(&there).unwrap().modified().unwrap();
    let url = format!("fs://{}", dir.path().join("new").display());
    let flags = [("--hummock-storage-url", url.as_str()), ("--hummock-storage-directory", "moved")];
    let said = restore(dir.path(), 1, &flags, &["--copy-data"]).await.ok();
    assert!(said.contains("1 are there"), "{said}");
    assert_eq!(std::fs::metadata(&there).unwrap().modified().unwrap(), written);
    let state_store = format!("hummock+{url}");
    let flags = ["--state-store", &state_store, "--data-directory", "moved"];
    let server = Server::start_with(dir.path(), &flags).await;
    assert_eq!(sql(&server, "SELECT sum(a) FROM large").await, "500500");
    assert_eq!(sql(&server, "SELECT count(*) FROM more").await, "2000");
}

#[tokio::test]
async fn copies_alone_are_verified_where_no_data_is_named() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, LARGE).await;
    sql(&server, "BACKUP WITH (copy_data)").await;
    assert!(server.stop().await.success());
    std::fs::remove_dir_all(dir.path().join("store/state_store/hummock_001")).unwrap();
    let url = format!("fs://{}", dir.path().join("store/state_store").display());
    let program = env!("CARGO_BIN_EXE_risectl");
    let args = ["meta", "verify-meta-snapshot", "1", "--level", "checksum"];
    let args = [&args[..], &["--backup-storage-url", &url]].concat();
    run(program, &args, "").await.ok();
    let copy = &copies(dir.path())[0];
    std::fs::remove_file(copy).unwrap();
    let ended = run(program, &args, "").await;
    assert!(ended.stdout.contains("damaged: referenced objects not found"), "{}", ended.stdout);
    assert!(ended.refused().contains("1 of the meta snapshots are damaged"));
}

#[tokio::test]
async fn a_restored_copy_takes_the_snapshots_over_and_they_can_be_taken_back() {
    let dir = tempdir();
    let first = Server::start(dir.path()).await;
    sql(&first, LARGE).await;
    sql(&first, "BACKUP").await;
    let elsewhere = format!("fs://{}", dir.path().join("elsewhere").display());
    let other = tempdir();
    let meta = other.path().join("meta.db").display().to_string();
    let flags = [("--hummock-storage-url", elsewhere.as_str()), ("--sql-endpoint", &meta)];
    let said = restore(dir.path(), 1, &flags, &["--copy-data"]).await.ok();
    assert!(said.contains("give this one --overwrite-backup-storage-directory"), "{said}");
    let second = Server::start_on(other.path(), &meta, &elsewhere).await;
    sql(&second, "BACKUP").await;
    for statement in ["BACKUP", "DELETE META SNAPSHOT 1"] {
        let said = sql_error(&first, statement).await;
        assert!(said.contains("55000") && said.contains("taken over"), "{said}");
        assert!(said.contains("HINT:  give one of the two"), "{said}");
    }
    sql(&second, "ALTER SYSTEM SET backup_storage_directory = 'second'").await;
    sql(&first, "ALTER SYSTEM SET backup_storage_directory = 'backup'").await;
    let listed = "SELECT count(*) FROM rw_meta_snapshot";
    sql(&first, "BACKUP").await;
    sql(&second, "BACKUP").await;
    assert_eq!(
        (sql(&first, listed).await, sql(&second, listed).await),
        ("3".to_owned(), "1".to_owned())
    );
}

#[tokio::test]
async fn copies_of_two_lives_are_told_apart() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int, b text); BACKUP").await;
    assert!(server.stop().await.success());
    let backup = format!("fs://{}", dir.path().join("store/state_store").display());
    let mut lives = vec![];
    for life in ["x", "y"] {
        let own = dir.path().join(life);
        let (meta, data) =
            (own.join("meta.db").display().to_string(), format!("fs://{}", own.display()));
        std::fs::create_dir(&own).unwrap();
        let flags = [("--hummock-storage-url", data.as_str()), ("--sql-endpoint", &meta)];
        restore(dir.path(), 1, &flags, &["--copy-data"]).await.ok();
        let server = Server::start_on(&own, &meta, &data).await;
        sql(&server, "ALTER SYSTEM SET backup_storage_directory = 'backup'").await;
        // Files of the same number and size but different content.
        let fill =
            format!("INSERT INTO t SELECT g, '{life}' FROM generate_series(1, 1000) AS g(g)");
        sql(&server, &fill).await;
        let id = sql(&server, "BACKUP WITH (copy_data = true)").await;
        assert!(server.stop().await.success());
        std::fs::remove_dir_all(&own).unwrap();
        lives.push((life, id));
    }
    for (life, id) in lives {
        let verify = ["meta", "verify-meta-snapshot", &id, "--level", "checksum"];
        let args = [&verify[..], &["--backup-storage-url", &backup]].concat();
        run(env!("CARGO_BIN_EXE_risectl"), &args, "").await.ok();
        let own = tempdir();
        let meta = own.path().join("meta.db").display().to_string();
        let data = format!("fs://{}", own.path().display());
        let flags = [("--hummock-storage-url", data.as_str()), ("--sql-endpoint", &meta)];
        restore(dir.path(), id.parse().unwrap(), &flags, &["--copy-data"]).await.ok();
        let server = Server::start_on(own.path(), &meta, &data).await;
        assert_eq!(
            sql(&server, "SELECT count(*), min(b), max(b) FROM t").await,
            format!("1000|{life}|{life}")
        );
    }
}
