//! Clients that violate the protocol, and clients that are too many, too slow, or gone.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::{Server, psql, said, server_flags, tempdir, wait_until};
use crate::wire::{
    CANCEL_REQUEST, GSS_REQUEST, PROTOCOL_3, SSL_REQUEST, Wire, bind, claiming, execute, login,
    message, packet, parse, query, startup, sync,
};

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity";

/// A SELECT that runs longer than any test and reads no table.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000)";

async fn count_of(client: &tokio_postgres::Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// Waits until this number of sessions is left.
async fn sessions_are(client: &tokio_postgres::Client, count: i64) {
    let what = format!("{count} sessions are left");
    wait_until(&what, async || (count_of(client, SESSIONS).await == count).then_some(())).await;
}

#[tokio::test]
async fn nothing_behind_a_refused_login_runs() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let refused = [
        (startup(PROTOCOL_3, &[("user", "root"), ("database", "nope")]), "3D000"),
        (startup(PROTOCOL_3, &[("user", "nobody"), ("database", "dev")]), "28000"),
        (startup(PROTOCOL_3, &[("database", "dev")]), "28000"),
        (startup(2 << 16, &[("user", "root"), ("database", "dev")]), "0A000"),
    ];
    for (at, (login, code)) in refused.iter().enumerate() {
        let create = format!("CREATE TABLE refused_{at} (a int)");
        let mut wire = Wire::connect(&server).await;
        let extended = [parse("", &create), bind("", ""), execute(""), sync()].concat();
        let said = wire.say(&[login.clone(), query(&create), extended].concat()).await;
        assert!(said.starts_with(&format!("[FATAL {code}: ")) && said.ends_with("] end"), "{said}");
    }
    // Nor after any other end of the connection.
    let mut wire = Wire::log_in(&server).await;
    let said = wire.say(&[vec![b'?'], query("CREATE TABLE refused_later (a int)")].concat()).await;
    assert_eq!(said, "[FATAL 08P01: invalid frontend message type 63] end");
    let client = server.connect().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'refused%'";
    assert_eq!(count_of(&client, tables).await, 0);
}

#[tokio::test]
async fn messages_that_break_the_protocol_end_the_connection() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let invalid_length = "[FATAL 08P01: invalid message length] end";
    let cases = [
        (claiming(b'Q', -1, b""), invalid_length),
        (claiming(b'Q', 0, b""), invalid_length),
        (claiming(b'Q', 3, b""), invalid_length),
        (claiming(b'Q', i32::MIN, b""), invalid_length),
        (claiming(b'Q', i32::MAX, b""), invalid_length),
        (claiming(b'B', 0x4000_0003, b""), invalid_length),
        (claiming(b'S', 10_005, b""), invalid_length),
        (claiming(b'D', 1 << 20, b""), invalid_length),
        (message(b'p', b"secret\0"), "[FATAL 08P01: invalid frontend message type 112] end"),
        (vec![0, 0, 0, 8], "[FATAL 08P01: invalid frontend message type 0] end"),
        (b"GET / HTTP/1.1".to_vec(), "[FATAL 08P01: invalid frontend message type 71] end"),
    ];
    for (bytes, expected) in &cases {
        let mut wire = Wire::log_in(&server).await;
        assert_eq!(wire.say(bytes).await, *expected, "{bytes:?}");
    }
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn messages_out_of_order_are_errors_and_the_session_goes_on() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let mut wire = Wire::log_in(&server).await;
    let unparsed = "[ERROR 26000: unnamed prepared statement does not exist] Z";
    let cases = [
        ([bind("", ""), sync()].concat(), unparsed),
        (
            [bind("", "x"), execute(""), sync()].concat(),
            "[ERROR 26000: prepared statement \"x\" does not exist] Z",
        ),
        ([execute(""), sync()].concat(), "[ERROR 34000: portal \"\" does not exist] Z"),
        ([execute("p"), sync()].concat(), "[ERROR 34000: portal \"p\" does not exist] Z"),
        ([message(b'D', b"Pp\0"), sync()].concat(), "[ERROR 34000: portal \"p\" does not exist] Z"),
        (
            [message(b'D', b"X\0"), sync()].concat(),
            "[ERROR 08P01: invalid DESCRIBE message subtype 88] Z",
        ),
        // Messages that are skipped up to the Sync have no effect, not even a simple query.
        (
            [execute("p"), query("CREATE TABLE skipped (a int)"), sync()].concat(),
            "[ERROR 34000: portal \"p\" does not exist] Z",
        ),
        // Bodies that are too short or too long.
        (claiming(b'Q', 12, b"SELECT 1"), "[ERROR 08P01: invalid string in message] Z"),
        (message(b'Q', b"SELECT 1\0x"), "[ERROR 08P01: invalid message format] Z"),
        (
            [message(b'B', b"\0\0\0\0\xff\xff"), sync()].concat(),
            "[ERROR 08P01: insufficient data left in message] Z",
        ),
        ([message(b'S', b"x")].concat(), "[ERROR 08P01: invalid message format] Z"),
        // COPY messages outside of a COPY.
        (
            [message(b'd', b"1\n"), message(b'c', b""), message(b'f', b"why\0"), query("")]
                .concat(),
            "I Z",
        ),
        (
            message(b'F', &[0; 8]),
            "[ERROR 0A000: calling functions by their oid is not supported] Z",
        ),
        (
            message(b'Q', b"SELECT '\xc3\x28'\0"),
            "[ERROR 22021: invalid byte sequence for encoding \"UTF8\": 0xc3 0x28] Z",
        ),
        // A portal name is unique; a portal runs once and ends with its transaction.
        (
            [parse("s", "BEGIN"), bind("p", "s"), execute("p"), bind("p", "s"), sync()].concat(),
            "1 2 C [ERROR 42P03: cursor \"p\" already exists] Z",
        ),
        (query("ROLLBACK"), "C Z"),
        (
            [
                parse("", "CREATE TABLE once (a int)"),
                bind("", ""),
                execute(""),
                execute(""),
                sync(),
            ]
            .concat(),
            "1 2 C [ERROR 55000: portal \"\" cannot be run] Z",
        ),
        ([parse("r", "SELECT 1"), bind("p", "r"), sync()].concat(), "1 2 Z"),
        ([execute("p"), sync()].concat(), "[ERROR 34000: portal \"p\" does not exist] Z"),
        (query("SELECT count(*) FROM pg_tables WHERE tablename = 'skipped'"), "T D C Z"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(wire.say(&bytes).await, expected, "{}", String::from_utf8_lossy(&bytes));
    }
    let client = server.connect().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename IN ('skipped', 'once')";
    assert_eq!(count_of(&client, tables).await, 1);
}

