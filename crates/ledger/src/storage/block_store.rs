//! Reads data files in whole blocks. Each block is verified against its checksum before a byte of it is
//! returned, and cached in memory, and on a local disk if one is configured.
//!
//! Data files never change and their names are never used again, so a cached block is never stale.
//! Consecutive missing blocks are fetched with one request. A block is verified when it comes from the store
//! or from the disk, and trusted while it is in memory.
//!
//! A file of an older release, whose metadata has no block checksums, is read whole the first time: its
//! SHA-256 is verified and the checksums of its blocks are kept, for the files used most recently.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use foyer::{BlockEngineConfig, Cache, CacheBuilder, Code, DeviceBuilder as _, FsDeviceBuilder};
use foyer::{HybridCache, HybridCacheBuilder, HybridCachePolicy};
use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::block_sums::{BLOCK_BYTES, BlockHasher, BlockSums};
use super::checksum::Checksum;
use super::{Expected, StorageError};
use crate::layout;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Maximum number of blocks that one request fetches for the cache.
const BLOCKS_AT_ONCE: usize = 32;
/// Ranges of one file that are read at the same time.
const RANGES_AT_ONCE: usize = 8;
/// Maximum number of blocks of a small read.
const SMALL_READ_BLOCKS: u64 = 16;
/// Number of blocks that are verified before other tasks get their turn.
const BLOCKS_PER_YIELD: usize = 64;
/// Bytes per request when a file is read whole, and the number of these requests in flight.
const PIECE: u64 = 8 << 20;
const PIECES_AT_ONCE: usize = 4;
/// Maximum memory for the checksums of files of older releases; what one file takes of it, and one block.
const SUMMED_BYTES_MAX: usize = 32 << 20;
const SUMMED_FILE_BYTES: usize = 256;
const SUM_BYTES: usize = 4;

/// The sizes of the block cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSettings {
    pub memory_bytes: usize,
    pub disk: Option<DiskCache>,
    /// Whether only the blocks of small reads are cached. With a nearby store, caching everything that a scan
    /// reads costs more than reading it again.
    pub small_reads_only: bool,
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

/// A data file as the metadata describes it.
#[derive(Clone, Copy, Debug)]
pub struct DataObject<'a> {
    pub path: &'a Path,
    pub expected: Expected,
    /// `None` in files of older releases.
    pub sums: Option<&'a BlockSums>,
}

/// Why a read of a data file failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes there are not those that were written.
    #[error("{damage} in bytes {} to {}", range.start, range.end)]
    Damaged { range: Range<u64>, damage: Damage },
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not match its checksum.
    Checksum,
    /// It ends after this number of bytes.
    EndsAt(u64),
    /// The store does not have it.
    Gone,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("it does not match its checksum"),
            Self::EndsAt(bytes) => write!(f, "it ends after {bytes} bytes"),
            Self::Gone => f.write_str("it does not exist"),
        }
    }
}

/// The number of a file and of a block in one: the key of the cache.
type BlockKey = u128;

/// A cached block.
struct Block {
    bytes: Bytes,
    /// Whether it was verified since it came into memory.
    proven: AtomicBool,
}

impl Code for Block {
    fn encode(&self, writer: &mut impl io::Write) -> foyer::Result<()> {
        self.bytes.encode(writer)
    }

    fn decode(reader: &mut impl io::Read) -> foyer::Result<Self> {
        Ok(Self { bytes: Bytes::decode(reader)?, proven: AtomicBool::new(false) })
    }

    fn estimated_size(&self) -> usize {
        self.bytes.estimated_size()
    }
}

/// The block checksums of a file of an older release, once it was read whole.
struct FileSums {
    /// Their size in memory.
    bytes: usize,
    sums: OnceCell<BlockSums>,
}

/// The most recently used files of older releases.
type SummedFiles = Cache<Path, Arc<FileSums>>;

fn summed_files(bytes: usize) -> SummedFiles {
    let weight = |_: &Path, file: &Arc<FileSums>| file.bytes;
    CacheBuilder::new(bytes).with_shards(1).with_weighter(weight).build()
}

/// Verified and cached reads of the data files of a store.
pub struct BlockStore {
    store: Arc<dyn ObjectStore>,
    kept: Option<HybridCache<BlockKey, Block>>,
    small_reads_only: bool,
    /// Behind a lock, so that concurrent readers of a file read it whole only once.
    summed: Mutex<SummedFiles>,
}

