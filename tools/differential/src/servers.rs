//! The servers under comparison: a Tidemark of our own, whose files go with it and which ends when this process does,
//! and servers that run already.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::wire::Address;

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(20);
/// A server that runs as long as this value lives.
pub struct Server {
    pub address: Address,
    /// The URL of the meta role.
    pub meta: String,
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

/// Starts a Tidemark with its stores on disk.
pub fn start_tidemark(program: &Path) -> Fallible<Server> {
    let directory = tempfile::Builder::new().prefix("differential-tidemark-").tempdir()?;
    let ready = directory.path().join("ready");
    let log = File::create(directory.path().join("log"))?;
    let mut child = Command::new(program)
        .args(["standalone", "--listen-addr", "127.0.0.1:0", "--meta-addr", "127.0.0.1:0"])
        .arg("--store-directory")
        .arg(directory.path().join("store"))
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
    let address = local(port);
    Ok(Server { address, meta: format!("http://{meta}"), child, _directory: directory })
}

/// The address of a server that runs already, written as `host=… port=… user=… dbname=…`.
pub fn running(text: &str) -> Fallible<Address> {
    let mut address = local(0);
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("host", host)) => host.clone_into(&mut address.host),
            Some(("port", port)) => address.port = port.parse()?,
            Some(("user", user)) => user.clone_into(&mut address.user),
            Some(("dbname", database)) => database.clone_into(&mut address.database),
            _ => return Err(format!("{word} says nothing of a server").into()),
        }
    }
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

fn local(port: u16) -> Address {
    let (user, database) = ("root".to_owned(), "dev".to_owned());
    Address { host: "127.0.0.1".to_owned(), port, user, database }
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
