//! Checkpoints: a version stored as an object, so that recovery need not replay every delta ever made.
//!
//! The object is one zstd frame of the lines of [`crate::version::encoding`]. The meta store holds
//! the [`Checkpoint`], with the name and the checksum of the object.

use std::io::BufReader;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::version::{Version, encoding};
use crate::error::HummockError;
use crate::id::VersionId;
use crate::layout;
use crate::storage::Storage;
use crate::storage::checksum::Summed;

const ZSTD_LEVEL: i32 = 3;

/// A pointer to a checkpoint object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The object, in the state store.
    pub path: String,
    pub version_id: VersionId,
    pub sha256: String,
    pub size_bytes: u64,
}

/// Writes `version` to a new object with a unique name.
pub async fn write(
    storage: &Storage,
    data_dir: &str,
    version: &Version,
) -> Result<Checkpoint, HummockError> {
    let nonce = crate::ambient::uuid().simple().to_string();
    let path = layout::checkpoint(data_dir, version.id, &nonce);
    let encoded = version.clone();
    let written = storage.write_with(&path, move |to| {
        let mut encoder = zstd::Encoder::new(Summed::new(to), ZSTD_LEVEL)?;
        encoding::encode(&encoded, &mut encoder)?;
        let (_, size_bytes, sha256) = encoder.finish()?.finish();
        Ok::<_, std::io::Error>((size_bytes, sha256))
    });
    let (size_bytes, sha256) = written
        .await?
        .map_err(|source| HummockError::Stream { action: "write the version", source })?;
    Ok(Checkpoint { path: path.to_string(), version_id: version.id, sha256, size_bytes })
}

/// Reads the version of `checkpoint` and verifies the size and checksum of its object and its version id.
pub async fn read(storage: &Storage, checkpoint: &Checkpoint) -> Result<Version, HummockError> {
    let path = object_path(checkpoint)?;
    let size_bytes = storage.size(&path).await?;
    let name = storage.name_of(&path);
    let damaged = |what: &str| HummockError::Corrupt(format!("the checkpoint {name} {what}"));
    if size_bytes != checkpoint.size_bytes {
        return Err(damaged("is not of the size it was written in"));
    }
    let (decoded, sha256) = storage.read_with(&path, 0..size_bytes, decode_summed).await??;
    if sha256 != checkpoint.sha256 {
        return Err(damaged("does not match its checksum"));
    }
    let version = decoded?;
    match version.id == checkpoint.version_id {
        true => Ok(version),
        false => Err(damaged("holds another version")),
    }
}

/// Reads a checkpoint whose checksum is not known any more. Good enough for a report, and for nothing else.
pub async fn read_unproven(storage: &Storage, path: &Path) -> Result<Version, HummockError> {
    let size_bytes = storage.size(path).await?;
    let (decoded, _) = storage.read_with(path, 0..size_bytes, decode_summed).await??;
    let version = decoded?;
    version.check()?;
    Ok(version)
}

/// The path of a checkpoint's object.
pub fn object_path(checkpoint: &Checkpoint) -> Result<Path, HummockError> {
    Path::parse(&checkpoint.path)
        .map_err(|e| HummockError::Corrupt(format!("the name of a checkpoint object: {e}")))
}

type Decoded = (Result<Version, HummockError>, String);

/// The decoded version, and the checksum of the stored bytes, which the caller compares first.
fn decode_summed(from: crate::storage::ChunkReader) -> Result<Decoded, HummockError> {
    let failed = |source| HummockError::Stream { action: "read the version", source };
    let mut stored = BufReader::new(Summed::new(from));
    let decoded = zstd::Decoder::with_buffer(&mut stored)
        .map_err(failed)
        .and_then(|decoder| encoding::decode(BufReader::new(decoder)));
    std::io::copy(&mut stored, &mut std::io::sink()).map_err(failed)?;
    Ok((decoded, stored.into_inner().finish().2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::tests::churned;

    #[tokio::test]
    async fn a_checkpoint_reads_back_and_its_names_are_never_used_twice() {
        let storage = Storage::in_memory();
        let first = write(&storage, "data", &churned()).await.unwrap();
        let second = write(&storage, "data", &churned()).await.unwrap();
        assert_ne!(first.path, second.path);
        assert_eq!(read(&storage, &first).await.unwrap(), churned());
    }

    #[tokio::test]
    async fn a_damaged_checkpoint_is_refused() {
        let storage = Storage::in_memory();
        let checkpoint = write(&storage, "data", &churned()).await.unwrap();
        let path = object_path(&checkpoint).unwrap();
        let whole = storage.get(&path).await.unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 0x10;
            storage.delete(&path).await.unwrap();
            storage.put_new(&path, bytes.into()).await.unwrap();
            assert!(read(&storage, &checkpoint).await.is_err(), "byte {at}");
        }
    }
}