impl BlockStore {
    /// Opens the cache. `cluster` names its directory on disk, which separates it from other clusters.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        settings: &CacheSettings,
        cluster: &str,
    ) -> Result<Self, StorageError> {
        let kept = match settings.is_off() {
            true => None,
            false => Some(open_cache(settings, cluster).await?),
        };
        let small_reads_only = settings.small_reads_only;
        Ok(Self { kept, small_reads_only, ..Self::without_cache(store) })
    }

    pub fn without_cache(store: Arc<dyn ObjectStore>) -> Self {
        let summed = Mutex::new(summed_files(SUMMED_BYTES_MAX));
        Self { store, kept: None, small_reads_only: false, summed }
    }

    /// Reads these byte ranges of a data file, as they were written.
    pub async fn read(
        &self,
        object: DataObject<'_>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ReadError> {
        let sums = &self.sums(object).await?;
        let kept = self.kept.as_ref().filter(|_| !self.small_reads_only || is_small(ranges));
        let Some(kept) = kept else { return self.read_through(object, sums, ranges).await };
        let reads = stream::iter(ranges.to_vec());
        let reads = reads.map(|range| self.read_kept(kept, object, sums, range));
        reads.buffered(RANGES_AT_ONCE).try_collect().await
    }

    /// Reads without the cache: all ranges with one call, each block once.
    async fn read_through(
        &self,
        object: DataObject<'_>,
        sums: &BlockSums,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ReadError> {
        let runs = runs_of(ranges);
        let wanted: Vec<_> = runs.iter().map(|run| object.bytes_of(run)).collect();
        let fetched = match self.store.get_ranges(object.path, &wanted).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.explained(object, error).await),
        };
        let mut checked = Vec::with_capacity(runs.len());
        for (run, bytes) in runs.iter().zip(fetched) {
            checked.push(self.checked(object, sums, run, bytes).await?);
        }
        let cut = |range: &Range<u64>| {
            let run = runs.partition_point(|run| run.end * BLOCK <= range.start);
            match (runs.get(run), checked.get(run)) {
                (Some(run), Some(bytes)) => slice(bytes, run.start * BLOCK, range),
                _ => Bytes::new(),
            }
        };
        Ok(ranges.iter().map(cut).collect())
    }

    async fn read_kept(
        &self,
        kept: &HybridCache<BlockKey, Block>,
        object: DataObject<'_>,
        sums: &BlockSums,
        range: Range<u64>,
    ) -> Result<Bytes, ReadError> {
        let sst = layout::parse_sst(object.path).map_or(0, |sst| sst.0);
        let wanted = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let mut found = Vec::new();
        for block in wanted.clone() {
            found.push(lookup(kept, sst, block, sums).await);
        }
        for run in missing_runs(&found) {
            let number = |position: usize| wanted.start + position as u64;
            let blocks = number(run.start)..number(run.end);
            let fetched = self.fetch(object, sums, &blocks).await?;
            for (position, bytes) in run.zip(fetched.chunks(BLOCK_BYTES)) {
                // A copy, since a slice would keep the whole fetched buffer in memory.
                let bytes = match bytes.len() == fetched.len() {
                    true => fetched.clone(),
                    false => Bytes::copy_from_slice(bytes),
                };
                let block = Block { bytes: bytes.clone(), proven: AtomicBool::new(true) };
                kept.insert(key(sst, number(position)), block);
                found[position] = Some(bytes);
            }
        }
        let all = match found.as_mut_slice() {
            [Some(only)] => std::mem::take(only),
            several => {
                let mut all = BytesMut::new();
                several.iter().flatten().for_each(|block| all.extend_from_slice(block));
                all.freeze()
            }
        };
        Ok(slice(&all, wanted.start * BLOCK, &range))
    }

    /// Fetches a run of blocks from the store and verifies them.
    async fn fetch(
        &self,
        object: DataObject<'_>,
        sums: &BlockSums,
        run: &Range<u64>,
    ) -> Result<Bytes, ReadError> {
        let bytes = self.get(object, object.bytes_of(run)).await?;
        self.checked(object, sums, run, bytes).await
    }

    async fn get(&self, object: DataObject<'_>, range: Range<u64>) -> Result<Bytes, ReadError> {
        match self.store.get_range(object.path, range).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.explained(object, error).await),
        }
    }

    /// Verifies the bytes of a run of blocks. On a mismatch the run is fetched once more, since it may have
    /// been damaged in transit.
    async fn checked(
        &self,
        object: DataObject<'_>,
        sums: &BlockSums,
        run: &Range<u64>,
        bytes: Bytes,
    ) -> Result<Bytes, ReadError> {
        let Some(wrong) = first_damage(object, sums, run, &bytes).await else { return Ok(bytes) };
        tracing::warn!(object = %object.path, ?wrong, "a data file is damaged; it is read again");
        let again = self.get(object, object.bytes_of(run)).await?;
        match first_damage(object, sums, run, &again).await {
            None => Ok(again),
            Some((range, damage)) => Err(ReadError::Damaged { range, damage }),
        }
    }

    /// Explains a failed read of a range: the object may be too short for it.
    async fn explained(&self, object: DataObject<'_>, error: object_store::Error) -> ReadError {
        let size = object.expected.size_bytes;
        match (&error, self.store.head(object.path).await) {
            (object_store::Error::NotFound { .. }, _) => error.into(),
            (_, Ok(found)) if found.size < size => {
                ReadError::Damaged { range: found.size..size, damage: Damage::EndsAt(found.size) }
            }
            _ => error.into(),
        }
    }

    /// The checksums of the object's blocks.
    async fn sums(&self, object: DataObject<'_>) -> Result<BlockSums, ReadError> {
        if let Some(known) = object.sums {
            return Ok(known.clone());
        }
        let file = self.summed_file(object);
        file.sums.get_or_try_init(|| self.sum_up(object)).await.cloned()
    }

    fn summed_file(&self, object: DataObject<'_>) -> Arc<FileSums> {
        let summed = self.summed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = summed.get(object.path) {
            return Arc::clone(known.value());
        }
        let blocks = usize::try_from(object.expected.size_bytes.div_ceil(BLOCK));
        let bytes = blocks.unwrap_or(usize::MAX).saturating_mul(SUM_BYTES);
        let bytes = bytes.saturating_add(SUMMED_FILE_BYTES);
        let file = Arc::new(FileSums { bytes, sums: OnceCell::new() });
        summed.insert(object.path.clone(), Arc::clone(&file));
        file
    }

    /// Reads the whole object, verifies its SHA-256, and computes the checksums of its blocks.
    async fn sum_up(&self, object: DataObject<'_>) -> Result<BlockSums, ReadError> {
        let expected = object.expected.sha256;
        for _ in 0..2 {
            let (found, sums) = self.read_whole(object).await?;
            if found == expected || !expected.is_known() {
                return Ok(sums);
            }
        }
        let range = 0..object.expected.size_bytes;
        Err(ReadError::Damaged { range, damage: Damage::Checksum })
    }

    async fn read_whole(&self, object: DataObject<'_>) -> Result<(Checksum, BlockSums), ReadError> {
        let size = object.expected.size_bytes;
        let starts = (0..size.div_ceil(PIECE)).map(|piece| piece * PIECE);
        let pieces = stream::iter(starts.collect::<Vec<_>>());
        let pieces = pieces.map(|start| self.get(object, start..size.min(start + PIECE)));
        let mut pieces = pieces.buffered(PIECES_AT_ONCE);
        let (mut sha256, mut blocks) = (Sha256::default(), BlockHasher::default());
        while let Some(piece) = pieces.try_next().await? {
            sha256.update(&piece);
            blocks.update(&piece);
        }
        Ok((<[u8; 32]>::from(sha256.finalize()).into(), blocks.finish()))
    }
}