#[tokio::test]
async fn only_what_belongs_to_a_copy_may_come_during_one() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let copy = || query("COPY t FROM STDIN");
    let rows = || message(b'd', b"1\n2\n");
    let unexpected = |kind: &str| {
        format!("[FATAL 08P01: unexpected message type {kind} during COPY from stdin] end")
    };
    for (bytes, kind) in [(query("INSERT INTO t VALUES (9)"), "0x51"), (parse("", ""), "0x50")] {
        let mut wire = Wire::log_in(&server).await;
        wire.send(&copy()).await;
        assert_eq!(wire.answer().await.unwrap().0, b'G');
        assert_eq!(wire.say(&[rows(), bytes].concat()).await, unexpected(kind));
    }
    let mut wire = Wire::log_in(&server).await;
    let failed = "G [ERROR 57014: COPY from stdin failed: why] Z";
    assert_eq!(wire.say(&[copy(), rows(), message(b'f', b"why\0")].concat()).await, failed);
    let wrong = [copy(), message(b'd', b"x\n"), rows(), message(b'c', b"")].concat();
    let said = wire.say(&wrong).await;
    assert!(said.starts_with("G [ERROR 22P02: ") && said.ends_with("] Z"), "{said}");
    assert_eq!(count_of(&client, "SELECT count(*) FROM t").await, 0);
    // All in one message, split anywhere.
    let whole = [copy(), sync(), rows(), message(b'H', b""), message(b'c', b"")].concat();
    assert_eq!(wire.say(&whole).await, "G C Z");
    let extended = [parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()].concat();
    let rest = [rows(), message(b'c', b""), sync()].concat();
    assert_eq!(wire.say(&[extended.clone(), rest].concat()).await, "1 2 G C Z");
    let wrong = [message(b'd', b"x\n"), rows(), message(b'c', b""), query("SELECT 1"), sync()];
    let said = wire.say(&[extended, wrong.concat()].concat()).await;
    assert!(said.starts_with("1 2 G [ERROR 22P02: ") && said.ends_with("] Z"), "{said}");
    assert_eq!(count_of(&client, "SELECT count(*) FROM t").await, 4);
}

