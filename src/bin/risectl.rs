//! The `risectl` program: the `tidemark risectl` subcommands under their own name.

use std::process::ExitCode;

use clap::Parser;
use tidemark::{cli, ctl};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Back up, restore and look into a Tidemark cluster.
#[derive(Parser)]
#[command(name = "risectl", version)]
struct Cli {
    #[command(flatten)]
    ctl: ctl::CtlArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging();
    ctl::main("risectl", cli.ctl)
}
