//! Damaged data files: a read returns what was written, or an error that says where the damage is.
//!
//! `TIDEMARK_DAMAGES=3000 cargo test --lib engine::scan` makes this number of damages;
//! `TIDEMARK_DAMAGE_SEED` is the first seed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream;
use object_store::{ObjectStoreExt as _, PutPayload};
use roaring::RoaringBitmap;

use super::{KeyFilters, SstTable, StatisticsCache};
use crate::compaction::{Executor, Inputs};
use crate::write::write_rows;
use tidemark_ledger::catalog::{Column, ColumnType, Table};
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::id::{ColumnId, ObjectId, SstId};
use tidemark_ledger::sst::schema::table_schema;
use tidemark_ledger::sst::{InlineRows, SstInfo, Target};
use tidemark_ledger::sst_ids::SstIds;
use tidemark_ledger::storage::{BlockStore, BlockSums, CacheSettings, Checksum, Damage, Storage};
use tidemark_ledger::version::{FileEntry, LiveFile, Stamp, Stamps};
use tidemark_ledger::{DamagedFile, layout};

/// Default number of damages.
const DAMAGES: u64 = 60;
const ROWS: i64 = 9000;
const TABLE: ObjectId = ObjectId(5);
/// Another table, which has the same files.
const OTHER: ObjectId = ObjectId(6);
const DIRECTORY: &str = "data";
const URL: &str = "tidemark://damage";
const NOW: u64 = 9 << 16;

/// Pseudorandom numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

struct Counted(AtomicU64);

#[async_trait]
impl SstIds for Counted {
    async fn next(&self) -> Result<SstId, Box<dyn std::error::Error + Send + Sync>> {
        Ok(SstId(self.0.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The name and the bytes of a part of a file.
type Region = (&'static str, Range<usize>);

/// Two files of a table whose key ranges overlap; some rows of the second are dead.
struct World {
    storage: Storage,
    ids: Counted,
    table: Arc<Table>,
    files: Vec<Arc<FileEntry>>,
    bytes: Vec<Bytes>,
    regions: Vec<Vec<Region>>,
}

/// The results of all queries on the table.
#[derive(Debug, PartialEq)]
struct Answers {
    all: RecordBatch,
    by_key: Vec<RecordBatch>,
    statistics: RecordBatch,
}

#[derive(Clone, Copy, Debug)]
enum Look {
    All,
    ByKey,
    Statistics,
    Compaction,
}

fn table() -> Table {
    let types = [
        ("k", ColumnType::BigInt),
        ("v", ColumnType::Text),
        ("w", ColumnType::Text),
        ("d", ColumnType::Double),
    ];
    let column = |(id, (name, column_type)): (i32, (&str, ColumnType))| Column {
        id: ColumnId(id),
        name: name.to_owned(),
        column_type,
        not_null: false,
        default: None,
        backfill: None,
    };
    let columns = (1..).zip(types).map(column).collect();
    Table { columns, primary_key: vec![ColumnId(1)], next_column_id: ColumnId(9) }
}

/// Rows with the keys `first`, `first + 4`, and so on.
fn rows(table: &Table, first: i64) -> RecordBatch {
    let mut random = Random(first.unsigned_abs());
    let mut letters = |count| -> String {
        (0..count).map(|_| char::from(b'0' + u8::try_from(random.below(64)).unwrap())).collect()
    };
    let long: Vec<String> = (0..ROWS).map(|_| letters(90)).collect();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|n| first + 4 * n)));
    let few: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("value {}", n % 50))));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(
        (0..2 * ROWS).step_by(2).map(|n| f64::from(i32::try_from(n).unwrap()) / 7.0),
    ));
    let columns = [keys, Arc::new(StringArray::from(long)), few, floats];
    let schema = table_schema(table);
    let columns = columns.iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

impl World {
    async fn new() -> Self {
        let (storage, ids) = (Storage::in_memory(), Counted(AtomicU64::new(1)));
        let table = Arc::new(table());
        let mut world = Self { storage, ids, table, files: vec![], bytes: vec![], regions: vec![] };
        for (first, dead) in [(0, vec![]), (2, (0..9000).step_by(7).collect())] {
            let sst = world.write(rows(&world.table, first)).await;
            let mut stamps = Stamps::default();
            if !dead.is_empty() {
                let positions = Arc::new(dead.into_iter().collect::<RoaringBitmap>());
                stamps.push(Stamp { epoch: Epoch::from_u64(4 << 16), positions });
            }
            let bytes = world.storage.get(&layout::sst(DIRECTORY, sst.id)).await.unwrap();
            world.regions.push(regions(&bytes));
            world.bytes.push(bytes);
            let file = FileEntry::born(sst, Epoch::from_u64(3 << 16));
            world.files.push(Arc::new(FileEntry { stamps, ..file }));
        }
        world
    }

