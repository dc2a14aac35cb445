//! Crash points: before and after every write to a store, where a test can kill this process.
//!
//! They do nothing in release builds. In debug builds, `TIDEMARK_CRASH_AT=5` aborts the process, as abruptly
//! as `kill -9`, at the fifth point it reaches. With `TIDEMARK_CRASH_ARMED_BY=PATH` points are counted only
//! once that file exists, so that a test can skip start-up. `tests/integration/crash.rs` tries every point of
//! an operation this way.

use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

const AT: &str = "TIDEMARK_CRASH_AT";
const ARMED_BY: &str = "TIDEMARK_CRASH_ARMED_BY";

static PLAN: LazyLock<Option<Plan>> = LazyLock::new(Plan::from_env);

/// The point at which to abort, from the environment.
#[derive(Debug)]
struct Plan {
    at: u64,
    armed_by: Option<PathBuf>,
    passed: AtomicU64,
}

/// A write in progress.
#[must_use = "the point after the write is one too"]
pub struct Begun<'a> {
    action: &'static str,
    target: &'a (dyn Display + Sync),
}

/// Marks the point before a write.
pub fn begin<'a>(action: &'static str, target: &'a (dyn Display + Sync)) -> Begun<'a> {
    pass("before", action, target);
    Begun { action, target }
}

impl Begun<'_> {
    /// Marks the point after the write, when its caller does not know of it yet.
    pub fn end(self) {
        pass("after", self.action, self.target);
    }
}

fn pass(when: &str, action: &str, target: &dyn Display) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(plan) = PLAN.as_ref().filter(|plan| plan.is_armed()) else { return };
    if plan.passed.fetch_add(1, Ordering::SeqCst) + 1 == plan.at {
        let line = format!("crash point {}: {when} {action} {target}\n", plan.at);
        // An error does not matter: the process aborts either way.
        std::io::stderr().write_all(line.as_bytes()).ok();
        std::process::abort();
    }
}

impl Plan {
    fn from_env() -> Option<Self> {
        let at = std::env::var(AT).ok()?.parse().ok()?;
        let armed_by = std::env::var_os(ARMED_BY).map(PathBuf::from);
        Some(Self { at, armed_by, passed: AtomicU64::new(0) })
    }

    fn is_armed(&self) -> bool {
        self.armed_by.as_ref().is_none_or(|file| file.exists())
    }
}
