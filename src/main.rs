//! The `tidemark` program: reads the arguments and starts what they ask for.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tidemark::config::{CompactorArgs, ConfigError, FrontendArgs, MetaArgs, ServerArgs, Settings};
use tidemark::server::{self, Server};
use tidemark::{cli, ctl, demo};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROGRAM: &str = "tidemark";

/// A Postgres-wire SQL database on object storage that can always go back.
///
/// Without a subcommand, the standalone server is started.
#[derive(Parser)]
#[command(name = PROGRAM, version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Start all roles in one process (the default)
    #[command(visible_alias = "single-node", aliases = ["single_node", "single"])]
    Standalone(StartArgs),
    /// Start all roles in one process, with everything in memory
    Playground(StartArgs),
    /// Start the meta role: the single writer of the metadata, or a standby
    #[command(visible_alias = "meta-node")]
    Meta(RoleArgs<MetaArgs>),
    /// Start a frontend: SQL for clients
    #[command(visible_alias = "frontend-node")]
    Frontend(RoleArgs<FrontendArgs>),
    /// Start a compactor: it compacts the tables of the cluster
    #[command(visible_alias = "compactor-node")]
    Compactor(RoleArgs<CompactorArgs>),
    /// Back up, restore and inspect a cluster
    #[command(visible_alias = "ctl")]
    Risectl(ctl::CtlArgs),
    /// Watch backup, time travel and restore on real data
    Demo(demo::DemoArgs),
}

type StartArgs = RoleArgs<ServerArgs>;

/// The flags of a role, plus those of every process.
#[derive(Args)]
struct RoleArgs<T: Args> {
    #[command(flatten)]
    role: T,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Args)]
struct ProcessArgs {
    /// Write the SQL address and the meta address, or dashes, to this file once the server is ready
    #[arg(long, value_name = "PATH", hide = true)]
    ready_file: Option<PathBuf>,
    /// Stop when standard input ends, so that the server ends with its parent
    #[arg(long, hide = true)]
    stop_when_stdin_closes: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging();
    match cli.command {
        None => start(cli.start.role.settings(), &cli.start.process),
        Some(Command::Standalone(args)) => start(args.role.settings(), &args.process),
        Some(Command::Playground(mut args)) => {
            args.role.stores.in_memory = true;
            start(args.role.settings(), &args.process)
        }
        Some(Command::Meta(args)) => start(args.role.settings(), &args.process),
        Some(Command::Frontend(args)) => start(args.role.settings(), &args.process),
        Some(Command::Compactor(args)) => start(args.role.settings(), &args.process),
        Some(Command::Risectl(args)) => ctl::main(PROGRAM, args),
        Some(Command::Demo(args)) => demo::main(args),
    }
}

fn start(settings: Result<Settings, ConfigError>, args: &ProcessArgs) -> ExitCode {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return cli::fail(PROGRAM, &error, error.hint()),
    };
    let runtime = match cli::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(PROGRAM, &error, None),
    };
    let code = runtime.block_on(serve(settings, args));
    // The server has stopped; a thread that still reads standard input must not keep the process alive.
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings, args: &ProcessArgs) -> ExitCode {
    let mut stop = match StopSignals::listen(args.stop_when_stdin_closes) {
        Ok(stop) => stop,
        Err(error) => return cli::fail(PROGRAM, &error, None),
    };
    tracing::debug!(target: "tidemark::life", ?settings, "starting");
    let started = tokio::select! {
        started = server::start(settings.clone()) => started,
        reason = stop.wait() => {
            tracing::info!(target: "tidemark::life", reason, "stopped before it was ready");
            return ExitCode::SUCCESS;
        }
    };
    let mut server = match started {
        Ok(server) => server,
        Err(error) => return cli::fail(PROGRAM, &error, error.hint()),
    };
    if let Err(error) = announce(&server, &settings, args.ready_file.as_deref()) {
        server.stop().await;
        return cli::fail(PROGRAM, error.as_ref(), None);
    }
    tokio::select! {
        reason = stop.wait() => {
            tracing::info!(target: "tidemark::life", reason, "stopping");
            stop_or_quit(server, &mut stop).await
        }
        reason = server.failed() => {
            let error: Box<dyn Error> = reason.into();
            server.stop().await;
            cli::fail(PROGRAM, error.as_ref(), None)
        }
    }
}

