//! An object store opened from a URL: durable puts, compare-and-swap.
//!
//! A write that has returned survives a power cut, if the store itself does: on a file system the bytes are
//! synced before the name appears, and the directory after. Objects are written atomically.
//! [`Storage::replace`] is the only way to overwrite one, except for a damaged data file, see
//! [`Storage::copy_over`].

mod block_store;
mod block_sums;
mod capability;
pub mod checksum;
mod copy;
mod durable;
mod error;
mod leftover;
mod location;
mod patience;
mod probe;
mod remote;
mod stream;
mod writer;

pub use block_store::{BlockStore, CacheSettings, Damage, DataObject, DiskCache, ReadError};
pub use block_sums::{BLOCK_BYTES, BlockHasher, BlockSums};
pub use capability::Capability;
pub use checksum::{Checksum, hex, sha256_hex};
pub use copy::Expected;
pub use error::StorageError;
pub use leftover::{Leftover, is_leftover};
pub use location::StorageLocation;
#[cfg(any(test, feature = "testing"))]
pub use patience::Patience;
pub use patience::within;
pub use probe::Probed;
pub use remote::RemoteTimeouts;
use remote::Upload;
pub use stream::{ChunkReader, ChunkWriter};
pub use writer::Writer;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion,
};

use crate::crash_point;
use crate::storage_url::{StorageUrl, mask};

/// Every memory store of this process, by name.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> =
    LazyLock::new(Mutex::default);

/// An open object store. Clones share it.
#[derive(Clone)]
pub struct Storage {
    url: StorageUrl,
    store: Arc<dyn ObjectStore>,
    /// The same store, if it is a file system.
    local: Option<Arc<LocalFileSystem>>,
    /// Nothing may be written or deleted through this handle.
    read_only: bool,
}

/// Identifies the content of an object when it was read; see [`Storage::replace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    e_tag: String,
    /// Some stores identify the state of an object by this.
    version: Option<String>,
}

impl Storage {
    /// Opens the storage; creates its directory if it is missing.
    pub fn open(url: &StorageUrl) -> Result<Self, StorageError> {
        if let StorageUrl::Fs { root } = url {
            durable::create_dir_all(root)
                .map_err(|e| StorageError::io("create the directory", url.to_string(), e))?;
        }
        Self::open_existing(url)
    }

    /// Opens the storage without creating anything; a missing directory is an error.
    pub fn open_existing(url: &StorageUrl) -> Result<Self, StorageError> {
        match url {
            StorageUrl::Fs { root } => Self::open_local(url, root),
            StorageUrl::Memory { name } => Ok(Self::open_memory(name)),
            StorageUrl::S3 { bucket } => Self::open_remote(url, remote::s3(bucket)),
            StorageUrl::Minio { key, secret, host, bucket } => {
                Self::open_remote(url, remote::minio(key, secret, host, bucket))
            }
            StorageUrl::Gcs { bucket } => Self::open_remote(url, remote::gcs(bucket)),
            StorageUrl::Azblob { container } => Self::open_remote(url, remote::azblob(container)),
        }
    }

    /// A new memory store; its URL opens it again.
    pub fn in_memory() -> Self {
        Self::open_memory(&uuid::Uuid::new_v4().simple().to_string())
    }

    fn open_memory(name: &str) -> Self {
        let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        let store = stores.entry(name.to_owned()).or_insert_with(|| Arc::new(InMemory::new()));
        let store = Arc::clone(store);
        Self {
            url: StorageUrl::Memory { name: name.to_owned() },
            store,
            local: None,
            read_only: false,
        }
    }

