//! Tests of the store on a real etcd: its guarantees hold, and the limits of etcd do not show.

#[path = "../../../../../tests/integration/etcd_server.rs"]
mod server;

use std::sync::Arc;

use etcd_client::CompactionOptions;
use tempfile::TempDir;

use self::server::Etcd;
use super::*;
use crate::meta_store::conformance;

/// An etcd server, and its data directory.
struct One {
    etcd: Etcd,
    _dir: TempDir,
}

impl One {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { etcd: Etcd::start(dir.path()), _dir: dir }
    }

    async fn open(&self) -> EtcdStore {
        connect(&[self.etcd.endpoint()]).await
    }
}

/// A cluster of three members.
fn start_three(dir: &std::path::Path) -> Vec<Etcd> {
    let names = ["one", "two", "three"];
    let peers = names.map(|_| format!("http://{}", server::free_addr()));
    let cluster: Vec<_> = names.iter().zip(&peers).map(|(n, p)| format!("{n}={p}")).collect();
    let cluster = cluster.join(",");
    let spawn = |(name, peer): (&&str, &String)| {
        Etcd::spawn(&dir.join(name), name, "http", peer, &cluster, &[])
    };
    let members: Vec<Etcd> = names.iter().zip(&peers).map(spawn).collect();
    members.iter().for_each(Etcd::wait);
    members
}

fn settings(endpoints: &[String]) -> EtcdSettings {
    let endpoints = endpoints.iter().map(|addr| format!("http://{addr}")).collect();
    EtcdSettings { endpoints, user: None, tls: EtcdTls::default() }
}

async fn connect(endpoints: &[String]) -> EtcdStore {
    EtcdStore::connect(&settings(endpoints)).await.unwrap()
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: key.to_owned(), value: Bytes::from(value.to_owned()) }
}

async fn run(store: &EtcdStore, operations: Vec<Operation>) -> Result<(), StoreError> {
    store.commit(Txn { operations, ..Txn::default() }).await
}

async fn parts_left(store: &EtcdStore) -> usize {
    let mut kv = store.kv.clone();
    let all = GetOptions::new().with_prefix().with_keys_only();
    kv.get(keys::PART, Some(all)).await.unwrap().kvs().len()
}

#[tokio::test]
async fn etcd_conforms() {
    let one = One::start();
    let store = one.open().await;
    conformance::conforms(&store).await;
    assert_eq!(parts_left(&store).await, 0);
    store.lead("here").await.unwrap();
    conformance::conforms(&store).await;
    assert_eq!(parts_left(&store).await, 0);
}

#[tokio::test]
async fn only_the_leader_writes() {
    let one = One::start();
    let (first, second) = (one.open().await, Arc::new(one.open().await));
    first.lead("first").await.unwrap();
    run(&first, vec![put("a", "1")]).await.unwrap();
    let error = run(&second, vec![put("a", "2")]).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let error = second.fill(vec![]).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let waiting = Arc::clone(&second);
    let candidate = tokio::spawn(async move { waiting.lead("second").await });
    // The lease ends, as when the leader was paused for too long.
    let Leadership::Held { lease, .. } = *first.leadership.borrow() else { panic!("no leader") };
    first.client.clone().lease_revoke(lease).await.unwrap();
    candidate.await.unwrap().unwrap();
    let error = run(&first, vec![put("a", "3")]).await.unwrap_err();
    assert!(error.to_string().contains("second leads now"), "{error}");
    assert_eq!(first.deposed().await, "second leads now");
    run(&second, vec![put("a", "4")]).await.unwrap();
    assert_eq!(second.get("a").await.unwrap().unwrap(), "4");
    second.resign().await;
    one.open().await.lead("third").await.unwrap();
}

