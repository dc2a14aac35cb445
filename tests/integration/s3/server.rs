//! The S3 server in `tools/s3-server`, built on first use.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

pub const KEY: &str = "tidemark-key";
pub const SECRET: &str = "top/secret+word";

/// A server with two empty buckets, `data` and `backup`. Killed when dropped.
pub struct S3 {
    addr: String,
    requests: Arc<Mutex<Vec<String>>>,
    child: Child,
    _stdin: ChildStdin,
}

impl S3 {
    pub fn start(dir: &Path) -> Self {
        let root = dir.join("s3");
        for bucket in ["data", "backup"] {
            std::fs::create_dir_all(root.join(bucket)).unwrap();
        }
        let mut child = Command::new(program())
            .args([root.as_os_str(), KEY.as_ref(), SECRET.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.next().unwrap().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&requests);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        Self { addr, requests, child, _stdin: stdin }
    }

    /// The URL of a bucket, with `secret` as the user types it.
    pub fn url_with(&self, secret: &str, bucket: &str) -> String {
        format!("minio://{KEY}:{secret}@{}/{bucket}", self.addr)
    }

    pub fn url(&self, bucket: &str) -> String {
        self.url_with(SECRET, bucket)
    }

    /// Sends a signal, named without `SIG`.
    pub fn signal(&self, signal: &str) {
        crate::harness::send_signal(self.child.id(), signal);
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Number of reads of data files so far.
    pub fn reads_of_data(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|line| line.starts_with("GET ") && line.contains(".data")).count()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/s3-server/Cargo.toml");
        // Next to the build products of this test.
        let tests = std::env::current_exe().unwrap();
        let target = tests.ancestors().nth(3).unwrap().join("s3-server");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir"])
            .arg(&target)
            .status();
        assert!(built.unwrap().success(), "the S3 server of the tests cannot be built");
        target.join("debug/s3-server")
    })
}
