//! Blocks are returned as they were written, whether from the store or the cache, or the read fails.

use object_store::memory::InMemory;

use super::*;

fn file() -> Bytes {
    (0..BLOCK * 3 + 1000).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// A data file in a store, with its metadata.
struct World {
    store: Arc<InMemory>,
    path: Path,
    sums: Option<BlockSums>,
}

impl World {
    async fn new(with_sums: bool) -> Self {
        let (store, path) = (Arc::new(InMemory::new()), Path::from("data/7.data"));
        store.put(&path, file().into()).await.unwrap();
        Self { store, path, sums: with_sums.then(|| BlockSums::of(&file())) }
    }

    fn object(&self) -> DataObject<'_> {
        let expected = Expected { size_bytes: file().len() as u64, sha256: Checksum::of(&file()) };
        DataObject { path: &self.path, expected, sums: self.sums.as_ref() }
    }

    async fn open(&self, settings: &CacheSettings) -> BlockStore {
        BlockStore::open(Arc::clone(&self.store) as _, settings, "c").await.unwrap()
    }
}

fn in_memory() -> CacheSettings {
    CacheSettings { memory_bytes: 64 << 20, ..CacheSettings::default() }
}

fn cut(range: &Range<u64>) -> Bytes {
    let position = |at: u64| usize::try_from(at).unwrap();
    file().slice(position(range.start)..position(range.end))
}

fn one(range: Range<u64>) -> [Range<u64>; 1] {
    [range]
}

fn ranges() -> [Range<u64>; 5] {
    [0..10, 7..7, 5..BLOCK + 5, BLOCK * 2..BLOCK * 3 + 1000, BLOCK - 1..BLOCK]
}

