//! The meta role: the single writer of the metadata.
//!
//! A command is validated and becomes a [`tidemark_ledger::state::Change`], which is persisted in one
//! transaction of the [`tidemark_ledger::meta_store::MetaStore`]. Only then it becomes the new
//! [`tidemark_ledger::state::State`] that everybody reads.

mod backup;
mod backup_error;
mod backup_locations;
mod claims;
pub mod command;
pub mod compaction;
#[cfg(test)]
mod faults;
mod holding;
mod known_snapshots;
pub mod maintenance;
pub mod manager;
mod misdated;
mod node;
mod repair;
mod scrub;
pub mod settings;
pub mod workers;

pub use node::MetaNode;
pub use repair::Repaired;
