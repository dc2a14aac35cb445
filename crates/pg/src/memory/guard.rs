//! The last line of defence: a thread that watches the size of the process and ends the largest statement
//! before the kernel kills the server.
//!
//! Not everything is counted, and some operators allocate before they ask. The size watched here is that of
//! the process's private pages. Its size while no statement runs is not attributed to statements.
//!
//! An ended statement may need a while to notice. As long as it computes, growth of the process is attributed
//! to it and no other statement is ended. The allocator keeps pages of finished statements for a while. Later
//! statements are not ended for these pages, but do not gain from them either: a limit that rose with each
//! peak would not be a limit.

use std::io::{BufRead as _, BufReader};
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::{Budget, Ending};

/// Time between two checks; above three quarters of the limit; and while no statement runs.
const INTERVAL: Duration = Duration::from_millis(4);
const INTERVAL_NEAR: Duration = Duration::from_millis(1);
const INTERVAL_IDLE: Duration = Duration::from_millis(20);
/// How long an ended statement may hold its memory before the next one is ended; and how long if it still
/// computes.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_COMPUTING: Duration = Duration::from_secs(30);
/// The limit is the budget plus a tenth of it, or plus a fifth if the process exceeds the budget when a
/// statement begins; or, if that is more, the idle size of the process plus a quarter of the budget.
const ABOVE_PART: usize = 10;
const ABOVE_KEPT_PART: usize = 5;
const ABOVE_IDLE_PART: usize = 4;
/// How much others may take in addition, as part of the budget, while the pages of an ended statement remain.
const ABOVE_ENDED_PART: usize = 16;
/// Lower bound of that quarter for small budgets: any process needs as much.
const ABOVE_IDLE_BYTES_MIN: usize = 128 << 20;
/// Checks per window of [`Idle`]: half a minute without a statement.
const IDLE_LOOKS: u32 = 1500;

const STATM: &str = "/proc/self/statm";
const SMAPS: &str = "/proc/self/smaps";

