//! Tests of the SQLite store: its file is created late, locked, and refused if it is not a meta store.

use super::*;
use crate::meta_store::conformance;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

fn pair(key: &str, value: &'static str) -> Pair {
    Pair { key: key.to_owned(), value: value.into() }
}

#[tokio::test]
async fn sqlite_conforms() {
    let dir = Dir::new();
    let file = dir.file("made/on/open/meta.db");
    conformance::conforms(&SqliteStore::open(&file).await.unwrap()).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let dir = Dir::new();
    let file = dir.file("meta.db");
    let store = SqliteStore::open(&file).await.unwrap();
    store.fill(vec![pair("a", "1"), pair("b", "2")]).await.unwrap();
    let operations = vec![Operation::Delete { key: "a".to_owned() }];
    store.commit(Txn { operations, ..Txn::default() }).await.unwrap();
    drop(store);
    for mode in ["rwc", "rw", "ro"] {
        let store = SqliteStore::open(&format!("sqlite://{file}?mode={mode}")).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), [pair("b", "2")], "{mode}");
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let dir = Dir::new();
    let file = dir.file("meta.db");
    let store = SqliteStore::open(&file).await.unwrap();
    for endpoint in [file.clone(), format!("sqlite://{file}?mode=ro")] {
        let error = SqliteStore::open(&endpoint).await.unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    }
    drop(store);
    SqliteStore::open(&file).await.unwrap();
}

#[tokio::test]
async fn what_is_no_meta_store_is_named_and_left_alone() {
    let dir = Dir::new();
    let text = dir.file("text.db");
    std::fs::write(&text, "no database, but long enough to look like one ".repeat(100)).unwrap();
    let foreign = dir.file("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let newer = dir.file("newer.db");
    drop(SqliteStore::open(&newer).await.unwrap());
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let cases =
        [(text, "not a SQLite database"), (foreign, "another application"), (newer, "newer")];
    for (file, reason) in cases {
        let before = std::fs::read(&file).unwrap();
        let error = SqliteStore::open(&file).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

#[tokio::test]
async fn a_store_emptied_by_hand_is_empty() {
    let dir = Dir::new();
    let file = dir.file("meta.db");
    let store = SqliteStore::open(&file).await.unwrap();
    store.fill(vec![pair("a", "1")]).await.unwrap();
    drop(store);
    Connection::open(&file).unwrap().execute_batch("DELETE FROM meta").unwrap();
    let store = SqliteStore::open_target(&file).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
    store.fill(vec![pair("b", "2")]).await.unwrap();
}

#[tokio::test]
async fn a_target_is_not_made_before_it_is_filled() {
    let dir = Dir::new();
    let file = dir.file("made/late/meta.db");
    let store = SqliteStore::open_target(&file).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
    assert_eq!(store.get("a").await.unwrap(), None);
    drop(store);
    assert!(!Path::new(&dir.file("made")).exists());
    let store = SqliteStore::open_target(&file).await.unwrap();
    store.fill(vec![pair("a", "1")]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&file).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), [pair("a", "1")]);
}

#[tokio::test]
async fn a_target_that_is_refused_keeps_its_bytes() {
    let dir = Dir::new();
    let empty = dir.file("empty.db");
    std::fs::write(&empty, "").unwrap();
    let store = SqliteStore::open_target(&empty).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
    drop(store);
    assert_eq!(std::fs::read(&empty).unwrap(), b"");
    let full = dir.file("full.db");
    SqliteStore::open(&full).await.unwrap().fill(vec![pair("a", "1")]).await.unwrap();
    let before = std::fs::read(&full).unwrap();
    let store = SqliteStore::open_target(&full).await.unwrap();
    let error = store.fill(vec![pair("b", "2")]).await.unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { .. }), "{error:?}");
    drop(store);
    assert_eq!(std::fs::read(&full).unwrap(), before);
}

#[tokio::test]
async fn only_what_may_be_made_is_made() {
    let dir = Dir::new();
    let file = dir.file("none.db");
    for mode in ["rw", "ro"] {
        let error = SqliteStore::open(&format!("sqlite://{file}?mode={mode}")).await.unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
    for endpoint in ["", ":memory:", "sqlite://x?mode=x", "postgres://u:secret@127.0.0.1/d"] {
        let error = SqliteStore::open(endpoint).await.unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(!Path::new(&file).exists());
}
