//! What a process takes, as the kernel counts it: memory, and bytes read and written.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use tidemark::demo::process;

use crate::Fallible;

/// How often a process is looked at that will be gone when it is done.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// What was taken since a moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub seconds: f64,
    /// Resident memory at that moment.
    pub memory_before: u64,
    /// The most there was since.
    pub memory_peak: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// A process, measured from a moment on.
pub struct Meter {
    pid: u32,
    start: Instant,
    memory: u64,
    moved: Moved,
}

/// Bytes that went through reads and writes, from disk or not.
#[derive(Clone, Copy, Debug)]
struct Moved {
    read: u64,
    written: u64,
}

impl Meter {
    pub fn start(pid: u32) -> io::Result<Self> {
        // Resets the peak of resident memory.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let memory = status(pid, "VmRSS:")?;
        Ok(Self { pid, start: Instant::now(), memory, moved: Moved::by(pid)? })
    }

    pub fn read(&self) -> io::Result<Usage> {
        let seconds = self.start.elapsed().as_secs_f64();
        let moved = Moved::by(self.pid)?;
        Ok(Usage {
            seconds,
            memory_before: self.memory,
            memory_peak: status(self.pid, "VmHWM:")?,
            read_bytes: moved.read - self.moved.read,
            written_bytes: moved.written - self.moved.written,
        })
    }
}

impl Moved {
    fn by(pid: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
        Ok(Self { read: field(&text, "rchar:")?, written: field(&text, "wchar:")? })
    }
}

/// What a process took since its start, but for the time.
pub fn so_far(pid: u32) -> io::Result<Usage> {
    let Moved { read, written } = Moved::by(pid)?;
    let memory_peak = status(pid, "VmHWM:")?;
    Ok(Usage { memory_peak, read_bytes: read, written_bytes: written, ..Usage::default() })
}

/// A size in the process's status, in bytes.
fn status(pid: u32, name: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&text, name)? << 10)
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {name}")))
}

/// Runs `program risectl` with `args` to its end.
pub async fn risectl(program: &Path, args: &[String]) -> Fallible<Usage> {
    let mut command = process::command(program);
    let command = command.arg("risectl").args(args).stdin(Stdio::null());
    let start = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let meter = Meter::start(child.id().ok_or("it ended at once")?)?;
    let mut seen = Usage::default();
    let mut output = std::pin::pin!(child.wait_with_output());
    let output = loop {
        tokio::select! {
            output = &mut output => break output?,
            () = tokio::time::sleep(LOOK_PAUSE) => {
                // A process that is ending has no memory any more.
                seen = meter.read().unwrap_or(seen);
            }
        }
    };
    match output.status.success() {
        true => Ok(Usage { seconds: start.elapsed().as_secs_f64(), ..seen }),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}
