//! Decides the fate of each call and message, and logs all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::{Process, Times};

/// The text of every injected error.
pub const INJECTED: &str = "injected fault";

/// The outcome of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Fails without taking effect.
    Before,
    /// Takes effect, and fails.
    After,
    /// Fails, and takes effect later.
    Later,
    /// Takes effect, and responds as to a second request.
    Retried,
    /// Fails, and takes effect in part.
    Torn,
    /// Responds with one wrong bit.
    Flip,
    /// Ends the process without taking effect.
    CrashBefore,
    /// Takes effect, and ends the process.
    CrashAfter,
}

/// Kinds of faults and of steps that a run leaves out, by name.
///
/// | name | is |
/// |---|---|
/// | `flips` | bits flip when data files are read |
/// | `manual` | tables are compacted by hand |
/// | `rollbacks` | the meta store goes back to an earlier state |
/// | `crashes`, `late`, `torn`, `stalls` | processes end at a call; calls take effect late, in part, slowly |
/// | `lost`, `doubled` | messages are lost or arrive twice |
/// | `clock`, `ddl`, `takeovers`, `zombies`, `restores`, `workers` | steps of programs |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without(pub BTreeSet<String>);

impl Without {
    pub fn of(names: &str) -> Self {
        let names = names.split(',').filter(|name| !name.is_empty());
        Self(names.map(str::to_owned).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        !self.0.contains(name)
    }
}

struct Inner {
    on: bool,
    per_mille: u64,
    without: Without,
    /// The process that is to end, and after how many of its calls.
    doomed: Option<(Arc<Process>, u64)>,
    hash: u64,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

/// Decides fates and logs events.
pub struct Chaos {
    pub times: Arc<Times>,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chaos")
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Continues the FNV hash `hash` with `bytes`.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

impl Chaos {
    /// Faults are off initially.
    pub fn new(times: Arc<Times>, per_mille: u64, without: Without) -> Arc<Self> {
        let inner = Inner {
            on: false,
            per_mille,
            without,
            doomed: None,
            hash: FNV_OFFSET,
            events: 0,
            counts: BTreeMap::new(),
            trace: vec![],
        };
        Arc::new(Self { times, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, on: bool) {
        self.lock().on = on;
    }

    pub fn is_on(&self) -> bool {
        self.lock().on
    }

    /// Whether this run has faults or steps of this kind.
    pub fn has(&self, name: &str) -> bool {
        self.lock().without.has(name)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.times.below(bound)
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&self, some: &[T]) -> Option<T> {
        let count = u64::try_from(some.len()).expect("few");
        (count > 0).then(|| some[usize::try_from(self.below(count)).expect("few")].clone())
    }

    /// Ends this process after this many of its next calls.
    pub fn doom(&self, process: &Arc<Process>, calls: u64) {
        self.lock().doomed = Some((Arc::clone(process), calls));
    }

    /// Logs an event. The events are what two runs of one seed must have in common.
    pub fn event(&self, line: &str) {
        let now_ms = self.times.now_ms();
        let process = Process::current().map_or_else(String::new, |process| process.name.clone());
        let mut inner = self.lock();
        inner.hash = fnv(inner.hash, &now_ms.to_le_bytes());
        inner.hash = fnv(inner.hash, process.as_bytes());
        inner.hash = fnv(inner.hash, line.as_bytes());
        inner.events += 1;
        inner.trace.push(format!("{now_ms:>9} {process:<12} {line}"));
    }

    /// Adds a line to the log that is for readers only.
    pub fn note(&self, line: &str) {
        self.lock().trace.push(format!("                       {line}"));
    }

    pub fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    pub fn trace(&self) -> String {
        self.lock().trace.join("\n")
    }

    /// Begins a call: delays it, and returns its fate.
    pub async fn turn(&self, call: &'static str, subject: &str) -> Fate {
        never_if_dead().await;
        if !self.is_on() {
            return Fate::Pass;
        }
        let (delay_ms, fate) = self.decide(call, subject);
        ambient::sleep(Duration::from_millis(delay_ms)).await;
        self.event(&format!("{call} {subject} {fate:?}"));
        if fate != Fate::Pass {
            self.count(name_of(call, fate));
        }
        fate
    }

    fn decide(&self, call: &'static str, subject: &str) -> (u64, Fate) {
        let delay_ms = match self.below(80) {
            0 | 1 if !self.has("stalls") => 0,
            0 => self.below(9_000),
            1 if !IN_META_STORE.contains(&call) => self.below(30_000),
            _ => self.below(20),
        };
        if let Some(fate) = self.doomed_now() {
            return (delay_ms, fate);
        }
        let (flips, per_mille) = (self.has("flips"), self.lock().per_mille);
        let is_data = tidemark_ledger::layout::parse_sst(&subject.into()).is_some();
        if flips && is_data && call == "get" && self.one_in(40) {
            return (delay_ms, Fate::Flip);
        }
        if self.below(1000) >= per_mille {
            return (delay_ms, Fate::Pass);
        }
        (delay_ms, self.fate_of(call, subject))
    }

    fn fate_of(&self, call: &'static str, subject: &str) -> Fate {
        let reads = ["get", "list", "get a key", "list pairs"].contains(&call);
        let swapped = subject.ends_with(".json");
        match self.below(7) {
            // These objects have a checksum of their contents.
            0 | 1
                if call == "get"
                    && !swapped
                    && tidemark_ledger::layout::parse_sst(&subject.into()).is_none() =>
            {
                Fate::Flip
            }
            _ if reads => Fate::Before,
            0 => Fate::Before,
            1 | 2 => Fate::After,
            3 => Fate::Retried,
            4 if call == "put" && !swapped && self.has("torn") => Fate::Torn,
            _ if self.has("late") => Fate::Later,
            _ => Fate::Before,
        }
    }

    /// A point at which a process may end without calling a store.
    pub async fn may_crash(&self) {
        if self.is_on()
            && let Some(fate) = self.doomed_now()
        {
            self.count(name_of("", fate));
        }
        never_if_dead().await;
    }

    fn doomed_now(&self) -> Option<Fate> {
        let current = Process::current()?;
        let mut inner = self.lock();
        let (process, calls) = inner.doomed.as_mut().filter(|(p, _)| Arc::ptr_eq(p, &current))?;
        if *calls > 0 {
            *calls -= 1;
            return None;
        }
        process.kill();
        inner.doomed = None;
        drop(inner);
        Some(if self.one_in(2) { Fate::CrashBefore } else { Fate::CrashAfter })
    }
}

/// Never returns in a process that has ended.
async fn never_if_dead() {
    if Process::current().is_some_and(|process| process.is_dead()) {
        std::future::pending::<()>().await;
    }
}

/// The name under which a fault is counted.
fn name_of(call: &'static str, fate: Fate) -> &'static str {
    match fate {
        Fate::Pass => "passes",
        Fate::Before if IN_META_STORE.contains(&call) => "meta store: fails",
        Fate::Before => "store: fails",
        Fate::After | Fate::Retried if IN_META_STORE.contains(&call) => "meta store: answer lost",
        Fate::After => "store: answer lost",
        Fate::Retried => "store: came second to itself",
        Fate::Later if IN_META_STORE.contains(&call) => "meta store: done late",
        Fate::Later => "store: done late",
        Fate::Torn => "store: torn write",
        Fate::Flip => "store: bit flipped on read",
        Fate::CrashBefore => "crash before a call",
        Fate::CrashAfter => "crash after a call",
    }
}

/// The calls of a meta store, which times out earlier than an object store.
const IN_META_STORE: [&str; 4] = ["commit", "fill", "get a key", "list pairs"];
