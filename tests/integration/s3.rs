//! Data and backups on S3: a real server that verifies signatures and supports conditional writes.

pub mod server;

use std::path::Path;

use self::server::{KEY, S3, SECRET};
use crate::harness::{
    Server, lose_meta_store, meta_store, restore, run, run_in, server_flags, sql, sql_error,
    tempdir, try_start, wait_until,
};

/// Enough rows for several blocks; objects of several parts are not needed.
const FILL: &str = "CREATE TABLE t (k bigint PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 60000) AS g(g)";
const SUM: &str = "SELECT count(*), sum(k), max(v) FROM t";

async fn start(dir: &Path, s3: &S3, more: &[&str]) -> Server {
    let state_store = format!("hummock+{}", s3.url("data"));
    let backup = s3.url("backup");
    let flags = ["--state-store", &state_store, "--backup-storage-url", &backup];
    Server::start_with(dir, &[&flags, more].concat()).await
}

#[tokio::test]
async fn a_cluster_on_s3_survives_a_kill_and_the_loss_of_its_meta_store() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let server = start(dir.path(), &s3, &[]).await;
    sql(&server, FILL).await;
    sql(&server, "INSERT INTO t VALUES (0, 'few'); DELETE FROM t WHERE k = 7").await;
    let now = sql(&server, SUM).await;
    assert_eq!(sql(&server, "BACKUP").await, "1");
    let shown = sql(&server, "SHOW PARAMETERS").await;
    assert!(shown.contains("minio://****:****@") && !shown.contains(SECRET), "{shown}");
    server.kill();

    let server = start(dir.path(), &s3, &[]).await;
    assert_eq!(sql(&server, SUM).await, now);
    sql(&server, "TRUNCATE t").await;
    let log = server.log();
    assert!(!log.contains(SECRET), "{log}");
    assert!(server.stop().await.success());

    lose_meta_store(dir.path());
    let (data, backup) = (s3.url("data"), s3.url("backup"));
    let flags = [
        ("--backup-storage-url", backup.as_str()),
        ("--hummock-storage-url", &data),
        ("--sql-endpoint", &meta_store(dir.path()).display().to_string()),
    ];
    // A misspelt bucket is not treated as a location without snapshots.
    let misspelt = s3.url("bakup");
    let flags_misspelt = flags.map(|(flag, value)| match flag {
        "--backup-storage-url" => (flag, misspelt.as_str()),
        _ => (flag, value),
    });
    let said = restore(dir.path(), 1, &flags_misspelt, &[]).await.refused();
    assert!(said.contains("NoSuchBucket") && said.contains("HINT: see whether"), "{said}");
    // A store that does not respond is waited for only as long as configured, not for minutes.
    s3.signal("STOP");
    let patience = ["--read-attempt-timeout-ms", "300", "--read-retry-attempts", "1"];
    let said = restore(dir.path(), 1, &flags, &patience).await.refused();
    assert!(said.contains("backup/manifest.json") && said.contains("HINT: see whether"), "{said}");
    s3.signal("CONT");
    let said = restore(dir.path(), 1, &flags, &["--validate-integrity"]).await.ok();
    assert!(said.contains("command succeeded") && !said.contains(SECRET), "{said}");
    let server = start(dir.path(), &s3, &[]).await;
    assert_eq!(sql(&server, SUM).await, now);
}

#[tokio::test]
async fn what_was_read_from_s3_is_not_read_again() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let disk = dir.path().join("cache").display().to_string();
    let cached = ["--file-cache-directory", &disk, "--file-cache-bytes", "268435456"];
    let server = start(dir.path(), &s3, &[&cached[..], &["--compaction", "false"]].concat()).await;
    sql(&server, FILL).await;
    let queries = [SUM, "SELECT v FROM t WHERE k = 4711", "SELECT count(*) FROM t WHERE v > '8'"];
    let mut answers = vec![];
    for query in queries {
        answers.push(sql(&server, query).await);
    }
    let reads = s3.reads_of_data();
    assert!(reads > 0);
    for (query, answer) in queries.iter().zip(&answers) {
        assert_eq!(&sql(&server, query).await, answer);
    }
    assert_eq!(s3.reads_of_data(), reads, "a warm query reads nothing");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_at_the_start_and_not_shown() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let url = format!("hummock+{}", s3.url_with("wrongword", "data"));
    let said = try_start(dir.path(), &["--state-store", &url]).await.refused();
    assert!(said.contains("403 Forbidden"), "{said}");
    assert!(!said.contains("wrongword") && !said.contains(SECRET), "{said}");
    assert!(said.contains("minio://****:****@127.0.0.1"), "{said}");
}

