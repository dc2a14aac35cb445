//! Grammar-based fuzzing of the protocol: messages in any order, some of them damaged, split anywhere, from
//! clients that stall or leave.
//!
//! `TIDEMARK_FUZZ_MESSAGES` is the number of messages, `TIDEMARK_FUZZ_SEED` the seed: the same seed sends the
//! same bytes, but the server may process them in a different order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Server, tempdir, wait_until};
use crate::wire::{
    CANCEL_REQUEST, GSS_REQUEST, PROTOCOL_3, SSL_REQUEST, bind, execute, login, message, packet,
    parse, query, startup, sync,
};

const MESSAGES: u64 = 10_000;
const CLIENTS: u64 = 8;
/// Size limit of the log, however many messages are sent.
const LOG_BYTES_MAX: usize = 256 << 10;
/// Time limit for the server to close a connection after the client has closed it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time limit for responses to a well-behaved client meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A pseudo-random number generator, deterministic for a seed.
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Reads a number from the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Returns a different seed for each run unless one is given.
pub fn seed(variable: &str) -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    number(variable, u64::try_from(now % 1_000_000_007).unwrap())
}

const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "",
    ";",
    "SELECT a FROM scratch WHERE a < 3",
    "INSERT INTO scratch VALUES (1)",
    "DELETE FROM scratch",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELECT",
    "SELECT 1; SELECT 2",
    "BEGIN; SELECT 1/0",
    "COPY scratch FROM STDIN",
    "COPY scratch FROM STDIN (FORMAT csv)",
    "SET statement_timeout = '10s'",
    "SHOW search_path",
    "SELECT 'a",
    "SELECT $1::int + 1",
    "SELECT * FROM generate_series(1, 50)",
    "DISCARD ALL",
];

const NAMES: &[&str] = &["", "", "s", "p", "a long name that has spaces"];

/// Generates a message of the grammar, as a driver would send it.
fn well_formed(choices: &mut Choices) -> Vec<u8> {
    let name = choices.one_of(NAMES);
    let other = choices.one_of(NAMES);
    let text = choices.one_of(STATEMENTS);
    match choices.below(15) {
        0 | 1 => query(text),
        2 | 3 => parse(name, text),
        4 => bind(name, other),
        5 => bind_values(choices, name, other),
        6 => execute(name),
        7 => {
            message(b'D', &[choices.one_of(&["S", "P"]).as_bytes(), name.as_bytes(), &[0]].concat())
        }
        8 => {
            message(b'C', &[choices.one_of(&["S", "P"]).as_bytes(), name.as_bytes(), &[0]].concat())
        }
        9 => message(b'd', choices.one_of(&["1\n2\n", "x", "\\.\n", "", "3"]).as_bytes()),
        10 => message(b'c', b""),
        11 => message(b'f', b"no more\0"),
        12 => message(b'H', b""),
        _ => sync(),
    }
}

fn bind_values(choices: &mut Choices, portal: &str, statement: &str) -> Vec<u8> {
    let mut body = [portal.as_bytes(), &[0], statement.as_bytes(), &[0]].concat();
    body.extend_from_slice(choices.one_of(&[&b"\0\0"[..], b"\0\x01\0\x01", b"\0\x01\0\0"]));
    let count = choices.below(4);
    body.extend_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
    for _ in 0..count {
        let value =
            choices.one_of(&[&b"\xff\xff\xff\xff"[..], b"\0\0\0\x011", b"\0\0\0\x04\0\0\0\x07"]);
        body.extend_from_slice(value);
    }
    body.extend_from_slice(choices.one_of(&[&b"\0\0"[..], b"\0\x01\0\x01", b"\0\x02\0\0\0\x01"]));
    message(b'B', &body)
}

/// Damages a message.
fn mutate(choices: &mut Choices, bytes: &mut Vec<u8>) {
    let at = choices.below(bytes.len());
    match choices.below(8) {
        0 => bytes[at] = choices.byte(),
        1 => bytes[at] ^= 1 << choices.below(8),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, choices.byte()),
        4 => bytes[0] = choices.byte(),
        5 if bytes.len() >= 5 => {
            let wrong = choices.one_of(&[&0_i32, &-1, &3, &4, &5, &0xffff, &i32::MAX, &i32::MIN]);
            bytes[1..5].copy_from_slice(&wrong.to_be_bytes());
        }
        6 => {
            let tail = bytes[at..].to_vec();
            bytes.extend_from_slice(&tail);
        }
        _ => drop(bytes.drain(..at)),
    }
}

