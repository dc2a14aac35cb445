//! Random faults under the real meta role: stores that fail, stall, or report an error after doing the work.
//!
//! [`meta_store`] and [`object_store`] inject such faults between the meta role and in-memory stores.
//! [`world`] is a cluster on them with a model of the expected state, [`check`] compares the two, and
//! [`programs`] runs random steps on it. Time is virtual: a call that stalls advances the clock.

mod check;
mod meta_store;
mod object_store;
mod programs;
mod steps;
mod tests;
mod world;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;

use tidemark_ledger::epoch::{Clock as _, ManualClock};
use tidemark_ledger::storage::Patience;

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
    /// Takes effect, and responds as to a second request: the client of the store retried it.
    Retried,
    /// Gets no response for as long as the caller waits; may take effect later.
    Hang {
        later: bool,
    },
    /// Reports success without taking effect. No store does that: it proves that the checks notice.
    Lie,
}

/// Pseudorandom numbers from a seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, some: &[T]) -> Option<T> {
        let count = u64::try_from(some.len()).expect("few");
        (count > 0).then(|| some[usize::try_from(self.below(count)).expect("few")].clone())
    }
}

/// A request in flight.
struct Late {
    due_ms: u64,
    deed: BoxFuture<'static, ()>,
}

/// A fate fixed beforehand, for the next call of this kind on such a subject.
struct Scripted {
    call: &'static str,
    subject: String,
    fate: Fate,
}

struct Dice {
    random: Random,
    on: bool,
    per_mille: u64,
    lies: bool,
    late: Vec<Late>,
    scripted: Vec<Scripted>,
    trace: Vec<String>,
}

/// Decides the fate of every call, and drives the clock.
pub struct Chaos {
    pub clock: Arc<ManualClock>,
    dice: Mutex<Dice>,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chaos")
    }
}

impl Chaos {
    /// Faults are off initially.
    pub fn new(seed: u64, per_mille: u64, clock: Arc<ManualClock>) -> Arc<Self> {
        let (late, scripted, trace) = (vec![], vec![], vec![]);
        let random = Random::new(seed);
        let dice = Dice { random, on: false, per_mille, lies: false, late, scripted, trace };
        Arc::new(Self { clock, dice: Mutex::new(dice) })
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, on: bool) {
        self.dice().on = on;
    }

    /// From now on, a fault in a commit to the meta store is a lie.
    pub fn lie(&self) {
        self.dice().lies = true;
    }

    /// The next `call` whose subject contains this text gets this fate, whether faults are on or off.
    pub fn script(&self, call: &'static str, subject: &str, fate: Fate) {
        let subject = subject.to_owned();
        self.dice().scripted.push(Scripted { call, subject, fate });
    }

    /// Whether every scripted fate has been used.
    pub fn is_played(&self) -> bool {
        self.dice().scripted.is_empty()
    }

    pub fn note(&self, line: String) {
        self.dice().trace.push(line);
    }

    /// The trace, one line per event.
    pub fn trace(&self) -> String {
        self.dice().trace.join("\n")
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.dice().random.one_in(n)
    }

    /// Performs the deed after a random delay of virtual time.
    pub fn later(&self, deed: BoxFuture<'static, ()>) {
        let mut dice = self.dice();
        let delay_ms = 1_000 + dice.random.below(40_000);
        let due_ms = self.clock.now_ms() + delay_ms;
        dice.late.push(Late { due_ms, deed });
    }

    /// Delivers the requests in flight that are due.
    async fn land(&self) {
        loop {
            let now_ms = self.clock.now_ms();
            let late = {
                let mut dice = self.dice();
                let due = dice.late.iter().position(|late| late.due_ms <= now_ms);
                due.map(|at| dice.late.remove(at))
            };
            let Some(late) = late else { return };
            late.deed.await;
        }
    }

    /// Delivers all requests in flight.
    pub async fn drain(&self) {
        loop {
            let late = self.dice().late.pop();
            let Some(late) = late else { return };
            late.deed.await;
        }
    }

    /// Whether no request is in flight.
    pub fn is_quiet(&self) -> bool {
        self.dice().late.is_empty()
    }

    /// Begins a call: may delay it, and returns its fate.
    async fn turn(&self, call: &'static str, subject: &str) -> Fate {
        self.land().await;
        let patience = Patience::current();
        let (turns, stall_ms, fate) = {
            let mut dice = self.dice();
            let found = |s: &Scripted| s.call == call && subject.contains(&s.subject);
            if let Some(at) = dice.scripted.iter().position(found) {
                let fate = dice.scripted.remove(at).fate;
                dice.trace.push(format!("        {call} {subject}: {fate:?}, as scripted"));
                return fate;
            }
            if !dice.on {
                return Fate::Pass;
            }
            dice.decide(call, patience.is_some())
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        // A stall past the caller's timeout is a different fate.
        let limit_ms = patience.map_or(u64::MAX, |patience| ms(patience.limit) - 1);
        self.clock.advance_ms(stall_ms.min(limit_ms));
        self.land().await;
        if fate != Fate::Pass {
            self.note(format!("        {call} {subject}: {fate:?} after {stall_ms} ms"));
        }
        fate
    }

    /// Gets no response until the caller times out.
    async fn hang<T>(&self) -> T {
        match Patience::current() {
            Some(patience) => {
                self.clock.advance_ms(ms(patience.limit));
                patience.end();
            }
            None => self.note("        nobody gives up: this hangs for ever".to_owned()),
        }
        std::future::pending().await
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a time-out is short")
}

impl Dice {
    /// Decides how many other tasks go first, the stall in ms, and the fate.
    fn decide(&mut self, call: &'static str, patient: bool) -> (u64, u64, Fate) {
        let turns = self.random.below(4);
        let stall_ms = match self.random.below(60) {
            0 => self.random.below(9_000),
            1 if !IN_META_STORE.contains(&call) => self.random.below(30_000),
            _ => self.random.below(20),
        };
        if self.random.below(1000) >= self.per_mille {
            return (turns, stall_ms, Fate::Pass);
        }
        let reads = ["get", "list", "get a key", "list pairs"].contains(&call);
        let fate = match self.random.below(5) {
            _ if self.lies && call == "commit" => Fate::Lie,
            _ if reads => Fate::Before,
            0 => Fate::Before,
            1 => Fate::After,
            2 => Fate::Retried,
            _ => Fate::Later,
        };
        let fate = match fate {
            Fate::Before if patient && self.random.one_in(2) => Fate::Hang { later: false },
            Fate::Later if patient && self.random.one_in(2) => Fate::Hang { later: true },
            fate => fate,
        };
        (turns, stall_ms, fate)
    }
}

/// The calls of a meta store, whose own timeout is shorter than that of an object store.
const IN_META_STORE: [&str; 4] = ["commit", "fill", "get a key", "list pairs"];
