//! Starting, stopping, and refusing to start with one clear line and exit code 1.

use std::net::TcpListener;

use crate::harness::{
    Server, files_below, lose_meta_store, meta_store, psql, sql, tempdir, try_start,
};

#[tokio::test]
async fn sigterm_and_ctrl_c_stop_it_cleanly_and_nothing_is_lost() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);").await;
    let idle = server.connect().await;
    assert!(server.stop().await.success());
    drop(idle);

    let mut server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT sum(a) FROM t").await, "3");
    server.signal("INT");
    assert!(server.ended().await.success());
    assert!(!server.log().contains("panicked"), "{}", server.log());

    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, what) in [("--listen-addr", "SQL"), ("--meta-addr", "meta")] {
        let dir = tempdir();
        let said = try_start(dir.path(), &[flag, &addr]).await.refused();
        let expected = format!("tidemark: cannot listen on {what} address {addr}: ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("HINT: Stop what uses it, or choose another with"), "{said}");
        assert!(files_below(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_store_is_refused_and_the_first_goes_on() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int)").await;
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("is in use by another process"), "{said}");
    assert!(said.contains("HINT: stop the server that uses it"), "{said}");
    sql(&server, "INSERT INTO t VALUES (1)").await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "1");
}

#[tokio::test]
async fn a_second_cluster_on_the_same_data_is_refused() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let state_store = format!("hummock+fs://{}", dir.path().join("store/state_store").display());
    let other = tempdir();
    let said = try_start(other.path(), &["--state-store", &state_store]).await.refused();
    assert!(said.contains("is empty, but the data directory belongs to cluster \""), "{said}");
    assert!(said.contains("For a new cluster choose another data directory."), "{said}");
    sql(&server, "CREATE TABLE t (a int)").await;
}

#[tokio::test]
async fn a_meta_store_that_is_no_database_is_refused_and_left_as_it_is() {
    let dir = tempdir();
    let file = meta_store(dir.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "this is no database, but somebody's letter").unwrap();
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("cannot be read: it is not a SQLite database"), "{said}");
    assert_eq!(files_below(dir.path()).len(), 1);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("this is no database"));
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let dir = tempdir();
    let file = meta_store(dir.path());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let database = rusqlite::Connection::open(&file).unwrap();
    database.execute_batch("CREATE TABLE letters (text); INSERT INTO letters VALUES (1)").unwrap();
    drop(database);
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("cannot be read"), "{said}");
    let database = rusqlite::Connection::open(&file).unwrap();
    let tables: i64 =
        database.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_meta_store_of_a_newer_release_is_refused() {
    let dir = tempdir();
    assert!(Server::start(dir.path()).await.stop().await.success());
    let database = rusqlite::Connection::open(meta_store(dir.path())).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("written by a newer release (format 99"), "{said}");
}

#[tokio::test]
async fn a_lost_meta_store_does_not_begin_anew_over_old_data() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); BACKUP;").await;
    assert!(server.stop().await.success());
    lose_meta_store(dir.path());
    let before = files_below(&dir.path().join("store/state_store"));
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("is empty, but the data directory belongs to cluster \""), "{said}");
    assert!(said.contains("its meta store is lost, or is elsewhere: put it back"), "{said}");
    assert!(said.contains("restore meta snapshot 1, which ends at epoch"), "{said}");
    assert_eq!(files_below(&dir.path().join("store/state_store")), before);
}

#[tokio::test]
async fn urls_that_cannot_be_used_are_refused_without_their_secrets() {
    for (flag, url, expected) in [
        ("--state-store", "hummock+nonsense://u:secret@x", "no storage of scheme \"nonsense\""),
        ("--state-store", "fs://u:secret@host/x", "does not begin with \"hummock+\""),
        ("--state-store", "hummock+fs://relative", "must be absolute"),
        ("--backup-storage-url", "s3://u:secret@bucket", "names one bucket, without credentials"),
        ("--sql-endpoint", "postgres://u:secret@h/db", "names a database this build does not have"),
        ("--meta-addr", "http://u:secret@h:1/x", "--meta-addr is not host:port"),
    ] {
        let dir = tempdir();
        let said = try_start(dir.path(), &[flag, url]).await.refused();
        assert!(said.contains(expected), "{flag} {url}: {said}");
        assert!(!said.contains("secret"), "{said}");
        assert!(files_below(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn in_memory_leaves_nothing_behind() {
    let dir = tempdir();
    let flags: Vec<String> = crate::harness::server_flags(dir.path());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemark"));
    command.args(&flags[2..]).arg("--in-memory");
    let server = Server::spawn(command, dir.path()).await;
    let shown = "CREATE TABLE t AS SELECT 1 AS a; BACKUP; SELECT count(*) FROM rw_meta_snapshot";
    assert_eq!(sql(&server, shown).await, "1\n1");
    assert!(server.stop().await.success());
    let left = files_below(dir.path());
    let names: Vec<_> = left.iter().map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(names, ["log", "ready"]);
}

#[tokio::test]
async fn logins_as_another_user_are_refused() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let ended = psql(&server, &["-U", "nobody", "-c", "SELECT 1"], "").await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("role \"nobody\" does not exist"), "{}", ended.stderr);
    let ended = psql(&server, &["-d", "nowhere", "-c", "SELECT 1"], "").await;
    assert!(ended.stderr.contains("database \"nowhere\" does not exist"), "{}", ended.stderr);
}
