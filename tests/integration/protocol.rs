//! The extended protocol as drivers use it: parameters, binary results, prepared statements.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{Server, said, tempdir};

const ALL_TYPES: &str = "CREATE TABLE t (
    k int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, f4 real, f8 double precision,
    n numeric(12, 3), v varchar(20), x text, y bytea, d date, ti time, ts timestamp, tz timestamptz,
    j jsonb, ia int[], xa text[])";

async fn text_of(client: &Client, query: &str) -> Vec<String> {
    for message in client.simple_query(query).await.unwrap() {
        if let SimpleQueryMessage::Row(row) = message {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned());
            return cells.collect();
        }
    }
    panic!("{query} has no row");
}

#[tokio::test]
async fn every_type_goes_in_as_a_binary_parameter_and_comes_back() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute(ALL_TYPES).await.unwrap();
    let insert = "INSERT INTO t (k, b, i2, i8, f4, f8, v, x, y, d, ti, ts, tz, j, ia, xa)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let insert = client.prepare(insert).await.unwrap();
    let expected = [
        Type::INT4,
        Type::BOOL,
        Type::INT2,
        Type::INT8,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::VARCHAR,
        Type::TEXT,
        Type::BYTEA,
        Type::DATE,
        Type::TIME,
        Type::TIMESTAMP,
        Type::TIMESTAMPTZ,
        Type::JSONB,
        Type::INT4_ARRAY,
        Type::TEXT_ARRAY,
    ];
    assert_eq!(insert.params(), expected);
    let date = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let time = NaiveTime::from_hms_micro_opt(12, 34, 56, 789).unwrap();
    let at = NaiveDateTime::new(date, time);
    let zoned: DateTime<Utc> = at.and_utc();
    let json = serde_json::json!({"a": [1, null], "b": "x"});
    let (numbers, texts) = (vec![Some(1), None], vec![Some("a,b"), Some(""), None]);
    let bytes: &[u8] = &[0, 255, 7];
    let count = client
        .execute(
            &insert,
            &[
                &1_i32,
                &true,
                &-2_i16,
                &i64::MIN,
                &1.5_f32,
                &-0.25_f64,
                &"vär",
                &"it's",
                &bytes,
                &date,
                &time,
                &at,
                &zoned,
                &json,
                &numbers,
                &texts,
            ],
        )
        .await
        .unwrap();
    assert_eq!(count, 1);

    let row = client.query_one("SELECT * FROM t WHERE k = $1", &[&1_i32]).await.unwrap();
    assert!(row.get::<_, bool>("b"));
    assert_eq!(row.get::<_, i16>("i2"), -2);
    assert_eq!(row.get::<_, i64>("i8"), i64::MIN);
    assert_eq!((row.get::<_, f32>("f4"), row.get::<_, f64>("f8")), (1.5, -0.25));
    assert_eq!((row.get::<_, &str>("v"), row.get::<_, &str>("x")), ("vär", "it's"));
    assert_eq!(row.get::<_, &[u8]>("y"), bytes);
    assert_eq!(row.get::<_, NaiveDate>("d"), date);
    assert_eq!(row.get::<_, NaiveTime>("ti"), time);
    assert_eq!(row.get::<_, NaiveDateTime>("ts"), at);
    assert_eq!(row.get::<_, DateTime<Utc>>("tz"), zoned);
    assert_eq!(row.get::<_, serde_json::Value>("j"), json);
    assert_eq!(row.get::<_, Vec<Option<i32>>>("ia"), numbers);
    assert_eq!(row.get::<_, Vec<Option<&str>>>("xa"), texts);

    // Clients that use the text format see the same values.
    let shown = text_of(&client, "SELECT b, i8, f8, v, y, ti, tz, j, ia, xa FROM t").await;
    let expected = [
        "t",
        "-9223372036854775808",
        "-0.25",
        "vär",
        "\\x00ff07",
        "12:34:56.000789",
        "2024-02-29 12:34:56.000789+00",
        "{\"a\": [1, null], \"b\": \"x\"}",
        "{1,NULL}",
        "{\"a,b\",\"\",NULL}",
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn nulls_of_every_type_go_in_and_come_back() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute(ALL_TYPES).await.unwrap();
    let insert =
        "INSERT INTO t (k, b, f8, x, y, d, tz, j, ia) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let count = client
        .execute(
            insert,
            &[
                &1_i32,
                &None::<bool>,
                &None::<f64>,
                &None::<&str>,
                &None::<&[u8]>,
                &None::<NaiveDate>,
                &None::<DateTime<Utc>>,
                &None::<serde_json::Value>,
                &None::<Vec<i32>>,
            ],
        )
        .await
        .unwrap();
    assert_eq!(count, 1);
    let row = client.query_one("SELECT b, f8, x, y, d, tz, j, ia FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<bool>>(0), None);
    assert_eq!(row.get::<_, Option<&str>>(2), None);
    assert_eq!(row.get::<_, Option<Vec<i32>>>(7), None);
}

#[tokio::test]
async fn prepared_statements_run_again_with_other_values() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (k int PRIMARY KEY, v text)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
    for k in 1..=20_i32 {
        client.execute(&insert, &[&k, &format!("v{k}")]).await.unwrap();
    }
    let between =
        client.prepare("SELECT v FROM t WHERE k BETWEEN $1 AND $2 ORDER BY k").await.unwrap();
    assert_eq!(between.params(), [Type::INT4, Type::INT4]);
    for (from, to) in [(1_i32, 3_i32), (19, 25), (30, 40)] {
        let rows = client.query(&between, &[&from, &to]).await.unwrap();
        let expected: Vec<String> = (from..=to.min(20)).map(|k| format!("v{k}")).collect();
        let got: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(got, expected);
    }
    let update = "UPDATE t SET v = $1 WHERE k = ANY($2)";
    let changed = client.execute(update, &[&"new", &vec![1_i32, 2]]).await.unwrap();
    assert_eq!(changed, 2);
    let gone = client.execute("DELETE FROM t WHERE v = $1", &[&"new"]).await.unwrap();
    assert_eq!(gone, 2);
    let wrong = client.query("SELECT 1 / ($1::int - 1)", &[&1_i32]).await.unwrap_err();
    assert_eq!(wrong.code().unwrap().code(), "22012");
    let left: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(left, 18);
}

