//! Compaction and vacuum in the real programs: what they must not change, and what they must delete.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Server, files_below, hummock, psql, run, sql, tempdir};

async fn full_gc(server: &Server) -> String {
    hummock(server, &["trigger-full-gc", "-s", "0"]).await.ok()
}

fn data_files(dir: &Path) -> Vec<String> {
    let files = files_below(&dir.join("store/state_store/hummock_001")).into_iter();
    let names = files.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".data")).collect();
    names.sort();
    names
}

/// Waits until the server has reported that no session reads an older version.
async fn unpinned(server: &Server) {
    let older = "SELECT count(*) FROM rw_hummock_pinned_versions p, rw_hummock_version v \
                 WHERE p.min_pinned_version_id < v.version_id";
    crate::harness::wait_until("the pins to go", async || {
        (sql(server, older).await == "0").then_some(())
    })
    .await;
}

const FINGERPRINT: &str = "SELECT count(*), sum(k), sum(v), min(t), max(t) FROM a";

async fn at(server: &Server, epoch: &str) -> String {
    sql(server, &format!("SET QUERY_EPOCH = {epoch}; {FINGERPRINT}")).await
}

const NOW: &str = "SELECT max_committed_epoch FROM rw_catalog.rw_hummock_version";

/// Creates a table with a history of many small commits; returns some epochs with their expected contents.
async fn churned(server: &Server) -> Vec<(String, String)> {
    sql(server, "CREATE TABLE a (k int PRIMARY KEY, v int, t text)").await;
    sql(server, "INSERT INTO a SELECT g, g, 'x' || g FROM generate_series(1, 2000) AS g(g)").await;
    let mut seen = vec![];
    for round in 0..6 {
        let from = round * 100;
        let statements = format!(
            "UPDATE a SET v = v + 1 WHERE k BETWEEN {from} AND {from} + 300; \
             DELETE FROM a WHERE k % 50 = {round}; \
             INSERT INTO a VALUES ({from}, 0, 'again'), ({from} + 5000, 1, 'new'); \
             INSERT INTO a VALUES ({from} + 7000, 1, NULL)"
        );
        sql(server, &statements).await;
        seen.push((sql(server, NOW).await, sql(server, FINGERPRINT).await));
    }
    seen
}

#[tokio::test]
async fn no_epoch_answers_otherwise_after_compaction_and_vacuum() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let seen = churned(&server).await;
    sql(&server, "BACKUP").await;
    let report = hummock(&server, &["trigger-manual-compaction", "--table", "a"]).await.ok();
    assert!(report.contains("compaction succeeded"), "{report}");
    let alive = "SELECT count(*), sum(dead_rows) FROM rw_hummock_sstables WHERE died_epoch IS NULL";
    assert_eq!(sql(&server, alive).await, "1|0");
    full_gc(&server).await;
    assert_eq!(sql(&server, FINGERPRINT).await, seen.last().unwrap().1);
    for (epoch, expected) in &seen {
        assert_eq!(&at(&server, epoch).await, expected, "epoch {epoch}");
    }
    // Again after a restart, and in a later snapshot that includes the compaction.
    server.kill();
    let server = Server::start(dir.path()).await;
    sql(&server, "BACKUP").await;
    for (epoch, expected) in &seen {
        assert_eq!(&at(&server, epoch).await, expected, "epoch {epoch}");
    }
}

#[tokio::test]
async fn many_small_commits_are_compacted_by_themselves() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE a (k int PRIMARY KEY, v int, t text)").await;
    let inserts: String =
        (0..600).map(|k| format!("INSERT INTO a VALUES ({k}, 1, 'x');\n")).collect();
    sql(&server, &inserts).await;
    let alive = "SELECT count(*) FROM rw_hummock_sstables WHERE died_epoch IS NULL";
    let mut files = 600;
    for _ in 0..100 {
        files = sql(&server, alive).await.parse().unwrap();
        if files < 300 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(files < 300, "{files} files are still there");
    assert_eq!(sql(&server, FINGERPRINT).await, "600|179700|600|x|x");
}

