//! Waiting for a store, but no longer than a limit.

use std::time::Duration;

/// What `work` comes to, or nothing when it takes longer than `limit`. Then it is given up; what was asked
/// of the store may be done all the same.
#[cfg(not(any(test, feature = "testing")))]
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// The same, where the store may say that the time has passed.
#[cfg(any(test, feature = "testing"))]
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    if crate::ambient::simulated::is_on() {
        return crate::ambient::simulated::within(limit, work).await;
    }
    let patience = Patience { limit, over: std::sync::Arc::default() };
    let over = std::sync::Arc::clone(&patience.over);
    let work = tokio::time::timeout(limit, PATIENCE.scope(patience, work));
    tokio::select! {
        biased;
        done = work => done.ok(),
        () = over.notified() => None,
    }
}

#[cfg(any(test, feature = "testing"))]
tokio::task_local! {
    static PATIENCE: Patience;
}

/// How long a store that is asked now is waited for. A store of a test ends it without waiting.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug)]
pub struct Patience {
    pub limit: Duration,
    over: std::sync::Arc<tokio::sync::Notify>,
}

#[cfg(any(test, feature = "testing"))]
impl Patience {
    /// That of whoever asks, if it has an end.
    pub fn current() -> Option<Self> {
        PATIENCE.try_with(Self::clone).ok()
    }

    /// Its end has come.
    pub fn end(&self) {
        self.over.notify_one();
    }
}
