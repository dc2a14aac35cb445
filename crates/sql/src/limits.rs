//! When a statement has to stop: cancelled, out of time, or its client gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::cancel::Slot;
use tidemark_pg::error::SqlError;
use tidemark_pg::query_runtime::{Running, Stop};

/// How long a client waits for a stopped statement to end. Most end at once.
const GRACE: Duration = Duration::from_millis(100);

/// A running statement and the timer of its connection.
#[derive(Clone, Debug)]
pub struct Limits {
    pub running: Arc<Running>,
    slot: Arc<Slot>,
}

impl Limits {
    /// Begins a statement.
    pub fn begin(slot: Arc<Slot>, timeout: Option<Duration>) -> Self {
        Self { running: slot.begin(timeout), slot }
    }

    /// Makes the statement the current one of its connection again, after it was suspended.
    pub fn resume(&self) {
        self.slot.resume(&self.running);
    }

    /// Fails once the statement has to stop. For code that computes and sends without waiting.
    pub fn check(&self) -> Result<(), SqlError> {
        if self.slot.is_out_of_time() {
            self.running.stop(Stop::Timeout);
        }
        self.running.check()
    }

    /// Waits for a part of the statement, and stops it at its timeout. Work that does not end after the stop
    /// is left running.
    pub async fn around<T>(
        &self,
        work: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            () = self.running.over() => {}
            () = self.slot.out_of_time() => self.running.stop(Stop::Timeout),
        }
        tokio::select! {
            biased;
            outcome = &mut work => outcome,
            error = self.given_up() => Err(error),
        }
    }

    /// Like [`Self::around`] for a task; its panic becomes the caller's.
    pub async fn around_task<T>(
        &self,
        task: JoinHandle<Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        let joined = async {
            match task.await {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(SqlError::internal("the server is stopping")),
            }
        };
        self.around(joined).await
    }

    /// Resolves some time after the statement was stopped, unless it is committing.
    async fn given_up(&self) -> SqlError {
        self.running.over().await;
        tokio::time::sleep(GRACE).await;
        self.running.over().await;
        self.running.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_pg::query_runtime::committing;
    use tidemark_pg::sqlstate::SqlState;

    fn limits() -> Limits {
        Limits::begin(Arc::default(), Some(Duration::from_millis(20)))
    }

    async fn slow(outcome: Result<u32, SqlError>) -> Result<u32, SqlError> {
        tokio::time::sleep(Duration::from_millis(60)).await;
        outcome
    }

    async fn run(
        limits: Limits,
        work: impl Future<Output = Result<u32, SqlError>>,
    ) -> Result<u32, SqlError> {
        limits.around(limits.running.inline(work)).await
    }

    fn refused() -> SqlError {
        SqlError::internal("refused")
    }

    #[tokio::test]
    async fn what_commits_is_neither_cancelled_nor_out_of_time() {
        let stopped = run(limits(), slow(Ok(1))).await;
        assert_eq!(stopped.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
        assert_eq!(run(limits(), committing(slow(Ok(2)))).await.unwrap(), 2);
        let outcome = run(limits(), committing(slow(Err(refused())))).await;
        assert_eq!(outcome.unwrap_err().sqlstate, refused().sqlstate);
        let cancelled = limits();
        cancelled.running.stop(Stop::UserRequest);
        let outcome = run(cancelled, committing(slow(Ok(3)))).await;
        assert_eq!(outcome.unwrap_err().sqlstate, SqlState::QUERY_CANCELED, "it had not begun");
        // A statement that retries after a refused commit may be stopped until it commits again.
        let again = async {
            committing(async { Err::<u32, _>(refused()) }).await.unwrap_err();
            slow(Ok(4)).await
        };
        assert_eq!(run(limits(), again).await.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
    }

    #[tokio::test]
    async fn a_statement_stopped_while_it_commits_ends_where_the_commit_is_refused() {
        let limits = limits();
        let twice = async {
            committing(slow(Err(refused()))).await.unwrap_err();
            committing(slow(Ok(5))).await
        };
        assert_eq!(run(limits, twice).await.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
    }

    #[tokio::test]
    async fn time_is_that_of_all_parts_of_a_statement() {
        let slot = Arc::<Slot>::default();
        let limits = Limits::begin(Arc::clone(&slot), Some(Duration::from_secs(3600)));
        assert_eq!(run(limits.clone(), async { Ok(1) }).await.unwrap(), 1);
        limits.check().unwrap();
        slot.start_timer(Some(Duration::ZERO));
        let endless = std::future::pending();
        let outcome = run(limits.clone(), endless).await;
        assert_eq!(outcome.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
        assert_eq!(limits.check().unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
    }

    #[tokio::test]
    async fn a_statement_that_goes_on_has_a_new_timer() {
        let slot = Arc::<Slot>::default();
        let suspended = Limits::begin(Arc::clone(&slot), Some(Duration::ZERO));
        slot.start_timer(Some(Duration::from_secs(3600)));
        suspended.check().unwrap();
        assert_eq!(run(suspended, async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_does_not_end_when_it_is_stopped_is_left_to_itself() {
        let limits = limits();
        let deaf = std::future::pending::<Result<u32, SqlError>>();
        let outcome = limits.around(deaf).await;
        assert_eq!(outcome.unwrap_err().sqlstate, SqlState::QUERY_CANCELED);
    }
}
