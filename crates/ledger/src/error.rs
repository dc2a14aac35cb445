//! Why the versioned store could not be read or written.

use parquet::errors::ParquetError;

use crate::storage::StorageError;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HummockError {
    /// The data read violates a rule of its format or an invariant of the version.
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
    /// The rows could not be produced or sorted: the error of who produces them.
    #[error(transparent)]
    Rows(Box<dyn std::error::Error + Send + Sync>),
    #[error("could not write a data file")]
    Parquet(#[source] ParquetError),
    #[error("could not encode rows")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("could not reserve a file id")]
    Ids(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<ParquetError> for HummockError {
    /// Unwraps a storage error that came through the Parquet writer.
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
