//! A cluster of several processes: etcd for the metadata, frontends, compactors, and a standby meta server
//! that takes over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::etcd_server::{Etcd, free_addr};
use crate::harness::{
    Server, http_get, psql, restore, risectl, run, sql, sql_error, tempdir, try_start, wait_until,
};
use crate::s3::server::{KEY, S3, SECRET};

/// A cluster with its data in a directory and its metadata in etcd.
struct Cluster {
    dir: PathBuf,
    etcd: Etcd,
    /// The addresses on which the two meta servers listen while they lead.
    metas: [SocketAddr; 2],
}

impl Cluster {
    fn start(dir: &Path) -> Self {
        let etcd = Etcd::start(&dir.join("etcd"));
        Self { dir: dir.to_owned(), etcd, metas: [free_addr(), free_addr()] }
    }

    /// Starts a process of the cluster; does not wait until it is ready.
    fn launch(&self, name: &str, role: &str, flags: &[&str]) -> Server {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let ready = dir.join("ready").display().to_string();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args([role, "--ready-file", &ready]).args(flags);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        Server::launch(command, &dir)
    }

    /// Starts the first or the second meta server.
    fn launch_meta(&self, n: usize, flags: &[&str]) -> Server {
        let state_store = format!("hummock+fs://{}", self.dir.join("data").display());
        let (endpoint, listen) = (self.etcd.endpoint(), self.metas[n].to_string());
        let own = [
            "--meta-store-type",
            "etcd",
            "--etcd-endpoints",
            &endpoint,
            "--state-store",
            &state_store,
            "--listen-addr",
            &listen,
        ];
        self.launch(&format!("meta{n}"), "meta", &[&own, flags].concat())
    }

    async fn meta(&self, n: usize) -> Server {
        self.launch_meta(n, &[]).ready().await
    }

    async fn frontend(&self, name: &str) -> Server {
        let metas = self.metas.map(|addr| addr.to_string()).join(",");
        let flags = ["--listen-addr", "127.0.0.1:0", "--meta-addr", &metas];
        self.launch(name, "frontend", &flags).ready().await
    }
}

/// Starts all roles in one process on this etcd; does not wait until it is ready.
fn launch_standalone(dir: &Path, etcd: &Etcd, state_store: &str, flags: &[&str]) -> Server {
    let ready = dir.join("ready").display().to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command
        .args(["--listen-addr", "127.0.0.1:0", "--meta-addr", "127.0.0.1:0"])
        .args(["--ready-file", &ready, "--meta-store-type", "etcd"])
        .args(["--etcd-endpoints", &etcd.endpoint(), "--state-store", state_store])
        .args(flags)
        .env_clear();
    Server::launch(command, dir)
}

/// Retries a statement until it succeeds.
async fn succeeds(server: &Server, statement: &str) -> String {
    wait_until(statement, async || {
        let ended = psql(server, &["-v", "ON_ERROR_STOP=1", "-c", statement], "").await;
        (ended.code == Some(0)).then(|| ended.stdout.trim_end().to_owned())
    })
    .await
}

