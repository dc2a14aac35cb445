//! The error of a storage operation.

use std::error::Error;
use std::io;

use super::capability::Capability;
use crate::storage_url::StorageUrlError;

/// Why a storage operation failed. Messages name the object by its full URL, with credentials masked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{path} does not exist")]
    NotFound { path: String },
    #[error("{path} already exists")]
    AlreadyExists { path: String },
    /// A compare-and-swap lost to another write.
    #[error("{path} was changed by somebody else")]
    Changed { path: String },
    #[error("{path} may only be read here")]
    ReadOnly { path: String },
    /// The store accepted the request but did not honour it.
    #[error("the store does not honour {capability}: {path}")]
    NotHonoured { capability: Capability, path: String },
    /// Its bytes are not those that were written.
    #[error("{path} does not match its checksum or size")]
    ChecksumMismatch { path: String },
    #[error("could not {action} {path}")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(transparent)]
    Url(#[from] StorageUrlError),
}

impl StorageError {
    pub(crate) fn io(
        action: &'static str,
        path: String,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Io { action, path, source: source.into() }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            full if full.is_full() => "free space there, then try again",
            Self::ChecksumMismatch { .. } => {
                "it was changed by something else, or the storage lost it: bring a good copy of it back"
            }
            Self::NotFound { .. } => "see whether it is the right place, and whether it is mounted",
            Self::Io { .. } => {
                "see whether the storage is there and answers, and whether the credentials are right"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the cause is a full storage or an exceeded quota.
    pub fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}
