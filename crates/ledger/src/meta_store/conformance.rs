//! Conformance tests of meta stores: the same cases run on each implementation.

use bytes::Bytes;

use super::{MetaStore, Operation, Pair, Precondition, StoreError, Txn};

/// Panics unless `store`, which must be empty, behaves as [`MetaStore`] says.
pub async fn conforms(store: &dyn MetaStore) {
    assert!(!store.name().is_empty());
    keys_are_listed_in_order_and_by_prefix(store).await;
    transactions_happen_whole_or_not_at_all(store).await;
    operations_happen_in_order(store).await;
    filling_needs_an_empty_store(store).await;
    large_values_and_large_transactions_fit(store).await;
}

fn pair(key: &str, value: &str) -> Pair {
    Pair { key: key.to_owned(), value: Bytes::from(value.to_owned()) }
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: key.to_owned(), value: Bytes::from(value.to_owned()) }
}

fn delete(key: &str) -> Operation {
    Operation::Delete { key: key.to_owned() }
}

fn equals(key: &str, value: &str) -> Precondition {
    Precondition::Equals { key: key.to_owned(), value: Bytes::from(value.to_owned()) }
}

fn absent(key: &str) -> Precondition {
    Precondition::Absent { key: key.to_owned() }
}

async fn run(store: &dyn MetaStore, operations: Vec<Operation>) {
    store.commit(Txn { operations, ..Txn::default() }).await.unwrap();
}

async fn clear(store: &dyn MetaStore) {
    let keys = store.list("").await.unwrap();
    run(store, keys.into_iter().map(|pair| Operation::Delete { key: pair.key }).collect()).await;
    assert_eq!(store.list("").await.unwrap(), []);
}

async fn keys_of(store: &dyn MetaStore, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().into_iter().map(|pair| pair.key).collect()
}

async fn keys_are_listed_in_order_and_by_prefix(store: &dyn MetaStore) {
    let last = '\u{10ffff}';
    let keys = [
        "a",
        "a!",
        "a/1",
        "a/10",
        "a/2",
        "a/\u{7f}",
        "a0",
        "b",
        "b/\u{d7ff}",
        "b/\u{e000}",
        "z%_",
        "z%_x",
        "zz",
        "é",
        "\u{10ffff}",
        "\u{10ffff}x",
    ];
    let shuffled = (0..keys.len()).map(|n| put(keys[(n * 7) % keys.len()], "v"));
    run(store, shuffled.collect()).await;
    assert_eq!(keys_of(store, "").await, keys);
    for prefix in ["a", "a/", "a/1", "b/", "b/\u{d7ff}", "z%", "z%_", "y", "é"] {
        let under: Vec<_> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        assert_eq!(keys_of(store, prefix).await, under, "{prefix}");
    }
    assert_eq!(keys_of(store, &last.to_string()).await, ["\u{10ffff}", "\u{10ffff}x"]);
    clear(store).await;
}

async fn transactions_happen_whole_or_not_at_all(store: &dyn MetaStore) {
    run(store, vec![put("a", "1"), put("b", "")]).await;
    assert_eq!(store.get("b").await.unwrap(), Some(Bytes::new()));
    assert_eq!(store.get("c").await.unwrap(), None);
    let refused = [
        vec![equals("a", "2")],
        vec![equals("c", "")],
        vec![absent("a")],
        vec![absent("b")],
        vec![equals("a", "1"), absent("c"), equals("b", "x")],
    ];
    for preconditions in refused {
        let operations = vec![put("a", "9"), delete("b"), put("c", "9")];
        let error = store.commit(Txn { preconditions, operations }).await.unwrap_err();
        assert!(matches!(error, StoreError::Precondition(_)), "{error:?}");
        assert_eq!(store.list("").await.unwrap(), [pair("a", "1"), pair("b", "")]);
    }
    let preconditions = vec![equals("a", "1"), absent("c"), equals("b", "")];
    let operations = vec![put("a", "2"), delete("b"), put("c", "3")];
    store.commit(Txn { preconditions, operations }).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), [pair("a", "2"), pair("c", "3")]);
    clear(store).await;
}

async fn operations_happen_in_order(store: &dyn MetaStore) {
    let operations = vec![delete("none"), put("a", "1"), put("a", "2"), put("b", "1"), delete("b")];
    run(store, operations).await;
    assert_eq!(store.list("").await.unwrap(), [pair("a", "2")]);
    store.commit(Txn::default()).await.unwrap();
    clear(store).await;
}

async fn filling_needs_an_empty_store(store: &dyn MetaStore) {
    run(store, vec![put("z", "1")]).await;
    let error = store.fill(vec![pair("a", "1")]).await.unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { .. }), "{error:?}");
    assert_eq!(store.list("").await.unwrap(), [pair("z", "1")]);
    clear(store).await;
    store.fill(vec![pair("b", "2"), pair("a", "1")]).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), [pair("a", "1"), pair("b", "2")]);
    assert!(store.fill(vec![]).await.is_err());
    clear(store).await;
}

async fn large_values_and_large_transactions_fit(store: &dyn MetaStore) {
    let large = Bytes::from(vec![7_u8; 2 << 20]);
    let mut operations: Vec<_> = (0..2000).map(|n| put(&format!("k/{n:05}"), "v")).collect();
    operations.push(Operation::Put { key: "large".to_owned(), value: large.clone() });
    run(store, operations).await;
    assert_eq!(keys_of(store, "k/").await.len(), 2000);
    assert!(store.get("large").await.unwrap() == Some(large));
    clear(store).await;
}
