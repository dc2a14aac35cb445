//! The differential tester: random statements on PostgreSQL and on Tidemark, whose answers must be the same.
//!
//! A seed determines tables with rows (`world`) and statements over them (`generate`), which are trees (`ast`) of the
//! operators and functions of `signatures.txt`. First each of these is run alone with many arguments; larger
//! statements are made of those on which the servers agree. Both servers run each statement (`pair`), the answers are
//! compared (`compare`), and a difference is made small (`shrink`) and grouped with others of its cause (`report`).
//! Differences that are documented are recognised by their cause (`known`). `oracles` need no PostgreSQL.
//!
//! `scripts/differential --seed 1..20 --queries 500` builds it, and runs it beside a PostgreSQL.

mod ast;
mod compare;
mod generate;
mod known;
mod oracles;
mod pair;
mod print;
mod report;
mod run;
mod servers;
mod shrink;
mod signatures;
mod types;
mod wire;
mod world;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use self::pair::Pair;
use self::report::Report;
use self::run::Shared;
use self::servers::Server;
use self::wire::Address;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Compares the answers of Tidemark with those of PostgreSQL.
#[derive(Parser)]
struct Args {
    /// Seeds, or ranges of them such as 1..20; a new one if there is none
    #[arg(long)]
    seed: Vec<String>,
    /// Adds a seed that is new in each run
    #[arg(long)]
    new_seed: bool,
    /// Statements of each seed
    #[arg(long, default_value_t = 500)]
    queries: u64,
    /// Runs only one statement of the seed
    #[arg(long, value_name = "N")]
    only: Option<u64>,
    /// Goes on with new seeds for so many seconds
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Calls of each operator and function before the seeds; with none, all of them are used
    #[arg(long, default_value_t = 10)]
    tries: usize,
    /// Sessions with each server
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Writes the report as JSON
    #[arg(long)]
    json: bool,
    /// Also writes the report to this file, every few seconds
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The program to test
    #[arg(long, env = "TIDEMARK_PROGRAM", value_name = "FILE")]
    program: Option<PathBuf>,
    /// The PostgreSQL to compare with, as `host=… port=… user=… dbname=…`
    #[arg(long, env = "TIDEMARK_POSTGRES", value_name = "SERVER")]
    postgres: String,
    /// A Tidemark that runs already
    #[arg(long, value_name = "SERVER")]
    tidemark: Option<String>,
}

/// The servers, and how they are reached.
struct Servers {
    postgres: Address,
    tidemark: Address,
    compactor: Option<(PathBuf, String)>,
    /// It ends when this is dropped.
    _started: Option<Server>,
}

/// The seeds that are still to be run.
struct Seeds {
    listed: Vec<u64>,
    next: AtomicUsize,
    /// Those after the listed ones, until this moment.
    deadline: Option<Instant>,
    later: AtomicU64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("differential: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error.
pub fn say(line: &str) {
    // There is nothing to do about a standard error that is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Runs everything; whether all differences are documented ones.
fn run(args: &Args) -> Fallible<bool> {
    let seeds = Seeds::new(args)?;
    let shared = Shared { table: signatures::table()?, report: Mutex::new(Report::default()) };
    let servers = Servers::start(args)?;
    let ended = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let progress = scope.spawn(|| tell(args, &shared, &ended));
        let outcome = work(args, &servers, &shared, &seeds);
        ended.store(true, Ordering::Relaxed);
        progress.thread().unpark();
        outcome
    });
    outcome?;
    let report = shared.report();
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", report.json())?,
        false => writeln!(out, "{}\n{}", report.text(), report.summary())?,
    }
    Ok(report.unknown() == 0)
}

/// Tells how far the run is, until it has ended.
fn tell(args: &Args, shared: &Shared, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(PROGRESS_EVERY);
        let report = shared.report();
        say(&report.summary());
        if let Some(Err(error)) =
            args.report.as_ref().map(|file| std::fs::write(file, report.text()))
        {
            say(&error.to_string());
        }
    }
}

fn work(args: &Args, servers: &Servers, shared: &Shared, seeds: &Seeds) -> Fallible<()> {
    let usable = usable(args, servers, shared)?;
    say(&format!("{} of {} signatures agree", usable.len(), shared.table.signatures.len()));
    in_parallel(args.workers, |_| {
        let mut pair = servers.pair()?;
        while let Some(seed) = seeds.next() {
            run::run_seed(&mut pair, shared, &usable, seed, args.queries, args.only)
                .map_err(|error| format!("seed {seed}: {error}"))?;
        }
        Ok(vec![])
    })?;
    Ok(())
}

/// The signatures that larger statements are made of.
fn usable(args: &Args, servers: &Servers, shared: &Shared) -> Fallible<Vec<usize>> {
    let all: Vec<usize> = (0..shared.table.signatures.len()).collect();
    if args.tries == 0 {
        return Ok(all);
    }
    let mut usable = in_parallel(args.workers, |worker| {
        let own: Vec<usize> =
            all.iter().copied().filter(|at| at % args.workers == worker).collect();
        let schema = format!("signatures{worker}");
        run::check_signatures(&mut servers.pair()?, shared, &own, args.tries, &schema)
    })?;
    usable.sort_unstable();
    Ok(usable)
}

/// Runs each worker in a thread of its own, and puts their results together.
fn in_parallel(
    workers: usize,
    work: impl Fn(usize) -> Fallible<Vec<usize>> + Sync,
) -> Fallible<Vec<usize>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a worker panicked")?);
        let results: Vec<Vec<usize>> = results.collect::<Fallible<_>>()?;
        Ok(results.concat())
    })
}

impl Servers {
    fn start(args: &Args) -> Fallible<Self> {
        let postgres = servers::running(&args.postgres)?;
        let mut started = None;
        let mut compactor = None;
        let tidemark = match &args.tidemark {
            Some(running) => servers::running(running)?,
            None => {
                let program = program(args)?;
                let server = servers::start_tidemark(&program)?;
                compactor = Some((program, server.meta.clone()));
                let address = server.address.clone();
                started = Some(server);
                address
            }
        };
        Ok(Self { postgres, tidemark, compactor, _started: started })
    }

    fn pair(&self) -> Fallible<Pair> {
        Pair::open(&self.postgres, &self.tidemark, self.compactor.clone())
    }
}

/// The program under test: by default the one that was built next to this one.
fn program(args: &Args) -> Fallible<PathBuf> {
    match &args.program {
        Some(program) => Ok(program.clone()),
        None => Ok(std::env::current_exe()?.with_file_name("tidemark")),
    }
}

impl Seeds {
    fn new(args: &Args) -> Fallible<Self> {
        let mut listed = vec![];
        for text in &args.seed {
            match text.split_once("..") {
                Some((first, last)) => listed.extend(first.parse::<u64>()?..=last.parse()?),
                None => listed.push(text.parse()?),
            }
        }
        let new = fastrand::u64(1_000_000..1_000_000_000);
        if args.new_seed || listed.is_empty() {
            listed.push(new);
            say(&format!("the new seed is {new}"));
        }
        let deadline = args.time.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        Ok(Self { listed, next: AtomicUsize::new(0), deadline, later: AtomicU64::new(new + 1) })
    }

    fn next(&self) -> Option<u64> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let is_time = self.deadline.is_some_and(|deadline| Instant::now() < deadline);
        let later = || is_time.then(|| self.later.fetch_add(1, Ordering::Relaxed));
        self.listed.get(at).copied().or_else(later)
    }
}
