//! Kills the process before and after every write of an operation: nothing acknowledged is lost, no partial
//! state is visible, and the operation can be repeated.
//!
//! `src/ledger/crash_point.rs` ends the process at the n-th point; these tests try n = 1, 2, … until the
//! operation completes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use tempfile::TempDir;
use tokio_postgres::Client;

use crate::etcd_server::Etcd;
use crate::harness::{
    Server, files_below, meta_store, restore, restore_in, risectl, run_in, said, server_command,
    sql, tempdir, try_start,
};
use crate::s3::server::S3;

/// Flags that keep everything but the operation from writing.
const QUIET: [&str; 4] = ["--compaction", "false", "--vacuum-interval-sec", "0"];
/// More than any operation has points.
const POINTS_MAX: u32 = 100;
/// Maximum number of passes over an operation's points, as one may be missed by chance.
const ROUNDS_MAX: u32 = 4;
/// The signal that `abort` raises.
const SIGABRT: i32 = 6;

/// The stores of the cluster.
enum Stores {
    /// SQLite and local files.
    Embedded,
    Remote {
        etcd: Etcd,
        s3: S3,
    },
}

impl Stores {
    fn remote(dir: &Path) -> Self {
        Self::Remote { etcd: Etcd::start(&dir.join("etcd")), s3: S3::start(dir) }
    }

    fn flags(&self) -> Vec<String> {
        let Self::Remote { etcd, s3 } = self else { return vec![] };
        let (state_store, backup) = (format!("hummock+{}", s3.url("data")), s3.url("backup"));
        let flags = [
            ("--meta-store-type", "etcd"),
            ("--etcd-endpoints", &etcd.endpoint()),
            ("--state-store", &state_store),
            ("--backup-storage-url", &backup),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]).collect()
    }

    /// Deletes the leader key, so that another server can lead at once: the lease of a killed one takes
    /// seconds to expire.
    async fn forget_leader(&self) {
        if let Self::Remote { etcd, .. } = self {
            client_of(etcd).await.delete("tidemark/leader", None).await.unwrap();
        }
    }
}

async fn client_of(etcd: &Etcd) -> etcd_client::Client {
    etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap()
}

/// A server that may be killed at a crash point, with everything that was acknowledged.
struct Victim {
    dir: TempDir,
    stores: Stores,
    server: Server,
    client: Client,
    /// Number of acknowledged rows of `log`.
    rows: i64,
    /// Acknowledged snapshots that were not deleted.
    snapshots: Vec<i64>,
    /// The points at which the process was killed so far.
    crashes: Vec<String>,
}

/// Starts a server that is killed at a point, counted from the creation of the file `armed`.
async fn start(dir: &Path, stores: &Stores, point: u32) -> Server {
    drop(std::fs::remove_file(dir.join("armed")));
    stores.forget_leader().await;
    let mut command = server_command(dir, &QUIET);
    command.args(stores.flags());
    command.env("TIDEMARK_CRASH_AT", point.to_string());
    command.env("TIDEMARK_CRASH_ARMED_BY", dir.join("armed"));
    Server::spawn(command, dir).await
}

/// The points at which processes were killed, from their log.
fn crashes_in(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.strip_prefix("crash point "));
    lines.map(str::to_owned).collect()
}

impl Victim {
    async fn start() -> Self {
        Self::start_on(tempdir(), Stores::Embedded).await
    }

    async fn start_remote() -> Self {
        let dir = tempdir();
        let stores = Stores::remote(dir.path());
        Self::start_on(dir, stores).await
    }

    async fn start_on(dir: TempDir, stores: Stores) -> Self {
        let server = start(dir.path(), &stores, 1).await;
        let client = server.connect().await;
        client.batch_execute("CREATE TABLE log (n bigint)").await.unwrap();
        Self { dir, stores, server, client, rows: 0, snapshots: vec![], crashes: vec![] }
    }