#[tokio::test]
async fn a_changed_table_invalidates_what_was_prepared_for_it() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let mut prepared = vec![];
    for sql in [
        "SELECT * FROM t",
        "INSERT INTO t VALUES (2) RETURNING *",
        "UPDATE t SET a = a + 1 RETURNING *",
        "DELETE FROM t RETURNING *",
    ] {
        prepared.push(client.prepare(sql).await.unwrap());
    }
    let all = prepared[0].clone();
    assert_eq!(client.query(&all, &[]).await.unwrap().len(), 1);
    client.batch_execute("ALTER TABLE t ADD COLUMN b text").await.unwrap();
    for statement in &prepared {
        let error = client.query(statement, &[]).await.unwrap_err();
        assert_eq!(said(&error), "0A000: cached plan must not change result type");
        assert_eq!(error.as_db_error().unwrap().routine(), Some("RevalidateCachedQuery"));
    }
    // None of them did anything.
    let sum: i64 = client.query_one("SELECT sum(a) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(sum, 1);
    client.batch_execute("DROP TABLE t").await.unwrap();
    let error = client.query(&all, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P01");
}

#[tokio::test]
async fn every_statement_of_ours_can_be_prepared() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.execute("CREATE TABLE t (a int)", &[]).await.unwrap();
    let id: i64 = client.query_one("BACKUP", &[]).await.unwrap().get("snapshot_id");
    let row = client.query_one("SELECT max_committed_epoch FROM rw_meta_snapshot", &[]).await;
    let epoch: i64 = row.unwrap().get(0);
    client.execute(&format!("SET QUERY_EPOCH = {epoch}"), &[]).await.unwrap();
    let shown: String = client.query_one("SHOW query_epoch", &[]).await.unwrap().get(0);
    assert_eq!(shown, epoch.to_string());
    client.execute("RESET QUERY_EPOCH", &[]).await.unwrap();
    client.execute("FLUSH", &[]).await.unwrap();
    assert_eq!(client.query("SHOW PARAMETERS", &[]).await.unwrap().len(), 7);
    client.execute("ALTER SYSTEM SET time_travel_retention_ms = 700000", &[]).await.unwrap();
    assert!(!client.query("EXPLAIN SELECT * FROM t", &[]).await.unwrap().is_empty());
    client.execute(&format!("DELETE META SNAPSHOTS {id}"), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_may_be_pipelined() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (k int PRIMARY KEY)").await.unwrap();
    let insert = client.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    let keys: Vec<i32> = (0..50).collect();
    let inserts = keys.iter().map(|k| client.execute_raw(&insert, [k]));
    futures::future::try_join_all(inserts).await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 50);
}

/// Connects with `options`, as `PGOPTIONS` does.
async fn connect_with(server: &Server, options: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(server.sql.ip().to_string()).port(server.sql.port());
    config.user("root").dbname("dev").options(options);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn settings_of_the_startup_packet_are_honoured() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let setup = "CREATE SCHEMA app; CREATE TABLE app.t (a int); INSERT INTO app.t VALUES (1)";
    client.batch_execute(setup).await.unwrap();
    client.batch_execute("BACKUP").await.unwrap();
    client.batch_execute("INSERT INTO app.t VALUES (2)").await.unwrap();
    let epoch = "SELECT max(max_committed_epoch) FROM rw_meta_snapshot";
    let epoch = text_of(&client, epoch).await.remove(0);

    let options = format!("-c query_epoch={epoch} --search-path=app,public -cstatement_timeout=7s");
    let past = connect_with(&server, &options).await.unwrap();
    let count = "SELECT count(*) FROM t";
    assert_eq!(text_of(&past, count).await, ["1"]);
    assert_eq!(text_of(&past, "SHOW statement_timeout").await, ["7000"]);
    past.batch_execute("SET query_epoch = 0").await.unwrap();
    assert_eq!(text_of(&past, count).await, ["2"]);
    for reset in ["RESET query_epoch", "RESET ALL", "DISCARD ALL"] {
        past.batch_execute("SET query_epoch = 0; SET search_path = app").await.unwrap();
        past.batch_execute(reset).await.unwrap();
        assert_eq!(text_of(&past, count).await, ["1"], "{reset}");
    }
    assert_eq!(text_of(&past, "SHOW search_path").await, ["app, public"]);

    for (wrong, code) in [
        ("-c nope=1", "42704"),
        ("-c query_epoch=7", "22023"),
        ("-c search_path=a,,b", "22023"),
        ("-c client_encoding=LATIN1", "22023"),
        ("-c server_version=15", "55P02"),
        ("-B 5", "42601"),
    ] {
        let error = connect_with(&server, wrong).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), code, "{wrong}");
        assert_eq!(error.as_db_error().unwrap().severity(), "FATAL", "{wrong}");
    }
}
