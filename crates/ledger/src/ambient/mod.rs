//! The runtime services that a process uses: tasks, threads, sleeping, unique names.
//!
//! In a simulation (`src/sim/`, tests only) all of them are determined by a seed: time is virtual, blocking
//! work runs in the task that awaits it, and a task ends with the process that spawned it. The meta role, the
//! versioned store and backups use the runtime only through this module, so that a run can be repeated.

#[cfg(any(test, feature = "testing"))]
pub mod simulated;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

/// Spawns a task of this process.
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    #[cfg(any(test, feature = "testing"))]
    if simulated::is_on() {
        return simulated::spawn(task);
    }
    tokio::spawn(task)
}

/// Sleeps for `time`.
pub async fn sleep(time: Duration) {
    #[cfg(any(test, feature = "testing"))]
    if simulated::is_on() {
        return simulated::sleep(time).await;
    }
    tokio::time::sleep(time).await;
}

/// A unique name: a random UUID.
pub fn uuid() -> Uuid {
    #[cfg(any(test, feature = "testing"))]
    if let Some(uuid) = simulated::uuid() {
        return uuid;
    }
    Uuid::new_v4()
}

/// Runs work that may block on a thread for blocking work. The result must be awaited.
pub fn blocking<T, W>(work: W) -> Blocking<T>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    #[cfg(any(test, feature = "testing"))]
    if simulated::is_on() {
        return Blocking::Here(Some(Box::new(work)));
    }
    Blocking::Thread(tokio::task::spawn_blocking(work))
}

/// Work that may block; see [`blocking`].
pub enum Blocking<T> {
    Thread(JoinHandle<T>),
    /// In a simulation: runs when it is awaited.
    #[cfg(any(test, feature = "testing"))]
    Here(Option<Box<dyn FnOnce() -> T + Send>>),
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Thread(thread) => Pin::new(thread).poll(context),
            #[cfg(any(test, feature = "testing"))]
            Self::Here(work) => Poll::Ready(Ok(work.take().expect("it is awaited once")())),
        }
    }
}

impl<T> std::fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blocking")
    }
}
