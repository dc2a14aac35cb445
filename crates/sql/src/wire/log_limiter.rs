//! Rate-limits log lines that unauthenticated clients can cause: a few per minute, with the number of omitted
//! ones.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LINES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Rate limiter for log lines.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    since: Option<Instant>,
    lines: u32,
    unsaid: u64,
}

impl LogLimiter {
    /// Logs a line unless the limit is reached. `line` gets the number of lines omitted before it.
    pub fn say(&self, line: impl FnOnce(u64)) {
        if let Some(unsaid) = self.admit(Instant::now()) {
            line(unsaid);
        }
    }

    fn admit(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (said.since, said.lines) = (Some(now), 0);
        }
        if said.lines == LINES_MAX {
            said.unsaid += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let quiet = LogLimiter::default();
        let now = Instant::now();
        let said = (0..1000).filter_map(|_| quiet.admit(now)).count();
        assert_eq!(said, LINES_MAX as usize);
        assert_eq!(quiet.admit(now + WINDOW), Some(1000 - u64::from(LINES_MAX)));
        assert_eq!(quiet.admit(now + WINDOW), Some(0));
    }
}