    async fn number(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Commits a row, which no later crash may lose.
    async fn acknowledge_a_row(&mut self) {
        let insert = format!("INSERT INTO log VALUES ({})", self.rows + 1);
        self.client.batch_execute(&insert).await.unwrap();
        self.rows += 1;
    }

    async fn back_up(&mut self) -> i64 {
        let id = self.number("BACKUP").await;
        self.snapshots.push(id);
        id
    }

    /// Runs a statement that may kill the server; returns whether the server survived.
    async fn run(&mut self, statement: &str) -> bool {
        let armed = self.dir.path().join("armed");
        std::fs::write(&armed, "").unwrap();
        let Err(error) = self.client.batch_execute(statement).await else {
            std::fs::remove_file(&armed).unwrap();
            return true;
        };
        assert!(error.as_db_error().is_none(), "{statement}: {}", said(&error));
        let status = self.server.ended().await;
        assert_eq!(status.signal(), Some(SIGABRT), "{}", self.server.log());
        false
    }

    /// Restarts the server with the given crash point, and checks the invariants that hold after any crash.
    async fn restart(&mut self, point: u32) {
        self.server = start(self.dir.path(), &self.stores, point).await;
        self.client = self.server.connect().await;
        self.crashes = crashes_in(&self.server.log());
        let rows = "SELECT count(*) FROM log";
        assert_eq!(self.number(rows).await, self.rows, "{:?}", self.crashes.last());
        for (id, epoch) in self.listed().await {
            let see = format!("SET QUERY_EPOCH = {epoch}");
            self.client.batch_execute(&see).await.unwrap();
            assert!(self.number(rows).await <= self.rows, "snapshot {id}");
            self.client.batch_execute("SET QUERY_EPOCH = 0").await.unwrap();
        }
    }

    /// Ids and newest epochs of the listed snapshots.
    async fn listed(&self) -> Vec<(i64, i64)> {
        let query = "SELECT meta_snapshot_id, max_committed_epoch FROM rw_meta_snapshot ORDER BY 1";
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn ids(&self) -> Vec<i64> {
        self.listed().await.into_iter().map(|(id, _)| id).collect()
    }

    /// Goes through the points of an operation until the process was killed at each of `points`.
    ///
    /// One round is usually enough. But the server also writes in the background, and a point counted for
    /// such a write makes the round skip one of the operation's.
    async fn die_at(&mut self, points: &[&str], mut round: impl AsyncFnMut(&mut Self)) {
        for _ in 0..ROUNDS_MAX {
            round(self).await;
            if missing(points, &self.crashes).is_empty() {
                return;
            }
            self.server.signal("TERM");
            assert!(self.server.ended().await.success());
            self.restart(1).await;
        }
        panic!("never {:?}, only {:#?}", missing(points, &self.crashes), self.crashes);
    }
}

/// The points at which no process was killed.
fn missing<'a>(points: &[&'a str], crashes: &[String]) -> Vec<&'a str> {
    let died = |point: &str| crashes.iter().any(|crash| crash.contains(point));
    points.iter().copied().filter(|point| !died(point)).collect()
}

/// Kills the server at every write of `BACKUP`.
async fn die_in_backups(victim: &mut Victim) {
    for point in 1..POINTS_MAX {
        victim.acknowledge_a_row().await;
        if victim.run("BACKUP").await {
            break;
        }
        victim.restart(point + 1).await;
        let ids = victim.ids().await;
        let (old, new) = ids.split_at(victim.snapshots.len());
        assert_eq!(old, victim.snapshots, "{:?}", victim.crashes.last());
        assert!(new.len() <= 1, "{new:?}");
        // The snapshot was listed, only the response was lost.
        victim.snapshots = ids;
    }
    victim.snapshots = victim.ids().await;
    let id = victim.back_up().await;
    let (_, before) = victim.snapshots.split_last().unwrap();
    assert!(before.iter().all(|old| *old < id), "{id} after {before:?}");
}

#[tokio::test]
async fn a_backup_is_listed_and_whole_or_not_at_all() {
    let mut victim = Victim::start().await;
    let points = [
        "before commit to",
        "after commit to",
        "before write",
        "before link",
        "after link",
        "before replace",
        "after replace",
    ];
    victim.die_at(&points, die_in_backups).await;
}

#[tokio::test]
async fn a_backup_to_s3_is_listed_and_whole_or_not_at_all() {
    let mut victim = Victim::start_remote().await;
    let points = ["before commit", "after commit", "before put", "after put", "after replace"];
    victim.die_at(&points, die_in_backups).await;
}

/// Kills the server at every write of `DELETE META SNAPSHOTS`.
async fn die_in_deletions(victim: &mut Victim) {
    victim.back_up().await;
    let kept = victim.snapshots.clone();
    for point in 1..POINTS_MAX {
        victim.acknowledge_a_row().await;
        let id = victim.back_up().await;
        if victim.run(&format!("DELETE META SNAPSHOTS {id}")).await {
            break;
        }
        victim.restart(point + 1).await;
        let listed = victim.ids().await.contains(&id);
        let again = risectl(&victim.server, &["delete-meta-snapshots", &id.to_string()]).await;
        match listed {
            true => drop(again.ok()),
            false => assert!(again.refused().contains("not found")),
        }
        victim.snapshots.pop();
        assert_eq!(victim.ids().await, kept);
    }
    victim.snapshots = kept;
}

