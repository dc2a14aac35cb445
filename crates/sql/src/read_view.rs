//! The read view: all metadata that planning sees.

use std::sync::Arc;

use tidemark_engine::worker::pins::Pin;
use tidemark_ledger::catalog::CatalogAt;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::params::Params;
use tidemark_ledger::state::{AcceptedLoss, State};
use tidemark_ledger::version::Version;

/// The database as of one epoch. Latest, `QUERY_EPOCH` and `AS OF` differ only in the epoch, and in whether
/// the state is the current one or that of a snapshot.
#[derive(Clone, Debug)]
pub struct ReadView {
    pub catalog: CatalogAt,
    pub version: Arc<Version>,
    pub epoch: Epoch,
    pub params: Arc<Params>,
    /// Accepted losses of acknowledged commits.
    pub accepted_losses: Vec<AcceptedLoss>,
    /// Keeps the files of the version as long as the view is in use.
    pub pin: Option<Arc<Pin>>,
}

impl ReadView {
    /// The view of `state` as of `epoch`.
    pub fn of(state: &State, epoch: Epoch) -> Self {
        Self {
            catalog: state.catalog.at(epoch),
            version: Arc::clone(&state.version),
            epoch,
            params: Arc::clone(&state.params),
            accepted_losses: state.accepted_losses(),
            pin: None,
        }
    }

    /// The view of `state` as of its newest epoch.
    pub fn latest(state: &State) -> Self {
        Self::of(state, state.version.max_committed_epoch)
    }
}