#[tokio::test]
async fn what_is_read_is_what_was_written() {
    for (with_sums, settings) in
        [true, false].into_iter().flat_map(|s| [(s, in_memory()), (s, CacheSettings::default())])
    {
        let world = World::new(with_sums).await;
        let store = world.open(&settings).await;
        let read = store.read(world.object(), &ranges()).await.unwrap();
        assert_eq!(read, ranges().iter().map(cut).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_was_read_once_is_read_again_without_the_store() {
    let world = World::new(true).await;
    let store = world.open(&in_memory()).await;
    for _ in 0..2 {
        let read = store.read(world.object(), &ranges()).await.unwrap();
        assert_eq!(read, ranges().iter().map(cut).collect::<Vec<_>>());
        // The second read has only the cache.
        world.store.delete(&world.path).await.ok();
    }
}

#[tokio::test]
async fn what_is_remembered_of_files_of_before_has_a_bound() {
    let world = World::new(false).await;
    let bytes_max = 2 * SUMMED_FILE_BYTES + 100;
    let summed = Mutex::new(summed_files(bytes_max));
    let store = BlockStore { summed, ..BlockStore::without_cache(Arc::clone(&world.store) as _) };
    for number in [1, 2, 3, 4, 1] {
        let path = Path::from(format!("data/{number}.data"));
        world.store.put(&path, file().into()).await.unwrap();
        let object = DataObject { path: &path, ..world.object() };
        let read = store.read(object, &one(5..BLOCK + 5)).await.unwrap();
        assert_eq!(read, [cut(&(5..BLOCK + 5))]);
        let summed = store.summed.lock().unwrap();
        assert!(summed.contains(&path) && summed.usage() <= bytes_max);
    }
}

#[tokio::test]
async fn a_large_read_leaves_alone_what_small_ones_keep() {
    let world = World::new(true).await;
    let store = world.open(&CacheSettings { small_reads_only: true, ..in_memory() }).await;
    let (small, large) = (one(0..BLOCK).to_vec(), vec![BLOCK..BLOCK * 3; 10]);
    for ranges in [&small, &large] {
        let read = store.read(world.object(), ranges).await.unwrap();
        assert_eq!(read, ranges.iter().map(cut).collect::<Vec<_>>());
    }
    world.store.delete(&world.path).await.unwrap();
    assert_eq!(store.read(world.object(), &small).await.unwrap(), [cut(&small[0])]);
    assert!(store.read(world.object(), &[large[0].clone()]).await.is_err());
}

#[tokio::test]
async fn a_missing_file_is_said_to_be_missing() {
    for settings in [in_memory(), CacheSettings::default()] {
        let world = World::new(true).await;
        world.store.delete(&world.path).await.unwrap();
        let missing = world.open(&settings).await.read(world.object(), &one(0..3)).await;
        let missing = missing.unwrap_err();
        let is_missing = matches!(missing, ReadError::Store(object_store::Error::NotFound { .. }));
        assert!(is_missing, "{missing}");
    }
}

/// The error of reading the third block when the file is `bytes`.
async fn third_block_of(bytes: Vec<u8>, with_sums: bool, settings: &CacheSettings) -> ReadError {
    let world = World::new(with_sums).await;
    world.store.put(&world.path, bytes.into()).await.unwrap();
    let store = world.open(settings).await;
    let range = BLOCK * 2 + 5..BLOCK * 2 + 6;
    store.read(world.object(), &[range]).await.unwrap_err()
}

#[tokio::test]
async fn no_byte_of_a_damaged_block_is_handed_out() {
    let third = BLOCK * 2..BLOCK * 3;
    let mut flipped = file().to_vec();
    flipped[BLOCK_BYTES * 3 - 1] ^= 1;
    let mut zeroed = file().to_vec();
    zeroed[BLOCK_BYTES * 2..BLOCK_BYTES * 3].fill(0);
    let mut swapped = file().to_vec();
    swapped.copy_within(BLOCK_BYTES..BLOCK_BYTES * 2, BLOCK_BYTES * 2);
    for settings in [in_memory(), CacheSettings::default()] {
        for bytes in [&flipped, &zeroed, &swapped] {
            let error = third_block_of(bytes.clone(), true, &settings).await;
            let ReadError::Damaged { range, damage } = error else { panic!("{error}") };
            assert_eq!((range, damage), (third.clone(), Damage::Checksum));
            let error = third_block_of(bytes.clone(), false, &settings).await;
            let ReadError::Damaged { range, damage } = error else { panic!("{error}") };
            assert_eq!((range, damage), (0..file().len() as u64, Damage::Checksum));
        }
        for kept in [0, 10, BLOCK_BYTES * 2, BLOCK_BYTES * 2 + 100] {
            let cut = file().slice(..kept).to_vec();
            let error = third_block_of(cut, true, &settings).await;
            let ReadError::Damaged { range, damage } = error else { panic!("{error}") };
            assert_eq!((range.start, damage), (kept as u64, Damage::EndsAt(kept as u64)));
        }
    }
}

#[tokio::test]
async fn what_is_not_damaged_is_read_from_a_file_that_is() {
    let mut flipped = file().to_vec();
    flipped[BLOCK_BYTES * 3] ^= 1;
    for settings in [in_memory(), CacheSettings::default()] {
        let world = World::new(true).await;
        world.store.put(&world.path, flipped.clone().into()).await.unwrap();
        let store = world.open(&settings).await;
        let range = 0..BLOCK * 3;
        assert_eq!(
            store.read(world.object(), std::slice::from_ref(&range)).await.unwrap(),
            [cut(&range)]
        );
        assert!(store.read(world.object(), &one(0..BLOCK * 3 + 1)).await.is_err());
    }
}

#[tokio::test]
async fn the_disk_remembers_when_the_process_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskCache { directory: directory.path().to_owned(), bytes: 64 << 20 };
    let settings =
        CacheSettings { memory_bytes: 1 << 20, disk: Some(disk), small_reads_only: false };
    let world = World::new(true).await;
    let cached = world.open(&settings).await;
    assert_eq!(cached.read(world.object(), &one(0..100)).await.unwrap(), [cut(&(0..100))]);
    cached.kept.as_ref().unwrap().close().await.unwrap();
    drop(cached);
    world.store.delete(&world.path).await.unwrap();
    let again = world.open(&settings).await;
    assert_eq!(again.read(world.object(), &one(0..100)).await.unwrap(), [cut(&(0..100))]);
    let store = Arc::clone(&world.store) as _;
    let other = BlockStore::open(store, &settings, "another").await.unwrap();
    assert!(other.read(world.object(), &one(0..100)).await.is_err(), "another cluster's files");
}

#[tokio::test]
async fn a_block_that_is_damaged_on_the_disk_is_read_from_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskCache { directory: directory.path().to_owned(), bytes: 64 << 20 };
    let settings =
        CacheSettings { memory_bytes: 1 << 20, disk: Some(disk), small_reads_only: false };
    let world = World::new(true).await;
    let cached = world.open(&settings).await;
    // A cached block that is not what the file holds.
    let wrong = Block { bytes: vec![7; BLOCK_BYTES].into(), proven: AtomicBool::new(false) };
    cached.kept.as_ref().unwrap().insert(key(7, 0), wrong);
    cached.kept.as_ref().unwrap().close().await.unwrap();
    drop(cached);
    let again = world.open(&settings).await;
    assert_eq!(again.read(world.object(), &one(0..100)).await.unwrap(), [cut(&(0..100))]);
}