#[tokio::test]
async fn a_large_transaction_that_was_committed_is_carried_out_by_whoever_comes() {
    let one = One::start();
    let store = one.open().await;
    let operations = || (0..700).map(|n| put(&format!("k{n:03}"), "v")).collect();
    let prepared = store.prepare(Condition::Empty, operations()).await.unwrap();
    assert!(prepared.in_journal);
    assert_eq!(one.open().await.list("").await.unwrap(), [], "it is only written down");
    store.send(&prepared, &mut Writing::default()).await.unwrap();
    // Its process dies here.
    assert_eq!(one.open().await.list("").await.unwrap().len(), 700);
    assert_eq!(parts_left(&store).await, 0);
    // Staged, and never committed.
    store.prepare(Condition::Empty, operations()).await.unwrap();
    assert!(parts_left(&store).await > 0);
    one.open().await.lead("next").await.unwrap();
    assert_eq!(parts_left(&store).await, 0);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_happened_or_never_will() {
    let one = One::start();
    let store = one.open().await;
    let mut writing = Writing::default();
    let done = store.prepare(Condition::Empty, vec![put("a", "1")]).await.unwrap();
    store.send(&done, &mut writing).await.unwrap();
    let now = Instant::now();
    assert!(store.has_happened(&done.name, now).await.unwrap());
    let all = Condition::All(vec![]);
    let late = store.prepare(all, vec![put("a", "2")]).await.unwrap();
    let last = store.read_last().await.unwrap().0;
    let on_its_way = store.txn_of(&late, last).unwrap();
    assert!(!store.has_happened(&late.name, now).await.unwrap());
    assert!(!store.txn("commit", on_its_way).await.unwrap().succeeded());
    assert_eq!(store.get("a").await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn of_a_commit_that_was_cut_off_by_a_takeover_nothing_is_claimed() {
    for happened in [true, false] {
        let one = One::start();
        let (first, second) = (one.open().await, one.open().await);
        first.lead("first").await.unwrap();
        run(&first, vec![put("revision", "1")]).await.unwrap();
        let all = Condition::All(vec![]);
        let cut_off = first.prepare(all, vec![put("revision", "2")]).await.unwrap();
        let last = first.read_last().await.unwrap().0;
        if happened {
            let sent = first.txn_of(&cut_off, last).unwrap();
            assert!(first.txn("commit", sent).await.unwrap().succeeded());
        }
        // Its reply is lost, and so is the lease; the next leader makes one commit.
        first.writing.lock().await.unresolved = Some(cut_off.name.clone());
        let Leadership::Held { lease, .. } = *first.leadership.borrow() else {
            panic!("no leader")
        };
        first.client.clone().lease_revoke(lease).await.unwrap();
        second.lead("second").await.unwrap();
        run(&second, vec![put("revision", "2")]).await.unwrap();
        let error = first.get("revision").await.unwrap_err();
        assert!(matches!(error, StoreError::Deposed { .. }), "{error:?}");
        let error = first.get("revision").await.unwrap_err();
        assert!(matches!(error, StoreError::Deposed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_deposed_leader_deletes_nothing_of_the_next() {
    let one = One::start();
    let (first, second) = (one.open().await, one.open().await);
    first.lead("first").await.unwrap();
    let Leadership::Held { lease, .. } = *first.leadership.borrow() else { panic!("no leader") };
    first.client.clone().lease_revoke(lease).await.unwrap();
    second.lead("second").await.unwrap();
    let parts = second.stage(&[7; 100]).await.unwrap();
    let part = format!("{}/{:08}", parts.name, 0);
    let error = first.delete_part(&part).await.unwrap_err();
    assert!(matches!(error, StoreError::Deposed { .. }), "{error:?}");
    assert_eq!(parts_left(&second).await, 1);
    second.delete_part(&part).await.unwrap();
    assert_eq!(parts_left(&second).await, 0);
}

#[tokio::test]
async fn listings_see_whole_transactions_while_etcd_forgets_its_past() {
    const KEYS: usize = 2500;
    let one = One::start();
    let (writer, reader) = (one.open().await, one.open().await);
    let generation =
        |g: usize| (0..KEYS).map(|n| put(&format!("k{n:04}"), &g.to_string())).collect();
    run(&writer, generation(0)).await.unwrap();
    let writes = async {
        for g in 1..8 {
            run(&writer, generation(g)).await.unwrap();
            let revision = writer.read_last().await.unwrap().0;
            let physical = Some(CompactionOptions::new().with_physical());
            writer.kv.clone().compact(revision, physical).await.unwrap();
        }
    };
    let reads = async {
        for _ in 0..20 {
            let pairs = reader.list("").await.unwrap();
            assert_eq!(pairs.len(), KEYS);
            assert!(pairs.iter().all(|pair| pair.value == pairs[0].value));
        }
    };
    tokio::join!(writes, reads);
    // A page at a revision that etcd has compacted.
    let page = GetOptions::new().with_revision(2);
    let forgotten = call("etcd", "read", reader.kv.clone().get("k", Some(page))).await.unwrap_err();
    assert!(is_compacted(&forgotten), "{forgotten:?}");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_etcd_changes_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut members = start_three(dir.path());
    let endpoints: Vec<String> = members.iter().map(Etcd::endpoint).collect();
    let store = connect(&endpoints).await;
    store.lead("here").await.unwrap();
    let status = store.client.clone().status().await.unwrap();
    let mut leader = 0;
    for (at, endpoint) in endpoints.iter().enumerate() {
        let alone = connect(std::slice::from_ref(endpoint)).await;
        let own = alone.client.clone().status().await.unwrap();
        let id = own.header().unwrap().member_id();
        if id == status.leader() {
            leader = at;
        }
    }
    let mut acknowledged = vec![];
    for n in 0..300 {
        if n == 100 {
            drop(members.remove(leader));
        }
        let key = format!("k{n:03}");
        if run(&store, vec![put(&key, "v")]).await.is_ok() {
            acknowledged.push(key);
        }
    }
    // A slow machine loses more commits while etcd elects a leader.
    assert!(acknowledged.len() > 150, "{} commits", acknowledged.len());
    let found: Vec<String> = store.list("").await.unwrap().into_iter().map(|p| p.key).collect();
    assert!(acknowledged.iter().all(|key| found.contains(key)));
}

#[tokio::test]
async fn an_etcd_that_does_not_answer_is_an_error_and_not_for_ever() {
    let one = One::start();
    let store = one.open().await;
    run(&store, vec![put("a", "1")]).await.unwrap();
    one.etcd.signal("STOP");
    let error = run(&store, vec![put("a", "2")]).await.unwrap_err();
    assert!(error.to_string().contains("could not"), "{error}");
    one.etcd.signal("CONT");
    let value = store.get("a").await.unwrap().unwrap();
    assert_eq!(one.open().await.get("a").await.unwrap().unwrap(), value);
    run(&store, vec![put("a", "3")]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap(), "3");
}

#[tokio::test]
async fn a_full_etcd_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start_with(dir.path(), "http", &["--quota-backend-bytes", "4000000"]);
    let store = connect(&[etcd.endpoint()]).await;
    let large = "x".repeat(400_000);
    let mut outcome = Ok(());
    for n in 0..40 {
        outcome = run(&store, vec![put(&format!("k{n}"), &large)]).await;
        if outcome.is_err() {
            break;
        }
    }
    let said = crate::meta_error::chain(&outcome.unwrap_err());
    assert!(said.contains("space exceeded") && said.contains("defragment"), "{said}");
    store.get("k0").await.unwrap().unwrap();
}

#[tokio::test]
async fn who_may_not_sign_in_is_told_so_without_the_password() {
    let one = One::start();
    let mut admin = one.open().await.client.clone();
    admin.user_add("root", "right-word", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();
    let with = |password: &str| {
        let user = EtcdUser { name: "root".to_owned(), password: password.to_owned() };
        EtcdSettings { user: Some(user), ..settings(&[one.etcd.endpoint()]) }
    };
    let store = EtcdStore::connect(&with("right-word")).await.unwrap();
    store.lead("here").await.unwrap();
    run(&store, vec![put("a", "1")]).await.unwrap();
    let wrong = EtcdStore::connect(&with("wrong-word")).await.unwrap_err();
    let wrong = crate::meta_error::chain(&wrong);
    assert!(wrong.contains("authentication failed") && !wrong.contains("wrong-word"), "{wrong}");
    let none = EtcdStore::connect(&settings(&[one.etcd.endpoint()])).await.unwrap_err();
    assert!(crate::meta_error::chain(&none).contains("user name is empty"), "{none:?}");
}