async fn open_cache(
    settings: &CacheSettings,
    cluster: &str,
) -> Result<HybridCache<BlockKey, Block>, StorageError> {
    let memory = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(settings.memory_bytes)
        .with_weighter(|_: &BlockKey, block: &Block| block.bytes.len());
    let mut builder = memory.storage();
    let mut cache = "memory".to_owned();
    if let Some(disk) = &settings.disk {
        let directory = disk.directory.join(cluster);
        cache = directory.display().to_string();
        let made = std::fs::create_dir_all(&directory);
        made.map_err(|e| StorageError::io("make the cache directory", cache.clone(), e))?;
        let device = FsDeviceBuilder::new(&directory).with_capacity(disk.bytes).build();
        let device = device.map_err(|e| failed(&cache, &e))?;
        builder = builder.with_engine_config(BlockEngineConfig::new(device));
    }
    builder.build().await.map_err(|e| failed(&cache, &e))
}

fn failed(cache: &str, error: &foyer::Error) -> StorageError {
    StorageError::io("open the cache in", cache.to_owned(), io::Error::other(error.to_string()))
}

/// Looks up a cached block. A read error of the cache counts as a miss, and a damaged block is removed.
async fn lookup(
    kept: &HybridCache<BlockKey, Block>,
    sst: u64,
    number: u64,
    sums: &BlockSums,
) -> Option<Bytes> {
    let key = key(sst, number);
    let found = kept.get(&key).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a cached block cannot be read");
        None
    })?;
    let block = found.value();
    if !block.proven.load(Ordering::Relaxed) {
        if !sums.matches(number, &block.bytes) {
            tracing::warn!(sst, block = number, "a cached block is damaged");
            kept.remove(&key);
            return None;
        }
        block.proven.store(true, Ordering::Relaxed);
    }
    Some(block.bytes.clone())
}