#[tokio::test]
async fn the_environment_says_where_an_s3_url_is() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"));
    let flags = ["--state-store", "hummock+s3://data", "--backup-storage-url", "s3://backup"];
    command.args(server_flags(dir.path())).args(flags).env_clear().envs([
        ("RW_S3_ENDPOINT", s3.endpoint().as_str()),
        ("AWS_REGION", "custom"),
        ("AWS_ACCESS_KEY_ID", server::KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]);
    let server = Server::spawn(command, dir.path()).await;
    sql(&server, FILL).await;
    assert_eq!(sql(&server, "BACKUP").await, "1");
    assert!(sql(&server, SUM).await.starts_with("60000|"));
}

#[tokio::test]
async fn an_endpoint_that_names_no_server_is_refused() {
    for endpoint in ["http://", "not a url", "ftp://127.0.0.1:1"] {
        let dir = tempdir();
        let flags = server_flags(dir.path());
        let flags = flags.iter().map(String::as_str);
        let args: Vec<&str> = flags.chain(["--state-store", "hummock+s3://data"]).collect();
        let variables = [("RW_S3_ENDPOINT", endpoint)];
        let said = run_in(&variables, env!("CARGO_BIN_EXE_tidemark"), &args, "").await.refused();
        assert!(said.contains("RW_S3_ENDPOINT names no server"), "{said}");
    }
}

#[tokio::test]
async fn a_second_cluster_on_the_same_bucket_does_not_start() {
    let (dir, other) = (tempdir(), tempdir());
    let s3 = S3::start(dir.path());
    let server = start(dir.path(), &s3, &[]).await;
    sql(&server, "CREATE TABLE t (a int)").await;
    let url = format!("hummock+{}", s3.url("data"));
    let said = try_start(other.path(), &["--state-store", &url]).await.refused();
    assert!(said.contains("the data directory belongs to cluster"), "{said}");
    sql(&server, "INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn a_store_that_is_gone_fails_a_statement_and_the_server_goes_on() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let server = start(dir.path(), &s3, &["--block-cache-bytes", "0"]).await;
    sql(&server, FILL).await;
    let folder = dir.path().join("s3/data/hummock_001");
    let away = dir.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    let error = sql_error(&server, SUM).await;
    assert!(!error.contains(SECRET), "{error}");
    std::fs::rename(&away, &folder).unwrap();
    wait_until("the table is read again", async || {
        sql(&server, SUM).await.starts_with("60000|").then_some(())
    })
    .await;
}

#[tokio::test]
async fn copies_in_the_bucket_outlive_the_data_directory() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let url = s3.url("data");
    let state_store = format!("hummock+{url}");
    let server = Server::start_with(dir.path(), &["--state-store", &state_store]).await;
    sql(&server, FILL).await;
    let now = sql(&server, SUM).await;
    assert_eq!(sql(&server, "BACKUP WITH (copy_data)").await, "1");
    server.kill();
    lose_meta_store(dir.path());
    std::fs::remove_dir_all(dir.path().join("s3/data/hummock_001")).unwrap();
    let meta = meta_store(dir.path()).display().to_string();
    let flags = [
        ("--backup-storage-url", url.as_str()),
        ("--hummock-storage-url", &url),
        ("--hummock-storage-directory", "moved"),
        ("--sql-endpoint", &meta),
    ];
    let switches = ["--copy-data", "--validate-integrity=checksum"];
    let said = restore(dir.path(), 1, &flags, &switches).await.ok();
    assert!(said.contains("Succeed integrity validation.") && !said.contains(SECRET), "{said}");
    let flags = ["--state-store", &state_store, "--data-directory", "moved"];
    let server = Server::start_with(dir.path(), &flags).await;
    assert_eq!(sql(&server, SUM).await, now);
}

#[tokio::test]
async fn a_selftest_finds_all_that_is_needed() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let said = run(env!("CARGO_BIN_EXE_risectl"), &["selftest", &s3.url("data")], "").await.ok();
    assert_eq!(said.matches(" ok\n").count(), 6, "{said}");
}

#[tokio::test]
async fn a_bucket_is_found_by_the_usual_variables() {
    let dir = tempdir();
    let s3 = S3::start(dir.path());
    let endpoint = s3.endpoint();
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let program = env!("CARGO_BIN_EXE_risectl");
    let said = run_in(&variables, program, &["selftest", "s3://data"], "").await.ok();
    assert_eq!(said.matches(" ok\n").count(), 6, "{said}");
    // Plain HTTP is refused unless it is requested.
    variables.pop();
    run_in(&variables, program, &["selftest", "s3://data"], "").await.refused();
}
