//! Shared by every command line of this project: logging, the runtime, error reports.

use std::error::Error;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use tidemark_pg::query_runtime::STACK_BYTES;

/// Log filter used when `RUST_LOG` is not set: warnings, and the life of the server.
const DEFAULT_LOG: &str = "warn,tidemark::life=info,tidemark::server=info";

/// Sends log lines to stderr, filtered by `RUST_LOG`.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| DEFAULT_LOG.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(coloured(&io::stderr()))
        .with_target(false)
        .init();
}

/// Resolves when the process is asked to end: Ctrl-C or SIGTERM.
pub async fn interrupted() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

/// Whether to write in colour: only to a terminal, and only if `NO_COLOR` is unset or empty.
pub fn coloured(to: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    to.is_terminal() && !refused
}

/// The runtime on which a command runs.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
}

/// Reports a failure on one line, and its hint on a second one.
pub fn fail(program: &str, error: &dyn Error, hint: Option<String>) -> ExitCode {
    let mut text = format!("{program}: {}\n", chain(error));
    if let Some(hint) = hint {
        text.push_str(&format!("HINT: {}\n", one_line(&hint)));
    }
    // If stderr is closed, the exit code still reports the failure.
    io::stderr().write_all(text.as_bytes()).ok();
    ExitCode::FAILURE
}

/// An error and its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = one_line(&error.to_string());
        // Some libraries repeat the cause in their own message.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not open the store")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("permission\n denied")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("could not start: permission denied")]
    struct Repeating(#[source] Inner);

    #[test]
    fn a_failure_is_one_line_with_every_cause_once() {
        assert_eq!(chain(&Outer(Inner)), "could not open the store: permission denied");
        assert_eq!(chain(&Repeating(Inner)), "could not start: permission denied");
    }
}
