//! Copies an object, within a storage or to another one, and verifies the copy.

use std::io::{self, Write as _};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use sha2::{Digest as _, Sha256};

use super::checksum::{Checksum, Summed};
use super::{Storage, StorageError, Writer};

/// Bytes per read.
const PIECE_BYTES: u64 = 4 << 20;

/// The size and checksum that an object must have.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub size_bytes: u64,
    pub sha256: Checksum,
}

impl Storage {
    /// Copies the object `from` to `to` in `target`, which must not exist. Within one storage that is not a
    /// file system the store copies the bytes and the copy is read back; otherwise they pass through this
    /// process. Either way the checksum is verified.
    ///
    /// # Errors
    /// [`StorageError::ChecksumMismatch`] when the object is not what was expected; then there is no copy.
    pub async fn copy_to(
        &self,
        from: &Path,
        target: &Self,
        to: &Path,
        expected: Expected,
    ) -> Result<(), StorageError> {
        // The copy operation of a file system makes a link, and damage to the file would be damage to the
        // copy.
        if self.local.is_none() && self.url.is_same_location(&target.url) {
            return target.copy_within(from, to, expected).await;
        }
        self.pass_on(from, target.writer(to).await?, expected).await
    }

    /// Copies the object `from` over `to` in `target`, which may be a damaged object. The copy is verified
    /// before it gets the name.
    ///
    /// # Errors
    /// [`StorageError::ChecksumMismatch`] when the object is not what was expected; then nothing has changed.
    pub async fn copy_over(
        &self,
        from: &Path,
        target: &Self,
        to: &Path,
        expected: Expected,
    ) -> Result<(), StorageError> {
        self.pass_on(from, target.writer_to(to, true).await?, expected).await
    }

    async fn pass_on(
        &self,
        from: &Path,
        mut writer: Writer,
        expected: Expected,
    ) -> Result<(), StorageError> {
        let mut summed = Summed::new(io::sink());
        let mut start = 0;
        while start < expected.size_bytes {
            let end = expected.size_bytes.min(start + PIECE_BYTES);
            let piece = match self.get_range(from, start..end).await {
                Ok(piece) => piece,
                Err(error) => return Err(self.explained(from, expected, error).await),
            };
            summed.write_all(&piece).map_err(|e| StorageError::io("sum", self.name_of(from), e))?;
            writer.write(piece).await?;
            start = end;
        }
        match summed.finish().2 == expected.sha256.to_string() {
            true => writer.finish().await,
            false => Err(StorageError::ChecksumMismatch { path: self.name_of(from) }),
        }
    }

    /// Explains a failed read of a piece of an object: the object may be too short.
    async fn explained(
        &self,
        path: &Path,
        expected: Expected,
        error: StorageError,
    ) -> StorageError {
        match self.size(path).await {
            Ok(found) if found < expected.size_bytes => {
                StorageError::ChecksumMismatch { path: self.name_of(path) }
            }
            _ => error,
        }
    }

    async fn copy_within(
        &self,
        from: &Path,
        to: &Path,
        expected: Expected,
    ) -> Result<(), StorageError> {
        self.check_writable(to)?;
        self.store.copy(from, to).await.map_err(|e| self.error("copy", from, e))?;
        if self.is_whole(to, expected).await? {
            return Ok(());
        }
        self.delete(to).await?;
        Err(StorageError::ChecksumMismatch { path: self.name_of(from) })
    }

    /// Whether an object has the expected size and checksum. Reads all of it.
    pub async fn is_whole(&self, path: &Path, expected: Expected) -> Result<bool, StorageError> {
        if self.size(path).await? != expected.size_bytes {
            return Ok(false);
        }
        let starts = (0..expected.size_bytes.div_ceil(PIECE_BYTES)).map(|n| n * PIECE_BYTES);
        let mut sha256 = Sha256::default();
        for start in starts {
            let end = expected.size_bytes.min(start + PIECE_BYTES);
            sha256.update(&self.get_range(path, start..end).await?);
        }
        Ok(Checksum::from(<[u8; 32]>::from(sha256.finalize())) == expected.sha256)
    }
}