/// Creates a table whose compaction takes a while, and one that is compacted after it.
async fn one_large_and_one_small(server: &Server) {
    sql(server, "CREATE TABLE a (k int PRIMARY KEY, v int, t text)").await;
    for from in [0, 150_000, 300_000, 450_000] {
        let rows = format!("generate_series({from}, {from} + 149999) AS g(g)");
        sql(server, &format!("INSERT INTO a SELECT g, 1, 'x' || g FROM {rows}")).await;
    }
    sql(server, "CREATE TABLE b (id int PRIMARY KEY, v text)").await;
    sql(server, "INSERT INTO b SELECT g, 'first' FROM generate_series(1, 10) AS g(g)").await;
}

#[tokio::test]
async fn rows_that_die_while_their_table_waits_for_a_compaction_stay_dead() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--compaction", "false"]).await;
    one_large_and_one_small(&server).await;
    let before = data_files(dir.path()).len();
    let compacted = async { hummock(&server, &["trigger-manual-compaction"]).await.ok() };
    let written = async {
        crate::harness::wait_until("the first table is being compacted", async || {
            let files = files_below(&dir.path().join("store/state_store/hummock_001"));
            let data = files.iter().filter(|(path, _)| path.to_string_lossy().contains(".data"));
            (data.count() > before).then_some(())
        })
        .await;
        sql(&server, "DELETE FROM b WHERE id <= 5; UPDATE b SET v = 'second' WHERE id > 5").await;
    };
    tokio::join!(compacted, written);
    let left = "SELECT count(*), count(DISTINCT id), min(id), min(v) FROM b";
    assert_eq!(sql(&server, left).await, "5|5|6|second");
    hummock(&server, &["trigger-manual-compaction"]).await.ok();
    assert_eq!(sql(&server, left).await, "5|5|6|second");
}

#[tokio::test]
async fn deletes_that_land_during_a_compaction_are_not_lost() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE a (k int, v int, t text)").await;
    sql(&server, "INSERT INTO a SELECT g, 1, 'x' FROM generate_series(1, 200000) AS g(g)").await;
    sql(&server, "INSERT INTO a SELECT g, 1, 'x' FROM generate_series(200001, 400000) AS g(g)")
        .await;
    let deletes: String =
        (1..=40).map(|n| format!("DELETE FROM a WHERE k % 997 = {n};\n")).collect();
    let (compacted, _) = tokio::join!(
        async {
            for _ in 0..3 {
                hummock(&server, &["trigger-manual-compaction"]).await.ok();
            }
        },
        sql(&server, &deletes)
    );
    let () = compacted;
    let left = (1..=400_000).filter(|k| !(1..=40).contains(&(k % 997))).count();
    assert_eq!(sql(&server, "SELECT count(*), sum(v) FROM a").await, format!("{left}|{left}"));
}

#[tokio::test]
async fn a_deleted_snapshot_frees_what_only_it_held_and_nothing_else() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "ALTER SYSTEM SET time_travel_retention_ms = 0").await;
    sql(&server, "CREATE TABLE a AS SELECT g AS k FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "CREATE TABLE b AS SELECT g AS k FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "BACKUP").await;
    sql(&server, "DROP TABLE a").await;
    full_gc(&server).await;
    assert_eq!(data_files(dir.path()).len(), 2, "the snapshot holds both");
    let usage = "SELECT pinned_bytes > exclusive_bytes, exclusive_bytes > 0 FROM rw_meta_snapshot";
    assert_eq!(sql(&server, usage).await, "t|t");

    let doomed = sql(
        &server,
        "SELECT object FROM rw_hummock_sstables WHERE died_epoch IS NULL AND table_id = \
         (SELECT id FROM rw_tables WHERE name = 'b')",
    );
    let kept = doomed.await;
    let explained = hummock(&server, &["explain-object", &kept]).await.ok();
    assert!(explained.contains("the current version"), "{explained}");
    assert!(explained.contains("meta snapshot 1"), "{explained}");

    sql(&server, "DELETE META SNAPSHOT 1").await;
    unpinned(&server).await;
    let planned = hummock(&server, &["trigger-full-gc", "-s", "0", "--dry-run"]).await.ok();
    assert!(planned.contains("1 objects") && planned.contains("would be deleted"), "{planned}");
    assert_eq!(data_files(dir.path()).len(), 2, "a dry run deletes nothing");
    full_gc(&server).await;
    assert_eq!(data_files(dir.path()).len(), 1);
    assert_eq!(sql(&server, "SELECT count(*) FROM b").await, "1000");
}

