//! Copying an object, within a storage or from one to another, and proving that the copy is whole.

use std::io::{self, Write as _};

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::checksum::{Checksum, Summed};
use super::{Storage, StorageError};

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
    /// remote storage the bytes stay there and the size is proven, else they pass through here and the
    /// checksum is proven too.
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
        let mut writer = target.writer(to).await?;
        let mut summed = Summed::new(io::sink());
        let mut start = 0;
        while start < expected.size_bytes {
            let end = expected.size_bytes.min(start + PIECE_BYTES);
            let piece = self.get_range(from, start..end).await?;
            summed.write_all(&piece).map_err(|e| StorageError::io("sum", self.name_of(from), e))?;
            writer.write(piece).await?;
            start = end;
        }
        match summed.finish().2 == expected.sha256.to_string() {
            true => writer.finish().await,
            false => Err(StorageError::Mangled { path: self.name_of(from) }),
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
        if self.size(to).await? == expected.size_bytes {
            return Ok(());
        }
        self.delete(to).await?;
        Err(StorageError::Mangled { path: self.name_of(from) })
    }
}
