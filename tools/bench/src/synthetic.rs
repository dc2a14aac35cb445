//! A cluster with as many data files as one likes: its metadata is what compaction would have left
//! behind, its data files are as long as it says and empty.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;
use tidemark::config;
use tidemark::demo::process::ServerProcess;
use tidemark_ledger::checkpoint::Checkpoint;
use tidemark_ledger::epoch::{Epoch, Lifetime};
use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::meta_store::{MetaStore as _, Operation, Pair, SqliteStore, Txn};
use tidemark_ledger::sst::{KeyRange, SstColumn, SstInfo, file_columns};
use tidemark_ledger::state::{NextIds, State, decode_value, json_pair, put};
use tidemark_ledger::storage::{Checksum, Storage, StorageLocation};
use tidemark_ledger::version::{FileEntry, Stamp, Stamps, Version, VersionDelta};
use tidemark_ledger::{checkpoint, keys, layout};

use crate::{Fallible, meta_store};

/// A table that is really there.
pub const SMALL: &str = "small";

const TABLES: u64 = 16;
/// A file is full: so many row groups of so many rows.
const ROW_GROUPS: usize = 4;
const ROWS_PER_GROUP: u32 = 1 << 20;
const ROWS: u64 = ROW_GROUPS as u64 * ROWS_PER_GROUP as u64;
const FILE_BYTES_MIN: u64 = 160 << 20;
const FILE_BYTES_SPREAD: u64 = 96 << 20;
/// One file of so many has dead rows.
const STAMPED: u64 = 10;
const DEAD_ROWS: u32 = 20;
/// One file of so many was compacted away a moment ago.
const ENDED: u64 = 50;
/// Time between the births of two files.
const BIRTHS_MS: u64 = 500;

/// Makes the cluster in `store`: some tables through SQL, and then their files behind its back.
pub async fn make(program: &Path, store: &Path, flags: &[String], files: u64) -> Fallible<()> {
    let scratch = store.parent().ok_or("the store lies in no folder")?;
    let server = ServerProcess::start(program, flags, None, scratch).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!("CREATE TABLE {SMALL} (id bigint PRIMARY KEY, v varchar)"))
        .await?;
    client.batch_execute(&format!("INSERT INTO {SMALL} VALUES (1, 'one'), (2, 'two')")).await?;
    for n in 0..TABLES {
        let ddl = format!(
            "CREATE TABLE {} (id bigint PRIMARY KEY, device bigint, at timestamptz, kind varchar, \
             value double precision, unit varchar, source varchar, note varchar)",
            table_name(n)
        );
        client.batch_execute(&ddl).await?;
    }
    drop(client);
    server.stop().await?;

    let folder = store.join(config::STATE_STORE_FOLDER);
    let storage = StorageLocation::new(format!("fs://{}", folder.display()), "").open()?;
    let meta = SqliteStore::open(&meta_store(store).display().to_string()).await?;
    let pairs = meta.list("").await?;
    let state = State::decode(&pairs, version(&pairs, &storage).await?)?;
    let mut full = Version::clone(&state.version);
    let tables = tables(&state)?;
    let (first, newest) = (state.next.sst.0, full.max_committed_epoch);
    for n in 0..files {
        let at = usize::try_from(n % TABLES)?;
        let age_ms = (files - n) * BIRTHS_MS;
        let file = file(SstId(first + n), &tables[at], n / TABLES, newest.minus_ms(age_ms), newest);
        make_object(&folder, &file.sst)?;
        full.insert(file);
    }
    let checkpoint = checkpoint::write(&storage, config::DATA_DIRECTORY, &full).await?;
    let next = NextIds { sst: SstId(first + files), ..state.next };
    let deltas = pairs.into_iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX));
    let mut operations: Vec<_> = deltas.map(|pair| Operation::Delete { key: pair.key }).collect();
    operations.push(put(json_pair(keys::NEXT_IDS.to_owned(), &next)));
    operations.push(put(json_pair(keys::VERSION_CHECKPOINT.to_owned(), &checkpoint)));
    Ok(meta.commit(Txn { preconditions: vec![], operations }).await?)
}

fn table_name(n: u64) -> String {
    format!("events_{n:02}")
}

/// A table that gets files, with the columns that each has.
struct Filled {
    id: ObjectId,
    columns: Arc<[SstColumn]>,
}

fn tables(state: &State) -> Fallible<Vec<Filled>> {
    let catalog = state.catalog.at(state.version.max_committed_epoch);
    let mut tables = vec![];
    for n in 0..TABLES {
        let name = table_name(n);
        let found = catalog.relations().find(|relation| relation.name == name);
        let relation = found.ok_or("a table is not there")?;
        let columns = file_columns(relation.as_table().ok_or("it is no table")?);
        tables.push(Filled { id: relation.id, columns });
    }
    Ok(tables)
}

/// The version as recovery would see it.
async fn version(pairs: &[Pair], storage: &Storage) -> Fallible<Version> {
    let pointer = pairs.iter().find(|pair| pair.key == keys::VERSION_CHECKPOINT);
    let pointer: Checkpoint = decode_value(pointer.ok_or("there is no checkpoint")?)?;
    let mut version = checkpoint::read(storage, &pointer).await?;
    for pair in pairs.iter().filter(|pair| pair.key.starts_with(keys::VERSION_DELTA_PREFIX)) {
        version = version.apply(&decode_value::<VersionDelta>(pair)?);
    }
    Ok(version)
}

/// A file that holds the `nth` stretch of the keys of its table.
fn file(id: SstId, table: &Filled, nth: u64, born: Epoch, newest: Epoch) -> FileEntry {
    let key = |id: u64| (id ^ 1 << 63).to_be_bytes();
    let noise = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let sst = SstInfo {
        id,
        written_for: table.id,
        rows: ROWS,
        size_bytes: FILE_BYTES_MIN + noise % FILE_BYTES_SPREAD,
        row_group_rows: vec![ROWS_PER_GROUP; ROW_GROUPS],
        sha256: Checksum::of(&id.0.to_le_bytes()),
        block_sums: None,
        columns: Arc::clone(&table.columns),
        keys: KeyRange::of(&key(nth * ROWS), &key((nth + 1) * ROWS - 1)),
        inline: None,
    };
    let mut stamps = Stamps::default();
    if id.0.is_multiple_of(STAMPED) {
        let positions: RoaringBitmap = (0..DEAD_ROWS).map(|n| 1000 + n * 3).collect();
        stamps.push(Stamp { epoch: newest, positions: Arc::new(positions) });
    }
    let lifetime = Lifetime::since(born);
    let lifetime = if id.0.is_multiple_of(ENDED) { lifetime.ended_at(newest) } else { lifetime };
    FileEntry { lifetime, stamps, ..FileEntry::born(Arc::new(sst), born) }
}

/// An object of the right length, which takes no room.
fn make_object(folder: &Path, sst: &SstInfo) -> std::io::Result<()> {
    let path = layout::sst(config::DATA_DIRECTORY, sst.id);
    File::create_new(folder.join(path.as_ref()))?.set_len(sst.size_bytes)
}