/// Generates the bytes before the messages.
fn opening(choices: &mut Choices) -> Vec<u8> {
    let forbidden = query("INSERT INTO forbidden VALUES (1)");
    match choices.below(20) {
        0 => [startup(PROTOCOL_3, &[("user", "root"), ("database", "x")]), forbidden].concat(),
        1 => [startup(PROTOCOL_3, &[("user", "x"), ("database", "dev")]), forbidden].concat(),
        2 => [packet(SSL_REQUEST, b""), login(), forbidden].concat(),
        3 => [packet(GSS_REQUEST, b""), login(), forbidden].concat(),
        4 => packet(CANCEL_REQUEST, &choices.next().to_be_bytes()),
        5 => {
            let mut bytes = login();
            mutate(choices, &mut bytes);
            [bytes, sync()].concat()
        }
        6 => (0..choices.below(64)).map(|_| choices.byte()).collect(),
        _ => login(),
    }
}

/// Generates the bytes of one client; returns them with the number of messages.
fn conversation(choices: &mut Choices) -> (Vec<u8>, u64) {
    let mut bytes = opening(choices);
    let count = choices.below(24);
    for _ in 0..count {
        let mut next = well_formed(choices);
        if choices.percent(10) {
            mutate(choices, &mut next);
        }
        bytes.extend_from_slice(&next);
    }
    if choices.percent(10) {
        // Nothing after a malformed message is executed.
        bytes.extend_from_slice(
            &[sync(), vec![0x7f], query("INSERT INTO forbidden VALUES (2)")].concat(),
        );
    }
    (bytes, 1 + u64::try_from(count).unwrap())
}

/// Sends the bytes in pieces, and may read the responses.
async fn converse(server: &Server, choices: &mut Choices) -> u64 {
    let (bytes, count) = conversation(choices);
    let stream = TcpStream::connect(server.sql).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let reads = !choices.percent(10);
    let reader = async move {
        let mut answer = vec![0; 64 << 10];
        // A connection reset counts as the end, too.
        while reads && read.read(&mut answer).await.is_ok_and(|n| n > 0) {}
        read
    };
    let leaves_early = choices.percent(30);
    let writer = async {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length =
                if choices.percent(50) { rest.len() } else { 1 + choices.below(rest.len()) };
            let (piece, after) = rest.split_at(length.min(rest.len()));
            if write.write_all(piece).await.is_err() {
                break;
            }
            rest = after;
            for _ in 0..choices.below(4) {
                tokio::task::yield_now().await;
            }
            if leaves_early && choices.percent(30) {
                break;
            }
        }
        drop(write.shutdown().await);
    };
    let both = async { tokio::join!(reader, writer) };
    drop(tokio::time::timeout(PATIENCE, both).await.expect("the server holds on to a client"));
    count
}

/// A well-behaved client that runs as long as the others do.
async fn behave(server: &Server, stop: &AtomicBool) -> u64 {
    let client = server.connect().await;
    let mut rounds = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client.execute("INSERT INTO good VALUES ($1)", &[&rounds]).await.unwrap();
        rounds += 1;
        let row = client.query_one("SELECT count(*), max(k) FROM good", &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (rounds, rounds - 1));
        assert!(asked.elapsed() < ANSWER_MAX, "an answer took {:?}", asked.elapsed());
    }
    rounds.unsigned_abs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sequence_of_messages_harms_the_server_or_its_other_clients() {
    let seed = seed("TIDEMARK_FUZZ_SEED");
    let wanted = number("TIDEMARK_FUZZ_MESSAGES", MESSAGES);
    let dir = tempdir();
    let server = Arc::new(Server::start(dir.path()).await);
    let client = server.connect().await;
    let tables = "CREATE TABLE scratch (a int); CREATE TABLE forbidden (a int);
        CREATE TABLE good (k bigint PRIMARY KEY)";
    client.batch_execute(tables).await.unwrap();
    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let behaving = {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        tokio::spawn(async move { behave(&server, &stop).await })
    };
    let others = (0..CLIENTS).map(|number| {
        let (server, sent) = (Arc::clone(&server), Arc::clone(&sent));
        tokio::spawn(async move {
            let mut choices = Choices::new(seed.wrapping_add(number << 32));
            while sent.load(Ordering::Relaxed) < wanted {
                let count = converse(&server, &mut choices).await;
                sent.fetch_add(count, Ordering::Relaxed);
            }
        })
    });
    for other in others.collect::<Vec<_>>() {
        other.await.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", server.log()));
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = behaving.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert!(rounds > 0);
    let count = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM forbidden").await, 0, "seed {seed}");
    wait_until("the others are gone", async || {
        (count("SELECT count(*) FROM pg_stat_activity").await == 1).then_some(())
    })
    .await;
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("bug"), "seed {seed}: {log}");
    assert!(log.len() < LOG_BYTES_MAX, "seed {seed}: the log has {} bytes", log.len());
}
