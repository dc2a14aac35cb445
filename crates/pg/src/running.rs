//! The state of a running statement: whether it was stopped or commits, and the context of its tasks.

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

/// How long a task computes before it yields to others of its lane.
const SLICE: Duration = Duration::from_millis(10);

/// Why a statement was stopped.
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
    standing: watch::Sender<RunState>,
    /// The value of [`RunState::is_over`], for inner loops.
    over: AtomicBool,
    /// Number of threads that compute for it now.
    computing: AtomicUsize,
    /// Whether it held so much memory that its threads should not keep what it frees.
    held_much: AtomicBool,
    /// Its `StatementMemory`, a type that this module does not depend on.
    memory: Mutex<Option<Weak<dyn Any + Send + Sync>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RunState {
    stop: Option<Stop>,
    commits: bool,
}

impl RunState {
    /// A statement that is committing is not stopped: its client would get an error although the writes stay.
    fn is_over(&self) -> bool {
        self.stop.is_some() && !self.commits
    }
}

impl Running {
    /// Stops the statement unless it is committing. The first reason counts.
    pub fn stop(&self, why: Stop) {
        if why == Stop::OutOfMemory {
            self.holds_much();
        }
        self.change(|standing| {
            standing.stop.get_or_insert(why);
        });
    }

    /// Whether it was stopped and is not committing.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether a thread computes for it now.
    pub fn is_computing(&self) -> bool {
        self.computing.load(Ordering::Relaxed) > 0
    }

    /// Closes the statement's lane when it ends, to free the memory its threads cache.
    pub fn holds_much(&self) {
        self.held_much.store(true, Ordering::Relaxed);
    }

    /// The memory in which it counts, if it has begun to.
    pub(super) fn memory<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref()?.upgrade()?.downcast().ok()
    }

    /// Sets the memory in which the statement counts from now on.
    pub(super) fn counts_in<T: Any + Send + Sync>(&self, memory: &Arc<T>) {
        let own: Weak<T> = Arc::downgrade(memory);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
    }

    /// Fails once the statement was stopped.
    pub fn check(&self) -> Result<(), SqlError> {
        if self.is_over() { Err(self.stopped()) } else { Ok(()) }
    }

    /// Resolves when the statement is stopped and is not committing.
    pub async fn over(&self) {
        // The sender lives as long as `self`.
        drop(self.standing.subscribe().wait_for(RunState::is_over).await);
    }

    /// The error for the client of a stopped statement.
    pub fn stopped(&self) -> SqlError {
        self.standing.borrow().stop.unwrap_or(Stop::UserRequest).error()
    }

    /// Runs `work`; fails if the statement is stopped first.
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

    /// Like [`Self::until_over`], for work that runs in a task which is not the statement's.
    pub async fn inline<T>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        CURRENT.scope(Context::of(Arc::clone(self)), self.until_over(work)).await
    }

    /// Marks the statement as committing unless it was stopped. From then on it is not stopped.
    fn begin_commit(&self) -> bool {
        self.change(|standing| standing.commits = standing.commits || standing.stop.is_none());
        self.standing.borrow().commits
    }

    fn commit_refused(&self) {
        self.change(|standing| standing.commits = false);
    }

    fn change(&self, change: impl FnOnce(&mut RunState)) {
        self.standing.send_modify(|standing| {
            change(standing);
            self.over.store(standing.is_over(), Ordering::Relaxed);
        });
    }
}

/// Runs `commit`, during and after which the statement is not stopped; a failed commit makes it stoppable
/// again. If the statement was stopped before, `commit` does not start and this never resolves.
pub async fn committing<T, E>(commit: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // Outside a statement nothing stops it.
    let running = context().map(|context| context.running);
    if let Some(running) = &running
        && !running.begin_commit()
    {
        // `until_over` watches the statement and drops this.
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

/// The context of a task of a statement.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub running: Arc<Running>,
    /// Set when the rows of this query are no longer wanted although its statement continues.
    pub unwanted: Option<Arc<AtomicBool>>,
    /// The lane the task runs on, if it has one.
    pub lease: Option<Arc<Lease>>,
}

tokio::task_local! {
    static CURRENT: Context;
}

thread_local! {
    /// When the task on this thread began its time slice.
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

/// The context of the current task, if it belongs to a statement.
pub fn context() -> Option<Context> {
    CURRENT.try_with(Clone::clone).ok()
}

/// The statement of the current task, if there is one.
pub fn current() -> Option<Arc<Running>> {
    CURRENT.try_with(|context| Arc::clone(&context.running)).ok()
}

/// Fails once the current statement was stopped. Cheap enough for inner loops.
pub fn check() -> Result<(), SqlError> {
    CURRENT.try_with(Context::check).unwrap_or(Ok(()))
}

/// Whether the current task has used up its time slice and should yield.
pub fn slice_is_over() -> bool {
    SLICE_BEGUN.get().is_some_and(|begun| begun.elapsed() >= SLICE)
}

/// Marks a thread as computing for a statement while it lives.
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
    // Field order matters: the work is dropped before the count goes down.
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
        // On shared threads, behaviour must not depend on the speed of the machine.
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

/// Counts a task while it lives.
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

/// Gives tasks that operators spawn the context of their statement.
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
