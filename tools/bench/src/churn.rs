//! Scans of tables that were changed a lot: now, in the past, and compared with the same rows in clean
//! Parquet files and in other engines that took the same changes.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use tidemark::ctl::output::{Table, count};
use tidemark::demo::process::{self, ServerProcess};
use tidemark_ledger::id::SnapshotId;

use crate::peers::Peer;
use crate::plain::Plain;
use crate::report::{Machine, geometric_mean};
use crate::served::Served;
use crate::{Fallible, in_turns, milliseconds, say};

/// A churned scan may cost this much of one of clean Parquet (geometric mean of the queries).
const BEFORE_MAX: f64 = 1.5;
const AFTER_MAX: f64 = 1.2;

const COMMITS: u64 = 100;
const KEYS: u64 = 200;
const COLUMNS: &str = "(id bigint PRIMARY KEY, k integer, v double precision, s varchar)";
const QUERIES: [&str; 3] = [
    "SELECT count(*), sum(v), sum(k), max(id) FROM {t}",
    "SELECT k, count(*), avg(v) FROM {t} GROUP BY k ORDER BY k",
    "SELECT count(*), max(s) FROM {t} WHERE k < 10",
];

/// What happens to a table.
#[derive(Clone, Copy)]
enum Churn {
    /// One row in ten, over [`COMMITS`] commits.
    Update,
    /// One row in so many.
    Delete(u64),
}

const CASES: [(&str, &str, Churn); 4] = [
    ("10 % updated", "updated", Churn::Update),
    ("1 % deleted", "deleted_1", Churn::Delete(100)),
    ("10 % deleted", "deleted_10", Churn::Delete(10)),
    ("50 % deleted", "deleted_50", Churn::Delete(2)),
];

