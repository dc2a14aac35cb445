//! `\copy` of real files with psql.

use std::fmt::Write as _;

use futures::SinkExt as _;

use crate::harness::{Server, psql, sql, sql_error, tempdir};

#[tokio::test]
async fn csv_and_text_files_are_loaded_by_psql() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (k int PRIMARY KEY, name text, price numeric(8, 2), d date)")
        .await;
    let csv = dir.path().join("t.csv");
    let text = "k,name,price,d\n1,\"with, comma\",1.5,2024-01-01\n2,\"two\nlines\",,\n3,\"\",3,\n";
    std::fs::write(&csv, text).unwrap();
    let command = format!("\\copy t FROM '{}' WITH (FORMAT csv, HEADER true)", csv.display());
    psql(&server, &["-v", "ON_ERROR_STOP=1", "-c", &command], "").await.ok();
    let tsv = dir.path().join("t.tsv");
    std::fs::write(&tsv, "4\ttab\\there\t4.25\t\\N\n5\t\\N\t\\N\t2024-02-29\n").unwrap();
    let command = format!("\\copy t (k, name, price, d) FROM '{}'", tsv.display());
    psql(&server, &["-v", "ON_ERROR_STOP=1", "-c", &command], "").await.ok();
    let shown =
        sql(&server, "SELECT k, replace(name, E'\\n', '/'), price, d FROM t ORDER BY k").await;
    let expected = "1|with, comma|1.50|2024-01-01\n2|two/lines||\n3||3.00|\n\
                    4|tab\there|4.25|\n5|||2024-02-29";
    assert_eq!(shown, expected);
    let nulls = "SELECT count(*) FROM t WHERE name IS NULL";
    assert_eq!(sql(&server, nulls).await, "1");
}

#[tokio::test]
async fn a_large_file_is_loaded_whole_or_not_at_all() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (k bigint, v text)").await;
    let mut lines = String::new();
    for k in 1..=50_000 {
        writeln!(lines, "{k}|value of {k}").unwrap();
    }
    let file = dir.path().join("big");
    std::fs::write(&file, &lines).unwrap();
    let command = format!("\\copy t FROM '{}' WITH (DELIMITER '|')", file.display());
    psql(&server, &["-v", "ON_ERROR_STOP=1", "-c", &command], "").await.ok();
    let sums = "SELECT count(*), sum(k), max(v) FROM t";
    assert_eq!(sql(&server, sums).await, "50000|1250025000|value of 9999");

    lines.push_str("fifty thousand and one|x\n");
    std::fs::write(&file, &lines).unwrap();
    let ended = psql(&server, &["-v", "VERBOSITY=verbose", "-c", &command], "").await;
    assert_eq!(ended.code, Some(1));
    let said = ended.stderr;
    assert!(said.contains("22P02: invalid input syntax for type bigint"), "{said}");
    assert_eq!(sql(&server, sums).await, "50000|1250025000|value of 9999");
}

#[tokio::test]
async fn a_file_that_is_cut_off_leaves_nothing_and_fails_its_transaction() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (k bigint, v text)").await;
    let mut lines = String::new();
    for k in 1..=50_000 {
        writeln!(lines, "{k}|value of {k}").unwrap();
    }
    // An error in the last row, found after all others were accepted.
    lines.push_str("50001");
    let file = dir.path().join("cut");
    std::fs::write(&file, &lines).unwrap();
    let copy = format!("\\copy t FROM '{}' WITH (DELIMITER '|')", file.display());
    let ended = psql(&server, &["-v", "ON_ERROR_STOP=1", "-c", &copy], "").await;
    assert!(ended.stderr.contains("missing data for column \"v\""), "{}", ended.stderr);
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "0");

    let script = format!("BEGIN;\nINSERT INTO t VALUES (1, 'x');\n{copy}\nSELECT 1;\nCOMMIT;\n");
    let ended = psql(&server, &["-f", "-"], &script).await;
    assert!(ended.stderr.contains("current transaction is aborted"), "{}", ended.stderr);
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_a_copy_leaves_nothing() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (k bigint)").await.unwrap();
    let rows: String = (0..40_000).fold(String::new(), |mut rows, k| {
        writeln!(rows, "{k}").unwrap();
        rows
    });
    let sink = client.copy_in("COPY t FROM STDIN").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from(rows)).await.unwrap();
    // The server stops while its connections are busy.
    assert!(server.stop().await.success());
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn what_cannot_be_copied_is_refused_and_the_session_goes_on() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int, b int)").await;
    let script = "\\set VERBOSITY verbose
COPY t (nope) FROM STDIN;
COPY nope FROM STDIN;
COPY t FROM STDIN;
1\t2\t3
\\.
COPY t FROM STDIN;
1\t2
\\.
SELECT * FROM t;
";
    let ended = psql(&server, &["-f", "-"], script).await;
    let said = &ended.stderr;
    for expected in [
        "42703: column \"nope\" of relation \"t\" does not exist",
        "42P01: relation \"nope\" does not exist",
        "22P04: extra data after last expected column",
        "COPY t, line 1",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(ended.stdout, "1|2\n");
    let said = sql_error(&server, "COPY t FROM '/etc/hostname'").await;
    assert!(said.contains("0A000"), "{said}");
}
