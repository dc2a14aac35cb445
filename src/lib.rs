//! Tidemark: a Postgres-wire SQL database on object storage that can always go back.
//!
//! The code map, in reading order. Each module knows only those above it; `tests/tidy.rs` guards that.

// Tasks, threads, time and chance, as the surroundings give them; in a simulation, as a seed does.
pub mod ambient;
// Snapshots of the truth, and restoring them; needs no running server.
pub mod backup;
// Schemas, tables, columns and views through all time.
pub mod catalog;
// What every command line shares: logging, the runtime, how a failure is told.
pub mod cli;
// The compactor role.
pub mod compactor;
// Process settings: flags and environment.
pub mod config;
// Where tests end the process, before and after writes.
pub mod crash_point;
// `risectl`: backup, listing, deletion, restore.
pub mod ctl;
// The main job, told on real data.
pub mod demo;
// Time: epochs, lifetimes (the law), the clock.
pub mod epoch;
#[cfg(test)]
mod fixtures;
// SQL over the PostgreSQL wire.
pub mod frontend;
// The versioned store: files, stamps, versions, scans.
pub mod hummock;
// What a process counts about itself.
pub mod metrics;
// Identifiers as types.
pub mod id;
// Every object path we write.
pub mod layout;
// The single writer of the truth.
pub mod meta;
// Cluster parameters, as one table.
pub mod params;
// gRPC between the roles.
pub mod rpc;
// A server: the roles of this process, started and stopped.
pub mod server;
// The whole cluster in one thread, on virtual time and faulty stores.
#[cfg(test)]
mod sim;
// An object store opened from a URL: durable puts, compare-and-swap.
pub mod storage;
// Every reader of bytes from outside, for tests that damage them.
#[cfg(any(test, fuzzing))]
pub mod untrusted;
// `fs://`, `memory`: what a storage URL says, and how it is shown without its secrets.
pub mod storage_url;
