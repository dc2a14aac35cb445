//! A small sample cluster, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use super::manifest::Claim;
use super::{NewSnapshot, OpenLocation};
use crate::catalog::{
    CatalogChange, Column, ColumnType, PUBLIC, Relation, RelationBody, Schema, Table,
};
use crate::epoch::{Epoch, Lifetime};
use crate::id::{ColumnId, ObjectId, SnapshotId, SstId};
use crate::layout;
use crate::params::{DATA_DIRECTORY, Params, STATE_STORE};
use crate::sst::SstInfo;
use crate::state::{NextIds, State};
use crate::storage::Storage;
use crate::storage::checksum::Checksum;
use crate::version::{FileEntry, FileStamp, Version};

pub const CLUSTER_ID: &str = "5ac8f7e2-0000-4000-8000-000000000001";
pub const DATA_DIR: &str = "hummock_001";
pub const CREATED_AT: &str = "2026-11-22T16:53:37.121Z";
/// The holder of the manifests.
pub const HOLDER: &str = "a server";
const TABLE: ObjectId = ObjectId(7);
const START_MS: u64 = 1_795_366_400_000;

/// What each data file holds, by the file's id.
const FILES: [(u64, u32, &str); 2] = [(3, 10, "the first file"), (5, 1, "the second")];

fn epoch(n: u64) -> Epoch {
    Epoch::from_unix_ms(START_MS + n * 1000)
}

/// A table `public.t` with two data files and 9 rows, and pairs unknown to this build.
pub fn state() -> State {
    state_in("memory")
}

/// The same, of a cluster whose data is in `state_store`.
pub fn state_in(state_store: &str) -> State {
    let mut params = Params::default();
    params.set(STATE_STORE, &format!("hummock+{state_store}"));
    params.set(DATA_DIRECTORY, DATA_DIR);
    let mut state = State::new(CLUSTER_ID.to_owned(), params, epoch(0));
    let user = ("user/postgres".to_owned(), Bytes::from_static(b"\x00\xff not json"));
    state.other = Arc::new(BTreeMap::from([user, ("bare".to_owned(), Bytes::new())]));
    let mut change = state.change_at(epoch(1));
    change.catalog = vec![create_public(epoch(1)), create_table(epoch(1))];
    let state = state.apply(&change);
    let mut change = state.change_at(epoch(2));
    change.next = NextIds { object: ObjectId(8), sst: SstId(6), snapshot: SnapshotId(2) };
    change.delta.born = FILES.map(sst).to_vec();
    let state = state.apply(&change);
    let mut change = state.change_at(epoch(3));
    let positions = Arc::new(RoaringBitmap::from_iter([0, 4]));
    change.delta.stamps = vec![FileStamp { table_id: TABLE, sst_id: SstId(3), positions }];
    state.apply(&change)
}

/// The sample after another table got its first file too, in a version of its own.
pub fn shared() -> State {
    let state = state();
    let mut version = Version::clone(&state.version);
    let file = version.open_file(TABLE, SstId(3)).expect("it is alive");
    let file = FileEntry { table_id: ObjectId(9), ..FileEntry::clone(file) };
    version.insert(file);
    State { version: Arc::new(version), ..state }
}

/// The state of a cluster in `storage`; writes its data files there.
pub async fn stored(storage: &Storage) -> State {
    for (id, _, content) in FILES {
        storage.put_new(&layout::sst(DATA_DIR, SstId(id)), content.into()).await.unwrap();
    }
    state_in(&storage.url().to_string())
}

/// The state of a cluster whose files are in `storage` already.
pub fn stored_again(storage: &Storage) -> State {
    state_in(&storage.url().to_string())
}

/// An empty backup directory of the cluster, in a memory store.
pub async fn backup_location() -> OpenLocation {
    let location = OpenLocation::in_memory("backup");
    claim(&location, HOLDER).await;
    location
}

pub async fn claim(location: &OpenLocation, holder: &str) {
    let claim = Claim::prepare(location, CLUSTER_ID, 0).await.unwrap();
    assert!(claim.take(holder).await.unwrap().is_some());
}

pub fn new_snapshot(id: u64, remarks: Option<&str>) -> NewSnapshot {
    NewSnapshot {
        id: SnapshotId(id),
        remarks: remarks.map(str::to_owned),
        created_at: CREATED_AT.to_owned(),
        holder: HOLDER.to_owned(),
    }
}

fn sst((id, rows, content): (u64, u32, &str)) -> Arc<SstInfo> {
    Arc::new(SstInfo {
        id: SstId(id),
        written_for: TABLE,
        rows: u64::from(rows),
        size_bytes: content.len() as u64,
        row_group_rows: vec![rows],
        sha256: Checksum::of(content.as_bytes()),
        block_sums: None,
        columns: Arc::default(),
        keys: None,
        inline: None,
    })
}

/// One of the data files.
pub fn sst_of(id: u64) -> SstInfo {
    let file =
        FILES.into_iter().find(|(known, ..)| *known == id).expect("it is a file of the sample");
    sst(file).as_ref().clone()
}

fn create_public(born: Epoch) -> CatalogChange {
    CatalogChange::CreateSchema(Schema {
        id: ObjectId(1),
        name: PUBLIC.to_owned(),
        lifetime: Lifetime::since(born),
    })
}

fn create_table(born: Epoch) -> CatalogChange {
    let column = Column {
        id: ColumnId(1),
        name: "id".to_owned(),
        column_type: ColumnType::BigInt,
        not_null: true,
        default: None,
        backfill: None,
    };
    CatalogChange::Define(Relation {
        id: TABLE,
        schema_id: ObjectId(1),
        name: "t".to_owned(),
        lifetime: Lifetime::since(born),
        body: RelationBody::Table(Table {
            columns: vec![column],
            primary_key: vec![ColumnId(1)],
            next_column_id: ColumnId(2),
        }),
    })
}
