//! A writer of one large object, piece by piece.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use super::remote::Upload;
use super::{StorageError, durable};
use crate::crash_point;

/// An object that is being written. It exists, whole and durable, once [`Writer::finish`] returns; if the
/// writer is dropped before, it never existed.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    /// The name of the object in messages.
    name: String,
}

#[derive(Debug)]
enum Target {
    File { file: tokio::fs::File, staged: Staged, target: PathBuf, over: bool },
    Store(Upload),
}

/// A staged file that is removed unless it was published.
#[derive(Debug)]
struct Staged(Option<PathBuf>);

impl Staged {
    fn publish(mut self, target: &std::path::Path, over: bool) -> std::io::Result<()> {
        let file = self.0.take().expect("a staged file is published once");
        let publish = if over { durable::publish_over } else { durable::publish_new };
        publish(&file, target).inspect_err(|_| durable::remove_quietly(&file))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            durable::remove_quietly(&file);
        }
    }
}

impl Writer {
    /// With `over`, it replaces an existing file.
    pub(super) async fn to_file(
        target: PathBuf,
        name: String,
        over: bool,
    ) -> Result<Self, StorageError> {
        let path = target.clone();
        let staged = durable::blocking(move || durable::create_staged(&path)).await;
        let (file, staged) = staged.map_err(|e| StorageError::io("create", name.clone(), e))?;
        let file = tokio::fs::File::from_std(file);
        let staged = Staged(Some(staged));
        Ok(Self { target: Target::File { file, staged, target, over }, name })
    }

    pub(super) fn to_store(upload: Upload, name: String) -> Self {
        Self { target: Target::Store(upload), name }
    }

    /// Appends `bytes`.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        match &mut self.target {
            Target::File { file, .. } => {
                let point = crash_point::begin("write", &self.name);
                let written = file.write_all(&bytes).await;
                point.end();
                written.map_err(|e| StorageError::io("write", self.name.clone(), e))
            }
            Target::Store(upload) => {
                let written = upload.write(bytes).await;
                written.map_err(|e| StorageError::io("write", self.name.clone(), e))
            }
        }
    }

    /// Creates the object durably.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`] when there is an object of that name already; it stays as it is.
    pub async fn finish(self) -> Result<(), StorageError> {
        let name = self.name;
        match self.target {
            Target::File { file, staged, target, over } => {
                let published = publish(file, staged, target, over).await;
                published.map_err(|e| match e.kind() {
                    std::io::ErrorKind::AlreadyExists => StorageError::AlreadyExists { path: name },
                    _ => StorageError::io("write", name, e),
                })
            }
            Target::Store(upload) => match upload.finish().await {
                Ok(()) => Ok(()),
                Err(object_store::Error::AlreadyExists { .. }) => {
                    Err(StorageError::AlreadyExists { path: name })
                }
                Err(error) => Err(StorageError::io("write", name, error)),
            },
        }
    }
}

async fn publish(
    mut file: tokio::fs::File,
    staged: Staged,
    target: PathBuf,
    over: bool,
) -> std::io::Result<()> {
    file.flush().await?;
    file.sync_all().await?;
    drop(file);
    durable::blocking(move || staged.publish(&target, over)).await
}
