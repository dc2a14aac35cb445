//! Tidemark: a Postgres-wire SQL database on object storage that can always go back.
//!
//! The modules in reading order. Each depends only on those above it; `tests/tidy/` checks that.

// Shared by every command line: logging, the runtime, error reports.
pub mod cli;
// Process settings: flags and environment.
pub mod config;
// A server: starts and stops the roles of this process.
pub mod server;
// `risectl`: backup, listing, deletion, restore.
pub mod ctl;
// The demo: backup, time travel and restore on real data.
pub mod demo;
// Every decoder of bytes from outside, for tests that corrupt them.
#[cfg(any(test, fuzzing))]
pub mod untrusted;
// Test support: a simulation of the whole cluster in one thread, on virtual time and faulty stores.
#[cfg(test)]
mod sim;