    fn target(&self) -> Target<'_> {
        Target {
            storage: &self.storage,
            data_directory: DIRECTORY,
            ids: &self.ids,
            sst_bytes_target: 1 << 30,
            inline: false,
        }
    }

    async fn write(&self, rows: RecordBatch) -> Arc<SstInfo> {
        let rows = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
        let context = SessionContext::new().task_ctx();
        let target = self.target();
        let written = write_rows(&target, TABLE, &self.table, Box::pin(rows), &context);
        let [sst] = written.await.unwrap().files.try_into().unwrap();
        sst
    }

    /// Overwrites a file with these bytes.
    async fn put(&self, file: usize, bytes: Bytes) {
        let path = layout::sst(DIRECTORY, self.files[file].sst.id);
        self.storage.object_store().put(&path, PutPayload::from(bytes)).await.unwrap();
    }

    /// The files with metadata as it was before blocks had checksums.
    fn old_files(&self) -> Vec<Arc<FileEntry>> {
        let old = |file: &Arc<FileEntry>| {
            let sst = SstInfo { block_sums: None, ..SstInfo::clone(&file.sst) };
            Arc::new(FileEntry { sst: Arc::new(sst), ..FileEntry::clone(file) })
        };
        self.files.iter().map(old).collect()
    }

    /// The same files as the other table has them: no row of the second is dead, but one of the first.
    fn lent_files(&self) -> Vec<Arc<FileEntry>> {
        let mut stamps = Stamps::default();
        let positions = Arc::new(RoaringBitmap::from_iter([3]));
        stamps.push(Stamp { epoch: Epoch::from_u64(5 << 16), positions });
        let lent = [stamps, Stamps::default()].into_iter().zip(&self.files);
        let lent = lent.map(|(stamps, file)| {
            Arc::new(FileEntry { table_id: OTHER, stamps, ..FileEntry::clone(file) })
        });
        lent.collect()
    }

    /// A session that has read nothing yet.
    async fn session(&self, files: &[Arc<FileEntry>], cached: bool) -> SessionContext {
        let config = SessionConfig::new().with_target_partitions(2).with_collect_statistics(true);
        let session = SessionContext::new_with_config(config);
        let url = ObjectStoreUrl::parse(URL).unwrap();
        session.register_object_store(url.as_ref(), self.storage.object_store());
        let memory_bytes = if cached { 64 << 20 } else { 0 };
        let settings = CacheSettings { memory_bytes, ..CacheSettings::default() };
        let blocks = BlockStore::open(self.storage.object_store(), &settings, "c").await.unwrap();
        let live: Vec<LiveFile> =
            files.iter().map(|file| file.live_at(Epoch::from_u64(NOW))).collect();
        let (table, statistics) = (Arc::clone(&self.table), Arc::<StatisticsCache>::default());
        let table = SstTable::new(table, live, url, &Arc::new(blocks), DIRECTORY, statistics);
        let table = table.with_key_filters(&Arc::new(KeyFilters::new(1 << 20))).named("public.t");
        session.register_table("t", Arc::new(table)).unwrap();
        session
    }

    /// Copies all live rows into new files, and reads those.
    async fn compacted(&self, files: &[Arc<FileEntry>]) -> Result<RecordBatch, DataFusionError> {
        let executor = Executor::new(&self.storage, 64 << 20).unwrap();
        let base = Epoch::from_u64(NOW);
        let inputs = Inputs { table_id: files[0].table_id, files: files.to_vec(), base };
        let ran = executor.run(&inputs, &self.table, &self.target()).await;
        let born = ran.map_err(|error| DataFusionError::External(Box::new(error)))?.born;
        let entry = |sst| Arc::new(FileEntry::born(sst, base));
        let born: Vec<_> = born.into_iter().map(entry).collect();
        assert!(born.iter().all(|file| file.table_id == inputs.table_id), "{born:?}");
        let session = self.session(&born, false).await;
        let rows = ask(&session, "SELECT * FROM t ORDER BY k").await;
        for file in born {
            let path = layout::sst(DIRECTORY, file.sst.id);
            self.storage.object_store().delete(&path).await.unwrap();
        }
        rows
    }

    async fn answers(&self) -> Answers {
        let session = self.session(&self.files, false).await;
        let mut by_key = vec![];
        for key in keys() {
            by_key.push(ask(&session, &by_key_query(key)).await.unwrap());
        }
        let all = ask(&session, "SELECT * FROM t ORDER BY k").await.unwrap();
        Answers { all, by_key, statistics: ask(&session, STATISTICS).await.unwrap() }
    }

    /// Whether a read returns the right rows; an error if it fails.
    async fn look(
        &self,
        look: Look,
        files: &[Arc<FileEntry>],
        cached: bool,
        expected: &Answers,
    ) -> Result<bool, DataFusionError> {
        let session = self.session(files, cached).await;
        Ok(match look {
            Look::All => ask(&session, "SELECT * FROM t ORDER BY k").await? == expected.all,
            Look::Statistics => ask(&session, STATISTICS).await? == expected.statistics,
            Look::Compaction => self.compacted(files).await? == expected.all,
            Look::ByKey => {
                for (key, expected) in keys().into_iter().zip(&expected.by_key) {
                    if ask(&session, &by_key_query(key)).await? != *expected {
                        return Ok(false);
                    }
                }
                true
            }
        })
    }
}

