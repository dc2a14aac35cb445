//! The side-by-side benchmark: Tidemark and other engines, in one run on one machine.
//!
//! `scripts/bench [tpch|churn|rows|sizes] [--scale 1] [--runs 3] [--json FILE]` starts a server in a process
//! of its own. `tpch`, the default, loads the tables through `COPY` and runs each of the 22 queries
//! three ways: now, at a `QUERY_EPOCH`, and in plain DataFusion on the same files, taking turns, so that
//! a busy machine slows all three alike; the best of the runs counts, and the results are compared. At
//! the end `BACKUP` and restore are timed. `churn` scans tables that were changed a lot, `rows` writes
//! and reads single rows, both compared with PostgreSQL, DuckDB and delta-rs. `sizes` backs up and restores
//! metadata of up to a million data files.

mod churn;
mod peers;
mod plain;
mod report;
mod results;
mod rows;
mod served;
mod sizes;
mod synthetic;
mod usage;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use serde::Serialize;
use tidemark::demo::process::ServerProcess;
use tidemark::demo::tpch;
use tidemark::{cli, config};
use tidemark_ledger::id::SnapshotId;

use self::plain::Plain;
use self::report::{Machine, Report};
use self::results::Results;
use self::served::Served;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn Error>>;

const QUERIES: usize = 22;
const CHURN_ROWS: u64 = 2_000_000;
const KEYED_ROWS: u64 = 10_000_000;
const FILES: u64 = 1_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Suite {
    /// The 22 queries of TPC-H, now and in the past
    Tpch,
    /// Scans after many changes
    Churn,
    /// Single rows
    Rows,
    /// Backup and restore by the number of data files
    Sizes,
}

/// Tidemark compared with other engines.
#[derive(Parser)]
struct Args {
    #[arg(value_enum, default_value = "tpch")]
    suite: Suite,
    /// Rows of the tables of `churn`, and of the largest table of `rows`
    /// [default: 2000000 and 10000000]
    #[arg(long)]
    rows: Option<u64>,
    /// The most data files of `sizes`
    #[arg(long, default_value_t = FILES)]
    files: u64,
    /// TPC-H scale factor
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Runs of each query each way; the best counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Also write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Threads of one query [default: the machine's cores]
    #[arg(long, value_name = "N")]
    parallelism: Option<usize>,
}

/// The best time of each way of running one query, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub query: usize,
    pub now_ms: f64,
    pub past_ms: f64,
    pub plain_ms: f64,
    pub rows: usize,
    /// Whether the three results are the same.
    pub same: bool,
}

/// How fast one table was loaded; the generator's time is in it.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    pub table: &'static str,
    pub rows: u64,
    pub seconds: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail("tidemark-bench", &error, None),
    };
    match runtime.block_on(run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => cli::fail("tidemark-bench", error.as_ref(), None),
    }
}

async fn run(args: &Args) -> Fallible<bool> {
    let machine = Machine::look(args.parallelism)?;
    say(&machine.to_string())?;
    let scratch = tempfile::Builder::new().prefix("tidemark-bench-").tempdir()?;
    match args.suite {
        Suite::Tpch => tpch_queries(args, machine, scratch.path()).await,
        Suite::Churn => {
            let rows = args.rows.unwrap_or(CHURN_ROWS);
            churn::run(rows, args.runs, &machine, scratch.path()).await
        }
        Suite::Rows => rows::run(args.rows.unwrap_or(KEYED_ROWS), &machine, scratch.path()).await,
        Suite::Sizes => {
            sizes::run(args.files, &machine, scratch.path(), args.json.as_deref()).await
        }
    }
}