fn key(sst: u64, block: u64) -> BlockKey {
    u128::from(sst) << 64 | u128::from(block)
}

impl DataObject<'_> {
    fn bytes_of(&self, run: &Range<u64>) -> Range<u64> {
        run.start * BLOCK..(run.end * BLOCK).min(self.expected.size_bytes)
    }
}

fn is_small(ranges: &[Range<u64>]) -> bool {
    let blocks = |range: &Range<u64>| range.end.div_ceil(BLOCK) - range.start / BLOCK;
    ranges.iter().map(blocks).sum::<u64>() <= SMALL_READ_BLOCKS
}

/// The runs of blocks that cover the ranges, in order.
fn runs_of(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let ranges = ranges.iter().filter(|range| !range.is_empty());
    let mut wanted: Vec<_> = ranges.map(|r| r.start / BLOCK..r.end.div_ceil(BLOCK)).collect();
    wanted.sort_unstable_by_key(|run| run.start);
    let mut runs: Vec<Range<u64>> = vec![];
    for run in wanted {
        match runs.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => runs.push(run),
        }
    }
    runs
}

/// The indexes of the missing blocks, as runs that one request may fetch.
fn missing_runs(found: &[Option<Bytes>]) -> Vec<Range<usize>> {
    let mut positions = (0..found.len()).filter(|position| found[*position].is_none()).peekable();
    let mut runs = vec![];
    while let Some(first) = positions.next() {
        let mut end = first + 1;
        while end - first < BLOCKS_AT_ONCE && positions.next_if_eq(&end).is_some() {
            end += 1;
        }
        runs.push(first..end);
    }
    runs
}

/// The damage in the bytes of a run of blocks, if any: from the first damaged block to the last.
async fn first_damage(
    object: DataObject<'_>,
    sums: &BlockSums,
    run: &Range<u64>,
    bytes: &Bytes,
) -> Option<(Range<u64>, Damage)> {
    let expected = object.bytes_of(run);
    let end = expected.start + bytes.len() as u64;
    if end < expected.end {
        return Some((end..expected.end, Damage::EndsAt(end)));
    }
    let mut wrong: Option<Range<u64>> = None;
    for (at, (number, block)) in run.clone().zip(bytes.chunks(BLOCK_BYTES)).enumerate() {
        if !sums.matches(number, block) {
            let first = wrong.map_or(number, |wrong| wrong.start);
            wrong = Some(first..number + 1);
        }
        if at % BLOCKS_PER_YIELD == BLOCKS_PER_YIELD - 1 {
            tokio::task::yield_now().await;
        }
    }
    wrong.map(|wrong| (object.bytes_of(&wrong), Damage::Checksum))
}

/// Cuts a range out of bytes that begin at `start`. A range past the end is cut short, as a store does it.
fn slice(bytes: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    let position =
        |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
    let end = position(range.end);
    bytes.slice(position(range.start).min(end)..end)
}

impl fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockStore({})", self.store)
    }
}

#[cfg(test)]
mod tests;
