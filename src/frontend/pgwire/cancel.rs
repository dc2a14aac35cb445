//! Cancelling what another connection runs: psql's Ctrl-C.
//!
//! pgwire's own cancellation ends with the planning of a query; ours is also heard while rows flow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pgwire::api::cancel::CancelHandler;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;

use crate::frontend::query_runtime::{Running, Stop};

/// Process id and secret, the latter as bytes: newer clients send four of them as such.
type Key = (i32, Vec<u8>);

fn key(pid: i32, secret: &SecretKey) -> Key {
    let secret = match secret {
        SecretKey::I32(number) => number.to_be_bytes().to_vec(),
        SecretKey::Bytes(bytes) => bytes.to_vec(),
    };
    (pid, secret)
}

/// The running statement of each connection, by the key its client was given.
#[derive(Debug, Default)]
pub struct Cancellations(Mutex<HashMap<Key, Arc<Slot>>>);

/// Where a connection keeps what it runs, or ran last.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: Arc<Running>,
    client_is_gone: bool,
}

impl Slot {
    /// Puts a new statement there.
    pub fn begin(&self) -> Arc<Running> {
        let mut state = self.lock();
        state.running = Arc::default();
        if state.client_is_gone {
            state.running.stop(Stop::ClientGone);
        }
        Arc::clone(&state.running)
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancellations {
    /// Lets requests with this key cancel what is in the slot.
    pub fn register(&self, pid: i32, secret: &SecretKey, slot: &Arc<Slot>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key(pid, secret), Arc::clone(slot));
    }

    pub fn forget(&self, pid: i32, secret: &SecretKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(pid, secret));
    }
}

#[async_trait]
impl CancelHandler for Cancellations {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A wrong key is not answered, as in PostgreSQL.
        if let Some(slot) = known.get(&key(request.pid, &request.secret_key)) {
            slot.cancel();
        }
    }
}
