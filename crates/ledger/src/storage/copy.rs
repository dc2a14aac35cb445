//! Copying an object, within a storage or from one to another, and proving that the copy is whole.

use std::io::{self, Write as _};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use sha2::{Digest as _, Sha256};

use super::checksum::{Checksum, Summed};
use super::{Storage, StorageError, Writer};

/// What is read at once.
const PIECE_BYTES: u64 = 4 << 20;

/// What an object must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub size_bytes: u64,
    pub sha256: Checksum,
}

impl Storage {
    /// Copies the object `from` to `to` in `target`, where nothing of that name may be. Within one
    /// remote storage the bytes stay there and the copy is read, else they pass through here. Either way the
    /// checksum is proven.
    ///
    /// # Errors
    /// [`StorageError::Mangled`] when the object is not what was expected; then there is no copy.
    pub async fn copy_to(
        &self,
        from: &Path,
        target: &Self,
        to: &Path,
        expected: Expected,
    ) -> Result<(), StorageError> {
        // A file system's own copy is a link, which shares the fate of the file.
        if self.local.is_none() && self.url.is_same_place(&target.url) {
            return target.copy_within(from, to, expected).await;
        }
        self.pass_on(from, target.writer(to).await?, expected).await
    }

    /// Puts a copy of the object `from` in the place of `to` in `target`, where a damaged object may be. The
    /// copy is proven whole before it has the name.
    ///
    /// # Errors
    /// [`StorageError::Mangled`] when the object is not what was expected; then nothing has changed.
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
            false => Err(StorageError::Mangled { path: self.name_of(from) }),
        }
    }

    /// Why a piece of an object could not be read: the object may be too short.
    async fn explained(
        &self,
        path: &Path,
        expected: Expected,
        error: StorageError,
    ) -> StorageError {
        match self.size(path).await {
            Ok(found) if found < expected.size_bytes => {
                StorageError::Mangled { path: self.name_of(path) }
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
        Err(StorageError::Mangled { path: self.name_of(from) })
    }

    /// Whether every byte of an object is as it is expected. Reads them all.
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