/// Starts the thread. It ends when the budget is dropped.
pub fn start(budget: Weak<Budget>, bytes: usize) -> std::io::Result<()> {
    let watch = move || run(&budget, bytes);
    std::thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

fn run(budget: &Weak<Budget>, bytes: usize) {
    let mut watch = Watch::new(bytes);
    // Without `/proc` there is no size to watch.
    let Some(page) = page_bytes() else { return };
    while let Some(budget) = budget.upgrade() {
        let Some(process) = own_pages().map(|pages| pages.saturating_mul(page)) else { return };
        watch.look(process, Instant::now(), &budget);
        let is_idle = budget.statements().is_empty();
        let pause = match is_idle {
            true => INTERVAL_IDLE,
            false if process > watch.limit() / 4 * 3 => INTERVAL_NEAR,
            false => INTERVAL,
        };
        drop(budget);
        std::thread::park_timeout(pause);
    }
}

/// The size of the process without statements: the minimum over the last two windows. Only time without a
/// statement counts. Windows are long enough for the allocator to return pages, and short enough that growing
/// metadata and caches show up eventually.
#[derive(Default)]
struct Idle {
    least: Option<usize>,
    least_before: Option<usize>,
    looks: u32,
}

impl Idle {
    fn note(&mut self, process: usize) {
        if self.looks == IDLE_LOOKS {
            (self.least_before, self.least, self.looks) = (self.least, None, 0);
        }
        self.least = Some(self.least.map_or(process, |least| least.min(process)));
        self.looks += 1;
    }

    fn bytes(&self) -> usize {
        [self.least, self.least_before].into_iter().flatten().min().unwrap_or(0)
    }
}

struct Watch {
    bytes: usize,
    idle: Idle,
    /// Pages of earlier statements: the size of the process when the running ones began or when one of them
    /// was ended, less what was freed since.
    kept: usize,
    /// When a statement was last ended, until it is gone.
    ended: Option<Instant>,
}

impl Watch {
    fn new(bytes: usize) -> Self {
        Self { bytes, idle: Idle::default(), kept: 0, ended: None }
    }

    fn look(&mut self, process: usize, now: Instant, budget: &Budget) {
        if budget.statements().is_empty() {
            self.idle.note(process);
            (self.kept, self.ended) = (process, None);
            return;
        }
        let above_ended = process.saturating_add(self.bytes / ABOVE_ENDED_PART);
        self.kept = self.kept.min(above_ended);
        if let Some(at) = self.ended {
            let patience = match budget.ending() {
                Ending::Gone => Duration::ZERO,
                Ending::Holds => PATIENCE,
                Ending::Computes => PATIENCE_COMPUTING,
            };
            if now.duration_since(at) < patience {
                return;
            }
            (self.kept, self.ended) = (above_ended, None);
        }
        if process > self.limit() && budget.end_largest(now) {
            tracing::warn!(
                process,
                limit = self.limit(),
                "out of memory: the largest statement was ended"
            );
            self.ended = Some(now);
        }
    }

    fn limit(&self) -> usize {
        let part = if self.kept > self.bytes { ABOVE_KEPT_PART } else { ABOVE_PART };
        let normal = self.bytes.saturating_add(self.bytes / part);
        let above_idle = (self.bytes / ABOVE_IDLE_PART).max(ABOVE_IDLE_BYTES_MIN);
        normal.max(self.idle.bytes().saturating_add(above_idle)).max(self.kept)
    }
}

/// Number of private pages of the process, which excludes mapped files.
fn own_pages() -> Option<usize> {
    let statm = std::fs::read_to_string(STATM).ok()?;
    let mut pages = statm.split(' ').map(|field| field.parse::<usize>().ok());
    let (resident, shared) = (pages.nth(1)??, pages.next()??);
    Some(resident.saturating_sub(shared))
}

/// The page size in bytes, from the line `KernelPageSize:  4 kB` of the first mapping.
fn page_bytes() -> Option<usize> {
    let lines = BufReader::new(std::fs::File::open(SMAPS).ok()?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("KernelPageSize:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{COMPUTES_MIN, Held, StatementMemory};
    use crate::query_runtime::{Computing, Running};
    use crate::sqlstate::SqlState;

    const MIB: usize = 1 << 20;

    fn watch() -> Watch {
        Watch::new(1000 * MIB)
    }

    /// A statement that holds much of a budget of 1000 bytes.
    fn large(budget: &Arc<Budget>) -> (Arc<StatementMemory>, Held) {
        let statement = budget.begin();
        let held = statement.hold("much", 100).unwrap();
        (statement, held)
    }

    #[test]
    fn the_largest_statement_is_ended_and_then_the_next_one() {
        let (budget, mut watch, now) = (Budget::new(1000), watch(), Instant::now());
        watch.look(300 * MIB, now, &budget);
        assert_eq!(
            watch.limit(),
            1100 * MIB,
            "a process that is idle and small is no reason for more"
        );
        let (small, large) = (budget.begin(), budget.begin());
        let _held = (small.hold("a", 100).unwrap(), large.hold("b", 200).unwrap());
        let newest = budget.begin();
        watch.look(1100 * MIB, now, &budget);
        assert!(large.check().is_ok());
        watch.look(1101 * MIB, now, &budget);
        assert_eq!(large.check().unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        watch.look(1301 * MIB, now, &budget);
        assert!(small.check().is_ok(), "the first may take its time");
        watch.look(1101 * MIB, now + PATIENCE, &budget);
        assert!(small.check().is_ok(), "the process does not grow any more");
        watch.look(1201 * MIB, now + PATIENCE, &budget);
        assert!(small.check().is_err() && newest.check().is_ok());
        assert!(large.hold("more", 1).is_err(), "an ended statement gets no memory");
    }

    #[test]
    fn what_holds_next_to_nothing_is_not_ended() {
        let (budget, mut watch, now) = (Budget::new(1000), watch(), Instant::now());
        let (tiny, other) = (budget.begin(), budget.begin());
        let _held = tiny.hold("a", 1000 / 16 - 1).unwrap();
        watch.look(5000 * MIB, now + PATIENCE, &budget);
        assert!(tiny.check().is_ok() && other.check().is_ok());
    }

    #[test]
    fn what_computes_for_long_and_is_not_counted_is_ended_and_awaited() {
        let (budget, mut watch) = (Budget::new(1000), watch());
        let work = Arc::new(Running::default());
        let (culprit, other) = (begin_in(&budget, &work), budget.begin());
        let now = Instant::now();
        let computes = Computing::new(&work);
        watch.look(1200 * MIB, now, &budget);
        assert!(culprit.check().is_ok(), "it has only begun");
        let later = now + COMPUTES_MIN;
        watch.look(1200 * MIB, later, &budget);
        assert!(culprit.check().is_err() && other.check().is_ok());
        let _held = other.hold("a", 200).unwrap();
        watch.look(9000 * MIB, later + PATIENCE, &budget);
        assert!(other.check().is_ok(), "the first still computes");
        drop((culprit, computes));
        watch.look(9000 * MIB, later + PATIENCE, &budget);
        assert!(other.check().is_ok(), "pages of the first");
        watch.look(9100 * MIB, later + PATIENCE, &budget);
        assert!(other.check().is_err());
    }

    /// Begins a statement in the task of `running`.
    fn begin_in(budget: &Arc<Budget>, running: &Arc<Running>) -> Arc<StatementMemory> {
        let begun = running.inline(async { Ok(budget.begin()) });
        futures::executor::block_on(begun).unwrap()
    }

    #[test]
    fn what_is_there_without_statements_is_not_theirs() {
        let (budget, mut watch) = (Budget::new(1000), watch());
        watch.look(5000 * MIB, Instant::now(), &budget);
        let (statement, _held) = large(&budget);
        watch.look(5250 * MIB, Instant::now(), &budget);
        assert!(statement.check().is_ok());
        watch.look(5251 * MIB, Instant::now(), &budget);
        assert!(statement.check().is_err());
        let mut tiny = Watch::new(MIB);
        tiny.idle.note(100 * MIB);
        assert_eq!(tiny.limit(), 228 * MIB);
    }

    #[test]
    fn a_peak_earns_later_statements_nothing() {
        let (budget, mut watch, now) = (Budget::new(1000), watch(), Instant::now());
        watch.look(300 * MIB, now, &budget);
        let (first, held) = large(&budget);
        watch.look(1101 * MIB, now, &budget);
        assert!(first.check().is_err());
        drop((first, held));
        // The allocator keeps its pages.
        watch.look(1150 * MIB, now, &budget);
        let (second, held) = large(&budget);
        watch.look(1200 * MIB, now + PATIENCE, &budget);
        assert!(second.check().is_ok(), "the pages of another one");
        watch.look(1201 * MIB, now + PATIENCE, &budget);
        assert!(second.check().is_err());
        drop((second, held));
        let (third, held) = large(&budget);
        watch.look(1210 * MIB, now + PATIENCE, &budget);
        assert!(third.check().is_ok(), "the pages of another one");
        watch.look(1273 * MIB, now + PATIENCE, &budget);
        assert!(third.check().is_err());
        drop((third, held));
        watch.look(300 * MIB, now, &budget);
        assert_eq!(watch.limit(), 1100 * MIB, "the pages were given back");
    }

    #[test]
    fn what_stays_for_long_without_a_statement_is_the_process_itself() {
        let mut idle = Idle::default();
        idle.note(100);
        for _ in 1..2 * IDLE_LOOKS {
            idle.note(900);
        }
        assert_eq!(idle.bytes(), 100);
        idle.note(800);
        assert_eq!(idle.bytes(), 800);
        idle.note(700);
        assert_eq!(idle.bytes(), 700);
    }

    #[test]
    fn the_size_of_this_process_is_known() {
        let bytes = own_pages().zip(page_bytes()).map(|(pages, page)| pages * page);
        assert!(bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
