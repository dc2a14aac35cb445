//! Tidemark: a Postgres-wire SQL database on object storage that can always go back.
//!
//! The code map, in reading order. Each module knows only those above it; `tests/tidy/` guards that.

// What every command line shares: logging, the runtime, how a failure is told.
pub mod cli;
// Process settings: flags and environment.
pub mod config;
// A server: the roles of this process, started and stopped.
pub mod server;
// `risectl`: backup, listing, deletion, restore.
pub mod ctl;
// The main job, told on real data.
pub mod demo;
// Every reader of bytes from outside, for tests that damage them.
#[cfg(any(test, fuzzing))]
pub mod untrusted;
// The whole cluster in one thread, on virtual time and faulty stores.
#[cfg(test)]
mod sim;
