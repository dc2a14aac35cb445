//! The two servers under comparison: a private PostgreSQL cluster and a Tidemark, each on a free port with its files in
//! a directory that goes with it. Both end when this process does, however it ends: they watch their standard input.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::wire::{Address, Session};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(20);
/// Where Debian installs PostgreSQL, each version in a folder.
const POSTGRES_FOLDER: &str = "/usr/lib/postgresql";
/// Runs a program until standard input is closed.
const WATCH: &str = r#""$@" </dev/null & cat >/dev/null; kill -INT $!; wait $!"#;
const TIDEMARK_USER: (&str, &str) = ("root", "dev");

/// A server that runs as long as this value lives.
pub struct Server {
    pub address: Address,
    /// The address of the meta role; only Tidemark has one.
    pub meta: Option<String>,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The directory must not go before the server.
        if let Err(error) = self.child.wait() {
            crate::say(&format!("could not wait for a server: {error}"));
        }
    }
}

/// Starts a cluster with the C collation in UTC. It keeps nothing safe: no fsync.
pub fn start_postgres() -> Fallible<Server> {
    let programs = postgres_programs()?;
    let directory = tempfile::Builder::new().prefix("differential-postgres-").tempdir()?;
    let owner = postgres_owner()?;
    if let Some((user, group)) = owner {
        chown(directory.path(), Some(user), Some(group))?;
    }
    let data = directory.path().join("data");
    let as_owner = |program: &Path| {
        let mut command = Command::new(program);
        command.current_dir(directory.path());
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    };
    let mut initdb = as_owner(&programs.join("initdb"));
    initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-E", "UTF8"]);
    let made = initdb.args(["--locale=C", "--no-sync"]).output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    let port = free_port()?;
    let log = File::create(directory.path().join("log"))?;
    let mut postgres = as_owner(Path::new("/bin/sh"));
    postgres.args(["-c", WATCH, "watch"]).arg(programs.join("postgres"));
    postgres.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(directory.path());
    for setting in ["fsync=off", "TimeZone=UTC", "listen_addresses=127.0.0.1", "jit=off"] {
        postgres.args(["-c", setting]);
    }
    postgres.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let child = postgres.spawn()?;
    let address = address(port, "postgres", "postgres");
    let server = Server { address, meta: None, child, _directory: directory };
    wait_until(|| Session::open(&server.address).is_ok())?;
    Ok(server)
}

/// Starts a Tidemark with its stores on disk.
pub fn start_tidemark(program: &Path, flags: &[String]) -> Fallible<Server> {
    let directory = tempfile::Builder::new().prefix("differential-tidemark-").tempdir()?;
    let ready = directory.path().join("ready");
    let log = File::create(directory.path().join("log"))?;
    let mut child = Command::new(program)
        .args(["standalone", "--listen-addr", "127.0.0.1:0", "--meta-addr", "127.0.0.1:0"])
        .arg("--store-directory")
        .arg(directory.path().join("store"))
        .args(flags)
        .args(["--stop-when-stdin-closes", "--ready-file"])
        .arg(&ready)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("could not start {}: {error}", program.display()))?;
    let waited = wait_until(|| {
        let ended = child.try_wait().ok().flatten().is_some();
        ended || fs::read_to_string(&ready).is_ok_and(|text| text.lines().count() == 2)
    });
    let addresses = fs::read_to_string(&ready).unwrap_or_default();
    let mut lines = addresses.lines();
    let (Ok(()), Some(sql), Some(meta)) = (waited, lines.next(), lines.next()) else {
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        return Err(format!("{} did not start: {log}", program.display()).into());
    };
    let port = sql.rsplit(':').next().unwrap_or_default().parse()?;
    let address = address(port, TIDEMARK_USER.0, TIDEMARK_USER.1);
    Ok(Server { address, meta: Some(format!("http://{meta}")), child, _directory: directory })
}

/// The address of a server that already runs, written as `host:port`.
pub fn running(text: &str) -> Fallible<Address> {
    let (host, port) = text.split_once(':').ok_or("an address is host:port")?;
    let mut address = address(port.parse()?, TIDEMARK_USER.0, TIDEMARK_USER.1);
    host.clone_into(&mut address.host);
    Ok(address)
}

/// Compacts every table, as `risectl` does it.
pub fn compact(program: &Path, meta: &str) -> Fallible<()> {
    let arguments = ["risectl", "hummock", "trigger-manual-compaction", "--meta-addr", meta];
    let compacted = Command::new(program).args(arguments).output()?;
    match compacted.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&compacted.stderr).into_owned().into()),
    }
}

fn address(port: u16, user: &str, database: &str) -> Address {
    let (user, database) = (user.to_owned(), database.to_owned());
    Address { host: "127.0.0.1".to_owned(), port, user, database }
}

/// The programs of the newest version that is installed.
fn postgres_programs() -> Fallible<PathBuf> {
    let missing = format!("no PostgreSQL in {POSTGRES_FOLDER}; scripts/differential installs it");
    let versions = fs::read_dir(POSTGRES_FOLDER).map_err(|_| missing.clone())?;
    let programs = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    Ok(programs.filter(|bin| bin.join("initdb").exists()).max().ok_or(missing)?)
}

/// PostgreSQL refuses to run as root: the user and the group it runs as instead.
fn postgres_owner() -> Fallible<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    for account in fields.filter(|fields| fields.first() == Some(&"postgres")) {
        if let [_, _, user, group, ..] = account[..] {
            return Ok(Some((user.parse()?, group.parse()?)));
        }
    }
    Err("there is no user postgres to run PostgreSQL as".into())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks again and again whether `is_ready`, which no event tells.
#[expect(clippy::disallowed_methods, reason = "another process becomes ready by itself")]
fn wait_until(mut is_ready: impl FnMut() -> bool) -> Fallible<()> {
    let start = Instant::now();
    while !is_ready() {
        if start.elapsed() > READY_TIMEOUT {
            return Err(format!("not ready after {} s", READY_TIMEOUT.as_secs()).into());
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(())
}
