//! A manifest as it was read, decoded no more often than it changes: it may list ten thousand snapshots.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Manifest, bytes_of, damaged, decode, encode};
use crate::backup::{BackupError, OpenLocation};
use crate::storage::checksum::Checksum;

/// A manifest and the bytes it was decoded from.
#[derive(Clone, Debug)]
pub struct ReadManifest(Arc<Read>);

#[derive(Debug)]
struct Read {
    manifest: Manifest,
    bytes: Bytes,
    sha256: Checksum,
}

impl ReadManifest {
    /// The bytes, which [`ManifestCache::decode`] takes.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The checksum of the bytes.
    pub fn sha256(&self) -> Checksum {
        self.0.sha256
    }
}

impl Deref for ReadManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.0.manifest
    }
}

/// The list of a location without a manifest.
impl Default for ReadManifest {
    fn default() -> Self {
        Self::from(Manifest::default())
    }
}

impl From<Manifest> for ReadManifest {
    fn from(manifest: Manifest) -> Self {
        let bytes = Bytes::from(encode(&manifest));
        let sha256 = Checksum::of(&bytes);
        Self(Arc::new(Read { manifest, bytes, sha256 }))
    }
}

/// The manifest read last.
#[derive(Debug, Default)]
pub struct ManifestCache(Mutex<ReadManifest>);

impl ManifestCache {
    /// Reads the manifest of a backup directory; `None` if it has none.
    pub async fn find(&self, location: &OpenLocation) -> Result<Option<ReadManifest>, BackupError> {
        let Some((bytes, _)) = bytes_of(location).await? else { return Ok(None) };
        self.decode(bytes).map(Some).map_err(|what| damaged(location, what))
    }

    /// Decodes a manifest, unless it is the one read last. Returns what is wrong with it on failure.
    pub fn decode(&self, bytes: Bytes) -> Result<ReadManifest, String> {
        let sha256 = Checksum::of(&bytes);
        let last = self.last();
        if last.sha256() == sha256 {
            return Ok(last);
        }
        let manifest = decode(&bytes)?;
        let read = ReadManifest(Arc::new(Read { manifest, bytes, sha256 }));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = read.clone();
        Ok(read)
    }

    /// The manifest decoded last; at first, one that lists nothing.
    pub fn last(&self) -> ReadManifest {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SnapshotId;

    fn bytes(next: u64) -> Bytes {
        let manifest = Manifest { next_snapshot_id: SnapshotId(next), ..Manifest::default() };
        Bytes::from(encode(&manifest))
    }

    #[test]
    fn a_manifest_is_decoded_once_and_damage_is_never_kept() {
        let cache = ManifestCache::default();
        let first = cache.decode(bytes(7)).expect("it is whole");
        assert_eq!((first.next_snapshot_id, first.bytes()), (SnapshotId(7), &bytes(7)));
        assert!(Arc::ptr_eq(&first.0, &cache.decode(bytes(7)).expect("it is the same").0));
        let damaged = Bytes::from(
            bytes(7).iter().map(|b| if *b == b'7' { b'8' } else { *b }).collect::<Vec<_>>(),
        );
        cache.decode(damaged).expect_err("its checksum tells");
        assert_eq!(cache.last().sha256(), first.sha256());
        assert_eq!(cache.decode(bytes(9)).expect("it is another").next_snapshot_id, SnapshotId(9));
    }

    #[tokio::test]
    async fn a_location_without_a_manifest_has_none() {
        let location = OpenLocation::in_memory("backup");
        assert!(ManifestCache::default().find(&location).await.expect("it can be read").is_none());
    }
}
