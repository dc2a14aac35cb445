//! What a connection runs, and how others stop it: psql's Ctrl-C, a timeout, the end of the client.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Limits;

/// Further away than any deadline.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Where a connection keeps what it runs, or ran last.
#[derive(Debug, Default)]
pub struct Slot {
    running: Mutex<Running>,
    client_is_gone: CancellationToken,
}

#[derive(Clone, Debug, Default)]
struct Running {
    cancel: CancellationToken,
    deadline: Option<Instant>,
}

impl Slot {
    /// Limits for the statement that begins now.
    pub fn begin(&self, timeout: Option<Duration>) -> Limits {
        let cancel = self.client_is_gone.child_token();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        *self.running() = Running { cancel: cancel.clone(), deadline };
        Limits { cancel, timeout }
    }

    /// Stops what runs.
    pub fn cancel(&self) {
        self.running().cancel.cancel();
    }

    /// Stops what runs, and what comes: the client is not there to see it.
    pub fn abandon(&self) {
        self.client_is_gone.cancel();
    }

    /// Whether what began last was to stop already.
    pub fn is_overdue(&self) -> bool {
        let running = self.running();
        running.cancel.is_cancelled() || running.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Resolves when what began last is to stop, and why.
    pub async fn overdue(&self) -> &'static str {
        let Running { cancel, deadline } = self.running().clone();
        let until = deadline.unwrap_or_else(|| Instant::now() + FAR);
        tokio::select! {
            () = cancel.cancelled() => "user request",
            () = tokio::time::sleep_until(until) => "statement timeout",
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
