//! What a connection runs, and how others stop it: psql's Ctrl-C, a timeout, the end of the client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use crate::frontend::error::SqlError;
use crate::frontend::query_runtime::{Running, Stop};

/// Further away than any deadline.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Where a connection keeps what it runs, or ran last.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: Arc<Running>,
    deadline: Option<Instant>,
    client_is_gone: bool,
}

impl Slot {
    /// Limits for the statement that begins now.
    pub fn begin(&self, timeout: Option<Duration>) -> Limits {
        let mut state = self.lock();
        state.running = Arc::default();
        state.deadline = timeout.map(|timeout| Instant::now() + timeout);
        if state.client_is_gone {
            state.running.stop(Stop::ClientGone);
        }
        Limits::new(Arc::clone(&state.running), timeout)
    }

    /// Stops what runs.
    pub fn cancel(&self) {
        self.lock().running.stop(Stop::UserRequest);
    }

    /// Stops what runs, and what comes: the client is not there to see it.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.client_is_gone = true;
        state.running.stop(Stop::ClientGone);
    }

    /// Whether what began last was to stop already.
    pub fn is_overdue(&self) -> bool {
        let state = self.lock();
        state.running.is_over() || state.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Resolves when what began last is to stop, with what its client is told.
    pub async fn overdue(&self) -> SqlError {
        let (running, deadline) = {
            let state = self.lock();
            (Arc::clone(&state.running), state.deadline)
        };
        let until = deadline.unwrap_or_else(|| Instant::now() + FAR);
        tokio::select! {
            () = running.over() => {}
            () = tokio::time::sleep_until(until) => running.stop(Stop::Timeout),
        }
        running.stopped()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
