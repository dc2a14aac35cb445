//! A meta store that lacks acknowledged commits is refused, and every documented recovery works.

use std::path::{Path, PathBuf};

use crate::harness::{
    Server, files_below, lose_meta_store, meta_store, restore, sql, tempdir, try_start,
};

/// A killed cluster with three rows in its meta snapshot 1 and twenty more, whose journal is damaged in the
/// part after the snapshot.
async fn damaged_cluster(dir: &Path) {
    let server = Server::start(dir).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (3); BACKUP;").await;
    let behind = std::fs::metadata(journal(dir)).unwrap().len();
    for n in 0..20 {
        sql(&server, &format!("INSERT INTO t VALUES ({n})")).await;
    }
    server.kill();
    let mut bytes = std::fs::read(journal(dir)).unwrap();
    let behind = usize::try_from(behind).unwrap();
    let middle = behind + (bytes.len() - behind) / 2;
    bytes[middle] ^= 8;
    std::fs::write(journal(dir), bytes).unwrap();
}

fn journal(dir: &Path) -> PathBuf {
    meta_store(dir).with_extension("db-wal")
}

/// The epoch named in the HINT.
fn accepted_epoch(said: &str) -> String {
    let (_, after) = said.split_once("--accept-loss-after-epoch ").unwrap();
    after.chars().take_while(char::is_ascii_digit).collect()
}

#[tokio::test]
async fn a_loss_is_refused_and_may_be_accepted_once() {
    let dir = tempdir();
    damaged_cluster(dir.path()).await;
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("lacks acknowledged commits: it ends at epoch"), "{said}");
    assert!(said.contains("restore meta snapshot 1, which ends at epoch"), "{said}");
    // Refused again: the first attempt changed nothing.
    assert_eq!(try_start(dir.path(), &[]).await.refused(), said);
    let wrong = try_start(dir.path(), &["--accept-loss-after-epoch", "65536"]).await.refused();
    assert!(wrong.contains("does not end at epoch 65536"), "{wrong}");

    let epoch = accepted_epoch(&said);
    let server = Server::start_with(dir.path(), &["--accept-loss-after-epoch", &epoch]).await;
    assert!(server.log().contains("commits of this cluster are lost"), "{}", server.log());
    let count: u32 = sql(&server, "SELECT count(*) FROM t").await.parse().unwrap();
    assert!((3..23).contains(&count), "{count}");
    let losses = "SELECT after_epoch, until_epoch > after_epoch, known_by FROM rw_accepted_losses";
    assert!(sql(&server, losses).await.starts_with(&format!("{epoch}|t|")));
    sql(&server, "INSERT INTO t VALUES (100); BACKUP").await;
    assert!(server.stop().await.success());

    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, (count + 1).to_string());
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_accepted_losses").await, "1");
    assert!(server.log().contains("commits of this cluster are lost"), "{}", server.log());
}

#[tokio::test]
async fn a_restore_goes_back_on_purpose() {
    let dir = tempdir();
    damaged_cluster(dir.path()).await;
    try_start(dir.path(), &[]).await.refused();
    // Only the database and its journal are deleted: the head file stays, and does not apply to the next life.
    std::fs::remove_file(meta_store(dir.path())).unwrap();
    std::fs::remove_file(journal(dir.path())).unwrap();
    restore(dir.path(), 1, &[], &[]).await.ok();
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "3");
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_accepted_losses").await, "0");
    sql(&server, "INSERT INTO t VALUES (4); BACKUP; INSERT INTO t VALUES (5)").await;
    assert!(server.stop().await.success());

    lose_meta_store(dir.path());
    restore(dir.path(), 1, &[], &[]).await.ok();
    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "3");
}

/// Promises are also in the lease, which an older copy of the folder does not reset.
#[tokio::test]
async fn an_older_copy_of_the_folder_of_the_meta_store_is_refused() {
    let dir = tempdir();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    assert!(server.stop().await.success());
    let folder = meta_store(dir.path()).parent().unwrap().to_owned();
    let files = files_below(&folder).into_iter().map(|(path, _)| path);
    let older: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let server = Server::start(dir.path()).await;
    sql(&server, "INSERT INTO t VALUES (2)").await;
    assert!(server.stop().await.success());
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for (path, bytes) in older {
        std::fs::write(path, bytes).unwrap();
    }
    let said = try_start(dir.path(), &[]).await.refused();
    assert!(said.contains("by hummock_001/lease.json it was at epoch"), "{said}");
}
