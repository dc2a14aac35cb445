//! A running statement: what stops it, whether it commits, and what each of its tasks knows of it.

use std::any::Any;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use datafusion::common::runtime::JoinSetTracer;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::lanes::Lease;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::metrics;

/// How long a task computes before it lets others of its lane go on.
const SLICE: Duration = Duration::from_millis(10);

/// Why a statement is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    UserRequest,
    Timeout,
    ClientGone,
    OutOfMemory,
}

impl Stop {
    pub(super) fn error(self) -> SqlError {
        let cancelled = |why| {
            let message = format!("canceling statement due to {why}");
            SqlError::new(SqlState::QUERY_CANCELED, message)
        };
        match self {
            Self::UserRequest => cancelled("user request"),
            Self::Timeout => cancelled("statement timeout"),
            Self::ClientGone => cancelled("lost connection"),
            Self::OutOfMemory => SqlError::out_of_memory(
                "The server was about to exceed its memory, and of all statements this one held most.",
            ),
        }
    }
}

/// A statement from its first byte to its last row.
#[derive(Debug, Default)]
pub struct Running {
    standing: watch::Sender<Standing>,
    /// What [`Standing::is_over`] says, to be read in inner loops.
    over: AtomicBool,
    /// Threads that compute for it now.
    computing: AtomicUsize,
    /// Whether it has held so much memory that its threads are not to keep what it frees.
    held_much: AtomicBool,
    /// Its `StatementMemory`, which is defined above this module.
    memory: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    stop: Option<Stop>,
    commits: bool,
}

impl Standing {
    /// Once a statement commits it is done first: its client would be told that it was stopped, and what it
    /// wrote would stay all the same.
    fn is_over(&self) -> bool {
        self.stop.is_some() && !self.commits
    }
}

impl Running {
    /// Stops the statement, if it does not commit already. The first reason counts.
    pub fn stop(&self, why: Stop) {
        if why == Stop::OutOfMemory {
            self.holds_much();
        }
        self.change(|standing| {
            standing.stop.get_or_insert(why);
        });
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether a thread computes for it now.
    pub fn is_computing(&self) -> bool {
        self.computing.load(Ordering::Relaxed) > 0
    }

    /// The threads that it has to itself end with it.
    pub fn holds_much(&self) {
        self.held_much.store(true, Ordering::Relaxed);
    }

    /// Where its memory is counted, if it has begun to count.
    pub(super) fn memory<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref()?.upgrade()?.downcast().ok()
    }

    /// What the statement makes from now on is counted there.
    pub(super) fn counts_in<T: Any + Send + Sync>(&self, memory: &Arc<T>) {
        let own: Weak<T> = Arc::downgrade(memory);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
    }

    /// Fails once the statement was stopped.
    pub fn check(&self) -> Result<(), SqlError> {
        if self.is_over() { Err(self.stopped()) } else { Ok(()) }
    }

    /// Resolves when the statement is to end without having committed.
    pub async fn over(&self) {
        // The sender lives as long as this does.
        drop(self.standing.subscribe().wait_for(Standing::is_over).await);
    }

    /// What a client is told of a statement that was stopped.
    pub fn stopped(&self) -> SqlError {
        self.standing.borrow().stop.unwrap_or(Stop::UserRequest).error()
    }

    /// Does `work` unless the statement is stopped before it is done.
    pub async fn until_over<T>(
        &self,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        tokio::select! {
            biased;
            () = self.over() => Err(self.stopped()),
            outcome = work => outcome,
        }
    }

    /// The same, where no task of the statement's own runs it.
    pub async fn inline<T>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        CURRENT.scope(Context::of(Arc::clone(self)), self.until_over(work)).await
    }

    /// Whether the statement may begin to commit. From then on it is not stopped.
    fn begin_commit(&self) -> bool {
        self.change(|standing| standing.commits = standing.commits || standing.stop.is_none());
        self.standing.borrow().commits
    }

    fn commit_refused(&self) {
        self.change(|standing| standing.commits = false);
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(|standing| {
            change(standing);
            self.over.store(standing.is_over(), Ordering::Relaxed);
        });
    }
}

