//! The single writer of the truth.
//!
//! A command is validated, becomes a [`state::Change`], is persisted in one transaction of the
//! [`store::MetaStore`], and only then becomes the new [`state::State`] that everybody reads.

mod backup;
pub mod command;
pub mod compaction;
pub mod error;
#[cfg(test)]
mod faults;
pub mod keys;
pub mod maintenance;
pub mod manager;
mod misdated;
mod node;
mod places;
mod repair;
mod scrub;
pub mod state;
pub mod store;
pub mod workers;

pub use node::MetaNode;
pub use repair::Repaired;
