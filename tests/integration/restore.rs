//! `risectl meta restore-meta`: refusals change nothing, and successful restores.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{
    Server, files_below, lose_meta_store, meta_store, psql, restore, sql, sql_error, tempdir,
    wait_until,
};

/// A stopped cluster that has lost its meta store. In snapshot 1, t has two rows; in snapshot 2, three.
async fn lost_cluster() -> TempDir {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (k int PRIMARY KEY, v text)").await;
    // A table large enough for a data file; small ones are inline.
    sql(&server, "CREATE TABLE large AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "INSERT INTO t VALUES (1, 'one'), (2, 'two'); BACKUP;").await;
    sql(&server, "INSERT INTO t VALUES (3, 'three'); BACKUP;").await;
    sql(&server, "DROP TABLE t; CREATE TABLE later (x int);").await;
    assert!(server.stop().await.success());
    lose_meta_store(dir.path());
    dir
}

/// The files of the stores. Empty journals are excluded: SQLite creates one when it opens a store.
fn files_with_content(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = files_below(&dir.join("store"));
    files.retain(|(path, bytes)| *bytes > 0 || !path.to_string_lossy().ends_with("-wal"));
    files
}

/// Runs a restore that is refused; asserts that neither the meta store nor the data changed.
async fn refused(dir: &Path, id: u64, flags: &[(&str, &str)], switches: &[&str]) -> String {
    let before = files_with_content(dir);
    let said = restore(dir, id, flags, switches).await.refused();
    assert_eq!(files_with_content(dir), before, "{said}");
    said
}

fn one_of_the_data_files(dir: &Path) -> std::path::PathBuf {
    let files = files_below(&dir.join("store/state_store/hummock_001"));
    let mut data = files.into_iter().map(|(path, _)| path);
    data.find(|path| path.extension().is_some_and(|e| e == "data")).unwrap()
}

#[tokio::test]
async fn the_restored_server_answers_as_at_the_snapshot_and_goes_on() {
    let dir = lost_cluster().await;
    let said = restore(dir.path(), 1, &[], &["--validate-integrity=checksum"]).await.ok();
    for expected in ["Succeed integrity validation.", "command succeeded", "public.t (2 rows)"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT * FROM t ORDER BY k").await, "1|one\n2|two");
    assert_eq!(sql(&server, "SHOW TABLES").await, "large\nt");

    // Both snapshots still exist, and both pasts can be read.
    let query = "SELECT max_committed_epoch FROM rw_meta_snapshot ORDER BY 1";
    let epochs = sql(&server, query).await;
    let newest = epochs.lines().last().unwrap().to_owned();
    let counts = format!("SET QUERY_EPOCH = {newest}; SELECT count(*) FROM t");
    assert_eq!(sql(&server, &counts).await, "3");

    // Ids and epochs continue above all that were ever used.
    assert_eq!(sql(&server, "BACKUP").await, "3");
    sql(&server, "INSERT INTO t VALUES (9, 'nine')").await;
    let now = "SELECT max_committed_epoch FROM rw_catalog.rw_hummock_current_version";
    let now: u64 = sql(&server, now).await.parse().unwrap();
    assert!(now > newest.parse().unwrap(), "{now} is not after {newest}");
    assert_eq!(sql(&server, "SELECT sum(k) FROM t").await, "12");
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT sum(k) FROM t").await, "12");
}

#[tokio::test]
async fn the_older_spellings_of_the_flags_are_understood() {
    let dir = lost_cluster().await;
    let state = format!("fs://{}", dir.path().join("store/state_store").display());
    let endpoint = format!("sqlite://{}?mode=rwc", meta_store(dir.path()).display());
    let args = [
        "meta",
        "restore-meta",
        "--meta-store-type",
        "sql",
        "--sql-endpoint",
        &endpoint,
        "--meta-snapshot-id",
        "2",
        "--storage-url",
        &state,
        "--storage-directory",
        "backup",
        "--hummock-storage-url",
        &format!("hummock+{state}"),
        "--hummock-storage-dir",
        "hummock_001",
    ];
    crate::harness::run(env!("CARGO_BIN_EXE_risectl"), &args, "").await.ok();
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "3");
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_touches_nothing() {
    let dir = lost_cluster().await;
    let before = files_below(&dir.path().join("store"));
    let said = restore(dir.path(), 2, &[], &["--dry-run"]).await.ok();
    for expected in ["snapshot", "public.t (3 rows)", "will be lost", "Complete dry run."] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(files_below(&dir.path().join("store")), before);
    restore(dir.path(), 2, &[], &[]).await.ok();
}

#[tokio::test]
async fn an_id_that_does_not_exist_is_refused_with_those_that_do() {
    let dir = lost_cluster().await;
    let said = refused(dir.path(), 7, &[], &[]).await;
    assert!(said.contains("snapshot id 7 not found"), "{said}");
    assert!(said.contains("are 1, 2"), "{said}");
    let said = refused(dir.path(), 7, &[], &["--dry-run"]).await;
    assert!(said.contains("snapshot id 7 not found"), "{said}");
}

#[tokio::test]
async fn a_store_that_is_not_empty_is_refused_and_left_as_it_is() {
    let dir = lost_cluster().await;
    restore(dir.path(), 1, &[], &[]).await.ok();
    let said = refused(dir.path(), 2, &[], &[]).await;
    assert!(said.contains("Meta storage is not empty before being restored"), "{said}");
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_store_that_a_server_uses_is_refused() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); BACKUP;").await;
    let said = restore(dir.path(), 1, &[], &[]).await.refused();
    assert!(said.contains("is in use by another process"), "{said}");
    assert!(said.contains("HINT: stop the server that uses it"), "{said}");
    sql(&server, "INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn a_missing_or_damaged_snapshot_is_refused_by_name() {
    let dir = lost_cluster().await;
    let snapshot = dir.path().join("store/state_store/backup/1.snapshot");
    let good = std::fs::read(&snapshot).unwrap();
    for at in [3, good.len() / 3, good.len() / 2, good.len() - 20] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&snapshot, bad).unwrap();
        let said = refused(dir.path(), 1, &[], &[]).await;
        assert!(said.contains("1.snapshot") && said.contains("is damaged"), "byte {at}: {said}");
        assert!(said.contains("HINT: "), "{said}");
    }
    std::fs::write(&snapshot, &good[..good.len() / 2]).unwrap();
    assert!(refused(dir.path(), 1, &[], &[]).await.contains("1.snapshot"));
    std::fs::remove_file(&snapshot).unwrap();
    let said = refused(dir.path(), 1, &[], &[]).await;
    assert!(said.contains("1.snapshot"), "{said}");
    // The other snapshot is not affected.
    restore(dir.path(), 2, &[], &[]).await.ok();
}