#[tokio::test]
async fn a_session_keeps_a_snapshot_that_is_deleted_while_it_reads() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "ALTER SYSTEM SET time_travel_retention_ms = 0").await;
    sql(&server, "CREATE TABLE a AS SELECT g AS k FROM generate_series(1, 1000) AS g(g); BACKUP")
        .await;
    let reader = server.connect().await;
    let epoch = sql(&server, "SELECT max_committed_epoch FROM rw_meta_snapshot").await;
    reader.batch_execute(&format!("SET QUERY_EPOCH = {epoch}")).await.unwrap();
    sql(&server, "DROP TABLE a; DELETE META SNAPSHOT 1").await;
    full_gc(&server).await;
    let row = reader.query_one("SELECT count(*) FROM a", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1000);
    let pinned = "SELECT pinned_meta_snapshots FROM rw_hummock_pinned_versions";
    assert_eq!(sql(&server, pinned).await, "1");
    reader.batch_execute("SET QUERY_EPOCH = 0").await.unwrap();
    crate::harness::wait_until("the pin to go", async || {
        full_gc(&server).await;
        data_files(dir.path()).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_transaction_keeps_what_it_sees_through_vacuum() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "ALTER SYSTEM SET time_travel_retention_ms = 0").await;
    sql(&server, "CREATE TABLE a AS SELECT g AS k FROM generate_series(1, 1000) AS g(g)").await;
    let reader = server.connect().await;
    reader.batch_execute("BEGIN READ ONLY; SELECT 1 FROM a LIMIT 1").await.unwrap();
    sql(&server, "TRUNCATE a; DROP TABLE a; FLUSH").await;
    full_gc(&server).await;
    let row = reader.query_one("SELECT count(*) FROM a", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1000);
    reader.batch_execute("COMMIT").await.unwrap();
    crate::harness::wait_until("the pin to go", async || {
        full_gc(&server).await;
        data_files(dir.path()).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn snapshots_of_a_location_that_was_left_hold_their_files_until_it_is_forgotten() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "ALTER SYSTEM SET time_travel_retention_ms = 0").await;
    sql(&server, "CREATE TABLE a AS SELECT g AS k FROM generate_series(1, 1000) AS g(g); BACKUP")
        .await;
    sql(&server, "ALTER SYSTEM SET backup_storage_directory = 'elsewhere'; DROP TABLE a").await;
    full_gc(&server).await;
    assert_eq!(data_files(dir.path()).len(), 1);
    let addr = format!("http://{}", server.meta);
    let url = format!("fs://{}", dir.path().join("store/state_store").display());
    let forget = |directory: &'static str| {
        let (addr, url) = (addr.clone(), url.clone());
        async move {
            let args = [
                "meta",
                "forget-backup-location",
                "--backup-storage-url",
                &url,
                "--backup-storage-directory",
                directory,
                "--meta-addr",
                &addr,
            ];
            run(env!("CARGO_BIN_EXE_risectl"), &args, "").await
        }
    };
    let said = forget("elsewhere").await.refused();
    assert!(said.contains("is the current backup location"), "{said}");
    let said = forget("nowhere").await.refused();
    assert!(said.contains("no backup location of this cluster"), "{said}");
    forget("backup").await.ok();
    unpinned(&server).await;
    full_gc(&server).await;
    assert!(data_files(dir.path()).is_empty());
    let said = psql(&server, &["-c", "ALTER SYSTEM SET backup_storage_directory = 'backup'"], "");
    let said = said.await.stderr;
    assert!(said.contains("1 meta snapshots") && said.contains("that are gone"), "{said}");
}

