//! The sessions of a server: lists them with their activity, and cancels their statements.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cancel::Slot;
use tidemark_ledger::epoch::{Clock as _, SystemClock};

/// Characters of a query that are shown.
const QUERY_CHARS_MAX: usize = 1024;

/// The current sessions by process id.
#[derive(Debug, Default)]
pub struct Sessions {
    newest_pid: AtomicI32,
    known: Mutex<BTreeMap<i32, Arc<SessionEntry>>>,
}

/// A session as other sessions see it.
#[derive(Debug)]
pub struct SessionEntry {
    /// Unique among the server's sessions.
    pub pid: i32,
    secret: Vec<u8>,
    pub peer: SocketAddr,
    pub started_ms: u64,
    slot: Arc<Slot>,
    doing: Mutex<Doing>,
}

/// The activity of a session.
#[derive(Clone, Debug)]
pub struct Doing {
    pub application: String,
    pub state: SessionState,
    pub state_since_ms: u64,
    /// When its transaction began, if there is one.
    pub transaction_since_ms: Option<u64>,
    /// The most recent query, and when it began.
    pub query: String,
    pub query_since_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Active,
    Idle,
    IdleInTransaction,
    IdleInFailedTransaction,
}

impl SessionState {
    /// The name in `pg_stat_activity`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::IdleInFailedTransaction => "idle in transaction (aborted)",
        }
    }

    fn in_transaction(self) -> bool {
        matches!(self, Self::IdleInTransaction | Self::IdleInFailedTransaction)
    }
}

/// Keeps a session listed while it lives.
#[derive(Debug)]
pub struct Registration {
    sessions: Arc<Sessions>,
    pub entry: Arc<SessionEntry>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.known().remove(&self.entry.pid);
    }
}

impl Sessions {
    /// Returns a process id that no session has.
    pub fn free_pid(&self) -> i32 {
        loop {
            let pid = self.newest_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if pid > 0 && !self.known().contains_key(&pid) {
                return pid;
            }
            self.newest_pid.fetch_max(0, Ordering::Relaxed);
        }
    }

    /// Adds a session to the list.
    pub fn register(
        self: &Arc<Self>,
        pid: i32,
        secret: Vec<u8>,
        peer: SocketAddr,
        application: &str,
        slot: Arc<Slot>,
    ) -> Registration {
        let now_ms = SystemClock.now_ms();
        let doing = Doing {
            application: application.to_owned(),
            state: SessionState::Idle,
            state_since_ms: now_ms,
            transaction_since_ms: None,
            query: String::new(),
            query_since_ms: None,
        };
        let doing = Mutex::new(doing);
        let started_ms = now_ms;
        let entry = Arc::new(SessionEntry { pid, secret, peer, started_ms, slot, doing });
        self.known().insert(pid, Arc::clone(&entry));
        Registration { sessions: Arc::clone(self), entry }
    }

    /// Cancels the statement of a session. A wrong secret is silently ignored, as in PostgreSQL.
    pub fn cancel(&self, pid: i32, secret: &[u8]) {
        let entry = self.known().get(&pid).cloned();
        if let Some(entry) = entry.filter(|entry| entry.secret == secret) {
            entry.slot.cancel();
        }
    }

    /// All sessions, by process id.
    pub fn all(&self) -> Vec<Arc<SessionEntry>> {
        self.known().values().cloned().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<SessionEntry>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionEntry {
    /// Its current activity.
    pub fn now(&self) -> Doing {
        self.doing().clone()
    }

    /// Marks it active: it starts to work on `query`, or on a message without one.
    pub fn is_active(&self, query: Option<&str>) {
        let now_ms = SystemClock.now_ms();
        let mut doing = self.doing();
        doing.enter(SessionState::Active, now_ms);
        if let Some(query) = query {
            doing.query = query.chars().take(QUERY_CHARS_MAX).collect();
            doing.query_since_ms = Some(now_ms);
        }
    }

    /// Marks it as waiting for its client.
    pub fn waits(&self, state: SessionState, application: &str) {
        let now_ms = SystemClock.now_ms();
        let mut doing = self.doing();
        doing.enter(state, now_ms);
        let since = doing.query_since_ms;
        let in_transaction = state.in_transaction();
        doing.transaction_since_ms =
            in_transaction.then(|| doing.transaction_since_ms.or(since).unwrap_or(now_ms));
        if doing.application != application {
            application.clone_into(&mut doing.application);
        }
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doing {
    fn enter(&mut self, state: SessionState, now_ms: u64) {
        if self.state != state {
            (self.state, self.state_since_ms) = (state, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(sessions: &Arc<Sessions>) -> Registration {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let pid = sessions.free_pid();
        sessions.register(pid, b"secret".to_vec(), peer, "", Arc::default())
    }

    #[test]
    fn process_ids_are_unique_and_positive() {
        let sessions = Arc::new(Sessions::default());
        let first = register(&sessions);
        let second = register(&sessions);
        assert_eq!((first.entry.pid, second.entry.pid), (1, 2));
        sessions.newest_pid.store(i32::MAX - 1, Ordering::Relaxed);
        assert_eq!(register(&sessions).entry.pid, i32::MAX);
        assert_eq!(register(&sessions).entry.pid, 3, "it goes round, past those in use");
        drop(first);
        assert_eq!(sessions.all().len(), 1, "the others are gone");
    }

    #[test]
    fn only_who_knows_the_secret_cancels() {
        let sessions = Arc::new(Sessions::default());
        let session = register(&sessions);
        let running = session.entry.slot.begin(None);
        sessions.cancel(session.entry.pid, b"guess");
        sessions.cancel(session.entry.pid + 1, b"secret");
        assert!(!running.is_over());
        sessions.cancel(session.entry.pid, b"secret");
        assert!(running.is_over());
    }
}