const STATISTICS: &str = "SELECT min(k), max(k), count(*), count(v), max(w) FROM t";

/// A key of the first file, one of the second, a dead one, and one that does not exist.
fn keys() -> [i64; 4] {
    [4 * 5000, 4 * 8001 + 2, 2, 4 * 7000 + 1]
}

fn by_key_query(key: i64) -> String {
    format!("SELECT * FROM t WHERE k = {key}")
}

async fn ask(session: &SessionContext, query: &str) -> Result<RecordBatch, DataFusionError> {
    let frame = session.sql(query).await?;
    let schema = Arc::clone(frame.schema().inner());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// The parts of a file, by kind.
fn regions(bytes: &Bytes) -> Vec<Region> {
    let footer = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(bytes)
        .unwrap();
    let at = |start: i64, length: i64| -> Range<usize> {
        let start = usize::try_from(start).unwrap();
        start..start + usize::try_from(length).unwrap()
    };
    let mut regions = vec![];
    for column in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        let (start, end) = (start.cast_signed(), (start + length).cast_signed());
        let data = column.data_page_offset();
        if data > start {
            regions.push(("dictionary", at(start, data - start)));
        }
        regions.push(("pages", at(data, end - data)));
        let bloom = column.bloom_filter_offset().zip(column.bloom_filter_length());
        let columns = column.column_index_offset().zip(column.column_index_length());
        let offsets = column.offset_index_offset().zip(column.offset_index_length());
        for (name, part) in [("Bloom filter", bloom), ("index", columns), ("index", offsets)] {
            regions.extend(part.map(|(start, length)| (name, at(start, i64::from(length)))));
        }
    }
    let length = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap());
    let footer_bytes = usize::try_from(length).unwrap() + 8;
    regions.push(("footer", bytes.len() - footer_bytes..bytes.len()));
    let names = ["dictionary", "pages", "Bloom filter", "index", "footer"];
    assert!(names.iter().all(|name| regions.iter().any(|(found, _)| found == name)));
    regions
}

/// The file's bytes with a random damage in the region, and the kind of damage.
fn damaged(
    bytes: &Bytes,
    region: &Range<usize>,
    other: &Bytes,
    random: &mut Random,
) -> (&'static str, Bytes) {
    let mut wrong = bytes.to_vec();
    let at = region.start + random.below(region.len());
    let end = |length: usize| bytes.len().min(at + length);
    let what = match random.below(7) {
        0 | 1 => {
            wrong[at] ^= 1 << random.below(8);
            "flipped bit"
        }
        2 => {
            for _ in 0..8 {
                let at = region.start + random.below(region.len());
                wrong[at] ^= u8::try_from(1 + random.below(255)).unwrap();
            }
            "flipped bytes"
        }
        3 => {
            let end = end([64, 512, 4096][random.below(3)]);
            wrong[at..end].fill(0);
            "zeroed block"
        }
        4 => {
            wrong.truncate(at);
            "cut"
        }
        5 => {
            let length = end(1 + random.below(4096)) - at;
            let from = random.below(bytes.len() - length);
            let piece = bytes.slice(from..from + length);
            let there = bytes.slice(at..at + length);
            wrong[from..from + length].copy_from_slice(&there);
            wrong[at..at + length].copy_from_slice(&piece);
            "swapped blocks"
        }
        _ => {
            // The bytes of another file at that position, or all of that file.
            if random.below(2) == 0 {
                wrong = other.to_vec();
            } else {
                // The other file may be shorter.
                let end = end(4096).min(other.len());
                let start = at.min(end);
                wrong[start..end].copy_from_slice(&other[start..end]);
            }
            "swapped objects"
        }
    };
    (what, wrong.into())
}

