//! A store whose data files are kept near: in memory, and on a local disk if one is named.
//!
//! Data files never change and no name is used twice, so what was read once need never be read again.
//! Whole blocks are kept; blocks that are missing side by side are fetched with one request.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use foyer::{BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder};
use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::StorageError;
use crate::layout;

/// What is fetched and kept as one.
const BLOCK_BYTES: usize = 256 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks that one request fetches, at most.
const BLOCKS_AT_ONCE: usize = 32;
/// Ranges of one file that are read at the same time.
const RANGES_AT_ONCE: usize = 8;

/// How much is kept where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSettings {
    pub memory_bytes: usize,
    pub disk: Option<DiskCache>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    pub directory: PathBuf,
    pub bytes: usize,
}

impl CacheSettings {
    pub fn is_off(&self) -> bool {
        self.memory_bytes == 0 && self.disk.is_none()
    }
}

/// A file's number and a block's, in one: what foyer takes for a key.
type BlockKey = u128;

/// A store with a cache before it.
pub struct CachedStore {
    store: Arc<dyn ObjectStore>,
    blocks: HybridCache<BlockKey, Bytes>,
}

impl CachedStore {
    /// `cluster` keeps what is on the disk apart from the files of other clusters.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        settings: &CacheSettings,
        cluster: &str,
    ) -> std::result::Result<Self, StorageError> {
        let memory = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(settings.memory_bytes)
            .with_weighter(|_: &BlockKey, block: &Bytes| block.len());
        let mut builder = memory.storage();
        let mut place = "memory".to_owned();
        if let Some(disk) = &settings.disk {
            let directory = disk.directory.join(cluster);
            place = directory.display().to_string();
            let made = std::fs::create_dir_all(&directory);
            made.map_err(|e| StorageError::io("make the cache directory", place.clone(), e))?;
            let device = FsDeviceBuilder::new(&directory).with_capacity(disk.bytes).build();
            let device = device.map_err(|e| failed(&place, &e))?;
            builder = builder.with_engine_config(BlockEngineConfig::new(device));
        }
        let blocks = builder.build().await.map_err(|e| failed(&place, &e))?;
        Ok(Self { store, blocks })
    }

    /// These bytes of a data file.
    async fn read(&self, location: &Path, sst: u64, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let mut found = Vec::new();
        for block in wanted.clone() {
            found.push(self.lookup(sst, block).await);
        }
        let missing = |at: &usize| found[*at].is_none();
        let mut places = (0..found.len()).filter(missing).peekable();
        let mut runs: Vec<Range<usize>> = vec![];
        while let Some(first) = places.next() {
            let mut end = first + 1;
            while end - first < BLOCKS_AT_ONCE && places.next_if_eq(&end).is_some() {
                end += 1;
            }
            runs.push(first..end);
        }
        for run in runs {
            let block = |place: usize| wanted.start + place as u64;
            let bytes = block(run.start) * BLOCK..block(run.end) * BLOCK;
            let fetched = self.fetch(location, bytes).await?;
            for (place, bytes) in run.zip(fetched.chunks(BLOCK_BYTES)) {
                // A copy: a slice would keep all that was fetched with it.
                let bytes = Bytes::copy_from_slice(bytes);
                self.blocks.insert(key(sst, block(place)), bytes.clone());
                found[place] = Some(bytes);
            }
        }
        let first_byte = wanted.start * BLOCK;
        let cut = |at: u64| usize::try_from(at - first_byte).unwrap_or(usize::MAX);
        let all = match found.as_mut_slice() {
            [Some(only)] => std::mem::take(only),
            several => {
                let mut all = BytesMut::new();
                several.iter().flatten().for_each(|block| all.extend_from_slice(block));
                all.freeze()
            }
        };
        // As much as there is, as the store itself answers past an object's end.
        let end = cut(range.end).min(all.len());
        Ok(all.slice(cut(range.start).min(end)..end))
    }

    /// A block that is kept. A cache that cannot be read is one that does not have it.
    async fn lookup(&self, sst: u64, block: u64) -> Option<Bytes> {
        match self.blocks.get(&key(sst, block)).await {
            Ok(entry) => entry.map(|entry| entry.value().clone()),
            Err(error) => {
                tracing::debug!(%error, "a cached block cannot be read");
                None
            }
        }
    }

    async fn fetch(&self, location: &Path, range: Range<u64>) -> Result<Bytes> {
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        self.store.get_opts(location, options).await?.bytes().await
    }
}

