//! Starts the programs, connects to them, and waits for their effects.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio_postgres::{Client, NoTls};

/// Time limit for anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `look` returns something. Tests do not sleep in any other function.
pub async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    pub sql: SocketAddr,
    pub meta: SocketAddr,
    log: PathBuf,
    ready: PathBuf,
}

impl Server {
    /// Starts one on the embedded stores in `dir`.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    pub async fn start_with(dir: &Path, flags: &[&str]) -> Self {
        Self::spawn(server_command(dir, flags), dir).await
    }

    /// Starts one on an SQLite file and the data at `url`.
    pub async fn start_on(dir: &Path, meta_store: &str, url: &str) -> Self {
        let state_store = format!("hummock+{url}");
        let flags = ["--meta-store-type", "sqlite", "--sql-endpoint", meta_store];
        Self::start_with(dir, &[&flags[..], &["--state-store", &state_store]].concat()).await
    }

    /// Runs a command that starts a server, and waits until it is ready; its flags must include
    /// [`server_flags`].
    pub async fn spawn(command: std::process::Command, dir: &Path) -> Self {
        Self::launch(command, dir).ready().await
    }

    /// Runs a command that starts a server, without waiting. It must write `dir/ready` when ready.
    pub fn launch(mut command: std::process::Command, dir: &Path) -> Self {
        let (ready, log) = (dir.join("ready"), dir.join("log"));
        drop(std::fs::remove_file(&ready));
        let stderr = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = command.spawn().unwrap();
        Self { child, sql: nowhere, meta: nowhere, log, ready }
    }

    /// Waits until the server is ready.
    pub async fn ready(mut self) -> Self {
        let addrs = wait_until("the server is ready", async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", self.log());
            std::fs::read_to_string(&self.ready).ok()
        });
        let addrs = addrs.await;
        let nowhere = self.sql;
        let mut addrs = addrs.lines().map(|line| line.parse().unwrap_or(nowhere));
        (self.sql, self.meta) = (addrs.next().unwrap(), addrs.next().unwrap());
        self
    }

    pub fn is_ready(&self) -> bool {
        self.ready.exists()
    }

    /// The log of all servers of this directory.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub async fn connect(&self) -> Client {
        let addr = self.sql;
        let config = format!("host={} port={} user=root dbname=dev", addr.ip(), addr.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, named without `SIG`.
    pub fn signal(&self, signal: &str) {
        send_signal(self.child.id(), signal);
    }

    /// Peak private memory of the process in bytes, without mapped files.
    pub fn own_bytes_peak(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = |field: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        kib("VmHWM:").saturating_sub(kib("RssFile:")) * 1024
    }

    /// Kills the server like `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the server cleanly.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_until("the server ends", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn send_signal(pid: u32, signal: &str) {
    let status =
        std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "no process {pid} to signal");
}

/// The command that starts a server on the embedded stores in `dir`.
pub fn server_command(dir: &Path, flags: &[&str]) -> std::process::Command {
    let mut command = clean(std::process::Command::new(env!("CARGO_BIN_EXE_tidemark")));
    command.args(server_flags(dir)).args(flags);
    command
}

