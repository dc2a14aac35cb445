//! psql's backslash commands work: the catalogs answer their queries.

use crate::harness::{Server, psql, sql, tempdir};

async fn cluster() -> (tempfile::TempDir, Server) {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(
        &server,
        "CREATE SCHEMA app;
         CREATE TABLE t (a int PRIMARY KEY, b varchar(10) NOT NULL DEFAULT 'x', c numeric(8, 2));
         CREATE TABLE app.u (k text);
         CREATE VIEW v AS SELECT a, b FROM t;",
    )
    .await;
    (dir, server)
}

#[tokio::test]
async fn backslash_commands_answer_without_an_error() {
    let (_dir, server) = cluster().await;
    for command in [
        "\\d",
        "\\d t",
        "\\d+ t",
        "\\d v",
        "\\d app.u",
        "\\dt",
        "\\dt *.*",
        "\\dv",
        "\\dn",
        "\\du",
        "\\df",
        "\\l",
        "\\di",
        "\\ds",
        "\\dm",
        "\\dT",
        "\\dp",
        "\\conninfo",
        "\\dt+",
        "\\l+",
        "\\dn+",
        "\\db",
        "\\encoding",
        "\\d nope",
        "\\dx",
        "\\dC",
        "\\do",
    ] {
        let ended = psql(&server, &["-v", "ON_ERROR_STOP=1", "-c", command], "").await;
        assert!(!ended.stderr.contains("ERROR"), "{command}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn backslash_d_shows_columns_types_defaults_and_the_key() {
    let (_dir, server) = cluster().await;
    let shown = sql(&server, "\\d t").await;
    for expected in
        ["a|integer||not null|", "b|character varying(10)||not null|'x'", "c|numeric(8,2)|||"]
    {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let shown = sql(&server, "\\pset tuples_only off\n\\d t").await;
    assert!(shown.contains("\"t_pkey\" PRIMARY KEY"), "{shown}");
    let shown = sql(&server, "\\dt").await;
    assert_eq!(shown, "public|t|table|root");
    let shown = sql(&server, "\\dt *.*").await;
    assert!(shown.contains("app|u|table|root"), "{shown}");
    assert_eq!(sql(&server, "\\dv").await, "public|v|view|root");
    let shown = sql(&server, "\\dn").await;
    assert!(shown.contains("app|root") && shown.contains("public|"), "{shown}");
    let shown = sql(&server, "\\du").await;
    assert!(shown.starts_with("root|Superuser"), "{shown}");
    let shown = sql(&server, "\\l").await;
    assert!(shown.starts_with("dev|root|UTF8"), "{shown}");
    let shown = sql(&server, "\\d+ v").await;
    assert!(shown.contains("a|integer"), "{shown}");
}

#[tokio::test]
async fn the_parameters_look_as_in_the_documents() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let ended =
        psql(&server, &["-P", "tuples_only=off", "-P", "format=aligned"], "SHOW PARAMETERS;");
    let shown = ended.await.ok();
    let state = dir.path().join("store/state_store").display().to_string();
    assert!(shown.starts_with("           Name           |"), "{shown}");
    for line in [
        format!(" state_store              | hummock+fs://{state}"),
        " data_directory           | hummock_001".to_owned(),
        format!(" backup_storage_url       | fs://{state}"),
        " backup_storage_directory | backup".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
}
