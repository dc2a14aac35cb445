//! What was measured, on what machine, and whether it is within the bars.

use std::fmt;
use std::thread::available_parallelism;

use serde::Serialize;
use tidemark::ctl::output::{Table, count, size};

use crate::{Fallible, Load, Measured};

/// The present may cost this much of plain DataFusion (geometric mean).
const NOW_TO_PLAIN_MAX: f64 = 1.15;
/// The past may cost this much of the present (geometric mean).
const PAST_TO_NOW_MAX: f64 = 1.05;

pub const HEADER: &str =
    "\nquery    now ms   past ms  plain ms  now/plain  past/now    rows  results";

/// What the figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub memory_total_bytes: u64,
    /// What queries may take, in the server and in plain DataFusion.
    pub memory_bytes: usize,
    /// Threads of one query, in the server and in plain DataFusion.
    pub parallelism: usize,
    pub tidemark: &'static str,
    pub datafusion: &'static str,
}

impl Machine {
    pub fn look(parallelism: Option<usize>) -> Fallible<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cores = available_parallelism()?.get();
        let total = mem_total_bytes(&read("/proc/meminfo")).ok_or("the memory is not known")?;
        Ok(Self {
            cpu: model_name(&read("/proc/cpuinfo")),
            cores,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_total_bytes: total,
            memory_bytes: usize::try_from(total / 10 * 7)?,
            parallelism: parallelism.unwrap_or(cores),
            tidemark: env!("CARGO_PKG_VERSION"),
            datafusion: datafusion::DATAFUSION_VERSION,
        })
    }
}

/// The line `MemTotal:  24576000 kB` in bytes.
fn mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn model_name(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or("unknown processor").to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, parallelism, tidemark, datafusion, .. } = self;
        let total = size(self.memory_total_bytes);
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        write!(
            f,
            "{cpu}, {cores} cores, {total}, Linux {kernel}\n\
             tidemark {tidemark} ({build}), DataFusion {datafusion}, {parallelism} threads a query"
        )
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    scale: f64,
    runs: usize,
    machine: Machine,
    pub loads: Vec<Load>,
    pub queries: Vec<Measured>,
    pub backup_ms: f64,
    pub restore_dry_run_ms: f64,
    pub restore_ms: f64,
}

impl Report {
    pub fn new(scale: f64, runs: usize, machine: Machine) -> Self {
        Self {
            scale,
            runs,
            machine,
            loads: vec![],
            queries: vec![],
            backup_ms: 0.0,
            restore_dry_run_ms: 0.0,
            restore_ms: 0.0,
        }
    }

    pub fn load_table(&self) -> String {
        let mut table = Table::new(["table", "rows", "seconds", "rows/s"]);
        let mut push = |name: &str, rows: u64, seconds: f64| {
            table.push(vec![
                name.to_owned(),
                rows.to_string(),
                format!("{seconds:.2}"),
                format!("{:.0}", speed(rows, seconds)),
            ]);
        };
        for load in &self.loads {
            push(load.table, load.rows, load.seconds);
        }
        let rows = self.loads.iter().map(|load| load.rows).sum();
        push("together", rows, self.loads.iter().map(|load| load.seconds).sum());
        let rows = count(rows);
        format!("\nTPC-H at scale {}: {rows} rows through COPY\n{table}", self.scale)
    }

    /// The means with their bars, and the times of backup and restore.
    pub fn summary(&self) -> String {
        let bar = |name: &str, mean: f64, max: f64| {
            let word = if mean <= max { "PASS" } else { "FAIL" };
            format!("{name:24} {mean:6.3}   at most {max:.2}   {word}\n")
        };
        let odd: Vec<String> =
            self.queries.iter().filter(|q| !q.same).map(|q| format!("q{:02}", q.query)).collect();
        let results = match odd.as_slice() {
            [] => "the results of all queries are the same in all three ways   PASS".to_owned(),
            odd => format!("the results differ in {}   FAIL", odd.join(", ")),
        };
        format!(
            "\ngeometric means of {} queries, best of {} runs\n{}{}{results}\n\n\
             BACKUP {:.0} ms, restore-meta --dry-run {:.0} ms, restore-meta {:.0} ms\n\
             (the start of the risectl process is in the last two)",
            self.queries.len(),
            self.runs,
            bar("now / plain DataFusion", self.now_to_plain(), NOW_TO_PLAIN_MAX),
            bar("past / now", self.past_to_now(), PAST_TO_NOW_MAX),
            self.backup_ms,
            self.restore_dry_run_ms,
            self.restore_ms,
        )
    }

    /// Whether the results are right and the times within the bars.
    pub fn passed(&self) -> bool {
        self.queries.iter().all(|query| query.same)
            && self.now_to_plain() <= NOW_TO_PLAIN_MAX
            && self.past_to_now() <= PAST_TO_NOW_MAX
    }

    /// All figures, for other programs.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&serde_json::json!({
            "measured": self,
            "now_to_plain": self.now_to_plain(),
            "now_to_plain_max": NOW_TO_PLAIN_MAX,
            "past_to_now": self.past_to_now(),
            "past_to_now_max": PAST_TO_NOW_MAX,
            "passed": self.passed(),
        }))
    }

    fn now_to_plain(&self) -> f64 {
        geometric_mean(self.queries.iter().map(|query| query.now_ms / query.plain_ms))
    }

    fn past_to_now(&self) -> f64 {
        geometric_mean(self.queries.iter().map(|query| query.past_ms / query.now_ms))
    }
}

/// One query's line under [`HEADER`].
pub fn line(measured: &Measured) -> String {
    let Measured { query, now_ms, past_ms, plain_ms, rows, same } = measured;
    let results = if *same { "same" } else { "DIFFERENT" };
    let (now_to_plain, past_to_now) = (now_ms / plain_ms, past_ms / now_ms);
    format!(
        "q{query:02}   {now_ms:9.1} {past_ms:9.1} {plain_ms:9.1}  {now_to_plain:9.2}  \
         {past_to_now:8.2}  {rows:6}  {results}"
    )
}

/// The geometric mean of ratios.
pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = ratios.fold((0.0, 0.0), |(sum, n), ratio| (sum + ratio.ln(), n + 1.0));
    if n == 0.0 { f64::NAN } else { f64::exp(sum / n) }
}

#[expect(clippy::cast_precision_loss, reason = "a speed is not exact")]
fn speed(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds.max(0.001)
}