/// Does `commit`, during and after which the statement is not stopped; a commit that was refused leaves it
/// as it was. What was stopped before does not begin.
pub async fn committing<T, E>(commit: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // Where there is no statement, nothing stops it.
    let running = context().map(|context| context.running);
    if let Some(running) = &running
        && !running.begin_commit()
    {
        // It is dropped where it is watched, by `until_over`.
        std::future::pending::<()>().await;
    }
    let outcome = commit.await;
    if let Some(running) = running
        && outcome.is_err()
    {
        running.commit_refused();
    }
    outcome
}

/// What a task of a statement knows.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub running: Arc<Running>,
    /// Set when the rows of this query are not wanted any more, though its statement goes on.
    pub unwanted: Option<Arc<AtomicBool>>,
    /// The threads the task is on, if they are the statement's own.
    pub lease: Option<Arc<Lease>>,
}

tokio::task_local! {
    static CURRENT: Context;
    static PLANNING: ();
}

thread_local! {
    /// When the task on this thread was given its slice of time.
    static SLICE_BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Context {
    pub fn of(running: Arc<Running>) -> Self {
        Self { running, unwanted: None, lease: None }
    }

    fn check(&self) -> Result<(), SqlError> {
        let unwanted = self.unwanted.as_ref().is_some_and(|it| it.load(Ordering::Relaxed));
        if unwanted { Err(self.running.stopped()) } else { self.running.check() }
    }
}

/// What the task that runs here knows of its statement, if it is one's.
pub fn context() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok()
}

/// The statement that runs here, if one does.
pub fn current() -> Option<Arc<Running>> {
    CURRENT.try_with(|context| Arc::clone(&context.running)).ok()
}

/// Refuses to go on in a statement that was stopped. Costs next to nothing, so that inner loops may ask.
pub fn check() -> Result<(), SqlError> {
    CURRENT.try_with(Context::check).unwrap_or(Ok(()))
}

/// Makes a plan. What functions are called with meanwhile are constants, and their values become part of the
/// plan.
pub async fn planning<T>(plan: impl Future<Output = T>) -> T {
    PLANNING.scope((), plan).await
}

/// Whether a plan is made here.
pub fn is_planning() -> bool {
    PLANNING.try_with(|()| ()).is_ok()
}

/// Whether the task that runs here has computed for long, and is to return to its thread.
pub fn slice_is_over() -> bool {
    SLICE_BEGUN.get().is_some_and(|begun| begun.elapsed() >= SLICE)
}

/// Shows that a thread computes for a statement, as long as this lives.
pub struct Computing(Arc<Running>);

impl Computing {
    pub fn new(running: &Arc<Running>) -> Self {
        running.computing.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.0.computing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A task of a statement.
pub struct Task<T> {
    // Dropped in this order: what is counted is gone when the count says so.
    work: BoxFuture<'static, T>,
    context: Context,
    _counted: Counted,
}

impl<T> Task<T> {
    pub fn new(context: Context, work: BoxFuture<'static, T>) -> Self {
        Self { work, context, _counted: Counted::new() }
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let _computing = Computing::new(&this.context.running);
        // On threads that others share, nothing depends on how fast the machine is.
        SLICE_BEGUN.set(this.context.lease.is_some().then(Instant::now));
        let polled = CURRENT.sync_scope(this.context.clone(), || this.work.as_mut().poll(cx));
        SLICE_BEGUN.set(None);
        polled
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(lease) = &self.context.lease
            && self.context.running.held_much.load(Ordering::Relaxed)
        {
            lease.close_after();
        }
    }
}

/// Counts a task as long as it is there.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::QUERY_TASKS.inc();
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::QUERY_TASKS.dec();
    }
}

/// Makes the tasks that operators spawn tasks of their statement.
pub struct Inherit;

impl JoinSetTracer for Inherit {
    fn trace_future(
        &self,
        work: BoxFuture<'static, Box<dyn Any + Send>>,
    ) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match context() {
            Some(context) => Box::pin(Task::new(context, work)),
            None => work,
        }
    }

    fn trace_block(
        &self,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        let Some(context) = context() else { return work };
        let counted = Counted::new();
        Box::new(move || {
            let _computing = Computing::new(&context.running);
            let outcome = CURRENT.sync_scope(context, work);
            drop(counted);
            outcome
        })
    }
}
