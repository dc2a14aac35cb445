//! How the work on metadata grows with the number of data files: `BACKUP`, listing snapshots, reading
//! at an epoch, restoring, and what a commit waits for while a snapshot is taken.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidemark::config;
use tidemark::ctl::output::{Table, count};
use tidemark::demo::process::ServerProcess;

use crate::report::Machine;
use crate::served::Served;
use crate::synthetic::{self, SMALL};
use crate::usage::{self, Meter, Usage};
use crate::{Fallible, meta_store, milliseconds, say};

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// What the bars are about.
const BAR_FILES: u64 = 1_000_000;
const BACKUP_SECONDS_MAX: f64 = 10.0;
const RESTORE_SECONDS_MAX: f64 = 20.0;
const MEMORY_MAX: u64 = 512 << 20;
const STALL_MS_MAX: f64 = 20.0;

/// Rounds of commits during snapshots, and as many without; the medians count.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

/// Everything measured at one size.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    files: u64,
    /// From the start of the server's process until it serves.
    start: Usage,
    backup: Usage,
    snapshot_bytes: u64,
    listing_ms: Twice,
    past_ms: Twice,
    restore: Usage,
    alone: Waits,
    #[serde(rename = "beside")]
    during_backups: Waits,
}

/// The first time, and once it is known.
#[derive(Clone, Copy, Debug, Serialize)]
struct Twice {
    first: f64,
    again: f64,
}

/// How long one-row commits took, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Waits {
    median: f64,
    /// The greatest of a round; of the rounds, the median.
    greatest: f64,
    /// The greatest of all.
    worst: f64,
}

/// Runs everything up to `files_max` data files; whether it is within the bars.
pub async fn run(
    files_max: u64,
    machine: &Machine,
    scratch: &Path,
    json: Option<&Path>,
) -> Fallible<bool> {
    let mut all = vec![];
    for files in SIZES.into_iter().filter(|size| *size <= files_max) {
        let measured = measure(files, machine, scratch).await?;
        say(&format!("{} data files: {}", count(files), measured.line()))?;
        all.push(measured);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    say(&tables(&all))?;
    let bars = all.iter().filter(|measured| measured.files == BAR_FILES);
    let mut passed = true;
    for (text, within) in bars.flat_map(Measured::bars) {
        say(&format!("{text}   {}", if within { "PASS" } else { "FAIL" }))?;
        passed &= within;
    }
    Ok(passed)
}

async fn measure(files: u64, machine: &Machine, scratch: &Path) -> Fallible<Measured> {
    let program = &crate::program()?;
    let store = &scratch.join(format!("store-{files}"));
    let mut flags = crate::flags(store, machine);
    // What compaction would read is not there, and vacuum would only disturb.
    flags.extend(["--compaction", "false", "--vacuum-interval-sec", "0"].map(str::to_owned));
    synthetic::make(program, store, &flags, files).await?;

    let (server, start) = started(program, &flags, scratch).await?;
    let meter = Meter::start(server.id().ok_or("the server is gone")?)?;
    let session = Served::open(&server, None).await?;
    session.run("BACKUP").await?;
    let backup = meter.read()?;
    let listing_ms = twice(async || listed(&session).await).await?;
    let (_, snapshot_bytes, epoch) = listed(&session).await?;
    let past_ms = twice(async || read_past(&server, epoch).await).await?;
    drop(session);
    server.stop().await?;

    let restore = restore(program, store).await?;
    let (server, _) = started(program, &flags, scratch).await?;
    let (alone, during_backups) = commits(&server).await?;
    server.stop().await?;
    std::fs::remove_dir_all(store)?;
    Ok(Measured {
        files,
        start,
        backup,
        snapshot_bytes,
        listing_ms,
        past_ms,
        restore,
        alone,
        during_backups,
    })
}

async fn started(
    program: &Path,
    flags: &[String],
    scratch: &Path,
) -> Fallible<(ServerProcess, Usage)> {
    let begun = Instant::now();
    let server = ServerProcess::start(program, flags, None, scratch).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let usage = usage::so_far(server.id().ok_or("the server is gone")?)?;
    Ok((server, Usage { seconds, ..usage }))
}

/// How long something takes for the first time, and the best of three after it.
async fn twice<T>(mut work: impl AsyncFnMut() -> Fallible<T>) -> Fallible<Twice> {
    let mut times = vec![];
    for _ in 0..4 {
        let start = Instant::now();
        work().await?;
        times.push(milliseconds(start.elapsed()));
    }
    let again = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Twice { first: times[0], again })
}

/// The newest snapshot: its id, its size, and the newest epoch it answers.
async fn listed(session: &Served) -> Fallible<(u64, u64, u64)> {
    let newest = "SELECT meta_snapshot_id, size_bytes, pinned_bytes, max_committed_epoch \
                  FROM rw_catalog.rw_meta_snapshot ORDER BY 1 DESC LIMIT 1";
    let found = session.run(newest).await?;
    let cell = |at: usize| -> Fallible<u64> {
        Ok(found.cell(0, at).ok_or("the snapshot is not listed in full")?.parse()?)
    };
    cell(2)?;
    Ok((cell(0)?, cell(1)?, cell(3)?))
}

/// A session that reads a small table as it was.
async fn read_past(server: &ServerProcess, epoch: u64) -> Fallible<()> {
    let past = Served::open(server, Some(epoch)).await?;
    let rows = past.run(&format!("SELECT v FROM {SMALL} WHERE id = 2")).await?;
    match rows.first_cell() {
        Some("two") => Ok(()),
        other => Err(format!("the past holds {other:?}").into()),
    }
}

