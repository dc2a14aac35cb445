//! The read view: all that planning ever sees of the metadata.

use std::sync::Arc;

use tidemark_engine::worker::pins::Pin;
use tidemark_ledger::catalog::CatalogAt;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::params::Params;
use tidemark_ledger::state::{AcceptedLoss, State};
use tidemark_ledger::version::Version;

/// The database as one epoch sees it. Latest, `QUERY_EPOCH` and `AS OF` differ only in the epoch,
/// and in whether the state is the running one or that of a snapshot.
#[derive(Clone, Debug)]
pub struct ReadView {
    pub catalog: CatalogAt,
    pub version: Arc<Version>,
    pub epoch: Epoch,
    pub params: Arc<Params>,
    /// Losses of acknowledged commits that were accepted.
    pub accepted_losses: Vec<AcceptedLoss>,
    /// Keeps the files of the version while somebody has the view.
    pub pin: Option<Arc<Pin>>,
}

impl ReadView {
    /// The view of `state` from `epoch`.
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

    /// The view of `state` from its newest epoch.
    pub fn latest(state: &State) -> Self {
        Self::of(state, state.version.max_committed_epoch)
    }
}