/// Times of the queries over one table, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
struct Times {
    now: Vec<f64>,
    past: Vec<f64>,
    plain: Vec<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Case {
    name: &'static str,
    before: Times,
    after: Times,
    /// Reads of one row by its key, before and after compaction.
    key_ms: [f64; 2],
    /// Each engine with its times.
    peers: Vec<(String, Vec<f64>)>,
}

/// Runs all cases; whether they are within the bars.
pub async fn run(rows: u64, runs: usize, machine: &Machine, scratch: &Path) -> Fallible<bool> {
    let store = scratch.join("store");
    let program = &crate::program()?;
    let mut flags = crate::flags(&store, machine);
    flags.extend(["--compaction".to_owned(), "false".to_owned()]);
    let server = ServerProcess::start(program, &flags, None, scratch).await?;
    let session = Served::open(&server, None).await?;
    for (name, table, churn) in CASES {
        say(&format!("making {} rows, then {name}", count(rows)))?;
        make(&session, table, rows).await?;
        for (filter, set) in changes(churn) {
            session.run(&statement(table, &filter, set)).await?;
        }
        session.run(&format!("CREATE TABLE clean_{table} {COLUMNS}")).await?;
        session.run(&format!("INSERT INTO clean_{table} SELECT * FROM {table}")).await?;
    }
    let (_, before) = session.back_up().await?;
    change_one_row(&session, 0).await?;
    let clean: Vec<String> = CASES.iter().map(|(_, table, _)| format!("clean_{table}")).collect();
    let clean: Vec<&str> = clean.iter().map(String::as_str).collect();
    let plain = Plain::open(&store, machine, SnapshotId(1), &clean).await?;
    let past = Served::open(&server, Some(before)).await?;
    let mut cases = vec![];
    for (name, table, _) in CASES {
        let before = measure(table, runs, &session, &past, &plain).await?;
        let key_ms = [by_key(&session, table, rows).await?, 0.0];
        let (after, peers) = (Times::default(), vec![]);
        cases.push(Case { name, before, after, key_ms, peers });
    }
    say("compacting")?;
    let args = ["hummock", "trigger-manual-compaction"].map(str::to_owned);
    let compacted = process::risectl(program, Some(server.meta_addr), None, &args).await?;
    if !compacted.success {
        return Err(compacted.text.into());
    }
    let (_, after) = session.back_up().await?;
    change_one_row(&session, 1000).await?;
    let past = Served::open(&server, Some(after)).await?;
    for (case, (_, table, _)) in cases.iter_mut().zip(CASES) {
        case.after = measure(table, runs, &session, &past, &plain).await?;
        case.key_ms[1] = by_key(&session, table, rows).await?;
    }
    for mut peer in Peer::all(scratch).await? {
        say(&format!("the same in {}", peer.version))?;
        for (case, (_, table, churn)) in cases.iter_mut().zip(CASES) {
            let times = times_of_peer(&mut peer, table, churn, rows, runs).await?;
            case.peers.push((peer.version.clone(), times));
        }
    }
    drop((session, past));
    server.stop().await?;
    say(&table_of(&cases))?;
    let passed = verdict(&cases);
    Ok(passed)
}

async fn make(session: &Served, table: &str, rows: u64) -> Fallible<()> {
    session.run(&format!("CREATE TABLE {table} {COLUMNS}")).await?;
    session
        .run(&format!(
            "INSERT INTO {table} SELECT i, ((i * 7919) % 1000)::integer, \
             ((i * 104729) % 100000)::double precision / 100, \
             's' || ((i * 15485863) % 1000003)::varchar \
             FROM generate_series(0::bigint, {rows} - 1) AS r(i)"
        ))
        .await?;
    Ok(())
}

/// The statements of a case: which rows, and what they become; without that they go.
fn changes(churn: Churn) -> Vec<(String, Option<(&'static str, &'static str)>)> {
    match churn {
        Churn::Update => (0..COMMITS)
            .map(|commit| (format!("id % 1000 = {commit}"), Some(("v", "v + 1"))))
            .collect(),
        Churn::Delete(by) => vec![(format!("id % {by} = {by} - 1"), None)],
    }
}

fn statement(table: &str, filter: &str, set: Option<(&str, &str)>) -> String {
    match set {
        Some((column, value)) => format!("UPDATE {table} SET {column} = {value} WHERE {filter}"),
        None => format!("DELETE FROM {table} WHERE {filter}"),
    }
}

/// A commit that makes the epoch before it the past.
async fn change_one_row(session: &Served, id: u64) -> Fallible<()> {
    for (_, table, _) in CASES {
        session.run(&format!("DELETE FROM {table} WHERE id = {id}")).await?;
    }
    Ok(())
}

/// The best of the runs of each query, the ways taking turns.
async fn measure(
    table: &str,
    runs: usize,
    now: &Served,
    past: &Served,
    plain: &Plain,
) -> Fallible<Times> {
    let mut times = Times::default();
    for query in QUERIES {
        let sql = query.replace("{t}", table);
        let clean = query.replace("{t}", &format!("clean_{table}"));
        let (seen, wanted) = (now.run(&sql).await?, past.run(&sql).await?);
        if seen.row_count() != wanted.row_count() {
            return Err(format!("{sql} gives other rows in the past").into());
        }
        plain.run(&clean).await?;
        let served = (now, past, sql.as_str());
        let [now_ms, past_ms, plain_ms] = in_turns(runs, served, (plain, &clean)).await?;
        times.now.push(now_ms);
        times.past.push(past_ms);
        times.plain.push(plain_ms);
    }
    Ok(times)
}

/// The median of reads of one row by its key, in milliseconds.
async fn by_key(session: &Served, table: &str, rows: u64) -> Fallible<f64> {
    let mut times = vec![];
    for turn in 1..=KEYS {
        let id = turn * rows / (KEYS + 1);
        let start = Instant::now();
        session.run(&format!("SELECT v FROM {table} WHERE id = {id}")).await?;
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

async fn times_of_peer(
    peer: &mut Peer,
    table: &str,
    churn: Churn,
    rows: u64,
    runs: usize,
) -> Fallible<Vec<f64>> {
    peer.create(table, rows).await?;
    for (filter, set) in changes(churn) {
        match set {
            Some(set) => peer.update(table, &filter, set).await?,
            None => peer.delete(table, &filter).await?,
        };
    }
    let mut times = vec![];
    for query in QUERIES {
        let sql = query.replace("{t}", table);
        let mut best = f64::MAX;
        for _ in 0..=runs {
            best = best.min(peer.query(&sql).await?);
        }
        times.push(best);
    }
    peer.drop_table(table).await?;
    Ok(times)
}

impl Times {
    fn ratio(times: &[f64], to: &[f64]) -> f64 {
        geometric_mean(times.iter().zip(to).map(|(a, b)| a / b))
    }

    fn now_to_plain(&self) -> f64 {
        Self::ratio(&self.now, &self.plain)
    }

    fn past_to_plain(&self) -> f64 {
        Self::ratio(&self.past, &self.plain)
    }
}

fn table_of(cases: &[Case]) -> String {
    let mut header = vec!["case".to_owned()];
    header.extend(["now", "past", "compacted now", "compacted past"].map(str::to_owned));
    let peers = cases.first().map(|case| case.peers.iter().map(|(name, _)| name.clone()));
    header.extend(peers.into_iter().flatten());
    let mut table = Table::new(header);
    for case in cases {
        let ratio = |ratio: f64| format!("{ratio:.2}");
        let mut line = vec![
            case.name.to_owned(),
            ratio(case.before.now_to_plain()),
            ratio(case.before.past_to_plain()),
            ratio(case.after.now_to_plain()),
            ratio(case.after.past_to_plain()),
        ];
        let peers = case.peers.iter();
        line.extend(peers.map(|(_, times)| ratio(Times::ratio(times, &case.after.plain))));
        table.push(line);
    }
    let header = ["case", "now ms", "compacted ms"].map(str::to_owned).to_vec();
    let mut keys = Table::new(header);
    for case in cases {
        let [before, after] = case.key_ms.map(|ms| format!("{ms:.2}"));
        keys.push(vec![case.name.to_owned(), before, after]);
    }
    let queries = QUERIES.len();
    format!(
        "\ntime to that of plain DataFusion on clean Parquet, means of {queries} queries\n{table}\n\n\
         a row by its key, medians of {KEYS} reads\n{keys}"
    )
}

fn verdict(cases: &[Case]) -> bool {
    cases.iter().all(|case| {
        let (before, after) = (&case.before, &case.after);
        before.now_to_plain().max(before.past_to_plain()) <= BEFORE_MAX
            && after.now_to_plain().max(after.past_to_plain()) <= AFTER_MAX
    })
}