#[tokio::test]
async fn frontends_see_one_database_and_show_the_cluster() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    // Frontends may start first: they wait for the meta role.
    let one = cluster.launch(
        "one",
        "frontend",
        &["--listen-addr", "127.0.0.1:0", "--meta-addr", &cluster.metas[0].to_string()],
    );
    let meta = cluster.launch_meta(0, &["--compaction", "false"]).ready().await;
    let (one, two) = (one.ready().await, cluster.frontend("two").await);
    sql(&one, "CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')").await;
    assert_eq!(succeeds(&two, "SELECT v FROM t WHERE k = 1").await, "a");
    sql(&two, "INSERT INTO t VALUES (1, 'b')").await;
    wait_until("the other frontend sees it", async || {
        (sql(&one, "SELECT v FROM t").await == "b").then_some(())
    })
    .await;
    sql(&one, "INSERT INTO t SELECT g, 'x' FROM generate_series(1000, 1300) AS g(g)").await;
    let newest = "SELECT sstable_id FROM rw_hummock_sstables ORDER BY born_epoch DESC LIMIT 1";
    let held = sql(&one, newest).await;
    let transaction = two.connect().await;
    transaction.batch_execute("BEGIN; UPDATE t SET v = 'y' WHERE k = 1000").await.unwrap();
    // Enough dead rows for a compaction to copy the rest.
    sql(&one, "DELETE FROM t WHERE k BETWEEN 1001 AND 1100").await;
    let compactor =
        cluster.launch("c", "compactor", &["--meta-addr", &meta.meta.to_string()]).ready().await;
    // Many small batches give the compactor work.
    for n in 0..80 {
        sql(
            &one,
            &format!("INSERT INTO t SELECT g, 'x' FROM generate_series({n}, {n} + 300) AS g(g)"),
        )
        .await;
    }
    wait_until("the compactor compacts", async || {
        let alive = "SELECT count(*), count(*) FILTER (WHERE sstable_id = {held})
            FROM rw_catalog.rw_hummock_sstables WHERE died_epoch IS NULL";
        let files = sql(&two, &alive.replace("{held}", &held)).await;
        let (files, held) = files.split_once('|').unwrap();
        (files.parse::<u32>().unwrap() < 20 && held == "0").then_some(())
    })
    .await;
    // Its row is in another file now, as the compactor has reported to the meta role.
    transaction.batch_execute("COMMIT").await.unwrap();
    let values = "SELECT v FROM t WHERE k IN (1000, 1200) ORDER BY k";
    assert_eq!(sql(&one, values).await, "y\nx");
    let nodes = wait_until("all are heard of", async || {
        let nodes =
            sql(&one, "SELECT id, type, state FROM rw_catalog.rw_worker_nodes ORDER BY id").await;
        (nodes.lines().count() == 4).then_some(nodes)
    })
    .await;
    for kind in ["0|WORKER_TYPE_META|RUNNING", "WORKER_TYPE_FRONTEND", "WORKER_TYPE_COMPACTOR"] {
        assert!(nodes.contains(kind), "{nodes}");
    }
    let shown = sql(&two, "SHOW CLUSTER").await;
    assert!(shown.contains(&two.sql.to_string()) && shown.lines().count() == 4, "{shown}");
    assert_eq!(sql(&two, "SELECT count(*) FROM t").await, "581");
    for server in [compactor, one, two, meta] {
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_standby_takes_over_and_nothing_acknowledged_is_lost() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    let first = cluster.meta(0).await;
    let mut standby = cluster.launch_meta(1, &[]);
    let frontend = cluster.frontend("f").await;
    sql(&frontend, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let client = frontend.connect().await;
    client.batch_execute("BEGIN READ ONLY; SELECT * FROM t").await.unwrap();
    assert!(!standby.is_ready(), "one leads already");
    first.kill();
    // Reads of known data continue; writes fail fast with a connection error.
    assert_eq!(sql(&frontend, "SELECT k FROM t").await, "1");
    let begun = Instant::now();
    let error = sql_error(&frontend, "INSERT INTO t VALUES (2)").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(error.contains("08006") || error.contains("08007"), "{error}");
    standby = standby.ready().await;
    succeeds(&frontend, "INSERT INTO t VALUES (3)").await;
    assert_eq!(client.query("SELECT k FROM t", &[]).await.unwrap().len(), 1);
    client.batch_execute("COMMIT").await.unwrap();
    let back = cluster.launch_meta(0, &[]);
    assert!(standby.stop().await.success());
    let back = back.ready().await;
    succeeds(&frontend, "INSERT INTO t VALUES (4)").await;
    let rows = sql(&frontend, "SELECT k FROM t WHERE k <> 2 ORDER BY k").await;
    assert_eq!(rows, "1\n3\n4");
    drop((back, frontend));
}

#[tokio::test]
async fn a_paused_leader_writes_nothing_when_it_goes_on() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    let first = cluster.meta(0).await;
    let standby = cluster.launch_meta(1, &[]);
    let frontend = cluster.frontend("f").await;
    sql(&frontend, "CREATE TABLE t (k int PRIMARY KEY)").await;
    first.signal("STOP");
    let standby = standby.ready().await;
    succeeds(&frontend, "INSERT INTO t VALUES (1)").await;
    // A writer that still uses the old leader.
    let old = first.meta.to_string();
    let behind = cluster.launch(
        "behind",
        "frontend",
        &["--listen-addr", "127.0.0.1:0", "--meta-addr", &old],
    );
    first.signal("CONT");
    wait_until("the old leader stands by", async || {
        first.log().contains("standing by").then_some(())
    })
    .await;
    sql(&frontend, "INSERT INTO t VALUES (2)").await;
    assert_eq!(sql(&frontend, "SELECT count(*) FROM t").await, "2");
    assert!(standby.stop().await.success());
    wait_until("the old leader leads again", async || {
        (first.log().matches(" leads").count() >= 2).then_some(())
    })
    .await;
    let behind = behind.ready().await;
    succeeds(&behind, "INSERT INTO t VALUES (3)").await;
    assert_eq!(sql(&behind, "SELECT k FROM t ORDER BY k").await, "1\n2\n3");
}

