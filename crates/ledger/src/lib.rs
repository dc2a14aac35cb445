//! The durable state of a cluster: epochs and lifetimes, the catalog, data files and versions, the metadata
//! and its stores, and snapshots of all of it. Uses Arrow and Parquet, but no query engine.
//!
//! *Life of a write.* `tidemark_engine::write` sorts a stream of rows by key and stages it as immutable
//! Parquet files ([`sst`]). The meta role commits their names, and the positions of rows that die, as one
//! [`version::VersionDelta`] with one epoch. No reader sees the files before that commit.
//!
//! *Life of a read.* [`version::Version::files_at`] lists the files of a table alive at an epoch, each
//! with its dead positions; `tidemark_engine::scan` scans them with DataFusion's own Parquet reader.
//!
//! *Files and tables.* A [`sst::SstInfo`] says what is in a data file; a [`version::FileEntry`] says that a
//! table has it, since when and without which rows. Tables may share a file.
//!
//! *Invariants*, checked by [`version::Version::check`]: a file is born in a table no later than the newest
//! epoch and dies there no earlier than it is born; its row groups add up to its rows; its stamps are in
//! order of epoch, inside the file, and no row dies twice; an id means the same file in every table.

// Tasks, threads, sleeping and unique names: from the runtime or, in a simulation, from a seed.
pub mod ambient;
// Time: epochs, lifetimes (the law), the clock.
pub mod epoch;
// Typed identifiers.
pub mod id;
// Prometheus metrics of the process.
pub mod metrics;
// Crash points: where tests kill the process, before and after writes.
pub mod crash_point;
// Schemas, tables, columns and views through all time.
pub mod catalog;
// Storage URLs (`fs://`, `s3://`, `memory`): parsing, and masking of credentials.
pub mod storage_url;
// An object store opened from a URL: durable puts, compare-and-swap.
pub mod storage;
// Cluster parameters, as one table.
pub mod params;
// The error of the versioned store.
pub mod error;
// Every object path we write.
pub mod layout;
// The error for a damaged or missing data file.
pub mod damage;
// Data files, their keys and schemas.
pub mod sst;
pub mod sst_ids;
// Which files hold which rows, at every epoch.
pub mod checkpoint;
pub mod version;
// The lease: which server may write to the data directory.
pub mod lease;
pub mod meta_error;
pub mod vacuum;
// The keys of the meta store.
pub mod keys;
// All metadata as one immutable value.
pub mod state;
// Stores of the metadata: memory, SQLite, etcd.
pub mod meta_store;
// Meta snapshots and restoring them; needs no running server.
pub mod backup;
// Files of every format ever written, for tests.
#[cfg(any(test, feature = "testing"))]
pub mod fixtures;

pub use damage::DamagedFile;