#[tokio::test]
async fn files_of_writes_that_were_killed_go_and_fresh_ones_stay() {
    let dir = tempdir();
    // File ids that the first server reserved and did not use.
    Server::start(dir.path()).await.kill();
    let server = Server::start(dir.path()).await;
    let data = dir.path().join("store/state_store/hummock_001");
    let orphan = data.join("3.data");
    std::fs::write(&orphan, "left by a write that never committed").unwrap();
    let planned = hummock(&server, &["trigger-full-gc"]).await.ok();
    assert!(planned.contains("0 objects"), "{planned}");
    assert!(orphan.exists(), "it is younger than the retention time");
    let explained = hummock(&server, &["explain-object", "3.data"]).await.ok();
    assert!(explained.contains("its age"), "{explained}");
    full_gc(&server).await;
    assert!(!orphan.exists());
    let said = hummock(&server, &["explain-object", "lease.json"]).await.refused();
    assert!(said.contains("no data file"), "{said}");
}

/// Creates a file as left by a write whose process was killed this number of hours ago.
fn left(file: &Path, hours_ago: u64) -> PathBuf {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, "half of it").unwrap();
    let modified = std::fs::metadata(file).unwrap().modified().unwrap();
    let modified = modified - Duration::from_secs(hours_ago * 3600);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
    file.to_owned()
}

/// No listing shows the files of killed writes; vacuum must delete them nevertheless.
#[tokio::test]
async fn what_killed_writes_left_goes_with_its_age() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    sql(&server, "BACKUP").await;
    assert!(server.stop().await.success());
    let store = dir.path().join("store/state_store");
    let (data, backup) = (store.join("hummock_001"), store.join("backup"));
    let names = ["3.data#12", "checkpoint/0-ab.version#7", "lease.json#5", ".probe-ab"];
    let mut old: Vec<_> = names.iter().map(|name| left(&data.join(name), 7)).collect();
    let names = ["9.snapshot#3", "manifest.json#3", "data/3.data#3"];
    old.extend(names.iter().map(|name| left(&backup.join(name), 7)));
    let young = [left(&data.join("4.data#9"), 5), left(&backup.join("9.snapshot#4"), 5)];
    let strange = left(&data.join("notes#x"), 7);

    let server = Server::start(dir.path()).await;
    let said = hummock(&server, &["explain-object", "4.data#9"]).await.ok();
    assert!(said.contains("its age"), "{said}");
    let dry = hummock(&server, &["trigger-full-gc", "--dry-run"]).await.ok();
    assert!(dry.contains("3.data#12"), "{dry}");
    for name in ["backup/9.snapshot#3", "backup/manifest.json#3", "backup/data/3.data#3"] {
        let name = format!("fs://{}/{name}", store.display());
        assert!(dry.contains(&name), "{name}: {dry}");
    }
    assert!(!dry.contains("9.snapshot#4"), "{dry}");
    assert!(old.iter().all(|file| file.exists()), "{dry}");
    let done = hummock(&server, &["trigger-full-gc"]).await.ok();
    assert!(done.contains("backup/9.snapshot#3"), "{done}");
    let there = |files: &[PathBuf]| files.iter().filter(|file| file.exists()).count();
    assert_eq!((there(&old), there(&young)), (0, 2), "{old:?}");
    assert!(strange.exists());
    let said = hummock(&server, &["explain-object", "3.data#12"]).await.refused();
    assert!(said.contains("does not exist"), "{said}");
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_meta_snapshot").await, "1");
}