const POINTS_OF_A_DELETION: [&str; 4] =
    ["before replace", "after replace", "before delete", "after delete"];

#[tokio::test]
async fn a_snapshot_is_deleted_or_whole() {
    Victim::start().await.die_at(&POINTS_OF_A_DELETION, die_in_deletions).await;
}

#[tokio::test]
async fn a_snapshot_on_s3_is_deleted_or_whole() {
    Victim::start_remote().await.die_at(&POINTS_OF_A_DELETION, die_in_deletions).await;
}

/// Kills the server at every write of `ALTER SYSTEM`.
async fn die_in_changes(victim: &mut Victim) {
    let show = "SELECT setting::bigint FROM pg_settings WHERE name = 'time_travel_retention_ms'";
    let mut old = victim.number(show).await;
    for point in 1..POINTS_MAX {
        victim.acknowledge_a_row().await;
        let new = old + 1000;
        let alter = format!("ALTER SYSTEM SET time_travel_retention_ms = {new}");
        if victim.run(&alter).await {
            break;
        }
        victim.restart(point + 1).await;
        let now = victim.number(show).await;
        assert!(now == old || now == new, "{now} is neither {old} nor {new}");
        old = now;
    }
}

#[tokio::test]
async fn a_parameter_has_its_old_value_or_its_new_one() {
    let points = ["before commit", "after commit"];
    Victim::start().await.die_at(&points, die_in_changes).await;
}

#[tokio::test]
async fn a_parameter_in_etcd_has_its_old_value_or_its_new_one() {
    let points = ["before commit", "after commit"];
    Victim::start_remote().await.die_at(&points, die_in_changes).await;
}

/// Kills the server at every write of a move of the backup location.
async fn die_in_moves(victim: &mut Victim, directories: &mut Vec<String>) {
    for point in 1..POINTS_MAX {
        victim.acknowledge_a_row().await;
        victim.back_up().await;
        // A name that was not used before.
        let directory = format!("location_{}_{point}", directories.len());
        let alter = format!("ALTER SYSTEM SET backup_storage_directory = '{directory}'");
        if victim.run(&alter).await {
            directories.push(directory);
            victim.snapshots.clear();
            break;
        }
        victim.restart(point + 1).await;
        let listed = risectl(&victim.server, &["list-backup-locations"]).await.ok();
        for directory in directories.iter() {
            assert!(listed.contains(directory.as_str()), "{directory} is forgotten: {listed}");
        }
        if victim.ids().await.is_empty() {
            directories.push(directory.clone());
            victim.snapshots.clear();
        }
        assert_eq!(victim.ids().await, victim.snapshots, "{:?}", victim.crashes.last());
        let files = files_below(&victim.dir.path().join("store/state_store").join(&directory));
        // All files except for a manifest, which lists nothing.
        let seen = files.iter().filter(|(file, _)| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            !name.starts_with('.') && !name.contains('#') && name != "manifest.json"
        });
        assert_eq!(seen.count(), 0, "{files:?}");
    }
}

#[tokio::test]
async fn backups_have_moved_or_have_not_and_no_location_is_forgotten() {
    let mut directories = vec!["backup".to_owned()];
    let points = [".probe-", "manifest.json", "lease.json", "before commit to", "after commit to"];
    let moves = async |victim: &mut Victim| die_in_moves(victim, &mut directories).await;
    Victim::start().await.die_at(&points, moves).await;
}

/// Kills the server at every write of an insert with data files.
async fn die_in_statements(victim: &mut Victim) {
    for point in 1..POINTS_MAX {
        victim.acknowledge_a_row().await;
        let at = victim.rows;
        let insert =
            format!("INSERT INTO large SELECT g, {at} FROM generate_series(1, 1000) AS g(g)");
        if victim.run(&insert).await {
            break;
        }
        victim.restart(point + 1).await;
        let there = format!("SELECT count(*) FROM large WHERE at = {at}");
        let rows = victim.number(&there).await;
        assert!(rows == 0 || rows == 1000, "{rows}, {:?}", victim.crashes.last());
    }
}

#[tokio::test]
async fn a_statement_is_there_whole_or_not_at_all() {
    let mut victim = Victim::start().await;
    victim.client.batch_execute("CREATE TABLE large (a bigint, at int)").await.unwrap();
    victim.die_at(&["before commit to", "after commit to", ".data"], die_in_statements).await;
}

