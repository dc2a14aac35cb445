//! What is read back from stores: it was ours once.

use bytes::Bytes;
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};

use tidemark_engine::meta::command::{CatalogCommand, Compaction, Pins, Write};
use tidemark_ledger::backup::{Manifest, OpenLocation, SnapshotReader};
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_store::Pair;
use tidemark_ledger::sst::InlineRows;
use tidemark_ledger::state::{Change, State};
use tidemark_ledger::version::encoding;
use tidemark_ledger::{layout, lease};

const DIRECTORY: &str = "d";

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O can always be made");
}

/// Puts `bytes` where `path` says and reads them with `read`.
fn stored<T>(path: &Path, bytes: &[u8], read: impl AsyncFnOnce(&OpenLocation) -> T) {
    let location = OpenLocation::in_memory(DIRECTORY);
    let work = async {
        let put = location.storage.put_new(path, Bytes::copy_from_slice(bytes)).await;
        put.expect("a store in memory takes everything");
        drop(read(&location).await);
    };
    RUNTIME.with(|runtime| runtime.block_on(work));
}

pub fn snapshot(bytes: &[u8]) {
    let path = layout::snapshot(DIRECTORY, SnapshotId(1));
    stored(&path, bytes, async |location| {
        let reader = SnapshotReader::open(&location.storage, &path, None).await?;
        drop(reader.objects().await);
        reader.state().await.map(drop)
    });
}

pub fn manifest(bytes: &[u8]) {
    stored(&layout::manifest(DIRECTORY), bytes, async |location| Manifest::read(location).await);
}

pub fn lease(bytes: &[u8]) {
    stored(&layout::lease(DIRECTORY), bytes, async |location| {
        lease::read(&location.storage, DIRECTORY).await
    });
}

/// A version, as checkpoints, snapshots and followers have it.
pub fn version(bytes: &[u8]) {
    if let Ok(version) = encoding::decode(bytes) {
        let mut again = vec![];
        encoding::encode(&version, &mut again).expect("memory takes what is written");
        assert!(encoding::decode(&again[..]).is_ok(), "a version does not read back");
    }
}

/// Pairs of the meta store, and the commands that come over the network.
pub fn metadata(bytes: &[u8]) {
    drop(serde_json::from_slice::<Change>(bytes));
    drop(serde_json::from_slice::<Vec<Write>>(bytes));
    drop(serde_json::from_slice::<Compaction>(bytes));
    drop(serde_json::from_slice::<CatalogCommand>(bytes));
    drop(serde_json::from_slice::<Pins>(bytes));
    let Ok(pairs) = serde_json::from_slice::<Vec<(String, String)>>(bytes) else { return };
    let pairs = pairs.into_iter().map(|(key, value)| Pair { key, value: value.into() });
    drop(State::decode_catalog(&pairs.collect::<Vec<_>>()));
}

pub fn inline_rows(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(rows) = serde_json::from_value::<InlineRows>(text.into()) else { return };
    if let Ok(batch) = rows.rows() {
        assert!(batch.columns().iter().all(|column| column.len() == batch.num_rows()));
    }
}
