//! What is true: time and the law, the catalog, which rows are in which files at which epoch, the metadata and
//! where it is kept, snapshots of all that. Knows no query engine, only Arrow and Parquet.
//!
//! *Life of a write.* [`tidemark_engine::write`] sorts a stream of rows by key and stages it as immutable
//! Parquet files ([`sst`]). The meta role commits their names, and the positions of rows that die, as
//! one [`version::VersionDelta`] with one epoch. No reader sees them before.
//!
//! *Life of a read.* [`version::Version::files_at`] lists the files of a table alive at an epoch, each
//! with its dead positions; [`tidemark_engine::scan`] scans them with DataFusion's own Parquet reader.
//!
//! *Invariants*, checked by [`version::Version::check`]: a file is born no later than the newest epoch and
//! dies no earlier than it is born; its row groups add up to its rows; its stamps are in order of
//! epoch, inside the file, and no row dies twice.

// Tasks, threads, time and chance, as the surroundings give them; in a simulation, as a seed does.
pub mod ambient;
// Time: epochs, lifetimes (the law), the clock.
pub mod epoch;
// Identifiers as types.
pub mod id;
// What a process counts about itself.
pub mod metrics;
// Where tests end the process, before and after writes.
pub mod crash_point;
// Schemas, tables, columns and views through all time.
pub mod catalog;
// `fs://`, `memory`: what a storage URL says, and how it is shown without its secrets.
pub mod storage_url;
// An object store opened from a URL: durable puts, compare-and-swap.
pub mod storage;
// Cluster parameters, as one table.
pub mod params;
// Every object path we write.
pub mod error;
pub mod layout;
// What is said of a data file whose bytes are not those that were written.
pub mod damage;
// Data files, their keys and schemas.
pub mod sst;
pub mod sst_ids;
// Which files hold which rows, at every epoch.
pub mod checkpoint;
pub mod version;
// Who may write to the data directory.
pub mod lease;
pub mod meta_error;
pub mod vacuum;
// The keys of the meta store.
pub mod keys;
// All metadata as one immutable value.
pub mod state;
// Where metadata is kept: memory, SQLite, etcd.
pub mod meta_store;
// Snapshots of the truth, and restoring them; needs no running server.
pub mod backup;
// Files of every format ever written, for tests.
#[cfg(any(test, feature = "testing"))]
pub mod fixtures;

pub use damage::DamagedFile;