/// The damage that an error reports.
fn told(error: &DataFusionError) -> Option<&DamagedFile> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| {
        let parquet = error.downcast_ref::<datafusion::parquet::errors::ParquetError>();
        match parquet {
            Some(datafusion::parquet::errors::ParquetError::External(inner)) => {
                inner.downcast_ref::<DamagedFile>()
            }
            _ => error.downcast_ref::<DamagedFile>(),
        }
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test]
async fn a_damaged_file_is_read_as_it_was_written_or_not_at_all() {
    let world = World::new().await;
    let (expected, old) = (world.answers().await, world.old_files());
    assert!(
        world.bytes.iter().all(|bytes| bytes.len() > 2 * tidemark_ledger::storage::BLOCK_BYTES)
    );
    let first = number("TIDEMARK_DAMAGE_SEED").unwrap_or(0);
    let (mut noticed, mut harmless) = (0, 0);
    for seed in first..first + number("TIDEMARK_DAMAGES").unwrap_or(DAMAGES) {
        let mut random = Random(seed);
        let file = random.below(2);
        let names = ["dictionary", "pages", "Bloom filter", "index", "footer"];
        let name = names[random.below(names.len())];
        let named: Vec<_> =
            world.regions[file].iter().filter(|(found, _)| *found == name).collect();
        let (_, region) = named[random.below(named.len())];
        let (what, wrong) =
            damaged(&world.bytes[file], region, &world.bytes[1 - file], &mut random);
        let is_wrong = wrong != world.bytes[file];
        world.put(file, wrong).await;
        let files = if random.below(3) == 0 { &old } else { &world.files };
        let cached = random.below(2) == 0;
        for look in [Look::All, Look::ByKey, Look::Statistics, Look::Compaction] {
            if matches!(look, Look::Compaction) && random.below(3) > 0 {
                continue;
            }
            let case = format!("{look:?} after {what} in the {name}, TIDEMARK_DAMAGE_SEED={seed}");
            match world.look(look, files, cached, &expected).await {
                Ok(right) => {
                    assert!(right, "a wrong answer: {case}");
                    harmless += 1;
                }
                Err(error) => {
                    let told = told(&error).unwrap_or_else(|| panic!("{case}: {error}"));
                    assert!(is_wrong, "{case}: {error}");
                    assert_eq!(told.sst, world.files[file].sst.id, "{case}");
                    noticed += 1;
                }
            }
        }
        let path = layout::sst(DIRECTORY, world.files[file].sst.id);
        let expected = world.files[file].sst.expected();
        assert_eq!(world.storage.is_whole(&path, expected).await.unwrap(), !is_wrong, "verified");
        world.put(file, world.bytes[file].clone()).await;
    }
    tracing::info!(noticed, harmless, "damages");
    assert!(noticed > harmless, "{noticed} noticed, {harmless} harmless");
}

/// Proves that the test above would notice: here the checksums are those of the damaged bytes.
#[tokio::test]
async fn what_is_not_checked_gives_wrong_answers() {
    let world = World::new().await;
    let expected = world.answers().await;
    let pages = world.regions[0].iter().find(|(name, _)| *name == "dictionary").unwrap();
    let (mut wrong_answers, mut copied) = (0, 0);
    for at in pages.1.clone().step_by(pages.1.len() / 24) {
        let mut wrong = world.bytes[0].to_vec();
        wrong[at] ^= 1;
        let block_sums = Some(BlockSums::of(&wrong));
        world.put(0, wrong.into()).await;
        let sst = SstInfo { block_sums, ..SstInfo::clone(&world.files[0].sst) };
        let file = FileEntry { sst: Arc::new(sst), ..FileEntry::clone(&world.files[0]) };
        let files = [Arc::new(file), Arc::clone(&world.files[1])];
        if let Ok(false) = world.look(Look::All, &files, false, &expected).await {
            wrong_answers += 1;
            let compacted = world.look(Look::Compaction, &files, false, &expected).await;
            copied += u32::from(matches!(compacted, Ok(false)));
        }
    }
    assert!(wrong_answers > 0 && copied > 0, "{wrong_answers} and {copied}");
}