async fn tpch_queries(args: &Args, machine: Machine, scratch: &Path) -> Fallible<bool> {
    let store = scratch.join("store");
    let program = &program()?;
    let server = ServerProcess::start(program, &flags(&store, &machine), None, scratch).await?;
    let mut report = Report::new(args.scale, args.runs, machine.clone());

    report.loads = load(&server, args.scale).await?;
    say(&report.load_table())?;
    let (backup, epoch) = Served::open(&server, None).await?.back_up().await?;
    report.backup_ms = milliseconds(backup);

    let now = Served::open(&server, None).await?;
    let past = Served::open(&server, Some(epoch)).await?;
    let tables: Vec<&str> = tpch::TABLES.iter().map(|table| table.name).collect();
    let plain = Plain::open(&store, &machine, SnapshotId(1), &tables).await?;
    say(report::HEADER)?;
    for query in 1..=QUERIES {
        let measured = measure(query, args.runs, &now, &past, &plain).await?;
        say(&report::line(&measured))?;
        report.queries.push(measured);
    }
    drop((now, past));
    server.stop().await?;

    let restore = served::restore(program, &store).await?;
    report.restore_dry_run_ms = milliseconds(restore.dry_run);
    report.restore_ms = milliseconds(restore.real);
    say(&report.summary())?;
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()?)?;
    }
    Ok(report.passed())
}

fn flags(store: &Path, machine: &Machine) -> Vec<String> {
    let store = store.display().to_string();
    let (memory, parallelism) = (machine.memory_bytes.to_string(), machine.parallelism.to_string());
    let flags = [
        ("--store-directory", store),
        ("--total-memory-bytes", memory),
        ("--parallelism", parallelism),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

async fn load(server: &ServerProcess, scale: f64) -> Fallible<Vec<Load>> {
    let client = server.connect().await?;
    let bar = ProgressBar::new(tpch::estimated_rows(scale));
    let mut loads = vec![];
    for table in &tpch::TABLES {
        client.simple_query(table.ddl).await?;
        let loaded = table.load(&client, scale, &bar).await?;
        if loaded.rows != loaded.sent {
            return Err(format!("{} took {} of {}", table.name, loaded.rows, loaded.sent).into());
        }
        let seconds = loaded.elapsed.as_secs_f64();
        loads.push(Load { table: table.name, rows: loaded.rows, seconds });
    }
    bar.finish_and_clear();
    Ok(loads)
}

/// Runs one query in all three ways, once to warm up and to compare, then `runs` times in turns.
async fn measure(
    query: usize,
    runs: usize,
    now: &Served,
    past: &Served,
    plain: &Plain,
) -> Fallible<Measured> {
    let sql = query_text(query)?;
    let wanted = plain.run(&sql).await?;
    let seen: [Results; 2] = [now.run(&sql).await?, past.run(&sql).await?];
    let [now_ms, past_ms, plain_ms] = in_turns(runs, (now, past, &sql), (plain, &sql)).await?;
    let same = seen.iter().all(|results| results.same_as(&wanted));
    Ok(Measured { query, now_ms, past_ms, plain_ms, rows: wanted.row_count(), same })
}

/// The best time of a query now, in the past, and of another in plain DataFusion, in milliseconds.
async fn in_turns(
    runs: usize,
    (now, past, sql): (&Served, &Served, &str),
    (plain, plain_sql): (&Plain, &str),
) -> Fallible<[f64; 3]> {
    let mut best = [Duration::MAX; 3];
    for run in 0..runs {
        // The first of a turn pays for what the others then find warm: it is not always the same.
        for offset in 0..3 {
            let way = (run + offset) % 3;
            let start = Instant::now();
            match way {
                0 => drop(now.run(sql).await?),
                1 => drop(past.run(sql).await?),
                _ => drop(plain.collect(plain_sql).await?),
            }
            best[way] = best[way].min(start.elapsed());
        }
    }
    Ok(best.map(milliseconds))
}

fn query_text(query: usize) -> io::Result<String> {
    let file = format!("{}/tpch/q{query:02}.sql", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(file)
}

/// The server's program: it lies next to this one.
fn program() -> Fallible<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("tidemark");
    if !program.exists() {
        let shown = program.display();
        return Err(
            format!("{shown} is not there: cargo build --release, or use scripts/bench").into()
        );
    }
    Ok(program)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The file of the embedded meta store.
fn meta_store(store: &Path) -> PathBuf {
    store.join(config::META_STORE_FILE)
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
