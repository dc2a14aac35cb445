//! Tests that a snapshot reads back as it was written or is refused.

mod damage;

use bytes::Bytes;
use object_store::path::Path;

use super::*;
use crate::backup::{BackupError, ManifestEntry, SnapshotDetail, sample};
use crate::state::State;
use crate::storage::Storage;

fn path() -> Path {
    Path::from("backup/1.snapshot")
}

async fn write_state(
    storage: &Storage,
    state: &State,
    id: u64,
) -> Result<ManifestEntry, BackupError> {
    let created_at = sample::CREATED_AT.to_owned();
    let detail = SnapshotDetail::of(state, SnapshotId(id), Some("nightly".to_owned()), created_at);
    let pairs = state.encode_without_version();
    let written = write(storage, &path(), pairs, &state.version, &detail).await?;
    Ok(ManifestEntry {
        info: detail.info,
        size_bytes: written.size_bytes,
        sha256: written.sha256,
        verification: None,
    })
}

/// The bytes of a snapshot of `state`.
async fn bytes_of(state: &State, id: u64) -> Bytes {
    let storage = Storage::in_memory();
    write_state(&storage, state, id).await.unwrap();
    storage.get(&path()).await.unwrap()
}

/// Reads the state from a file with these bytes.
async fn read_bytes(
    bytes: impl Into<Bytes>,
    expected: Option<&ManifestEntry>,
) -> Result<State, BackupError> {
    let storage = Storage::in_memory();
    storage.put_new(&path(), bytes.into()).await.unwrap();
    SnapshotReader::open(&storage, &path(), expected).await?.state().await
}

#[tokio::test]
async fn a_snapshot_reads_back_as_it_was_written() {
    let storage = Storage::in_memory();
    let state = sample::state();
    let entry = write_state(&storage, &state, 1).await.unwrap();
    let reader = SnapshotReader::open(&storage, &path(), Some(&entry)).await.unwrap();
    assert_eq!(reader.info(), &entry.info);
    assert_eq!((reader.tables()["7"].name.as_str(), reader.tables()["7"].rows), ("public.t", 9));
    assert_eq!(reader.state().await.unwrap(), state);
    assert_eq!(reader.all_pairs().await.unwrap(), state.encode_without_version());
    assert_eq!(reader.version().await.unwrap(), *state.version);
    let sections: Vec<_> = reader.pair_sections().collect();
    assert_eq!(sections, ["bare", "catalog", "meta", "param", "user"]);
    assert_eq!(reader.pairs("user").await.unwrap().len(), 1);
    assert_eq!(reader.pairs("none").await.unwrap(), []);
    assert_eq!(reader.pairs("version").await.unwrap(), []);
    reader.check_whole(&entry.sha256).await.unwrap();
    reader.check_whole(&"0".repeat(64)).await.unwrap_err();
}

#[tokio::test]
async fn large_snapshots_are_read_in_pieces() {
    let mut state = sample::state();
    let mut seed = 7;
    let large = (0..500_u32).map(|n| {
        let noise: Vec<u8> = (0..8_000).map(|_| random(&mut seed).to_le_bytes()[2]).collect();
        (format!("blob{n:03}/{}", "k".repeat(300)), Bytes::from(noise))
    });
    state.other = std::sync::Arc::new(large.collect());
    let bytes = bytes_of(&state, 1).await;
    assert!(bytes.len() > 4_000_000);
    assert_eq!(read_bytes(bytes, None).await.unwrap(), state);
}

#[tokio::test]
async fn an_object_of_that_name_is_an_error() {
    let storage = Storage::in_memory();
    write_state(&storage, &sample::state(), 1).await.unwrap();
    let error = write_state(&storage, &sample::state(), 1).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error:?}");
}

#[tokio::test]
async fn pairs_that_would_pass_for_the_version_are_not_written() {
    let mut state = sample::state();
    let pair = ("version".to_owned(), Bytes::from("1"));
    state.other = std::sync::Arc::new(std::collections::BTreeMap::from([pair]));
    let storage = Storage::in_memory();
    assert!(write_state(&storage, &state, 1).await.is_err());
    assert_eq!(storage.get_opt(&path()).await.unwrap(), None);
}

/// A random number generator that yields the same numbers in every run.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn below(seed: &mut u64, end: usize) -> usize {
    usize::try_from(random(seed)).unwrap() % end
}

