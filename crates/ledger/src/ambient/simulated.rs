//! The runtime of a simulation: virtual time, and processes that can be killed at any moment, on one thread.
//!
//! Time stands still while any task is runnable, then jumps to the next deadline. The seed decides the order
//! of tasks that wait for the same moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

thread_local! {
    static TIMES: RefCell<Option<Arc<Times>>> = const { RefCell::new(None) };
    static PROCESS: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

/// A deadline: the time, a random tie-breaker, and a unique number.
type Moment = (u64, u64, u64);

/// Virtual time, and the random number generator.
#[derive(Debug)]
pub struct Times(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    now_ms: u64,
    chance: u64,
    next: u64,
    waiting: BTreeMap<Moment, Waker>,
}

impl Inner {
    fn chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Times {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_ms(&self) -> u64 {
        self.lock().now_ms
    }

    /// A random number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().chance() % bound
    }

    /// Advances time to the next deadline. Called when no task is runnable.
    fn advance(&self) {
        let first = {
            let mut inner = self.lock();
            let first = inner.waiting.pop_first();
            if let Some(((due_ms, ..), _)) = &first {
                inner.now_ms = inner.now_ms.max(*due_ms);
            }
            first
        };
        if let Some((_, waker)) = first {
            waker.wake();
            // The woken task may be gone already. The thread would then park although other deadlines remain;
            // an empty task brings it back here.
            drop(tokio::spawn(async {}));
        }
    }
}

/// A runtime with virtual time on this thread, until it is dropped.
#[derive(Debug)]
pub struct Simulation {
    pub runtime: Runtime,
    pub times: Arc<Times>,
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        let inner = Inner { now_ms: 0, chance: seed, next: 0, waiting: BTreeMap::new() };
        let times = Arc::new(Times(Mutex::new(inner)));
        let advancing = Arc::clone(&times);
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().on_thread_park(move || advancing.advance()).build();
        TIMES.set(Some(Arc::clone(&times)));
        Self { runtime: runtime.expect("a runtime can be made"), times }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        TIMES.set(None);
        PROCESS.set(None);
    }
}

fn times() -> Option<Arc<Times>> {
    TIMES.with_borrow(Clone::clone)
}

pub fn is_on() -> bool {
    TIMES.with_borrow(Option::is_some)
}

pub fn uuid() -> Option<Uuid> {
    let times = times()?;
    let mut inner = times.lock();
    Some(Uuid::from_u64_pair(inner.chance(), inner.chance()))
}

/// A simulated process that can be killed at any moment: its tasks then stop, and are not dropped.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    dead: AtomicBool,
    died: Notify,
}

impl Process {
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), dead: AtomicBool::new(false), died: Notify::new() })
    }

    /// The process of the current task.
    pub fn current() -> Option<Arc<Self>> {
        PROCESS.with_borrow(Clone::clone)
    }

    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub async fn died(&self) {
        let died = self.died.notified();
        let mut died = std::pin::pin!(died);
        died.as_mut().enable();
        if !self.is_dead() {
            died.await;
        }
    }

    /// Runs `work` as part of this process.
    pub fn run<F: Future>(self: &Arc<Self>, work: F) -> InProcess<F> {
        InProcess { process: Some(Arc::clone(self)), work: Box::pin(work) }
    }
}

/// Work of a process. Never completes once the process is dead.
#[derive(Debug)]
pub struct InProcess<F> {
    process: Option<Arc<Process>>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for InProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.process.as_ref().is_some_and(|process| process.is_dead()) {
            return Poll::Pending;
        }
        let before = PROCESS.replace(self.process.clone());
        let _restored = Restore(before);
        self.work.as_mut().poll(context)
    }
}

/// Restores the current process when dropped, also after a panic.
struct Restore(Option<Arc<Process>>);

impl Drop for Restore {
    fn drop(&mut self) {
        PROCESS.set(self.0.take());
    }
}

/// Spawns a task in the current process.
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(InProcess { process: Process::current(), work: Box::pin(task) })
}

pub fn sleep(time: Duration) -> Sleep {
    let times = times().expect("a simulation runs");
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let due_ms = times.now_ms().saturating_add(ms);
    Sleep { times, due_ms, moment: None }
}

/// A sleep in virtual time.
#[derive(Debug)]
pub struct Sleep {
    times: Arc<Times>,
    due_ms: u64,
    moment: Option<Moment>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut inner = this.times.lock();
        if let Some(moment) = &this.moment {
            let Some(waker) = inner.waiting.get_mut(moment) else { return Poll::Ready(()) };
            waker.clone_from(context.waker());
            return Poll::Pending;
        }
        inner.next += 1;
        let moment = (this.due_ms, inner.chance(), inner.next);
        inner.waiting.insert(moment, context.waker().clone());
        this.moment = Some(moment);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(moment) = self.moment.take() {
            self.times.lock().waiting.remove(&moment);
        }
    }
}

/// Runs `work` with a timeout; `None` once `limit` has passed.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = sleep(limit) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_next_moment_that_a_task_waits_for() {
        let simulation = Simulation::new(7);
        let waits = |ms| sleep(Duration::from_millis(ms));
        simulation.runtime.block_on(async {
            let other = spawn(waits(90_000));
            waits(30_000).await;
            assert_eq!(simulation.times.now_ms(), 30_000);
            other.await.unwrap();
            assert_eq!(simulation.times.now_ms(), 90_000);
            assert_eq!(within(Duration::from_millis(5), waits(9)).await, None);
            assert_eq!(simulation.times.now_ms(), 90_005);
        });
    }

    #[test]
    fn the_seed_says_who_goes_first() {
        let order = |seed| {
            let simulation = Simulation::new(seed);
            let order: Arc<Mutex<Vec<u32>>> = Arc::default();
            let tasks = (0..8).map(|task| {
                let order = Arc::clone(&order);
                async move {
                    sleep(Duration::from_millis(3)).await;
                    order.lock().unwrap().push(task);
                }
            });
            simulation.runtime.block_on(futures::future::join_all(tasks.collect::<Vec<_>>()));
            order.lock().unwrap().clone()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn nothing_of_a_process_goes_on_when_it_has_ended() {
        let simulation = Simulation::new(7);
        let (process, done) = (Process::new("p"), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&done);
        simulation.runtime.block_on(async {
            let begun = process.run(async move {
                // Tasks that it has spawned stop too.
                drop(spawn(async move {
                    sleep(Duration::from_millis(10)).await;
                    noted.store(true, Ordering::SeqCst);
                }));
            });
            begun.await;
            process.kill();
            process.died().await;
            sleep(Duration::from_millis(20)).await;
        });
        assert!(!done.load(Ordering::SeqCst));
    }
}
