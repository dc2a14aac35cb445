//! A full disk: a clear error, and a server that works again once there is room.

use std::path::Path;

use crate::harness::{Server, run, server_flags, sql, sql_error, tempdir};

/// A separate small file system, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    async fn mount(at: &'a Path) -> Option<Self> {
        let at_text = at.to_str().unwrap();
        let args = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", at_text];
        if !Path::new("/bin/mount").exists() && !Path::new("/usr/bin/mount").exists() {
            return None;
        }
        (run("mount", &args, "").await.code == Some(0)).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazy unmount: a server left behind by a failed test may still be ending.
        drop(std::process::Command::new("umount").arg("-l").arg(self.0).status());
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let (dir, disk) = (tempdir(), tempdir());
    let Some(_mounted) = SmallDisk::mount(disk.path()).await else {
        return files_may_not_grow(dir.path()).await;
    };
    let state = format!("hummock+fs://{}/state", disk.path().display());
    let server = Server::start_with(dir.path(), &["--state-store", &state]).await;
    sql(&server, "CREATE TABLE t (a bigint, b text); INSERT INTO t VALUES (1, 'x');").await;
    let filler = disk.path().join("filler");
    fill(&filler);
    let many = "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 200000) AS g(g)";
    let said = sql_error(&server, many).await;
    assert!(said.contains("53100"), "{said}");
    assert!(said.to_lowercase().contains("no space left on device"), "{said}");
    let said = sql_error(&server, "BACKUP").await;
    assert!(said.contains("53100"), "{said}");
    assert_eq!(sql(&server, "SELECT * FROM t").await, "1|x");

    std::fs::remove_file(&filler).unwrap();
    sql(&server, "INSERT INTO t VALUES (2, 'y')").await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
    sql(&server, "BACKUP").await;
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_meta_snapshot").await, "1");
    assert!(server.stop().await.success());
}

/// Startup must not need to write. It once wrote the lease and file ids, so that a server killed on a full disk
/// could not restart.
#[tokio::test]
async fn a_server_starts_on_a_full_disk_and_writes_once_there_is_room() {
    let (dir, disk) = (tempdir(), tempdir());
    let Some(_mounted) = SmallDisk::mount(disk.path()).await else { return };
    // Only the server's store is on the full disk.
    std::os::unix::fs::symlink(disk.path(), dir.path().join("store")).unwrap();
    let server = Server::start(dir.path()).await;
    sql(&server, "CREATE TABLE t (a bigint); INSERT INTO t VALUES (1);").await;
    sql(&server, "BACKUP").await;
    server.kill();
    let filler = disk.path().join("filler");
    fill(&filler);

    let server = Server::start(dir.path()).await;
    assert_eq!(sql(&server, "SELECT * FROM t").await, "1");
    assert_eq!(sql(&server, "SELECT count(*) FROM rw_meta_snapshot").await, "1");
    for write in ["INSERT INTO t VALUES (2)", "CREATE TABLE u (a int)", "BACKUP", "FLUSH"] {
        let said = sql_error(&server, write).await;
        assert!(said.contains("53100"), "{write}: {said}");
        assert!(said.contains("HINT:  "), "{write}: {said}");
    }
    std::fs::remove_file(&filler).unwrap();
    sql(&server, "INSERT INTO t VALUES (2)").await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
    sql(&server, "BACKUP").await;
    assert!(server.stop().await.success());
}

/// Writes until there is no room left.
fn fill(file: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(file).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// If nothing can be mounted: a limit on the file size makes writes fail in a similar way.
async fn files_may_not_grow(dir: &Path) {
    let mut command = std::process::Command::new("bash");
    let flags = server_flags(dir);
    command.arg("-c").arg("ulimit -f 512; trap '' XFSZ; exec \"$@\"").arg("bash");
    command.arg(env!("CARGO_BIN_EXE_tidemark")).args(&flags);
    let server = Server::spawn(command, dir).await;
    sql(&server, "CREATE TABLE t (a bigint, b text); INSERT INTO t VALUES (1, 'x');").await;
    let many = "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 200000) AS g(g)";
    let said = sql_error(&server, many).await;
    assert!(said.contains("File too large"), "{said}");
    sql(&server, "INSERT INTO t VALUES (2, 'y')").await;
    assert_eq!(sql(&server, "SELECT count(*) FROM t").await, "2");
}
