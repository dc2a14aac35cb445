//! Hundreds of clients that stall at every step of the protocol, while another client is served.
//!
//! `TIDEMARK_ABUSE_CLIENTS` is their number, `TIDEMARK_ABUSE_ROUNDS` the number of rounds.

use std::time::{Duration, Instant};

use crate::fuzz::number;
use crate::harness::{Server, tempdir, wait_until};
use crate::wire::{SSL_REQUEST, Wire, bind, execute, login, message, packet, parse, query};

const CLIENTS: u64 = 120;
const ROUNDS: u64 = 1;
/// Time limit for responses to a well-behaved client meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The step at which a client stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connected,
    WithinStartup,
    AfterRefusedEncryption,
    LoggedIn,
    WithinMessage,
    WithinLongMessage,
    BetweenExtendedMessages,
    InTransaction,
    InCopy,
    WithinCopyData,
    NotReading,
    Halfway,
}

const STEPS: &[Step] = &[
    Step::Connected,
    Step::WithinStartup,
    Step::AfterRefusedEncryption,
    Step::LoggedIn,
    Step::WithinMessage,
    Step::WithinLongMessage,
    Step::BetweenExtendedMessages,
    Step::InTransaction,
    Step::InCopy,
    Step::WithinCopyData,
    Step::NotReading,
    Step::Halfway,
];

/// Performs the protocol up to `step`, then stalls.
async fn stall_at(server: &Server, step: Step) -> Wire {
    match step {
        Step::Connected => Wire::connect(server).await,
        Step::WithinStartup => {
            let mut wire = Wire::connect(server).await;
            wire.send(&login()[..7]).await;
            wire
        }
        Step::AfterRefusedEncryption => {
            let mut wire = Wire::connect(server).await;
            wire.send(&packet(SSL_REQUEST, b"")).await;
            assert_eq!(wire.byte().await, b'N');
            wire
        }
        _ => {
            let mut wire = Wire::log_in(server).await;
            if step == Step::InTransaction {
                let begun = wire.say(&query("BEGIN; SELECT count(*) FROM t")).await;
                assert_eq!(begun, "C T D C Z");
            }
            wire.send(&first_words(step)).await;
            wire
        }
    }
}

/// The bytes a logged-in client sends before it stalls.
fn first_words(step: Step) -> Vec<u8> {
    let copy = query("COPY t FROM STDIN");
    match step {
        Step::WithinMessage => query("SELECT 1")[..6].to_vec(),
        Step::WithinLongMessage => {
            let claimed = [&[b'Q'][..], &(32_i32 << 20).to_be_bytes()].concat();
            [claimed, vec![b' '; 100_000]].concat()
        }
        Step::BetweenExtendedMessages => {
            [parse("", "INSERT INTO t VALUES (1)"), bind("", "")].concat()
        }
        Step::InCopy => copy,
        Step::WithinCopyData => {
            [copy, [&[b'd'][..], &(1_i32 << 20).to_be_bytes(), b"1\n2\n3"].concat()].concat()
        }
        Step::NotReading => query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"),
        Step::Halfway => {
            [parse("", "SELECT 1"), bind("", ""), execute(""), message(b'H', b"")].concat()
        }
        _ => vec![],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stall_at_each_step_keep_no_other_from_being_served() {
    let clients = number("TIDEMARK_ABUSE_CLIENTS", CLIENTS);
    let dir = tempdir();
    let server = Server::start_with(dir.path(), &["--authentication-timeout-sec", "2"]).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await.unwrap();
    let count = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    let mut slowest = Duration::ZERO;
    for _ in 0..number("TIDEMARK_ABUSE_ROUNDS", ROUNDS) {
        let mut stalled = vec![];
        for number in 0..usize::try_from(clients).unwrap() {
            stalled.push(stall_at(&server, STEPS[number % STEPS.len()]).await);
            let asked = Instant::now();
            assert_eq!(count("SELECT count(*) FROM t").await, 1);
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < ANSWER_MAX, "an answer took {slowest:?}");
        // Those that never logged in were disconnected by the server.
        for wire in stalled.iter_mut().step_by(STEPS.len()) {
            assert_eq!(wire.until_end().await, []);
        }
        drop(stalled);
        wait_until("all of them are gone", async || {
            (count("SELECT count(*) FROM pg_stat_activity").await == 1).then_some(())
        })
        .await;
    }
    assert_eq!(count("SELECT count(*) FROM t").await, 1, "half a COPY, or half a pipeline, stays");
    let log = server.log();
    assert!(!log.contains("panicked") && log.lines().count() < 60, "{log}");
}
