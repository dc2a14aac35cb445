//! The statement a connection runs, and how it is stopped: by psql's Ctrl-C, a timeout, or a lost client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::{Running, Stop};

/// Longer than any timeout.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Holds the current or most recent statement of a connection.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: Arc<Running>,
    deadline: Option<Instant>,
    client_is_gone: bool,
}

impl State {
    fn is_out_of_time(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

impl Slot {
    /// Begins a statement and starts its timer.
    pub fn begin(&self, timeout: Option<Duration>) -> Arc<Running> {
        let running = Arc::default();
        self.start_timer(timeout);
        self.resume(&running);
        running
    }

    /// Starts the timer of the current statement. A connection runs one statement at a time.
    pub fn start_timer(&self, timeout: Option<Duration>) {
        self.lock().deadline = timeout.map(|timeout| Instant::now() + timeout);
    }

    /// Makes `running` the current statement: a suspended one may continue after others began.
    pub fn resume(&self, running: &Arc<Running>) {
        let mut state = self.lock();
        if !Arc::ptr_eq(&state.running, running) {
            state.running = Arc::clone(running);
        }
        if state.client_is_gone {
            state.running.stop(Stop::ClientGone);
        }
    }

    /// Whether the time of the current statement is over.
    pub fn is_out_of_time(&self) -> bool {
        self.lock().is_out_of_time()
    }

    /// Resolves when the timeout of the statement that is current at the first poll expires.
    pub async fn out_of_time(&self) {
        let deadline = self.lock().deadline;
        tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + FAR)).await;
    }

    /// Stops the current statement.
    pub fn cancel(&self) {
        self.lock().running.stop(Stop::UserRequest);
    }

    /// Stops the current statement and all later ones: the client is gone.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.client_is_gone = true;
        state.running.stop(Stop::ClientGone);
    }

    /// Whether the current statement is stopped or out of time.
    pub fn is_overdue(&self) -> bool {
        let state = self.lock();
        state.running.is_over() || state.is_out_of_time()
    }

    /// Resolves when the current statement is stopped or out of time, with the error for its client.
    pub async fn overdue(&self) -> SqlError {
        let running = Arc::clone(&self.lock().running);
        tokio::select! {
            () = running.over() => {}
            () = self.out_of_time() => running.stop(Stop::Timeout),
        }
        running.stopped()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_goes_on_is_the_one_that_is_stopped() {
        let slot = Slot::default();
        let suspended = slot.begin(None);
        let other = slot.begin(None);
        slot.resume(&suspended);
        slot.cancel();
        assert!(suspended.is_over() && !other.is_over());
        slot.abandon();
        slot.resume(&other);
        assert!(other.is_over(), "the client is gone");
    }
}
