//! What a connection runs, and how others stop it: psql's Ctrl-C, a timeout, the end of the client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;
use crate::frontend::error::SqlError;
use crate::frontend::query_runtime::{Running, Stop};

/// Where a connection keeps what it runs, or ran last.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: Arc<Running>,
    /// When it is out of time, whether its client reads the answer or not.
    deadline: Option<Instant>,
    client_is_gone: bool,
}

impl Slot {
    /// Puts a new statement there. Returns its limits.
    pub fn begin(&self, timeout: Option<Duration>) -> Limits {
        let mut state = self.lock();
        state.running = Arc::default();
        state.deadline = timeout.map(|timeout| Instant::now() + timeout);
        if state.client_is_gone {
            state.running.stop(Stop::ClientGone);
        }
        Limits::new(Arc::clone(&state.running), timeout)
    }

    /// Stops what is there.
    pub fn cancel(&self) {
        self.lock().running.stop(Stop::UserRequest);
    }

    /// Stops what is there, and what comes: the client is not there to see it.
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

    /// Resolves when what began last is stopped, and says why.
    pub async fn stopped(&self) -> SqlError {
        let running = Arc::clone(&self.lock().running);
        running.over().await;
        running.stopped()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