#[tokio::test]
async fn a_damaged_manifest_is_refused() {
    let dir = lost_cluster().await;
    let manifest = dir.path().join("store/state_store/backup/manifest.json");
    std::fs::write(&manifest, "{\"manifest_id\": 3, ").unwrap();
    let said = refused(dir.path(), 1, &[], &[]).await;
    assert!(said.contains("manifest.json is damaged"), "{said}");
}

#[tokio::test]
async fn a_missing_data_file_is_refused_by_name() {
    let dir = lost_cluster().await;
    let data = one_of_the_data_files(dir.path());
    let aside = dir.path().join("aside");
    std::fs::rename(&data, &aside).unwrap();
    let said = refused(dir.path(), 2, &[], &[]).await;
    let id = data.file_stem().unwrap().to_str().unwrap();
    let expected = format!("referenced objects not found in object store: {{{id}}}, 1 in all");
    assert!(said.contains(&expected), "{said}");
    let said = refused(dir.path(), 2, &[], &["--dry-run"]).await;
    assert!(said.contains(&expected), "{said}");
    std::fs::rename(&aside, &data).unwrap();
    restore(dir.path(), 2, &[], &[]).await.ok();
}

#[tokio::test]
async fn a_data_file_of_another_size_or_content_is_refused() {
    let dir = lost_cluster().await;
    let data = one_of_the_data_files(dir.path());
    let good = std::fs::read(&data).unwrap();
    std::fs::write(&data, &good[..good.len() - 1]).unwrap();
    assert!(refused(dir.path(), 2, &[], &[]).await.contains("referenced objects"));
    // If the size is the same, only --validate-integrity=checksum finds the damage.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&data, bad).unwrap();
    let before = files_below(&dir.path().join("store"));
    let ended = restore(dir.path(), 2, &[], &["--validate-integrity=checksum"]).await;
    assert!(ended.stdout.contains("Fail integrity validation."), "{}", ended.stdout);
    assert!(ended.refused().contains("referenced objects are damaged"));
    assert_eq!(files_below(&dir.path().join("store")), before);
}

#[tokio::test]
async fn locations_that_are_not_those_of_the_snapshot_are_refused() {
    let dir = lost_cluster().await;
    let elsewhere = tempdir();
    let url = format!("fs://{}", elsewhere.path().display());
    let said = refused(dir.path(), 1, &[("--hummock-storage-url", &url)], &[]).await;
    assert!(said.contains("storage_url mismatch: ") && said.contains("HINT: "), "{said}");
    let said = refused(dir.path(), 1, &[("--hummock-storage-directory", "hummock_002")], &[]).await;
    assert!(said.contains("storage_directory mismatch: hummock_001 hummock_002"), "{said}");
    let said = refused(dir.path(), 1, &[("--backup-storage-directory", "nowhere")], &[]).await;
    assert!(said.contains("snapshot id 1 not found"), "{said}");
    assert!(said.contains("there are no meta snapshots in"), "{said}");
    let nowhere = format!("fs://{}/nowhere", elsewhere.path().display());
    refused(dir.path(), 1, &[("--backup-storage-url", &nowhere)], &[]).await;
    let secret = "s3://key:topsecret@host/bucket";
    let said = refused(dir.path(), 1, &[("--backup-storage-url", secret)], &[]).await;
    assert!(
        said.contains("names one bucket, without credentials") && !said.contains("topsecret"),
        "{said}"
    );
    assert!(files_below(elsewhere.path()).is_empty());
}