/// One random damage: a flipped bit, a cut, an insertion, or bytes of another snapshot.
fn damage(whole: &[u8], other: &[u8], seed: &mut u64) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let at = below(seed, bytes.len());
    match below(seed, 5) {
        0 => bytes[at] ^= 1 << below(seed, 8),
        1 => bytes.truncate(at),
        2 => {
            let end = at + below(seed, bytes.len() - at);
            bytes.drain(at..=end.min(bytes.len() - 1));
        }
        3 => {
            let noise = (0..=below(seed, 40)).map(|_| random(seed).to_le_bytes()[1]);
            let noise: Vec<_> = noise.collect();
            bytes.splice(at..at, noise);
        }
        _ => {
            let start = below(seed, other.len());
            let end = start + below(seed, other.len() - start);
            let count = (end - start).min(bytes.len() - at);
            bytes[at..at + count].copy_from_slice(&other[start..start + count]);
        }
    }
    bytes
}

#[tokio::test]
async fn no_damage_is_accepted() {
    let state = sample::state();
    let whole = bytes_of(&state, 1).await;
    let other = bytes_of(&sample::state_in("memory://other"), 2).await;
    let mut seed = 42;
    let mut tried = 0;
    while tried < 600 {
        let damaged = damage(&whole, &other, &mut seed);
        if damaged != whole {
            tried += 1;
            let read = read_bytes(damaged, None).await;
            assert!(read.is_err(), "damage {tried} was accepted");
        }
    }
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x40;
        assert!(read_bytes(bytes, None).await.is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn every_damage_names_the_file_and_the_section() {
    let whole = bytes_of(&sample::state(), 1).await;
    let mut bytes = whole.to_vec();
    bytes[HEADER_BYTES + 12] ^= 1;
    let error = read_bytes(bytes, None).await.unwrap_err().to_string();
    assert!(error.contains("/backup/1.snapshot is damaged: section \"bare\""), "{error}");
    let error = read_bytes(whole.slice(..40), None).await.unwrap_err().to_string();
    assert!(error.contains("/backup/1.snapshot is damaged: it is too short"), "{error}");
}

#[tokio::test]
async fn another_whole_snapshot_under_its_name_is_refused() {
    let storage = Storage::in_memory();
    let entry = write_state(&storage, &sample::state(), 1).await.unwrap();
    let mut other = sample::state();
    other.cluster_id = sample::CLUSTER_ID.replace('5', "6");
    let other = bytes_of(&other, 1).await;
    read_bytes(other.clone(), None).await.unwrap();
    let error = read_bytes(other, Some(&entry)).await.unwrap_err().to_string();
    assert!(error.contains("manifest"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_named() {
    let mut bytes = bytes_of(&sample::state(), 1).await.to_vec();
    bytes[8] = 2;
    let error = read_bytes(bytes, None).await.unwrap_err();
    assert!(matches!(error, BackupError::Format { found: 2, .. }), "{error:?}");
}

#[tokio::test]
async fn a_section_never_unpacks_to_more_than_was_announced() {
    let bomb = zstd::encode_all(&vec![0_u8; 50 << 20][..], 3).unwrap();
    let sha256 = crate::storage::checksum::sha256_hex(&bomb);
    let section = Section {
        name: "bomb".to_owned(),
        offset: HEADER_BYTES as u64,
        stored_bytes: bomb.len() as u64,
        raw_bytes: 5,
        entries: 1,
        sha256,
    };
    let state = sample::state();
    let detail = SnapshotDetail::of(&state, SnapshotId(1), None, String::new());
    let header = header(SnapshotId(1));
    let footer = serde_json::to_vec(&Footer { sections: vec![section], detail }).unwrap();
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    let guard = frame_sha256(&header, &footer);
    let bytes = [&header[..], &bomb, &footer, &length, &guard, END_MAGIC].concat();
    let storage = Storage::in_memory();
    storage.put_new(&path(), bytes.into()).await.unwrap();
    let reader = SnapshotReader::open(&storage, &path(), None).await.unwrap();
    let error = reader.pairs("bomb").await.unwrap_err().to_string();
    assert!(error.contains("section \"bomb\""), "{error}");
}

#[tokio::test]
async fn format_1_reads_forever() {
    let state = sample::state();
    let made = bytes_of(&state, 1).await;
    let written = crate::fixtures::read_or_update("snapshot-v1.snapshot", || made);
    assert_eq!(read_bytes(written, None).await.unwrap(), state);
}
