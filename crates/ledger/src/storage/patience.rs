//! Timeouts for requests to a store.

use std::time::Duration;

/// Runs `work` with a timeout; `None` once `limit` has passed. The work is dropped then, but the store may
/// still execute the request.
#[cfg(not(any(test, feature = "testing")))]
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// The same, where the store may end the timeout early.
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

/// The timeout of the current request. The store of a test can end it without waiting.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug)]
pub struct Patience {
    pub limit: Duration,
    over: std::sync::Arc<tokio::sync::Notify>,
}

#[cfg(any(test, feature = "testing"))]
impl Patience {
    /// The timeout of the current task, if it has one.
    pub fn current() -> Option<Self> {
        PATIENCE.try_with(Self::clone).ok()
    }

    /// Ends the timeout now.
    pub fn end(&self) {
        self.over.notify_one();
    }
}
