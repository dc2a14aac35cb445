//! A directory in a storage, as configured.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Storage, StorageError};
use crate::storage_url::{StorageUrl, is_same_location, mask, without_hummock};

/// A storage URL and a directory in it, as a user wrote them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StorageLocation {
    pub url: String,
    pub directory: String,
}

impl StorageLocation {
    pub fn new(url: impl Into<String>, directory: impl Into<String>) -> Self {
        Self { url: url.into(), directory: directory.into() }
    }

    /// Whether both name the same directory, ignoring credentials.
    pub fn is_same_location(&self, other: &Self) -> bool {
        let [own, theirs] = [self, other].map(|location| location.directory.trim_matches('/'));
        own == theirs && is_same_location(&self.url, &other.url)
    }

    /// Opens the storage; creates its root directory if it is missing.
    pub fn open(&self) -> Result<Storage, StorageError> {
        Storage::open(&self.parsed()?)
    }

    /// Opens the storage without creating anything.
    pub fn open_existing(&self) -> Result<Storage, StorageError> {
        Storage::open_existing(&self.parsed()?)
    }

    fn parsed(&self) -> Result<StorageUrl, StorageError> {
        Ok(StorageUrl::parse(without_hummock(self.url.trim()))?)
    }
}

impl fmt::Debug for StorageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL without its credentials, and the directory.
impl fmt::Display for StorageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = mask(&self.url);
        write!(f, "{}/{}", url.trim_end_matches('/'), self.directory.trim_matches('/'))
    }
}