#[tokio::test]
async fn an_etcd_that_is_lost_for_a_while_stops_writes_and_no_reads() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    let _meta = cluster.meta(0).await;
    let frontend = cluster.frontend("f").await;
    sql(&frontend, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    cluster.etcd.signal("STOP");
    let error = sql_error(&frontend, "INSERT INTO t VALUES (2)").await;
    assert!(error.contains("etcd://") || error.contains("meta"), "{error}");
    assert_eq!(sql(&frontend, "SELECT count(*) FROM t WHERE k = 1").await, "1");
    cluster.etcd.signal("CONT");
    succeeds(&frontend, "INSERT INTO t VALUES (3)").await;
    assert_eq!(sql(&frontend, "SELECT k FROM t WHERE k <> 2 ORDER BY k").await, "1\n3");
}

#[tokio::test]
async fn each_role_tells_how_it_is() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    let [meta_http, standby_http, frontend_http] = std::array::from_fn(|_| free_addr().to_string());
    let watched = |addr| ["--prometheus-listener-addr", addr];
    let meta = cluster.launch_meta(0, &watched(&meta_http)).ready().await;
    let _standby = cluster.launch_meta(1, &watched(&standby_http));
    let metas = meta.meta.to_string();
    let flags = ["--listen-addr", "127.0.0.1:0", "--meta-addr", &metas];
    let flags = [&flags[..], &watched(&frontend_http)].concat();
    let frontend = cluster.launch("f", "frontend", &flags).ready().await;
    sql(&frontend, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let metrics = http_get(&meta_http, "/metrics").await;
    assert!(metrics.contains("tidemark_meta_snapshot_age_seconds inf"), "{metrics}");
    sql(&frontend, "BACKUP").await;
    let metrics = http_get(&meta_http, "/metrics").await;
    let line = |name: &str| {
        let found =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
    };
    assert!(line("tidemark_meta_snapshot_age_seconds ") < 60.0);
    assert_eq!(line("tidemark_meta_snapshots "), 1.0);
    assert_eq!(line("tidemark_meta_leading "), 1.0);
    assert!(line("tidemark_commit_seconds_count ") >= 2.0);
    let of_frontend = http_get(&frontend_http, "/metrics").await;
    assert!(
        of_frontend.contains("tidemark_statement_seconds_count{outcome=\"ok\"}"),
        "{of_frontend}"
    );
    assert!(of_frontend.contains("tidemark_meta_connected 1"), "{of_frontend}");
    assert!(http_get(&frontend_http, "/ready").await.contains("200 OK"));
    wait_until("the standby is up", async || {
        tokio::net::TcpStream::connect(&standby_http).await.ok().map(drop)
    })
    .await;
    assert!(http_get(&standby_http, "/health").await.contains("200 OK"));
    assert!(http_get(&standby_http, "/ready").await.contains("standing by"));
    meta.kill();
    wait_until("the frontend tells that the meta role is lost", async || {
        http_get(&frontend_http, "/ready").await.contains("lost").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_documented_restore_from_s3_into_etcd() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let lost = Etcd::start(&dir.path().join("etcd"));
    let state_store = format!("hummock+{}", s3.url("data"));
    let backup = s3.url("backup");
    let standalone = |etcd: &Etcd, auth: &[&str]| {
        let backups = ["--backup-storage-url", &backup];
        launch_standalone(dir.path(), etcd, &state_store, &[&backups, auth].concat())
    };
    let server = standalone(&lost, &[]).ready().await;
    sql(&server, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let id = sql(&server, "BACKUP").await;
    server.kill();
    drop(lost);
    // A new etcd that requires authentication.
    let etcd = Etcd::start(&dir.path().join("new"));
    require_sign_in(&etcd).await;
    let endpoint = etcd.endpoint();
    let hummock = s3.url("data");
    let recipe = [
        "meta",
        "restore-meta",
        "--meta-store-type",
        "etcd",
        "--meta-snapshot-id",
        &id,
        "--etcd-endpoints",
        &endpoint,
        "--etcd-auth",
        "--etcd-username",
        "root",
        "--etcd-password",
        "etcd-word",
        "--backup-storage-url",
        &backup,
        "--backup-storage-directory",
        "backup",
        "--hummock-storage-url",
        &hummock,
        "--hummock-storage-directory",
        "hummock_001",
    ];
    let ended = run(env!("CARGO_BIN_EXE_risectl"), &recipe, "").await;
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!said.contains("etcd-word") && !said.contains(SECRET), "{said}");
    assert!(ended.ok().contains("command succeeded"));
    let again = run(env!("CARGO_BIN_EXE_risectl"), &recipe, "").await.refused();
    assert!(again.contains("Meta storage is not empty before being restored"), "{again}");
    let auth = ["--etcd-auth", "--etcd-username", "root", "--etcd-password", "etcd-word"];
    let server = standalone(&etcd, &auth).ready().await;
    assert_eq!(sql(&server, "SELECT k FROM t ORDER BY k").await, "1\n2");
    sql(&server, "INSERT INTO t VALUES (3)").await;
    assert!(!server.log().contains("etcd-word") && !server.log().contains(KEY));
    risectl(&server, &["list-meta-snapshots"]).await.ok();
}

async fn require_sign_in(etcd: &Etcd) {
    let mut admin = etcd_client::Client::connect([etcd.endpoint()], None).await.unwrap();
    admin.user_add("root", "etcd-word", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();
}

#[tokio::test]
async fn etcd_is_reached_over_tls_with_a_certificate_to_show() {
    let dir = tempdir();
    let certificates = make_certificates(dir.path()).await;
    let path = |name: &str| certificates.join(name).display().to_string();
    let flags = [
        "--cert-file",
        &path("server.pem"),
        "--key-file",
        &path("server.key"),
        "--trusted-ca-file",
        &path("ca.pem"),
        "--client-cert-auth",
    ];
    let etcd = Etcd::start_with(&dir.path().join("etcd"), "https", &flags);
    let state_store = format!("hummock+fs://{}", dir.path().join("data").display());
    let start = |tls: &[&str]| launch_standalone(dir.path(), &etcd, &state_store, tls);
    let mut stranger = start(&["--etcd-ca", &path("ca.pem")]);
    assert!(!stranger.ended().await.success());
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let server = start(&["--etcd-ca", &ca, "--etcd-cert", &cert, "--etcd-key", &key]).ready().await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    assert_eq!(sql(&server, "SELECT a FROM t").await, "1");
}

/// Creates a certificate authority, and certificates for a server on loopback and for a client.
async fn make_certificates(dir: &Path) -> PathBuf {
    let script = "set -e
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > $name.ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile $name.ext -out $name.pem
        done";
    let folder = dir.join("certificates");
    std::fs::create_dir_all(&folder).unwrap();
    run("sh", &["-c", &format!("cd {} && {script}", folder.display())], "").await.ok();
    folder
}

#[tokio::test]
async fn a_restore_into_an_etcd_that_a_server_uses_is_refused() {
    let dir = tempdir();
    let cluster = Cluster::start(dir.path());
    let _meta = cluster.meta(0).await;
    let frontend = cluster.frontend("f").await;
    sql(&frontend, "CREATE TABLE t (a int)").await;
    let id = sql(&frontend, "BACKUP").await;
    let data = format!("fs://{}", cluster.dir.join("data").display());
    let endpoint = cluster.etcd.endpoint();
    let args = [
        "meta",
        "restore-meta",
        "--meta-snapshot-id",
        &id,
        "--etcd-endpoints",
        &endpoint,
        "--backup-storage-url",
        &data,
        "--hummock-storage-url",
        &data,
    ];
    let said = run(env!("CARGO_BIN_EXE_risectl"), &args, "").await.refused();
    assert!(said.contains("not empty"), "{said}");
    let client = frontend.connect().await;
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn of_two_lives_of_a_cluster_only_the_later_one_goes_on() {
    let (old, new) = (tempdir(), tempdir());
    let first = Server::start(old.path()).await;
    sql(&first, "CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let id: u64 = sql(&first, "BACKUP").await.parse().unwrap();
    // The old server was not stopped, nor its meta store removed.
    let meta = crate::harness::meta_store(new.path()).display().to_string();
    restore(old.path(), id, &[("--sql-endpoint", &meta)], &[]).await.ok();
    sql(&first, "INSERT INTO t VALUES (2)").await;
    let state_store = format!("hummock+fs://{}", old.path().join("store/state_store").display());
    let flags = ["--state-store", &state_store];
    let second = Server::start_with(new.path(), &flags).await;
    sql(&second, "INSERT INTO t VALUES (3)").await;
    // The old server stops writing, and names the reason.
    let said = wait_until("the old server stops writing", async || {
        let statement = "INSERT INTO t VALUES (4)";
        let ended = psql(&first, &["-v", "VERBOSITY=verbose", "-c", statement], "").await;
        ended.stderr.contains("55000").then_some(ended.stderr)
    })
    .await;
    assert!(said.contains("restored into another meta store"), "{said}");
    assert!(sql(&first, "SELECT count(*) FROM t").await.parse::<u32>().unwrap() >= 2);
    // After a restart it does not get the data directory back, in whatever order the two start.
    first.kill();
    let said = try_start(old.path(), &[]).await.refused();
    assert!(said.contains("restored into another meta store"), "{said}");
    second.kill();
    try_start(old.path(), &[]).await.refused();
    let second = Server::start_with(new.path(), &flags).await;
    assert_eq!(sql(&second, "SELECT k FROM t ORDER BY k").await, "1\n3");
    // The directory belongs to the new server: vacuum may delete only what nothing but the old life named.
    let gc = ["hummock", "trigger-full-gc", "-s", "0", "--meta-addr", &second.meta.to_string()];
    run(env!("CARGO_BIN_EXE_risectl"), &gc, "").await.ok();
    assert_eq!(sql(&second, "SELECT k FROM t ORDER BY k").await, "1\n3");
}

#[tokio::test]
async fn a_paused_server_that_lost_its_data_directory_deletes_nothing() {
    let (old, new) = (tempdir(), tempdir());
    let none = ["--min-sst-retention-time-sec", "0", "--vacuum-interval-sec", "1"];
    let first = Server::start_with(old.path(), &none).await;
    sql(&first, "CREATE TABLE t (k int PRIMARY KEY, v text)").await;
    let fill = |from: u32| {
        format!(
            "INSERT INTO t SELECT g, md5(g::text) FROM generate_series({from}, {from} + 2000) AS g(g)"
        )
    };
    sql(&first, &fill(0)).await;
    let id: u64 = sql(&first, "BACKUP").await.parse().unwrap();
    first.signal("STOP");
    let meta = crate::harness::meta_store(new.path()).display().to_string();
    restore(old.path(), id, &[("--sql-endpoint", &meta)], &[]).await.ok();
    let state_store = format!("hummock+fs://{}", old.path().join("store/state_store").display());
    let flags = ["--state-store", &state_store];
    let second = Server::start_with(new.path(), &flags).await;
    for n in 1..5 {
        sql(&second, &fill(n * 10_000)).await;
    }
    first.signal("CONT");
    wait_until("the old server notices", async || {
        first.log().contains("restored into another meta store").then_some(())
    })
    .await;
    let rows = "SELECT count(*), count(DISTINCT v) FROM t";
    assert_eq!(sql(&second, rows).await, "10005|10005");
    sql(&second, "BACKUP").await;
}

#[tokio::test]
async fn the_demo_runs_on_etcd_and_s3() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let etcd = Etcd::start(&dir.path().join("etcd"));
    let state_store = format!("hummock+{}", s3.url("data"));
    let endpoint = etcd.endpoint();
    let args = [
        "demo",
        "--scale",
        "0.001",
        "--meta-store-type",
        "etcd",
        "--etcd-endpoints",
        &endpoint,
        "--state-store",
        &state_store,
    ];
    let told = run(env!("CARGO_BIN_EXE_tidemark"), &args, "").await.ok();
    assert!(!told.contains(SECRET), "{told}");
    let again = run(env!("CARGO_BIN_EXE_tidemark"), &args, "").await;
    assert_eq!(again.code, Some(1), "somebody's metadata is not lost");
    assert!(again.stdout.contains("not empty"), "{}{}", again.stdout, again.stderr);
}
