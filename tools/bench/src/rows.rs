//! One row at a time, compared with PostgreSQL: durable `INSERT`s, reads by key, and what a key costs in a
//! small and in a large table.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemark::ctl::output::{Table, count};
use tidemark::demo::process::ServerProcess;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::peers::POSTGRES;
use crate::report::Machine;
use crate::{Fallible, milliseconds, say};

/// Tidemark inserts at least this share of PostgreSQL's rows.
const INSERTS_MIN: f64 = 0.5;
const POINT_READ_MS_MAX: f64 = 3.0;

const SESSIONS: [usize; 2] = [1, 16];
const INSERTING: Duration = Duration::from_secs(8);
const LOOKUPS: usize = 300;
/// Odd, so that its multiples go through all numbers.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A server that rows go to.
enum Target<'a> {
    Tidemark(&'a ServerProcess),
    Postgres(String),
}

impl Target<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Tidemark(_) => "Tidemark",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    async fn connect(&self) -> Fallible<Client> {
        match self {
            Self::Tidemark(server) => Ok(server.connect().await?),
            Self::Postgres(dsn) => {
                let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }
}

/// Runs everything; whether it is within the bars.
pub async fn run(rows: u64, machine: &Machine, scratch: &Path) -> Fallible<bool> {
    let store = scratch.join("store");
    let program = &crate::program()?;
    let server =
        ServerProcess::start(program, &crate::flags(&store, machine), None, scratch).await?;
    let mut targets = vec![Target::Tidemark(&server)];
    targets.extend(std::env::var(POSTGRES).ok().map(Target::Postgres));
    let mut table = Table::new(["", "session", "rows/s"].map(str::to_owned).to_vec());
    let mut passed = true;
    for sessions in SESSIONS {
        let mut rates = vec![];
        for target in &targets {
            let rate = inserts(target, sessions).await?;
            table.push(vec![target.name().to_owned(), sessions.to_string(), format!("{rate:.0}")]);
            rates.push(rate);
        }
        if let [tidemark, postgres] = rates.as_slice() {
            passed &= tidemark / postgres >= INSERTS_MIN;
        }
    }
    say(&format!("durable one-row INSERTs, {INSERTING:?} each\n{table}"))?;

    let header = ["rows", "", "read ms", "overwrite ms", "new row ms"];
    let mut table = Table::new(header.map(str::to_owned).to_vec());
    for size in [10_000, 1_000_000, rows] {
        for target in &targets {
            let medians = by_key(target, size).await?;
            if size >= 10_000_000 && matches!(target, Target::Tidemark(_)) {
                passed &= medians[0] <= POINT_READ_MS_MAX;
            }
            let mut line = vec![count(size), target.name().to_owned()];
            line.extend(medians.map(|ms| format!("{ms:.2}")));
            table.push(line);
        }
    }
    say(&format!("\nby key, medians of {LOOKUPS} statements one after another\n{table}"))?;
    server.stop().await?;
    Ok(passed)
}

async fn make_empty(client: &Client, table: &str) -> Fallible<()> {
    client.simple_query(&format!("DROP TABLE IF EXISTS {table}")).await?;
    let create = format!("CREATE TABLE {table} (id bigint PRIMARY KEY, v varchar)");
    client.simple_query(&create).await?;
    Ok(())
}

/// Rows a second that sessions insert, each with a key of its own.
async fn inserts(target: &Target<'_>, sessions: usize) -> Fallible<f64> {
    let client = target.connect().await?;
    let table = format!("inserts_{sessions}");
    make_empty(&client, &table).await?;
    let next = Arc::new(AtomicU64::new(1));
    let mut running: JoinSet<Result<u64, tokio_postgres::Error>> = JoinSet::new();
    let start = Instant::now();
    for _ in 0..sessions {
        let (client, next, table) = (target.connect().await?, Arc::clone(&next), table.clone());
        running.spawn(async move {
            let mut done = 0;
            while start.elapsed() < INSERTING {
                let id = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(SPREAD) >> 1;
                let sql = format!("INSERT INTO {table} VALUES ({id}, 'a row of some length')");
                client.simple_query(&sql).await?;
                done += 1;
            }
            Ok(done)
        });
    }
    let mut rows = 0_u64;
    while let Some(done) = running.join_next().await {
        rows += done??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let found = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
    let found: i64 = found.get(0);
    if u64::try_from(found) != Ok(rows) {
        return Err(format!("{rows} rows were acknowledged and {found} are there").into());
    }
    Ok(f64::from(u32::try_from(rows)?) / seconds)
}

/// Medians of a read, of an `INSERT` over a row that is there, and of one of a new row.
async fn by_key(target: &Target<'_>, rows: u64) -> Fallible<[f64; 3]> {
    let client = target.connect().await?;
    let table = format!("keys_{rows}");
    make_empty(&client, &table).await?;
    let fill = format!(
        "INSERT INTO {table} SELECT i * 2, 'row ' || i::varchar \
         FROM generate_series(0::bigint, {rows} - 1) AS r(i)"
    );
    client.simple_query(&fill).await?;
    let overwrite = match target {
        Target::Tidemark(_) => "",
        Target::Postgres(_) => " ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    };
    let read = |id: u64| format!("SELECT v FROM {table} WHERE id = {}", id * 2);
    let old = |id: u64| format!("INSERT INTO {table} VALUES ({}, 'other'){overwrite}", id * 2);
    let new = |id: u64| format!("INSERT INTO {table} VALUES ({}, 'new')", id * 2 + 1);
    let statements: [&dyn Fn(u64) -> String; 3] = [&read, &old, &new];
    let mut medians = [0.0; 3];
    for (median, statement) in medians.iter_mut().zip(statements) {
        let mut times = vec![];
        for turn in 0..LOOKUPS {
            let id = (turn as u64 + 1).wrapping_mul(SPREAD) % rows;
            let sql = statement(id);
            let start = Instant::now();
            client.simple_query(&sql).await?;
            times.push(milliseconds(start.elapsed()));
        }
        times.sort_by(f64::total_cmp);
        *median = times[LOOKUPS / 2];
    }
    Ok(medians)
}