#[tokio::test]
async fn startup_packets_are_read_strictly() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let layout =
        "[FATAL 08P01: invalid startup packet layout: expected terminator as last byte] end";
    let cases = [
        (vec![0, 0, 0, 7], "end"),
        (vec![0x7f, 0xff, 0xff, 0xff], "end"),
        ([&10_005_i32.to_be_bytes()[..], b"x"].concat(), "end"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "end"),
        (packet(PROTOCOL_3, b"user\0root\0"), layout),
        (packet(PROTOCOL_3, b"user\0root\0database\0dev\0\0\0"), layout),
        (
            startup(PROTOCOL_3, &[("user", ""), ("database", "dev")]),
            "[FATAL 28000: no PostgreSQL user name specified in startup packet] end",
        ),
        (
            startup(4 << 16, &[("user", "root")]),
            "[FATAL 0A000: unsupported frontend protocol 4.0: server supports 3.0 to 3.2] end",
        ),
        (
            startup(PROTOCOL_3, &[("user", "root"), ("database", "dev"), ("replication", "true")]),
            "[FATAL 0A000: a replication connection is not supported] end",
        ),
        (
            packet(CANCEL_REQUEST, &[0; 4]),
            "[FATAL 08P01: invalid length of cancel request packet] end",
        ),
        (packet(CANCEL_REQUEST, &[0; 8]), "end"),
    ];
    for (bytes, expected) in cases {
        let mut wire = Wire::connect(&server).await;
        assert_eq!(wire.say(&bytes).await, expected, "{bytes:?}");
    }
    // A newer minor version and protocol options are negotiated.
    for (code, name) in [(PROTOCOL_3 + 9999, "application_name"), (PROTOCOL_3, "_pq_.x")] {
        let mut wire = Wire::connect(&server).await;
        let parameters = [("user", "root"), ("database", "dev"), (name, "x")];
        let said = wire.say(&startup(code, &parameters)).await;
        assert!(said.starts_with("v R S") && said.ends_with("K Z"), "{said}");
    }
}

#[tokio::test]
async fn encryption_is_refused_once_and_nothing_unencrypted_slips_in_before() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let mut wire = Wire::connect(&server).await;
    for request in [SSL_REQUEST, GSS_REQUEST] {
        wire.send(&packet(request, b"")).await;
        assert_eq!(wire.byte().await, b'N');
    }
    let said = wire.say(&packet(SSL_REQUEST, b"")).await;
    let again = "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2";
    assert_eq!(said, format!("[FATAL 0A000: {again}] end"));
    for (request, name) in [(SSL_REQUEST, "SSL"), (GSS_REQUEST, "GSSAPI encryption")] {
        let mut wire = Wire::connect(&server).await;
        let create = query("CREATE TABLE smuggled (a int)");
        let said = wire.say(&[packet(request, b""), login(), create].concat()).await;
        let refused = format!("received unencrypted data after {name} request");
        assert_eq!(said, format!("[FATAL 08P01: {refused}] end"));
    }
    let client = server.connect().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'smuggled'";
    assert_eq!(count_of(&client, tables).await, 0);
}

#[tokio::test]
async fn nonsense_is_a_few_lines_in_the_log() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    for at in 0..200_u32 {
        let mut wire = Wire::connect(&server).await;
        let bytes = if at % 2 == 0 { vec![0xff; 64] } else { startup(PROTOCOL_3, &[("a", "b")]) };
        wire.say(&bytes).await;
    }
    let log = server.log();
    assert!(log.lines().count() < 60, "{log}");
}

#[tokio::test]
async fn every_session_has_a_process_id_of_its_own() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let mut clients = vec![];
    for _ in 0..5 {
        clients.push(server.connect().await);
    }
    let mut pids = HashSet::new();
    for client in &clients {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        pids.insert(pid);
    }
    assert_eq!(pids.len(), clients.len());
    let listed = clients[0].query("SELECT pid, state FROM pg_stat_activity ORDER BY pid", &[]);
    let listed: Vec<(i32, String)> =
        listed.await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(listed.iter().map(|(pid, _)| *pid).collect::<HashSet<_>>(), pids);
    let active = listed.iter().filter(|(_, state)| state == "active").count();
    assert_eq!(active, 1, "{listed:?}");
    // A cancel request reaches the session it names.
    let running = clients[1].query(ENDLESS, &[]);
    let cancelling = async {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'";
        wait_until("it runs", async || (count_of(&clients[0], busy).await == 2).then_some(()))
            .await;
        clients[1].cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (ran, ()) = tokio::join!(running, cancelling);
    assert_eq!(said(&ran.unwrap_err()), "57014: canceling statement due to user request");
}