#[tokio::test]
async fn data_that_another_cluster_has_taken_since_is_refused() {
    let dir = lost_cluster().await;
    let lease = dir.path().join("store/state_store/hummock_001/lease.json");
    let text = std::fs::read_to_string(&lease).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["cluster_id"] = "somebody-else".into();
    // Makes it a lease of an older format, which has no checksum.
    for newer in ["promised", "sha256"] {
        json.as_object_mut().unwrap().remove(newer);
    }
    std::fs::write(&lease, json.to_string()).unwrap();
    let said = refused(dir.path(), 1, &[], &[]).await;
    assert!(said.contains("another cluster with id \"somebody-else\""), "{said}");
}

#[tokio::test]
async fn a_restore_runs_into_a_new_file_elsewhere_and_says_how_to_start() {
    let dir = lost_cluster().await;
    let other = dir.path().join("other/meta.db");
    let said =
        restore(dir.path(), 2, &[("--sql-endpoint", other.to_str().unwrap())], &[]).await.ok();
    assert!(said.contains("--sql-endpoint") && said.contains("meta.db"), "{said}");
    let state = format!("fs://{}", dir.path().join("store/state_store").display());
    let server = Server::start_on(dir.path(), other.to_str().unwrap(), &state).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "3");
}

#[tokio::test]
async fn the_old_cluster_is_deposed_by_the_restored_one() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); BACKUP;").await;
    let other = dir.path().join("other/meta.db");
    restore(dir.path(), 1, &[("--sql-endpoint", other.to_str().unwrap())], &[]).await.ok();
    let state = format!("fs://{}", dir.path().join("store/state_store").display());
    let restored_dir = tempdir();
    let restored = Server::start_on(restored_dir.path(), other.to_str().unwrap(), &state).await;
    for statement in ["DELETE META SNAPSHOT 1", "BACKUP"] {
        let said = sql_error(&server, statement).await;
        assert!(said.contains("55000") && said.contains("HINT"), "{said}");
    }
    assert_eq!(sql(&restored, "SELECT meta_snapshot_id FROM rw_meta_snapshot").await, "1");
    sql(&restored, "INSERT INTO t VALUES (2)").await;
    // The old server notices at the latest when it has to reserve numbers.
    let said = wait_until("the old server is deposed", async || {
        let insert = ["-v", "VERBOSITY=verbose", "-c", "INSERT INTO t VALUES (3)"];
        let ended = psql(&server, &insert, "").await;
        (ended.code != Some(0)).then_some(ended.stderr)
    });
    let said = said.await;
    assert!(said.contains("55000") && said.contains("restored into another"), "{said}");
    assert_eq!(sql(&restored, "SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_copied_bucket_is_restored_at_its_new_location() {
    let dir = lost_cluster().await;
    let (old, new) = (dir.path().join("store/state_store"), dir.path().join("new"));
    std::fs::rename(&old, &new).unwrap();
    let state = format!("fs://{}", new.display());
    let flags = [("--backup-storage-url", state.as_str()), ("--hummock-storage-url", &state)];
    let said = restore(dir.path(), 1, &flags, &[]).await.refused();
    assert!(
        said.contains("storage_url mismatch") && said.contains("--overwrite-hummock"),
        "{said}"
    );
    let overwrites = [&flags[..], &[("--overwrite-backup-storage-url", &state)]].concat();
    let switches = ["--overwrite-hummock-storage-endpoint", "--validate-integrity"];
    let said = restore(dir.path(), 1, &overwrites, &switches).await.ok();
    assert!(said.contains("Succeed integrity validation."), "{said}");
    let state_store = format!("hummock+{state}");
    let server = Server::start_with(dir.path(), &["--state-store", &state_store]).await;
    assert_eq!(sql(&server, "SELECT * FROM t ORDER BY k").await, "1|one\n2|two");
    assert_eq!(sql(&server, "SELECT count(*) FROM large").await, "1000");
    assert_eq!(sql(&server, "BACKUP").await, "3");
    assert!(new.join("backup/3.snapshot").is_file() && !old.exists());
}

#[tokio::test]
async fn a_dry_run_as_json_says_what_would_be_lost_and_what_the_target_holds() {
    let dir = lost_cluster().await;
    let said = restore(dir.path(), 1, &[], &["--dry-run", "--json"]).await.ok();
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(plan["snapshot"]["id"], 1);
    assert_eq!(plan["loss"]["newest"]["source"], "meta snapshot 2");
    let lost = serde_json::json!([{"name": "public.t", "rows_restored": 2, "rows_newest": 3}]);
    assert_eq!(plan["loss"]["tables"], lost);
    restore(dir.path(), 2, &[], &[]).await.ok();
    let ended = restore(dir.path(), 1, &[], &["--dry-run"]).await;
    assert!(ended.stdout.contains("(not empty: ") && ended.stdout.contains("public.large"));
    let said = ended.refused();
    assert!(said.contains("Meta storage is not empty before being restored"), "{said}");
}