/// Stops cleanly; a second signal ends the wait.
async fn stop_or_quit(server: Server, stop: &mut StopSignals) -> ExitCode {
    tokio::select! {
        () = server.stop() => {
            tracing::info!(target: "tidemark::life", "stopped");
            ExitCode::SUCCESS
        }
        () = stop.insisted() => {
            tracing::warn!("not waiting for a clean stop; nothing acknowledged is lost");
            ExitCode::FAILURE
        }
    }
}

/// What ends a running server: signals and, if asked for, the end of standard input.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    stdin: Option<tokio::io::Stdin>,
    /// Signals seen so far.
    signals: u32,
}

impl StopSignals {
    fn listen(stdin: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            stdin: stdin.then(tokio::io::stdin),
            signals: 0,
        })
    }

    async fn wait(&mut self) -> &'static str {
        let (reason, is_signal) = tokio::select! {
            _ = self.interrupt.recv() => ("interrupted", true),
            _ = self.terminate.recv() => ("terminated", true),
            () = end_of(&mut self.stdin) => ("standard input ended", false),
        };
        // Standard input ends only once; every later reason is a signal.
        self.stdin = None;
        self.signals += u32::from(is_signal);
        reason
    }

    /// Resolves at the second signal. The end of standard input does not count as one: when a terminal
    /// interrupts both the parent and this process, it comes together with the first signal.
    async fn insisted(&mut self) {
        while self.signals < 2 {
            self.wait().await;
        }
    }
}

async fn end_of(stdin: &mut Option<tokio::io::Stdin>) {
    let Some(stdin) = stdin else { return std::future::pending().await };
    let mut bytes = [0; 64];
    while stdin.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
}

fn announce(
    server: &Server,
    settings: &Settings,
    ready_file: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    let (sql, meta) = (server.sql_addr(), server.meta_addr());
    if let Some(path) = ready_file {
        write_ready_file(path, sql, meta)
            .map_err(|e| format!("could not write {}: {e}", path.display()))?;
    }
    // A server whose stderr is closed still serves.
    io::stderr().write_all(greeting(settings, sql, meta).as_bytes()).ok();
    Ok(())
}

/// Writes the file atomically: a reader sees all of it or none.
fn write_ready_file(
    path: &Path,
    sql: Option<SocketAddr>,
    meta: Option<SocketAddr>,
) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let [sql, meta] = [sql, meta].map(|addr| addr.map_or("-".to_owned(), |addr| addr.to_string()));
    std::fs::write(&draft, format!("{sql}\n{meta}\n"))?;
    std::fs::rename(draft, path)
}

fn greeting(settings: &Settings, sql: Option<SocketAddr>, meta: Option<SocketAddr>) -> String {
    let mut lines = vec![format!("tidemark {} is ready", env!("CARGO_PKG_VERSION"))];
    let mut line = |label: &str, value: String| lines.push(format!("  {label:<12} {value}"));
    if let Some(addr) = sql {
        line("sql", addr.to_string());
    }
    if let Some(addr) = meta {
        line("meta", addr.to_string());
    }
    if let Some(addrs) = &settings.meta_addrs {
        line("meta", format!("one of {addrs}"));
    }
    if let Some(meta) = &settings.meta {
        let stores = &meta.stores;
        let state_store = tidemark_ledger::storage_url::mask(&stores.state_store);
        line("meta store", stores.meta_store.to_string());
        line("state store", format!("{state_store}, data in {}", stores.data_directory));
    }
    if let Some(addr) = sql {
        line("connect", ctl::output::psql_line(addr));
    }
    lines.push(String::new());
    lines.join("\n")
}
