//! Many concurrent clients: no write is lost or applied twice.

use crate::harness::{Server, tempdir};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_updaters_of_the_same_rows_lose_no_update() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let setup = "CREATE TABLE account (id int PRIMARY KEY, balance bigint);
                 INSERT INTO account SELECT g::int, 100 FROM generate_series(1, 10) AS g(g);";
    client.batch_execute(setup).await.unwrap();
    const ROUNDS: i64 = 15;
    let mut updaters = vec![];
    for step in [1_i64, 1000] {
        let client = server.connect().await;
        updaters.push(tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..ROUNDS {
                let update = format!("UPDATE account SET balance = balance + {step}");
                match client.execute(&update, &[]).await {
                    Ok(count) => {
                        assert_eq!(count, 10);
                        done += step;
                    }
                    // A statement may fail after losing races repeatedly; then it has changed nothing.
                    Err(error) => assert_eq!(error.code().unwrap().code(), "40001", "{error}"),
                }
            }
            done
        }));
    }
    let mut expected = 100;
    for updater in updaters {
        expected += updater.await.unwrap();
    }
    let query = "SELECT min(balance), max(balance), count(*) FROM account";
    let row = client.query_one(query, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (expected, expected, 10_i64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_inserters_of_the_same_keys_leave_one_row_for_each() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (k int PRIMARY KEY, writer int)").await.unwrap();
    let mut inserters = vec![];
    for writer in 0..6_i32 {
        let client = server.connect().await;
        inserters.push(tokio::spawn(async move {
            for k in 0..20_i32 {
                client.execute("INSERT INTO t VALUES ($1, $2)", &[&k, &writer]).await.unwrap();
            }
        }));
    }
    for inserter in inserters {
        inserter.await.unwrap();
    }
    let query = "SELECT count(*), count(DISTINCT k) FROM t";
    let row = client.query_one(query, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (20_i64, 20_i64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_commits_while_others_write() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (v int)").await.unwrap();
    let writer = server.connect().await;
    let writes = tokio::spawn(async move {
        for _ in 0..30 {
            writer.batch_execute("INSERT INTO t VALUES (1), (-1), (2), (-2)").await.unwrap();
        }
    });
    let mut last = 0;
    while !writes.is_finished() {
        let row =
            client.query_one("SELECT count(*), coalesce(sum(v), 0) FROM t", &[]).await.unwrap();
        let (count, sum): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!((count % 4, sum), (0, 0), "a statement was seen in part");
        assert!(count >= last, "time went backwards");
        last = count;
    }
    writes.await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(count, 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_consistent_while_others_write() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let setup = "CREATE TABLE a (v int); CREATE TABLE b (v int);";
    client.batch_execute(setup).await.unwrap();
    let writer = server.connect().await;
    let writes = tokio::spawn(async move {
        for n in 0..20 {
            // Two statements of one query text, which are one transaction.
            let pair = format!("INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n});");
            writer.batch_execute(&pair).await.unwrap();
        }
    });
    for _ in 0..4 {
        client.query_one("BACKUP", &[]).await.unwrap();
    }
    writes.await.unwrap();
    let query = "SELECT max_committed_epoch FROM rw_meta_snapshot ORDER BY 1";
    for row in client.query(query, &[]).await.unwrap() {
        let epoch: i64 = row.get(0);
        client.batch_execute(&format!("SET QUERY_EPOCH = {epoch}")).await.unwrap();
        let counts = "SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b";
        let row = client.query_one(counts, &[]).await.unwrap();
        let (a, b): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(a, b, "the rows in a and in b at {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_parts_of_a_statement_read_one_epoch() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let setup = "CREATE TABLE marker (n int);
                 CREATE TABLE t (k int PRIMARY KEY, source bigint, tables bigint, markers bigint);
                 INSERT INTO t VALUES (1, 0, 0, 0)";
    client.batch_execute(setup).await.unwrap();
    // At any epoch there are as many tables as markers, or one more.
    let creator = server.connect().await;
    let creator = tokio::spawn(async move {
        for n in 0.. {
            let next = format!("CREATE TABLE x{n} (k int)");
            creator.batch_execute(&next).await.unwrap();
            creator.execute("INSERT INTO marker VALUES ($1)", &[&n]).await.unwrap();
        }
    });
    let upsert = "INSERT INTO t (k, source)
                  VALUES (1, (SELECT count(*) FROM marker)
                             + 0 * (SELECT count(*) FROM generate_series(1, 200000)))
                  ON CONFLICT (k) DO UPDATE
                  SET source = excluded.source, markers = (SELECT count(*) FROM marker),
                      tables = (SELECT count(*) FROM pg_tables WHERE tablename LIKE 'x%')
                  RETURNING source, markers, tables";
    let (mut first, mut last) = (None, 0_i64);
    for _ in 0..20 {
        let row = client.query_one(upsert, &[]).await.unwrap();
        let (source, markers, tables) = (row.get::<_, i64>(0), row.get(1), row.get::<_, i64>(2));
        assert_eq!(source, markers, "the rows to insert and the update");
        assert!((0..=1).contains(&(tables - markers)), "{tables} tables, {markers} markers");
        first.get_or_insert(markers);
        last = markers;
    }
    assert!(Some(last) > first, "tables were created meanwhile");
    creator.abort();
}