#[tokio::test]
async fn a_compaction_copies_no_damaged_row() {
    let world = World::new().await;
    let (expected, old) = (world.answers().await, world.old_files());
    assert_eq!(world.compacted(&world.files).await.unwrap(), expected.all);
    for (page, files) in [(3, &world.files), (1, &old)] {
        let pages = world.regions[0].iter().filter(|(name, _)| *name == "pages").nth(page);
        let (_, region) = pages.unwrap();
        let mut wrong = world.bytes[0].to_vec();
        wrong[region.end - 100] ^= 1;
        world.put(0, wrong.into()).await;
        let error = world.compacted(files).await.unwrap_err();
        assert_eq!(told(&error).unwrap().sst, world.files[0].sst.id, "{error}");
        world.put(0, world.bytes[0].clone()).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_by_its_table() {
    let world = World::new().await;
    let (expected, old) = (world.answers().await, world.old_files());
    let sst = world.files[0].sst.id;
    world.storage.object_store().delete(&layout::sst(DIRECTORY, sst)).await.unwrap();
    for (files, cached) in [(&world.files, false), (&world.files, true), (&old, false)] {
        let error = world.look(Look::All, files, cached, &expected).await.unwrap_err();
        let gone = told(&error).unwrap_or_else(|| panic!("{error}"));
        assert_eq!((gone.sst, gone.damage), (sst, Damage::Gone));
        assert!(gone.to_string().ends_with("of table \"public.t\" is gone"), "{gone}");
        assert!(gone.detail().ends_with("does not exist.") && gone.hint().contains("repair"));
    }
}

#[tokio::test]
async fn each_table_reads_and_copies_its_own_rows_of_a_shared_file() {
    let world = World::new().await;
    let keys = async |files: &[Arc<FileEntry>]| {
        let session = world.session(files, true).await;
        let keys = ask(&session, "SELECT k FROM t ORDER BY k").await.unwrap();
        assert_eq!(world.compacted(files).await.unwrap().column(0), keys.column(0));
        keys.column(0).as_primitive::<Int64Type>().values().to_vec()
    };
    let (own, lent) = (keys(&world.files).await, keys(&world.lent_files()).await);
    // The first file has the keys 0, 4 and so on; rows 0, 7 and so on of the second are dead in one table.
    let all = (0..2 * ROWS).map(|n| 2 * n);
    let is_dead = |key: &i64| key % 4 == 2 && (key / 4) % 7 == 0;
    assert_eq!(own, all.clone().filter(|key| !is_dead(key)).collect::<Vec<_>>());
    assert_eq!(lent, all.filter(|key| *key != 12).collect::<Vec<_>>());
}

#[tokio::test]
async fn damage_is_told_by_the_table_through_which_it_is_read() {
    let world = World::new().await;
    let path = layout::sst(DIRECTORY, world.files[0].sst.id);
    world.storage.object_store().delete(&path).await.unwrap();
    for (files, table) in [(world.files.clone(), TABLE), (world.lent_files(), OTHER)] {
        let error = world.compacted(&files).await.unwrap_err();
        assert_eq!(told(&error).map(|gone| gone.table), Some(table), "{error}");
    }
}

#[test]
fn rows_in_the_metadata_are_checked_before_they_are_decoded() {
    let table = table();
    let batch = rows(&table, 0).slice(0, 10);
    let inline = InlineRows::encode(&batch).unwrap().unwrap();
    let sst = |sha256| SstInfo {
        id: SstId(3),
        written_for: TABLE,
        rows: 10,
        size_bytes: inline.bytes().len() as u64,
        row_group_rows: vec![10],
        sha256,
        block_sums: None,
        columns: Arc::default(),
        keys: None,
        inline: Some(Box::new(inline.encoded())),
    };
    let right = sst(Checksum::of(inline.bytes()));
    assert_eq!(right.inline_rows(TABLE).unwrap().unwrap().num_rows(), 10);
    let error = sst(Checksum::of(b"others")).inline_rows(TABLE).unwrap().unwrap_err();
    assert!(error.to_string().contains("data file 3 of table 5 is damaged"), "{error}");
}
