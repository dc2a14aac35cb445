//! Cancelling what another connection runs: psql's Ctrl-C.
//!
//! pgwire's own cancellation ends with the planning of a query; ours is also heard while rows flow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pgwire::api::cancel::CancelHandler;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

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
pub struct Cancellations(Mutex<HashMap<Key, Arc<Mutex<CancellationToken>>>>);

impl Cancellations {
    /// The place where the connection with this key keeps the token of its running statement.
    pub fn register(&self, pid: i32, secret: &SecretKey) -> Arc<Mutex<CancellationToken>> {
        let slot = Arc::new(Mutex::new(CancellationToken::new()));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key(pid, secret), Arc::clone(&slot));
        slot
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
            slot.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        }
    }
}