    /// Registers `store` as `memory://name`, or removes that name.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_memory(name: &str, store: Option<Arc<dyn ObjectStore>>) {
        let mut stores = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        match store {
            Some(store) => stores.insert(name.to_owned(), store),
            None => stores.remove(name),
        };
    }

    fn open_remote(
        url: &StorageUrl,
        store: object_store::Result<Arc<dyn ObjectStore>>,
    ) -> Result<Self, StorageError> {
        let store = store.map_err(|e| StorageError::io("open", mask(&url.to_string()), e))?;
        Ok(Self { url: url.clone(), store, local: None, read_only: false })
    }

    fn open_local(url: &StorageUrl, root: &std::path::Path) -> Result<Self, StorageError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::NotFound { path: url.to_string() },
            _ => StorageError::io("open the directory", url.to_string(), error),
        };
        if !std::fs::metadata(root).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let local = LocalFileSystem::new_with_prefix(root)
            .map_err(|e| StorageError::io("open the directory", url.to_string(), e))?;
        let local = Arc::new(local);
        Ok(Self {
            url: url.clone(),
            store: Arc::clone(&local) as _,
            local: Some(local),
            read_only: false,
        })
    }

    /// A handle through which this module neither writes nor deletes anything.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    fn check_writable(&self, path: &Path) -> Result<(), StorageError> {
        match self.read_only {
            false => Ok(()),
            true => Err(StorageError::ReadOnly { path: self.name_of(path) }),
        }
    }

    pub fn url(&self) -> &StorageUrl {
        &self.url
    }

    /// The underlying store, for scans. Writes through it have no guarantees of this module.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes an object that must not exist yet.
    pub async fn put_new(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        let mut writer = self.writer(path).await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// A writer of a large object that must not exist yet. Dropped before
    /// [`Writer::finish`], it leaves nothing.
    pub async fn writer(&self, path: &Path) -> Result<Writer, StorageError> {
        self.writer_to(path, false).await
    }

    /// A writer of an object. With `over`, an existing object is replaced when the writer finishes.
    async fn writer_to(&self, path: &Path, over: bool) -> Result<Writer, StorageError> {
        self.check_writable(path)?;
        let name = self.name_of(path);
        match self.file_of(path)? {
            Some(file) => Writer::to_file(file, name, over).await,
            None => {
                let (store, far) = (Arc::clone(&self.store), self.url.is_far());
                Ok(Writer::to_store(Upload::new(store, path.clone(), far, over), name))
            }
        }
    }

    /// The whole object.
    pub async fn get(&self, path: &Path) -> Result<Bytes, StorageError> {
        let read = async { self.store.get(path).await?.bytes().await };
        read.await.map_err(|e| self.error("read", path, e))
    }

    /// The whole object; `None` if it does not exist.
    pub async fn get_opt(&self, path: &Path) -> Result<Option<Bytes>, StorageError> {
        match self.get(path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// These bytes of the object; an error if it does not have them all.
    pub async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let read = self.store.get_range(path, range).await;
        let bytes = read.map_err(|e| self.error("read", path, e))?;
        if u64::try_from(bytes.len()) != Ok(wanted) {
            let short = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(StorageError::io("read", self.name_of(path), short));
        }
        Ok(bytes)
    }

    /// The store's metadata of the object.
    pub async fn head(&self, path: &Path) -> Result<ObjectMeta, StorageError> {
        self.store.head(path).await.map_err(|e| self.error("look at", path, e))
    }

    pub async fn size(&self, path: &Path) -> Result<u64, StorageError> {
        Ok(self.head(path).await?.size)
    }

    /// Deletes the object; it is no error if it does not exist.
    pub async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        self.check_writable(path)?;
        let point = crash_point::begin("delete", path);
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                point.end();
                Ok(())
            }
            Err(error) => Err(self.error("delete", path, error)),
        }
    }

    /// The objects under a directory, at any depth, in no particular order.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, StorageError> {
        let mut objects = vec![];
        self.for_each(prefix, |object| objects.push(object)).await?;
        Ok(objects)
    }

    /// Calls `see` for each object under a directory, at any depth, in no particular order. There may be too
    /// many to hold in memory.
    pub async fn for_each(
        &self,
        prefix: &Path,
        mut see: impl FnMut(ObjectMeta),
    ) -> Result<(), StorageError> {
        let is_hidden = |object: &ObjectMeta| {
            object.location.filename().is_none_or(|name| name.starts_with('.'))
        };
        self.for_each_with_hidden(prefix, |object| {
            if !is_hidden(&object) {
                see(object);
            }
        })
        .await
    }

    /// The same, with the hidden objects, whose names begin with a dot.
    async fn for_each_with_hidden(
        &self,
        prefix: &Path,
        mut see: impl FnMut(ObjectMeta),
    ) -> Result<(), StorageError> {
        let mut listed = self.store.list(Some(prefix));
        while let Some(object) =
            listed.try_next().await.map_err(|e| self.error("list", prefix, e))?
        {
            see(object);
        }
        Ok(())
    }

    /// Whether there is an object under a directory, at any depth.
    ///
    /// # Errors
    /// Also if the bucket does not exist, which a read of one object does not tell from a missing object.
    pub async fn holds_any(&self, prefix: &Path) -> Result<bool, StorageError> {
        let first = self.store.list(Some(prefix)).try_next().await;
        Ok(first.map_err(|e| self.error("list", prefix, e))?.is_some())
    }

    /// Syncs an object that was written through [`Storage::object_store`], so that it is durable.
    pub async fn sync(&self, path: &Path) -> Result<(), StorageError> {
        let Some(file) = self.file_of(path)? else { return Ok(()) };
        durable::blocking(move || durable::sync(&file))
            .await
            .map_err(|e| StorageError::io("sync", self.name_of(path), e))
    }

    /// The object and the tag by which it can be replaced; `None` if it does not exist.
    pub async fn read_tagged(&self, path: &Path) -> Result<Option<(Bytes, Tag)>, StorageError> {
        if self.local.is_some() {
            let bytes = self.get_opt(path).await?;
            return Ok(bytes.map(|bytes| {
                let tag = tag_of(&bytes);
                (bytes, tag)
            }));
        }
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error("read", path, error)),
        };
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let tag = Tag { e_tag: e_tag.unwrap_or_default(), version };
        let bytes = found.bytes().await.map_err(|e| self.error("read", path, e))?;
        Ok(Some((bytes, tag)))
    }

    /// Compare-and-swap: writes the object if its tag is still `expected` or, for `None`, if it still does
    /// not exist.
    ///
    /// # Errors
    /// [`StorageError::Changed`] otherwise; nothing is written then.
    pub async fn replace(
        &self,
        path: &Path,
        expected: Option<&Tag>,
        bytes: Bytes,
    ) -> Result<Tag, StorageError> {
        self.check_writable(path)?;
        match self.file_of(path)? {
            Some(file) => self.replace_file(path, file, expected.cloned(), bytes).await,
            None => self.replace_object(path, expected, bytes).await,
        }
    }

    async fn replace_file(
        &self,
        path: &Path,
        file: PathBuf,
        expected: Option<Tag>,
        bytes: Bytes,
    ) -> Result<Tag, StorageError> {
        let next = tag_of(&bytes);
        let same = move |found: Option<&[u8]>| found.map(tag_of) == expected;
        let swapped = durable::blocking(move || durable::replace_if(&file, same, &bytes)).await;
        match swapped.map_err(|e| StorageError::io("replace", self.name_of(path), e))? {
            true => Ok(next),
            false => Err(StorageError::Changed { path: self.name_of(path) }),
        }
    }

    async fn replace_object(
        &self,
        path: &Path,
        expected: Option<&Tag>,
        bytes: Bytes,
    ) -> Result<Tag, StorageError> {
        let mode = match expected {
            None => PutMode::Create,
            Some(tag) => PutMode::Update(UpdateVersion {
                e_tag: Some(tag.e_tag.clone()),
                version: tag.version.clone(),
            }),
        };
        let point = crash_point::begin("replace", path);
        match self.store.put_opts(path, PutPayload::from(bytes), mode.into()).await {
            Ok(put) => {
                point.end();
                Ok(Tag { e_tag: put.e_tag.unwrap_or_default(), version: put.version })
            }
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Err(StorageError::Changed { path: self.name_of(path) }),
            Err(error) => Err(self.error("replace", path, error)),
        }
    }

    /// The name of the object in messages: its URL, with credentials masked.
    pub fn name_of(&self, path: &Path) -> String {
        let url = mask(&self.url.to_string());
        format!("{}/{path}", url.trim_end_matches('/'))
    }

    /// The file of the object, if the store is a file system.
    fn file_of(&self, path: &Path) -> Result<Option<PathBuf>, StorageError> {
        let local = self.local.as_ref();
        local
            .map(|local| local.path_to_filesystem(path))
            .transpose()
            .map_err(|e| self.error("address", path, e))
    }

    fn error(&self, action: &'static str, path: &Path, error: object_store::Error) -> StorageError {
        let path = self.name_of(path);
        match error {
            object_store::Error::NotFound { .. } => StorageError::NotFound { path },
            object_store::Error::AlreadyExists { .. } => StorageError::AlreadyExists { path },
            source => StorageError::io(action, path, source),
        }
    }
}

/// The tag of a file's content.
fn tag_of(bytes: impl AsRef<[u8]>) -> Tag {
    Tag { e_tag: sha256_hex(bytes.as_ref()), version: None }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", mask(&self.url.to_string()))
    }
}

#[cfg(test)]
mod tests;