#[tokio::test]
async fn sessions_beyond_the_limit_are_refused_and_the_others_go_on() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--max-connections", "3"]).await;
    let client = server.connect().await;
    let mut others = vec![Wire::log_in(&server).await, Wire::log_in(&server).await];
    let mut refused = Wire::connect(&server).await;
    let refusal = refused.say(&login()).await;
    assert_eq!(refusal, "[FATAL 53300: sorry, too many clients already] end");
    // A cancel request needs no session.
    let running = client.query(ENDLESS, &[]);
    let cancelling = async {
        let busy =
            "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()";
        let busy = query(busy);
        let other = &mut others[0];
        wait_until("it runs", async || (other.say(&busy).await == "T D C Z").then_some(())).await;
        client.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (ran, ()) = tokio::join!(running, cancelling);
    assert_eq!(said(&ran.unwrap_err()), "57014: canceling statement due to user request");
    drop(others.pop());
    wait_until("a seat is free", async || {
        let mut wire = Wire::connect(&server).await;
        (wire.say(&login()).await.ends_with('Z')).then_some(())
    })
    .await;
    assert_eq!(count_of(&client, "SELECT 1::bigint").await, 1);
}

/// A client that requested encryption expects the response to that before any error.
#[tokio::test]
async fn who_is_turned_away_is_told_why() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--max-connections", "1"]).await;
    let client = server.connect().await;
    // A silent client takes the second socket of the only seat.
    let _stalled = Wire::connect(&server).await;
    let refusal = "[FATAL 53300: sorry, too many clients already] end";
    for requests in [&[][..], &[SSL_REQUEST], &[GSS_REQUEST, SSL_REQUEST]] {
        let mut wire = Wire::connect(&server).await;
        for request in requests {
            wire.send(&packet(*request, b"")).await;
            assert_eq!(wire.byte().await, b'N');
        }
        assert_eq!(wire.say(&login()).await, refusal);
    }
    let ended = psql(&server, &["-c", "SELECT 1"], "").await;
    assert!(ended.stderr.contains("sorry, too many clients already"), "{}", ended.stderr);
    // A cancel request needs no seat.
    let running = client.query(ENDLESS, &[]);
    tokio::pin!(running);
    let error = loop {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            outcome = &mut running => break outcome.unwrap_err(),
            () = pause => client.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap(),
        }
    };
    assert_eq!(said(&error), "57014: canceling statement due to user request");
    // Silent clients get the error too, however many there are.
    let mut crowd = vec![];
    for _ in 0..100 {
        crowd.push(Wire::connect(&server).await);
    }
    for wire in &mut crowd {
        let answers = wire.until_end().await;
        let said = answers.first().map(|(_, body)| crate::wire::error_of(body));
        assert_eq!(said.as_deref(), Some("FATAL 53300: sorry, too many clients already"));
    }
    assert_eq!(count_of(&client, "SELECT 1::bigint").await, 1);
}

