//! Data files damaged by something else: the damage is reported, and no damaged data is used.

use std::path::{Path, PathBuf};

use crate::harness::{Server, data_files, hummock, risectl, sql, sql_error, tempdir, wait_until};

const FILL: &str = "CREATE TABLE item (k int PRIMARY KEY, v varchar); \
                    INSERT INTO item SELECT g, md5(g::varchar) FROM generate_series(1, 20000) AS g(g)";
/// Disables the cache, so that data is read from the files each time.
const FLAGS: [&str; 4] = ["--compaction", "false", "--block-cache-bytes", "0"];
const COMPACT: [&str; 3] = ["trigger-manual-compaction", "--table", "item"];
const SUM: &str = "SELECT count(*), sum(k), min(v), max(v) FROM item WHERE k > 0";

/// A server whose table has one data file.
async fn with_one_file(dir: &Path) -> (Server, PathBuf) {
    let server = Server::start_with(dir, &FLAGS).await;
    sql(&server, FILL).await;
    let file = data_files(dir).remove(0);
    (server, file)
}

/// Changes the contents of a file; returns the previous ones.
fn damage(file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let before = std::fs::read(file).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
    before
}

#[tokio::test]
async fn a_damaged_data_file_gives_no_rows_and_is_not_compacted() {
    let dir = tempdir();
    let (server, file) = with_one_file(dir.path()).await;
    // A file without dead rows would not be compacted.
    sql(&server, "DELETE FROM item WHERE k = 5").await;
    let right = sql(&server, SUM).await;
    sql(&server, "CREATE TABLE other AS SELECT g AS a FROM generate_series(1, 1000) AS g(g)").await;
    sql(&server, "BACKUP").await;
    let before = damage(&file, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    for query in [SUM, "DELETE FROM item WHERE v < 'b'", "SELECT * FROM item WHERE k = 10000"] {
        let said = sql_error(&server, query).await;
        assert!(said.contains("ERROR:  XX001: data file "), "{query}: {said}");
        assert!(said.contains("is damaged in bytes "), "{query}: {said}");
        assert!(said.contains("does not match its checksum."), "{query}: {said}");
        assert!(said.contains("HINT:  Bring it back from a backup"), "{query}: {said}");
    }
    assert!(sql_error(&server, SUM).await.contains("of table \"public.item\" is damaged"));
    assert_eq!(sql(&server, "SELECT count(*), sum(a) FROM other WHERE a > 0").await, "1000|500500");

    let said = hummock(&server, &COMPACT).await.refused();
    assert!(said.contains("is damaged in bytes ") && said.contains("HINT: "), "{said}");
    let copied = sql_error(&server, "BACKUP WITH (copy_data = true)").await;
    assert!(copied.contains("XX001") && copied.contains("does not match its checksum"), "{copied}");
    let found = risectl(&server, &["verify-meta-snapshot", "1", "--level", "checksum"]).await;
    assert!(found.stdout.contains("does not match its checksum"), "{}", found.stdout);

    std::fs::write(&file, before).unwrap();
    assert_eq!(sql(&server, SUM).await, right);
    hummock(&server, &COMPACT).await.ok();
    assert_eq!(sql(&server, SUM).await, right);
}

#[tokio::test]
async fn a_file_that_is_cut_or_replaced_is_damaged_also_after_a_restart() {
    let dir = tempdir();
    let (server, file) = with_one_file(dir.path()).await;
    let right = sql(&server, SUM).await;
    assert!(server.stop().await.success());
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 100);
    let emptied = |bytes: &mut Vec<u8>| bytes.clear();
    let footer = |bytes: &mut Vec<u8>| {
        let at = bytes.len() - 200;
        bytes[at] ^= 4;
    };
    let changes: [fn(&mut Vec<u8>); 3] = [cut, emptied, footer];
    for change in changes {
        let before = damage(&file, change);
        let server = Server::start_with(dir.path(), &FLAGS).await;
        for query in [SUM, "SELECT min(k), max(k) FROM item", "SELECT v FROM item WHERE k = 77"] {
            let said = sql_error(&server, query).await;
            assert!(said.contains("XX001: data file "), "{query}: {said}");
        }
        std::fs::write(&file, before).unwrap();
        assert_eq!(sql(&server, SUM).await, right);
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_damaged_file_is_repaired_from_a_good_copy_only() {
    let dir = tempdir();
    let (server, file) = with_one_file(dir.path()).await;
    let right = sql(&server, SUM).await;
    let id = file.file_stem().unwrap().to_str().unwrap();
    let repair = ["repair-object", id];
    let said = hummock(&server, &repair).await.ok();
    assert!(said.starts_with("nothing to repair: fs://"), "{said}");
    let flip = |bytes: &mut Vec<u8>| bytes[1000] ^= 8;

    let before = damage(&file, flip);
    let said = hummock(&server, &repair).await.refused();
    assert!(said.contains("no backup has a good copy of it"), "{said}");
    std::fs::write(&file, before).unwrap();
    sql(&server, "BACKUP; BACKUP WITH (copy_data = true)").await;

    // First the file is damaged, then deleted.
    let before = damage(&file, flip);
    assert!(sql_error(&server, SUM).await.contains("XX001"));
    let said = hummock(&server, &repair).await.ok();
    let copy = format!("backup/data/{id}.data again");
    assert!(said.starts_with("repair succeeded: ") && said.contains(&copy), "{said}");
    assert_eq!(sql(&server, SUM).await, right);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::remove_file(&file).unwrap();
    let said = sql_error(&server, SUM).await;
    assert!(said.contains("XX001") && said.contains("of table \"public.item\" is gone"), "{said}");
    assert!(said.contains("HINT:  Bring it back from a backup"), "{said}");
    let named = ["repair-object", &format!("{id}.data"), "--json"];
    assert!(hummock(&server, &named).await.ok().contains("\"copy\": \"fs://"));
    assert_eq!(sql(&server, SUM).await, right);

    let copy = dir.path().join(format!("store/state_store/backup/data/{id}.data"));
    damage(&copy, flip);
    damage(&file, flip);
    let damaged = std::fs::read(&file).unwrap();
    let said = hummock(&server, &repair).await.refused();
    assert!(said.contains("no backup has a good copy of it"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), damaged, "nothing has changed");
    let said = hummock(&server, &["repair-object", "999999"]).await.refused();
    assert!(said.contains("there is no data file 999999"), "{said}");
}

#[tokio::test]
async fn the_scrub_finds_damage_before_it_is_read() {
    let dir = tempdir();
    let (server, file) = with_one_file(dir.path()).await;
    assert!(!server.log().contains("a data file is damaged or gone"));
    damage(&file, |bytes| bytes[1000] ^= 8);
    sql(&server, "ALTER SYSTEM SET scrub_interval_ms = 1000").await;
    let line = wait_until("the scrub has found it", async || {
        let log = server.log();
        log.lines().find(|line| line.contains("a data file is damaged or gone")).map(str::to_owned)
    });
    let line = line.await;
    let id = file.file_stem().unwrap().to_str().unwrap();
    assert!(line.contains("item") && line.contains(&format!("{id}.data")), "{line}");
}
