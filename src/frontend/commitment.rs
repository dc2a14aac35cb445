//! A statement that has begun to commit is not stopped any more: its client would be told that it was, and
//! what it wrote would stay all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tokio::task_local! {
    static COMMITTING: Arc<AtomicBool>;
}

/// Does `commit`, during and after which [`Commitment::is_made`]; a commit that was refused leaves the
/// statement as it was.
pub async fn of<T, E>(commit: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // Beside statements, as where a COPY ends, nobody asks.
    let note =
        |made| COMMITTING.try_with(|it| it.store(made, Ordering::Relaxed)).unwrap_or_default();
    note(true);
    let outcome = commit.await;
    if outcome.is_err() {
        note(false);
    }
    outcome
}

/// Whether a piece of work has begun to commit.
#[derive(Debug, Default)]
pub struct Commitment(Arc<AtomicBool>);

impl Commitment {
    /// The work, watched.
    pub fn watch<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        COMMITTING.scope(Arc::clone(&self.0), work)
    }

    pub fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