#[tokio::test]
async fn a_restore_happens_whole_or_can_be_run_again() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &QUIET).await;
    sql(&server, "CREATE TABLE t (k int); INSERT INTO t VALUES (1), (2); BACKUP;").await;
    assert!(server.stop().await.success());
    let mut crashes = vec![];
    for point in 1..POINTS_MAX {
        drop(std::fs::remove_dir_all(dir.path().join("store/meta_store")));
        let at = point.to_string();
        let died = restore_in(&[("TIDEMARK_CRASH_AT", &at)], dir.path(), 1, &[], &[]).await;
        if died.code == Some(0) {
            break;
        }
        assert_eq!(died.code, None, "{}", died.stderr);
        crashes.extend(crashes_in(&died.stderr));
        let again = restore(dir.path(), 1, &[], &[]);
        if died.stderr.contains("after commit to") {
            let refused = again.await.refused();
            assert!(refused.contains("is not empty"), "{refused}");
        } else {
            // No server starts on the partial state.
            let refused = try_start(dir.path(), &[]).await.refused();
            assert!(refused.contains("is empty, but the data directory"), "{refused}");
            again.await.ok();
        }
        let server = Server::start_with(dir.path(), &QUIET).await;
        assert_eq!(sql(&server, "SELECT sum(k), count(*) FROM t").await, "3|2");
        assert!(server.stop().await.success());
    }
    let expected = [".version", "before make the table", "before commit to", "after commit to"];
    assert!(missing(&expected, &crashes).is_empty(), "{crashes:#?}");
    assert!(meta_store(dir.path()).is_file());
}

#[tokio::test]
async fn a_restore_from_s3_into_etcd_happens_whole_or_can_be_run_again() {
    let dir = tempdir();
    let stores = Stores::remote(dir.path());
    let server = start(dir.path(), &stores, u32::MAX).await;
    // Enough for a value of several parts, and for a journal.
    let tables =
        (0..160).map(|n| format!("CREATE TABLE t{n} (k int); INSERT INTO t{n} VALUES ({n});"));
    sql(&server, &tables.collect::<String>()).await;
    sql(&server, "BACKUP").await;
    assert!(server.stop().await.success());
    let Stores::Remote { etcd, s3 } = &stores else { unreachable!("they are remote") };
    let (endpoint, data, backup) = (etcd.endpoint(), s3.url("data"), s3.url("backup"));
    let flags = [
        "meta",
        "restore-meta",
        "--meta-store-type",
        "etcd",
        "--etcd-endpoints",
        &endpoint,
        "--meta-snapshot-id",
        "1",
        "--backup-storage-url",
        &backup,
        "--hummock-storage-url",
        &data,
    ];
    let program = env!("CARGO_BIN_EXE_risectl");
    let mut crashes = vec![];
    for point in 1..POINTS_MAX {
        let everything = Some(etcd_client::DeleteOptions::new().with_prefix());
        client_of(etcd).await.delete("tidemark/", everything).await.unwrap();
        let at = point.to_string();
        let died = run_in(&[("TIDEMARK_CRASH_AT", &at)], program, &flags, "").await;
        if died.code == Some(0) {
            break;
        }
        assert_eq!(died.code, None, "{}", died.stderr);
        crashes.extend(crashes_in(&died.stderr));
        let again = run_in(&[], program, &flags, "").await;
        match again.code {
            Some(0) => {}
            _ => assert!(again.refused().contains("is not empty"), "{:?}", crashes.last()),
        }
        let server = start(dir.path(), &stores, u32::MAX).await;
        assert_eq!(sql(&server, "SELECT (SELECT k FROM t7) + (SELECT k FROM t159)").await, "166");
        assert!(server.stop().await.success());
    }
    assert!(
        missing(&["before put", "after put", "before commit", "after commit"], &crashes).is_empty(),
        "{crashes:#?}"
    );
}

#[tokio::test]
async fn a_new_cluster_is_made_by_the_next_start() {
    let mut crashes = 0;
    for point in 1..POINTS_MAX {
        let dir = tempdir();
        let mut command = server_command(dir.path(), &QUIET);
        command.env("TIDEMARK_CRASH_AT", point.to_string());
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let ready = dir.path().join("ready");
        let died = crate::harness::wait_until("the server dies or serves", async || {
            match child.try_wait().unwrap() {
                Some(status) => Some(Some(status)),
                None => ready.is_file().then_some(None),
            }
        });
        let Some(status) = died.await else { break };
        assert_eq!(status.signal(), Some(SIGABRT), "point {point}");
        crashes += 1;
        let server = Server::start_with(dir.path(), &QUIET).await;
        assert_eq!(sql(&server, "CREATE TABLE t (a int); SELECT count(*) FROM t").await, "0");
    }
    assert!(crashes > 5, "only {crashes}");
}