fn key(sst: u64, block: u64) -> BlockKey {
    u128::from(sst) << 64 | u128::from(block)
}

fn failed(place: &str, error: &foyer::Error) -> StorageError {
    StorageError::io("open the cache in", place.to_owned(), io::Error::other(error.to_string()))
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedStore({})", self.store)
    }
}

impl fmt::Display for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cached {}", self.store)
    }
}

#[async_trait]
impl ObjectStore for CachedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let plain = !options.head && options.if_match.is_none() && options.if_none_match.is_none();
        let (sst, range) = match (layout::parse_sst(location), &options.range) {
            (Some(sst), Some(GetRange::Bounded(range))) if plain && !range.is_empty() => {
                (sst, range)
            }
            _ => return self.store.get_opts(location, options).await,
        };
        let bytes = self.read(location, sst.0, range.clone()).await?;
        let range = range.start..range.start + bytes.len() as u64;
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            // What is known of it without a request.
            size: range.end,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let reads = stream::iter(ranges.to_vec()).map(|range| self.get_range(location, range));
        reads.buffered(RANGES_AT_ONCE).try_collect().await
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn file() -> Bytes {
        (0..BLOCK * 3 + 1000).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    async fn with_one_file(settings: &CacheSettings) -> (Arc<InMemory>, CachedStore, Path) {
        let (store, path) = (Arc::new(InMemory::new()), Path::from("data/7.data"));
        store.put(&path, file().into()).await.unwrap();
        let cached = CachedStore::open(Arc::clone(&store) as _, settings, "c").await.unwrap();
        (store, cached, path)
    }

    #[tokio::test]
    async fn what_was_read_once_is_read_again_without_the_store() {
        let settings = CacheSettings { memory_bytes: 64 << 20, disk: None };
        let (store, cached, path) = with_one_file(&settings).await;
        let all = file();
        let ranges = [0..10, 5..BLOCK + 5, BLOCK * 2..BLOCK * 3 + 1000];
        let place = |at: u64| usize::try_from(at).unwrap();
        let cut = |range: &Range<u64>| all.slice(place(range.start)..place(range.end));
        for _ in 0..2 {
            let read = cached.get_ranges(&path, &ranges).await.unwrap();
            assert_eq!(read, ranges.iter().map(cut).collect::<Vec<_>>());
            // The second time there is nothing to read from.
            store.delete(&path).await.ok();
        }
        let beyond = cached.get_range(&path, 10..BLOCK).await.unwrap();
        assert_eq!(beyond, all.slice(10..BLOCK_BYTES));
    }

    #[tokio::test]
    async fn other_objects_and_missing_files_are_the_stores_business() {
        let settings = CacheSettings { memory_bytes: 1 << 20, disk: None };
        let (store, cached, _) = with_one_file(&settings).await;
        let lease = Path::from("data/lease.json");
        for text in ["one", "two"] {
            store.put(&lease, text.into()).await.unwrap();
            assert_eq!(cached.get_range(&lease, 0..3).await.unwrap(), text);
        }
        let missing = cached.get_range(&Path::from("data/8.data"), 0..3).await;
        assert!(matches!(missing, Err(object_store::Error::NotFound { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn the_disk_remembers_when_the_process_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let disk = DiskCache { directory: directory.path().to_owned(), bytes: 64 << 20 };
        let settings = CacheSettings { memory_bytes: 1 << 20, disk: Some(disk) };
        let (store, cached, path) = with_one_file(&settings).await;
        assert_eq!(cached.get_range(&path, 0..100).await.unwrap(), file().slice(0..100));
        cached.blocks.close().await.unwrap();
        drop(cached);
        store.delete(&path).await.unwrap();
        let again = CachedStore::open(Arc::clone(&store) as _, &settings, "c").await.unwrap();
        assert_eq!(again.get_range(&path, 0..100).await.unwrap(), file().slice(0..100));
        let other = CachedStore::open(store as _, &settings, "another").await.unwrap();
        assert!(other.get_range(&path, 0..100).await.is_err(), "another cluster has other files");
    }
}
