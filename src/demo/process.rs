//! The real programs as child processes: a server that can be stopped, and `risectl`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, ChildStdin, Command};
use tokio_postgres::{Client, NoTls};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(10);
/// Number of log lines of a failed server that the error shows.
const LOG_LINES_TOLD: usize = 5;

/// A server in a separate process. It ends when this value is dropped, and with this process.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// The server stops when this is closed.
    stdin: ChildStdin,
    log: PathBuf,
    pub sql_addr: SocketAddr,
    pub meta_addr: SocketAddr,
}

/// Why a child process failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("could not start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the server ended with {status} before it was ready: {log}")]
    Ended { status: ExitStatus, log: String },
    #[error("the server was not ready after {} s: {log}", READY_TIMEOUT.as_secs())]
    NotReady { log: String },
    #[error("the server did not stop cleanly: {log}")]
    NotStopped { log: String },
    #[error("could not {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not watch a child process")]
    Watch(#[source] io::Error),
}

impl ServerProcess {
    /// Starts `program` as a server with `flags` on free loopback ports, and waits until it is ready.
    /// Its log and its ready file, which holds its addresses, go to `scratch`.
    pub async fn start(
        program: &Path,
        flags: &[String],
        environment: Option<(&str, String)>,
        scratch: &Path,
    ) -> Result<Self, ProcessError> {
        let ready = scratch.join("ready");
        let log = scratch.join("server.log");
        remove_file(&ready)?;
        let errors = std::fs::File::create(&log).map_err(file("create", &log))?;
        let mut child = command(program)
            .arg("standalone")
            .args(["--listen-addr", "127.0.0.1:0", "--meta-addr", "127.0.0.1:0"])
            .args(flags)
            .envs(environment)
            .arg("--stop-when-stdin-closes")
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|source| ProcessError::Spawn { program: program.to_owned(), source })?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let (sql_addr, meta_addr) = wait_until_ready(&mut child, &ready, &log).await?;
        Ok(Self { child, stdin, log, sql_addr, meta_addr })
    }

    /// The process id, until the process has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Opens a new session.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host(self.sql_addr.ip().to_string())
            .port(self.sql_addr.port())
            .user("root")
            .dbname("dev")
            .connect(NoTls)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(client)
    }

    /// Stops the server as an operator would, and waits until it has ended.
    pub async fn stop(self) -> Result<(), ProcessError> {
        let Self { mut child, stdin, log, .. } = self;
        drop(stdin);
        match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Err(error)) => Err(ProcessError::Watch(error)),
            Ok(Ok(_)) | Err(_) => Err(ProcessError::NotStopped { log: end_of_log(&log) }),
        }
    }

    /// Kills the server as a crash would, and waits until it has ended.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Resolves when the server ends on its own.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        // `Child::wait` would close the child's stdin, so this struct holds it instead.
        self.child.wait().await
    }
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    /// Its stdout, then its stderr.
    pub text: String,
    pub elapsed: Duration,
}

/// Runs `program risectl` with `args`; `meta_addr` is the running server, if there is one.
pub async fn risectl(
    program: &Path,
    meta_addr: Option<SocketAddr>,
    environment: Option<(&str, String)>,
    args: &[String],
) -> Result<Outcome, ProcessError> {
    let start = Instant::now();
    let mut command = command(program);
    command.arg("risectl").args(args).envs(environment).stdin(Stdio::null());
    if let Some(addr) = meta_addr {
        command.env("RW_META_ADDR", format!("http://{addr}"));
    }
    let output = command
        .output()
        .await
        .map_err(|source| ProcessError::Spawn { program: program.to_owned(), source })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Outcome { success: output.status.success(), text, elapsed: start.elapsed() })
}

/// `program` without the `RW_*` variables of this process's environment; killed when dropped.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RW_") {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    command
}

async fn wait_until_ready(
    child: &mut Child,
    ready: &Path,
    log: &Path,
) -> Result<(SocketAddr, SocketAddr), ProcessError> {
    let start = Instant::now();
    while start.elapsed() < READY_TIMEOUT {
        if let Some(addresses) = read_ready(ready) {
            return Ok(addresses);
        }
        if let Some(status) = child.try_wait().map_err(ProcessError::Watch)? {
            return Err(ProcessError::Ended { status, log: end_of_log(log) });
        }
        tokio::time::sleep(READY_POLL).await;
    }
    Err(ProcessError::NotReady { log: end_of_log(log) })
}

fn read_ready(path: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (sql, meta) = text.trim_end().split_once('\n')?;
    Some((sql.parse().ok()?, meta.parse().ok()?))
}

fn end_of_log(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_TOLD)..].join(" / ")
}

fn remove_file(path: &Path) -> Result<(), ProcessError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ProcessError {
    let path = path.to_owned();
    move |source| ProcessError::File { action, path: path.clone(), source }
}