/// Loses the meta store of a stopped server and restores it from its only snapshot; every data file
/// is looked for.
async fn restore(program: &Path, store: &Path) -> Fallible<Usage> {
    let file = meta_store(store);
    std::fs::remove_dir_all(file.parent().ok_or("the meta store has no folder")?)?;
    let storage = format!("fs://{}", store.join(config::STATE_STORE_FOLDER).display());
    let endpoint = file.display().to_string();
    let args = [
        "meta",
        "restore-meta",
        "--meta-snapshot-id",
        "1",
        "--sql-endpoint",
        &endpoint,
        "--backup-storage-url",
        &storage,
        "--hummock-storage-url",
        &storage,
        "--validate-integrity",
    ];
    usage::risectl(program, &args.map(str::to_owned)).await
}

/// What one-row commits wait for, alone and while snapshots are taken.
async fn commits(server: &ServerProcess) -> Fallible<(Waits, Waits)> {
    let session = Served::open(server, None).await?;
    let mut next = 1000;
    let (mut alone, mut during_backups) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let idle = tokio::spawn(tokio::time::sleep(ROUND));
        alone.push(inserts(&session, &mut next, || idle.is_finished()).await?);
        let backups = Served::open(server, None).await?;
        let backups = tokio::spawn(async move {
            let start = Instant::now();
            while start.elapsed() < ROUND {
                backups.run("BACKUP").await.map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(())
        });
        during_backups.push(inserts(&session, &mut next, || backups.is_finished()).await?);
        backups.await??;
    }
    Ok((Waits::of(&alone), Waits::of(&during_backups)))
}

/// Inserts row after row until it is over; how long each took, in milliseconds.
async fn inserts(session: &Served, next: &mut u64, over: impl Fn() -> bool) -> Fallible<Vec<f64>> {
    let mut times = vec![];
    while !over() {
        *next += 1;
        let insert = format!("INSERT INTO {SMALL} VALUES ({next}, 'a row of some length')");
        let start = Instant::now();
        session.run(&insert).await?;
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

impl Waits {
    fn of(rounds: &[Vec<f64>]) -> Self {
        let middle = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let greatest = rounds.iter().filter_map(|round| round.last().copied());
        Self {
            median: middle(rounds.concat()),
            worst: greatest.clone().fold(0.0, f64::max),
            greatest: middle(greatest.collect()),
        }
    }
}

impl Measured {
    fn line(&self) -> String {
        format!(
            "BACKUP {:.2} s, {} MiB; restore {:.2} s, {} MiB",
            self.backup.seconds,
            mib(self.backup.memory_peak),
            self.restore.seconds,
            mib(self.restore.memory_peak)
        )
    }

    /// How much longer the longest commit took because of a snapshot.
    fn stall_ms(&self) -> f64 {
        self.during_backups.greatest - self.alone.greatest
    }

    /// What must hold, with whether it does.
    fn bars(&self) -> Vec<(String, bool)> {
        let Self { backup, restore, .. } = self;
        let seconds = |what: &str, found: f64, max: f64| {
            (format!("{what:26} {found:8.2} s     at most {max}"), found < max)
        };
        let memory = |what: &str, found: u64| {
            let text = format!("{what:26} {:>8} MiB   at most {}", mib(found), mib(MEMORY_MAX));
            (text, found < MEMORY_MAX)
        };
        let stall = self.stall_ms();
        vec![
            seconds("BACKUP", backup.seconds, BACKUP_SECONDS_MAX),
            memory("its memory", backup.memory_peak),
            seconds("restore-meta", restore.seconds, RESTORE_SECONDS_MAX),
            memory("its memory", restore.memory_peak),
            (
                format!("{:26} {stall:8.2} ms    at most {STALL_MS_MAX}", "a commit waits"),
                stall < STALL_MS_MAX,
            ),
        ]
    }
}

fn tables(all: &[Measured]) -> String {
    let mut backup = Table::new([
        "files",
        "start s",
        "server MiB",
        "BACKUP s",
        "peak MiB",
        "written MiB",
        "list ms",
        "again ms",
        "past ms",
        "again ms",
    ]);
    let mut restore = Table::new(["files", "restore s", "peak MiB", "read MiB", "written MiB"]);
    let mut commits =
        Table::new(["files", "alone ms", "greatest", "worst", "BACKUP ms", "greatest", "worst"]);
    for measured in all {
        let Measured { start, backup: taken, listing_ms, past_ms, alone, during_backups, .. } =
            measured;
        let files = count(measured.files);
        backup.push(vec![
            files.clone(),
            format!("{:.2}", start.seconds),
            mib(taken.memory_before),
            format!("{:.2}", taken.seconds),
            mib(taken.memory_peak),
            mib(taken.written_bytes),
            format!("{:.1}", listing_ms.first),
            format!("{:.1}", listing_ms.again),
            format!("{:.1}", past_ms.first),
            format!("{:.1}", past_ms.again),
        ]);
        let Usage { seconds, memory_peak, read_bytes, written_bytes, .. } = measured.restore;
        let cells = [mib(memory_peak), mib(read_bytes), mib(written_bytes)];
        restore.push([vec![files.clone(), format!("{seconds:.2}")], cells.to_vec()].concat());
        let waits = [alone, during_backups].map(|w| [w.median, w.greatest, w.worst]).concat();
        let waits = waits.into_iter().map(|ms| format!("{ms:.2}"));
        commits.push([files].into_iter().chain(waits).collect());
    }
    format!(
        "\n{backup}\n\nrestore-meta, which looks for every data file\n{restore}\n\n\
         one-row INSERTs, alone and beside BACKUP: median, greatest of a round of {} s (median of \
         {ROUNDS}), greatest of all\n{commits}\n",
        ROUND.as_secs()
    )
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}
