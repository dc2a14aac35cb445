//! The versioned store: which rows are in which files, at which epoch. Knows nothing of SQL text,
//! sessions or RPC.
//!
//! *Life of a write.* [`write::write_rows`] sorts a stream of rows by key and stages it as immutable
//! Parquet files ([`sst`]). The meta role commits their names, and the positions of rows that die, as
//! one [`version::VersionDelta`] with one epoch. Until then nobody sees them.
//!
//! *Life of a read.* [`version::Version::files_at`] lists the files of a table alive at an epoch, each
//! with its dead positions; [`scan::SstTable`] scans them with DataFusion's own Parquet reader.
//!
//! *Invariants*, checked by [`version::Version::check`]: a file is born no later than the newest epoch and
//! dies no earlier than it is born; its row groups add up to its rows; its stamps are in order of
//! epoch, inside the file, and no row dies twice.

pub mod checkpoint;
pub mod compaction;
mod damage;
pub mod lease;
pub mod scan;
pub mod sst;
mod sst_ids;
pub mod vacuum;
pub mod version;
pub mod write;

pub use damage::DamagedFile;
pub use sst_ids::{SstIdPool, Staging, Unfinished};

use datafusion::parquet::errors::ParquetError;

use crate::storage::StorageError;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HummockError {
    /// What was read breaks a rule of the format or of the version.
    #[error("the data is corrupt: {0}")]
    Corrupt(String),
    #[error("the {what} is of format {found}, this build reads format {read}")]
    Format { what: &'static str, found: u32, read: u32 },
    /// A stream ended or failed while it was encoded or decoded.
    #[error("could not {action}")]
    Stream {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The rows could not be produced, sorted or encoded.
    #[error(transparent)]
    Rows(#[from] datafusion::error::DataFusionError),
    #[error("could not write a data file")]
    Parquet(#[source] ParquetError),
    #[error("could not encode rows")]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
    #[error("could not reserve a file id")]
    Ids(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<ParquetError> for HummockError {
    /// What the storage said to the writer passes through.
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => match source.downcast::<StorageError>() {
                Ok(storage) => Self::Storage(*storage),
                Err(other) => Self::Parquet(ParquetError::External(other)),
            },
            other => Self::Parquet(other),
        }
    }
}
