//! Tidemark: a Postgres-wire SQL database on object storage that can always go back.
//!
//! The code map, in reading order. Each module knows only those above it; `tests/tidy.rs` guards that.

/// Time: epochs, lifetimes (the law), the clock.
pub mod epoch;
/// Identifiers as types.
pub mod id;
/// Schemas, tables, columns and views through all time.
pub mod catalog;
/// Cluster parameters, as one table.
pub mod params;
/// Every object path we write.
pub mod layout;
/// `fs://`, `memory`: what a storage URL says, and how it is shown without its secrets.
pub mod storage_url;
/// An object store opened from a URL: durable puts, compare-and-swap.
pub mod storage;
/// The versioned store: files, stamps, versions, scans.
pub mod hummock;
/// The single writer of the truth.
pub mod meta;
/// Snapshots of the truth, and restoring them; needs no running server.
pub mod backup;
/// What every command line shares: logging, the runtime, how a failure is told.
pub mod cli;
/// Process settings: flags and environment.
pub mod config;
/// SQL over the PostgreSQL wire.
pub mod frontend;
/// gRPC between the roles.
pub mod rpc;
/// The standalone server: all roles in one process.
pub mod server;
/// `risectl`: backup, listing, deletion, restore.
pub mod ctl;
/// The main job, told on real data.
pub mod demo;
#[cfg(test)]
mod fixtures;