#[tokio::test]
async fn few_file_descriptors_lock_no_client_out() {
    let dir = tempdir();
    let flags = server_flags(dir.path()).join(" ");
    let program = env!("CARGO_BIN_EXE_tidemark");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("ulimit -n 64; exec {program} {flags}")]);
    let server = Server::spawn(command, dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let mut crowd = vec![];
    for _ in 0..100 {
        crowd.push(Wire::connect(&server).await);
    }
    assert_eq!(count_of(&client, "SELECT count(*) FROM t").await, 1);
    let mut told = 0;
    for wire in &mut crowd {
        let sent = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &login()).await;
        let answers = if sent.is_ok() { wire.until_ready().await } else { vec![] };
        told += usize::from(answers.last().is_some_and(|(kind, _)| *kind == b'E'));
    }
    assert!(told > 0, "no client was told that there is no room");
    drop(crowd);
    wait_until("there is room again", async || {
        let mut wire = Wire::connect(&server).await;
        (wire.say(&login()).await.ends_with('Z')).then_some(())
    })
    .await;
    let log = server.log();
    assert!(log.lines().count() < 60 && !log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn idle_sessions_end_when_they_are_told_to() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    // Waiting between two messages of the extended protocol is not idle.
    let mut between = Wire::log_in(&server).await;
    let set = query("SET idle_session_timeout = '100ms'");
    between.say(&[set.clone(), parse("", "SELECT 1")].concat()).await;
    let mut idle = Wire::log_in(&server).await;
    idle.say(&set).await;
    let mut within = Wire::log_in(&server).await;
    within.say(&query("SET idle_in_transaction_session_timeout = 100")).await;
    assert_eq!(within.say(&query("SELECT 1")).await, "T D C Z", "it is in no transaction");
    within.say(&query("BEGIN; SELECT * FROM t; INSERT INTO t VALUES (1)")).await;
    // It reads an old version now, which is pinned.
    let pins = "SELECT count(*) FROM rw_hummock_pinned_versions p, rw_hummock_version v
        WHERE p.min_pinned_version_id < v.version_id - 2";
    for _ in 0..4 {
        client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    }
    // A partial message does not end the idle time.
    within.send(&query("COMMIT")[..6]).await;
    for (wire, expected) in [
        (&mut idle, "FATAL 57P05: terminating connection due to idle-session timeout"),
        (&mut within, "FATAL 25P03: terminating connection due to idle-in-transaction timeout"),
    ] {
        let answers = wire.until_end().await;
        assert_eq!(crate::wire::error_of(&answers.last().unwrap().1), expected);
    }
    let said = between.say(&[bind("", ""), execute(""), sync()].concat()).await;
    assert_eq!(said, "1 2 D C Z");
    let answers = between.until_end().await;
    let expected = "FATAL 57P05: terminating connection due to idle-session timeout";
    assert_eq!(crate::wire::error_of(&answers.last().unwrap().1), expected);
    sessions_are(&client, 1).await;
    wait_until("nothing is pinned for them", async || {
        (count_of(&client, pins).await == 0).then_some(())
    })
    .await;
    assert_eq!(count_of(&client, "SELECT count(*) FROM t WHERE a = 1").await, 0);
    let setting = "SELECT setting FROM pg_settings WHERE name = 'idle_session_timeout'";
    let setting: String = client.query_one(setting, &[]).await.unwrap().get(0);
    assert_eq!(setting, "0");
}

#[tokio::test]
async fn who_does_not_log_in_in_time_is_left_outside() {
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--authentication-timeout-sec", "1"]).await;
    let mut silent = Wire::connect(&server).await;
    let mut halfway = Wire::connect(&server).await;
    halfway.send(&login()[..9]).await;
    let mut asking = Wire::connect(&server).await;
    asking.send(&packet(SSL_REQUEST, b"")).await;
    assert_eq!(asking.byte().await, b'N');
    let mut session = Wire::log_in(&server).await;
    for wire in [&mut silent, &mut halfway, &mut asking] {
        assert_eq!(wire.until_end().await, []);
    }
    assert_eq!(session.say(&query("SELECT 1")).await, "T D C Z");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statement_of_a_client_that_is_gone_ends() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%'
        AND state = 'active' AND pid <> pg_backend_pid()";
    for extended in [false, true] {
        let mut wire = Wire::log_in(&server).await;
        let simple = query(ENDLESS);
        let extended_query = [parse("", ENDLESS), bind("", ""), execute(""), sync()].concat();
        wire.send(if extended { &extended_query } else { &simple }).await;
        wait_until("it runs", async || (count_of(&client, busy).await == 1).then_some(())).await;
        drop(wire);
        sessions_are(&client, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_given_up_when_its_statement_is_out_of_time() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    let mut wire = Wire::log_in(&server).await;
    wire.say(&query("SET statement_timeout = '1s'")).await;
    wire.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)")).await;
    sessions_are(&client, 2).await;
    sessions_are(&client, 1).await;
    drop(wire);
}

#[tokio::test]
async fn a_copy_whose_rows_do_not_come_ends_in_time_or_when_cancelled() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let mut wire = Wire::log_in(&server).await;
    wire.say(&query("SET statement_timeout = 200")).await;
    let timed_out = "G [ERROR 57014: canceling statement due to statement timeout] Z";
    assert_eq!(wire.say(&query("COPY t FROM STDIN")).await, timed_out);
    let rest = [message(b'd', b"1\n"), message(b'c', b""), query("SELECT 1")].concat();
    assert_eq!(wire.say(&rest).await, "T D C Z");
    assert_eq!(count_of(&client, "SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn calls_between_processes_take_no_longer_messages_than_they_need() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    let meta = tidemark_engine::rpc::MetaClient::connect(&server.meta.to_string()).await.unwrap();
    let long = Some("x".repeat(5 << 20));
    let error = meta.alter_system("time_travel_retention_ms", long).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    let short = Some("x".repeat(1 << 20));
    let error = meta.alter_system("time_travel_retention_ms", short).await.unwrap_err();
    assert!(!error.to_string().contains("too large"), "{error}");
}
