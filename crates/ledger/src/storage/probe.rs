//! Probes a store's capabilities on a small object. Start-up refuses a store that lacks one of them.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::capability::Capability;
use super::leftover::PROBE;
use super::{Storage, StorageError, durable};
use crate::layout;

const FIRST: Bytes = Bytes::from_static(b"tidemark probe 1");
const SECOND: Bytes = Bytes::from_static(b"tidemark probe 2");

/// One capability, and whether the store has it.
#[derive(Debug)]
pub struct Probed {
    pub capability: Capability,
    pub outcome: Result<(), StorageError>,
}

impl Storage {
    /// Checks that the store has all capabilities, on a small object in `directory`.
    ///
    /// # Errors
    /// The error of the first capability that could not be verified.
    pub async fn probe(&self, directory: &str) -> Result<(), StorageError> {
        self.probe_each(directory).await?.into_iter().try_for_each(|probed| probed.outcome)
    }

    /// Tries each capability on a small object in `directory`, which is deleted afterwards. If the write
    /// fails, nothing else is tried.
    pub async fn probe_each(&self, directory: &str) -> Result<Vec<Probed>, StorageError> {
        let directory = layout::directory(directory);
        let id = crate::ambient::uuid().simple();
        let path = directory.clone().join(format!("{PROBE}{id}"));
        let mut probed = vec![];
        for capability in Capability::ALL {
            let outcome = self.try_capability(capability, &directory, &path).await;
            let stop = capability == Capability::Write && outcome.is_err();
            probed.push(Probed { capability, outcome });
            if stop {
                break;
            }
        }
        if let Some(file) = self.file_of(&path)? {
            durable::blocking(move || durable::remove_lock(&file))
                .await
                .map_err(|e| StorageError::io("delete the lock of", self.name_of(&path), e))?;
        }
        Ok(probed)
    }

    async fn try_capability(
        &self,
        capability: Capability,
        directory: &Path,
        path: &Path,
    ) -> Result<(), StorageError> {
        let honoured = match capability {
            Capability::Write => {
                self.put_new(path, FIRST).await?;
                true
            }
            Capability::ReadAfterWrite => self.get(path).await? == FIRST,
            Capability::ConditionalCreate => {
                is_refused(self.replace(path, None, SECOND).await)?
                    && self.get(path).await? == FIRST
            }
            Capability::ConditionalReplace => self.swaps(path).await?,
            Capability::ListAfterWrite => self.lists(directory, path).await?,
            Capability::Delete => {
                self.delete(path).await?;
                self.get_opt(path).await?.is_none()
            }
        };
        match honoured {
            true => Ok(()),
            false => Err(StorageError::NotHonoured { capability, path: self.name_of(path) }),
        }
    }

    /// Whether a swap with the right tag succeeds and one with a stale tag fails.
    async fn swaps(&self, path: &Path) -> Result<bool, StorageError> {
        let Some((_, tag)) = self.read_tagged(path).await? else { return Ok(false) };
        self.replace(path, Some(&tag), SECOND).await?;
        let refused = is_refused(self.replace(path, Some(&tag), FIRST).await)?;
        Ok(refused && self.get(path).await? == SECOND)
    }

    /// Whether a listing shows the object. It begins just before the object, since the directory may be
    /// large.
    async fn lists(&self, directory: &Path, path: &Path) -> Result<bool, StorageError> {
        let before = Path::from(&path.as_ref()[..path.as_ref().len() - 1]);
        let listed = self.store.list_with_offset(Some(directory), &before);
        let mut found = listed.try_filter(|object| std::future::ready(object.location == *path));
        let found = found.next().await.transpose();
        Ok(found.map_err(|e| self.error("list", directory, e))?.is_some())
    }
}

/// Whether a swap was refused, as it should be; any other failure is returned.
fn is_refused<T>(swapped: Result<T, StorageError>) -> Result<bool, StorageError> {
    match swapped {
        Ok(_) => Ok(false),
        Err(StorageError::Changed { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