/// The flags of a server on the embedded stores in `dir`, on free ports.
pub fn server_flags(dir: &Path) -> Vec<String> {
    let flags = [
        ("--store-directory", dir.join("store").display().to_string()),
        ("--listen-addr", "127.0.0.1:0".to_owned()),
        ("--meta-addr", "127.0.0.1:0".to_owned()),
        ("--ready-file", dir.join("ready").display().to_string()),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// Clears the caller's environment except for the path.
fn clean(mut command: std::process::Command) -> std::process::Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// How a program ended, and its output.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Returns the output of a program that succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Returns the error of a program that failed: one line, an optional hint, and exit code 1.
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let hint = lines.get(1).is_none_or(|line| line.starts_with("HINT: "));
        assert!(hint && (1..=2).contains(&lines.len()), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// Runs a program to its end.
pub async fn run(program: &str, args: &[&str], stdin: &str) -> Ended {
    run_in(&[], program, args, stdin).await
}

/// Runs a program to its end, with these environment variables.
pub async fn run_in(
    variables: &[(&str, &str)],
    program: &str,
    args: &[&str],
    stdin: &str,
) -> Ended {
    let mut command = clean(std::process::Command::new(program));
    command.envs(variables.iter().copied());
    // On a busy machine psql waits longer instead of giving up.
    command.args(args).env("PGCONNECT_TIMEOUT", "30");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| {
        panic!("could not run {program}: {error}\nscripts/test installs what the tests need")
    });
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    let feed = tokio::spawn(async move {
        // A program need not read its input.
        drop(input.write_all(stdin.as_bytes()).await);
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output: Output = output.unwrap_or_else(|_| panic!("{program} {args:?} hangs")).unwrap();
    feed.await.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a server that is expected to fail at startup.
pub async fn try_start(dir: &Path, flags: &[&str]) -> Ended {
    let all = server_flags(dir);
    // A flag given twice is refused: the test's flags replace the default ones.
    let own = all.chunks(2).filter(|pair| !flags.contains(&pair[0].as_str()));
    let args: Vec<&str> = own.flatten().map(String::as_str).chain(flags.iter().copied()).collect();
    run(env!("CARGO_BIN_EXE_tidemark"), &args, "").await
}

/// Runs psql with plain output: fields separated by `|`, no headings.
pub async fn psql(server: &Server, args: &[&str], stdin: &str) -> Ended {
    let (host, port) = (server.sql.ip().to_string(), server.sql.port().to_string());
    let fixed = ["-X", "-A", "-t", "-q", "-h", &host, "-p", &port, "-U", "root", "-d", "dev"];
    let args: Vec<&str> = fixed.iter().chain(args).copied().collect();
    run("psql", &args, stdin).await
}

/// Runs statements with psql. Returns their rows.
pub async fn sql(server: &Server, statements: &str) -> String {
    let ended = psql(server, &["-v", "ON_ERROR_STOP=1", "-f", "-"], statements).await;
    ended.ok().trim_end().to_owned()
}

/// Runs a statement that fails. Returns psql's output for the error.
pub async fn sql_error(server: &Server, statement: &str) -> String {
    let verbose = ["-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-"];
    let ended = psql(server, &verbose, statement).await;
    assert_ne!(ended.code, Some(0), "{statement} succeeded: {}", ended.stdout);
    ended.stderr
}

/// Code and message of an error from the server.
pub fn said(error: &tokio_postgres::Error) -> String {
    let error = error.as_db_error().unwrap_or_else(|| panic!("not of the server: {error:?}"));
    format!("{}: {}", error.code().code(), error.message())
}

/// Runs `risectl meta …` against a server.
pub async fn risectl(server: &Server, args: &[&str]) -> Ended {
    ask(server, "meta", args).await
}

/// Runs `risectl hummock …` against a server.
pub async fn hummock(server: &Server, args: &[&str]) -> Ended {
    ask(server, "hummock", args).await
}

async fn ask(server: &Server, what: &str, args: &[&str]) -> Ended {
    let addr = format!("http://{}", server.meta);
    let args: Vec<&str> =
        [what].iter().chain(args).chain(&["--meta-addr", &addr]).copied().collect();
    run(env!("CARGO_BIN_EXE_risectl"), &args, "").await
}

/// Runs `risectl meta restore-meta` of a snapshot in the embedded stores of `from`, into their meta store.
/// The given flags replace the default ones.
pub async fn restore(from: &Path, id: u64, flags: &[(&str, &str)], switches: &[&str]) -> Ended {
    restore_in(&[], from, id, flags, switches).await
}

/// Like [`restore`], with these environment variables for `risectl`.
pub async fn restore_in(
    variables: &[(&str, &str)],
    from: &Path,
    id: u64,
    flags: &[(&str, &str)],
    switches: &[&str],
) -> Ended {
    let state = format!("fs://{}", from.join("store/state_store").display());
    let meta = meta_store(from).display().to_string();
    let id = id.to_string();
    let mut all = vec![
        ("--meta-store-type", "sqlite"),
        ("--sql-endpoint", &meta),
        ("--meta-snapshot-id", &id),
        ("--backup-storage-url", &state),
        ("--backup-storage-directory", "backup"),
        ("--hummock-storage-url", &state),
        ("--hummock-storage-directory", "hummock_001"),
    ];
    for (flag, value) in flags {
        all.retain(|(known, _)| known != flag);
        all.push((flag, value));
    }
    let flags = all.into_iter().flat_map(|(flag, value)| [flag, value]);
    let args: Vec<&str> =
        ["meta", "restore-meta"].into_iter().chain(flags).chain(switches.iter().copied()).collect();
    run_in(variables, env!("CARGO_BIN_EXE_risectl"), &args, "").await
}

/// The file of the embedded meta store.
pub fn meta_store(dir: &Path) -> PathBuf {
    dir.join("store/meta_store/single_node.db")
}

/// Deletes the embedded meta store.
pub fn lose_meta_store(dir: &Path) {
    std::fs::remove_dir_all(dir.join("store/meta_store")).unwrap();
}

/// All files below `dir` with their sizes.
pub fn files_below(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut folders = vec![dir.to_owned()];
    let mut files = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                meta if meta.is_dir() => folders.push(entry.path()),
                meta => files.push((entry.path(), meta.len())),
            }
        }
    }
    files.sort();
    files
}

/// The data files of the embedded state store.
pub fn data_files(dir: &Path) -> Vec<PathBuf> {
    let files = files_below(&dir.join("store/state_store/hummock_001")).into_iter();
    let files = files.map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|e| e == "data")).collect()
}

pub fn tempdir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Returns the complete response of an HTTP server.
pub async fn http_get(addr: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
