//! Memory and file stores give the same guarantees.

use std::io::{Read as _, Write as _};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, PutMultipartOptions,
    PutOptions, PutResult, Result,
};

use super::*;

/// A memory store and a file store, with the directory that holds the latter.
fn both() -> (tempfile::TempDir, [Storage; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let url = StorageUrl::Fs { root: dir.path().join("made/on/open") };
    let stores = [Storage::in_memory(), Storage::open(&url).unwrap()];
    (dir, stores)
}

fn path(text: &str) -> Path {
    Path::from(text)
}

#[tokio::test]
async fn an_object_is_written_once() {
    let (_dir, stores) = both();
    for store in stores {
        store.put_new(&path("a/b"), "one".into()).await.unwrap();
        let error = store.put_new(&path("a/b"), "two".into()).await.unwrap_err();
        assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error:?}");
        assert_eq!(store.get(&path("a/b")).await.unwrap(), "one");
        assert_eq!(store.get_range(&path("a/b"), 1..3).await.unwrap(), "ne");
        assert!(store.get_range(&path("a/b"), 1..9).await.is_err());
        assert_eq!(store.size(&path("a/b")).await.unwrap(), 3);
        store.sync(&path("a/b")).await.unwrap();
        assert_eq!(store.list(&path("a")).await.unwrap().len(), 1);
        store.delete(&path("a/b")).await.unwrap();
        store.delete(&path("a/b")).await.unwrap();
        assert_eq!(store.get_opt(&path("a/b")).await.unwrap(), None);
        assert!(store.list(&path("a")).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_abandoned_writer_leaves_nothing() {
    let (dir, stores) = both();
    for store in stores {
        let mut writer = store.writer(&path("a/b")).await.unwrap();
        writer.write("half".into()).await.unwrap();
        drop(writer);
        assert_eq!(store.get_opt(&path("a/b")).await.unwrap(), None);
    }
    let left = std::fs::read_dir(dir.path().join("made/on/open/a")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_swap_with_a_stale_tag_changes_nothing() {
    let (_dir, stores) = both();
    for store in stores {
        let name = path("m.json");
        let first = store.replace(&name, None, "1".into()).await.unwrap();
        let second = store.replace(&name, Some(&first), "2".into()).await.unwrap();
        for stale in [None, Some(&first)] {
            let error = store.replace(&name, stale, "3".into()).await.unwrap_err();
            assert!(matches!(error, StorageError::Changed { .. }), "{error:?}");
        }
        let (bytes, tag) = store.read_tagged(&name).await.unwrap().unwrap();
        assert_eq!((bytes, &tag), (Bytes::from("2"), &second));
        store.delete(&name).await.unwrap();
        assert_eq!(store.read_tagged(&name).await.unwrap(), None);
        assert!(store.replace(&name, Some(&second), "4".into()).await.is_err());
    }
}

#[tokio::test]
async fn of_many_swaps_at_once_one_wins() {
    let (_dir, stores) = both();
    for store in stores {
        let swaps = (0..8).map(|n: u32| {
            let store = store.clone();
            async move { store.replace(&path("m"), None, n.to_string().into()).await.is_ok() }
        });
        let won = futures::future::join_all(swaps).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
    }
}

#[tokio::test]
async fn a_probe_leaves_nothing() {
    let (dir, stores) = both();
    for store in stores {
        store.probe("backup").await.unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path().join("made/on/open/backup")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_probe_finds_every_capability_of_a_store_that_has_them() {
    let (_dir, stores) = both();
    for store in stores {
        let probed = store.probe_each("").await.unwrap();
        let found: Vec<_> = probed.iter().map(|found| found.capability).collect();
        assert_eq!(found, Capability::ALL);
        assert!(probed.iter().all(|found| found.outcome.is_ok()), "{probed:?}");
    }
}

#[tokio::test]
async fn a_probe_names_what_a_store_does_not_honour() {
    let mut store = Storage::in_memory();
    store.store = Arc::new(Careless(InMemory::new()));
    let probed = store.probe_each("data").await.unwrap();
    let failed = probed.iter().filter(|found| found.outcome.is_err());
    let failed: Vec<_> = failed.map(|found| found.capability).collect();
    assert_eq!(failed, [Capability::ConditionalCreate, Capability::ConditionalReplace]);
    let error = store.probe("data").await.unwrap_err().to_string();
    assert!(error.starts_with("the store does not honour conditional create: memory"), "{error}");
}

/// A store that accepts preconditions and ignores them, as some servers do.
#[derive(Debug)]
struct Careless(InMemory);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("careless")
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> Result<PutResult> {
        self.0.put(location, payload).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn large_objects_stream_both_ways() {
    let (_dir, stores) = both();
    let written: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for store in stores {
        let bytes = written.clone();
        let sent = store.write_with(&path("big"), move |to| to.write_all(&bytes)).await.unwrap();
        sent.unwrap();
        let size = store.size(&path("big")).await.unwrap();
        let big = path("big");
        let read = store.read_with(&big, 4..size, |mut from| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        });
        assert!(read.await.unwrap().unwrap() == written[4..]);
    }
}

#[tokio::test]
async fn what_fails_to_encode_is_not_written() {
    let (_dir, stores) = both();
    for store in stores {
        let name = path("x");
        let failed = store.write_with(&name, |to| -> std::io::Result<()> {
            to.write_all(&[0; 100])?;
            Err(std::io::ErrorKind::InvalidData.into())
        });
        assert!(failed.await.unwrap().is_err());
        assert_eq!(store.get_opt(&name).await.unwrap(), None);
    }
}

#[tokio::test]
async fn one_memory_name_is_one_store() {
    let store = Storage::in_memory();
    store.put_new(&path("a"), "1".into()).await.unwrap();
    let location = StorageLocation::new(format!("hummock+{}", store.url()), "dir");
    assert_eq!(location.open().unwrap().get(&path("a")).await.unwrap(), "1");
}

#[test]
fn opening_what_must_exist_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("missing");
    let error = Storage::open_existing(&StorageUrl::Fs { root: root.clone() }).unwrap_err();
    assert!(matches!(error, StorageError::NotFound { .. }), "{error:?}");
    assert!(!root.exists());
}

#[test]
fn a_full_disk_is_found_in_the_chain() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert!(StorageError::io("write", "fs:///a".into(), full).is_full());
    let other = std::io::Error::from(std::io::ErrorKind::NotFound);
    assert!(!StorageError::io("write", "fs:///a".into(), other).is_full());
}
