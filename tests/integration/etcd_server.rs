//! A real etcd on loopback. Also used by the unit tests of the etcd store.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// A member of an etcd cluster. Killed when dropped.
pub struct Etcd {
    child: Child,
    addr: SocketAddr,
}

impl Etcd {
    /// Starts a cluster of one, with its data in `dir`.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, "http", &[])
    }

    /// Starts a cluster of one with more flags, whose clients connect by `scheme`.
    pub fn start_with(dir: &Path, scheme: &str, flags: &[&str]) -> Self {
        let peer = format!("http://{}", free_addr());
        let member = Self::spawn(dir, "one", scheme, &peer, &format!("one={peer}"), flags);
        member.wait();
        member
    }

    /// Starts a member; does not wait until it listens.
    pub fn spawn(
        dir: &Path,
        name: &str,
        scheme: &str,
        peer: &str,
        cluster: &str,
        flags: &[&str],
    ) -> Self {
        let addr = free_addr();
        let client = format!("{scheme}://{addr}");
        std::fs::create_dir_all(dir).unwrap();
        let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
        let child = Command::new("etcd")
            .args(["--name", name, "--data-dir"])
            .arg(dir.join(format!("{name}.etcd")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", cluster])
            .args(flags)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("could not run etcd: {e}; scripts/test installs it"));
        Self { child, addr }
    }

    /// Waits until it listens.
    #[expect(clippy::disallowed_methods, reason = "between two looks; there is nothing to wait on")]
    pub fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "etcd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        self.addr.to_string()
    }

    /// Sends a signal, named without `SIG`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns an unused loopback address, below the ports the system assigns for port 0. Each one is returned
/// once.
pub fn free_addr() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent test processes start at different ports.
    let first = u16::try_from(std::process::id() * 389 % 12_000).unwrap();
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let addr = SocketAddr::from(([127, 0, 0, 1], 20_000 + (first + n) % 12_000));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
