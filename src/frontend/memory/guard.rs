//! The last defence: a thread that looks how large the process is, and ends the statement that holds most
//! before the machine ends the server.
//!
//! Not everything is counted, and counting comes too late where an operator does not ask. The size counted
//! here is that of the process's own pages; what it was while no statement ran is not the statements' doing.

use std::io::{BufRead as _, BufReader};
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Budget;

/// Between two looks; and while no statement runs.
const INTERVAL: Duration = Duration::from_millis(4);
const INTERVAL_IDLE: Duration = Duration::from_millis(20);
/// How long a statement that was ended has to give its memory back before the next one is ended.
const PATIENCE: Duration = Duration::from_millis(100);
/// The process may take the budget and a tenth of it; or, where that is more, what it took while no statement
/// ran and half the budget.
const ABOVE_PART: usize = 10;
const ABOVE_IDLE_PART: usize = 2;
/// Instead of half a budget that is small: any process needs as much.
const ABOVE_IDLE_BYTES_MIN: usize = 128 << 20;

const STATM: &str = "/proc/self/statm";
const SMAPS: &str = "/proc/self/smaps";

/// Starts the thread. It ends with the budget.
pub fn start(budget: Weak<Budget>, bytes: usize) -> std::io::Result<()> {
    let watch = move || run(&budget, bytes);
    std::thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

fn run(budget: &Weak<Budget>, bytes: usize) {
    let mut watch = Watch { bytes, idle: 0, ended: None };
    // Where the system does not say, there is nothing to guard by.
    let Some(page) = page_bytes() else { return };
    while let Some(budget) = budget.upgrade() {
        let Some(process) = own_pages().map(|pages| pages.saturating_mul(page)) else { return };
        watch.look(process, Instant::now(), &budget);
        let idle = budget.statements().is_empty();
        drop(budget);
        std::thread::park_timeout(if idle { INTERVAL_IDLE } else { INTERVAL });
    }
}

struct Watch {
    bytes: usize,
    /// Size of the process when no statement last ran.
    idle: usize,
    /// When a statement was last ended, and the number that the next one was to have then.
    ended: Option<(Instant, u64)>,
}

impl Watch {
    fn look(&mut self, process: usize, now: Instant, budget: &Budget) {
        if budget.statements().is_empty() {
            self.idle = process;
            return;
        }
        // What is there when only later statements run is not theirs: the allocator keeps pages for a while.
        if self.ended.is_some_and(|(_, next)| budget.oldest().is_some_and(|oldest| oldest >= next))
        {
            (self.idle, self.ended) = (process, None);
        }
        let waits = self.ended.is_some_and(|(at, _)| now.duration_since(at) < PATIENCE);
        if process > self.limit() && !waits && budget.end_largest() {
            tracing::warn!(
                process,
                limit = self.limit(),
                "out of memory: the largest statement was ended"
            );
            self.ended = Some((now, budget.next_id()));
        }
    }

    fn limit(&self) -> usize {
        let normal = self.bytes.saturating_add(self.bytes / ABOVE_PART);
        let above_idle = (self.bytes / ABOVE_IDLE_PART).max(ABOVE_IDLE_BYTES_MIN);
        normal.max(self.idle.saturating_add(above_idle))
    }
}

/// Pages of memory that are the process's own: not of files it has mapped.
fn own_pages() -> Option<usize> {
    let statm = std::fs::read_to_string(STATM).ok()?;
    let mut pages = statm.split(' ').map(|field| field.parse::<usize>().ok());
    let (resident, shared) = (pages.nth(1)??, pages.next()??);
    Some(resident.saturating_sub(shared))
}

/// The size of a page, as the line `KernelPageSize:  4 kB` of the first mapping has it.
fn page_bytes() -> Option<usize> {
    let lines = BufReader::new(std::fs::File::open(SMAPS).ok()?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("KernelPageSize:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::pgwire::sqlstate::SqlState;

    const MIB: usize = 1 << 20;

    fn watch() -> Watch {
        Watch { bytes: 1000 * MIB, idle: 0, ended: None }
    }

    #[test]
    fn the_largest_statement_is_ended_and_then_the_next_one() {
        let (budget, mut watch, now) = (Budget::new(1000), watch(), Instant::now());
        watch.look(300 * MIB, now, &budget);
        assert_eq!(watch.limit(), 1100 * MIB, "an idle process below half is no reason for more");
        let (small, large) = (budget.begin(), budget.begin());
        let _held = (small.hold("a", 10).unwrap(), large.hold("b", 20).unwrap());
        let newest = budget.begin();
        watch.look(1100 * MIB, now, &budget);
        assert!(large.check().is_ok());
        watch.look(1101 * MIB, now, &budget);
        assert_eq!(large.check().unwrap_err().sqlstate, SqlState::OUT_OF_MEMORY);
        watch.look(1101 * MIB, now, &budget);
        assert!(small.check().is_ok(), "the first may take its time");
        watch.look(1101 * MIB, now + PATIENCE, &budget);
        assert!(small.check().is_err() && newest.check().is_ok());
        assert!(large.hold("more", 1).is_err(), "an ended statement gets no memory");
    }

    #[test]
    fn what_is_there_without_statements_is_not_theirs() {
        let (budget, mut watch) = (Budget::new(1000), watch());
        watch.look(5000 * MIB, Instant::now(), &budget);
        let statement = budget.begin();
        watch.look(5500 * MIB, Instant::now(), &budget);
        assert!(statement.check().is_ok());
        watch.look(5501 * MIB, Instant::now(), &budget);
        assert!(statement.check().is_err());
        let tiny = Watch { bytes: MIB, idle: 100 * MIB, ended: None };
        assert_eq!(tiny.limit(), 228 * MIB);
    }

    #[test]
    fn the_size_of_this_process_is_known() {
        let bytes = own_pages().zip(page_bytes()).map(|(pages, page)| pages * page);
        assert!(bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
