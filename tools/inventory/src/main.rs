//! Compares PostgreSQL's functions, operators and casts with Tidemark's, and writes `docs/functions.md`.

#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

mod calls;
mod catalog;
mod chapters;
mod report;
mod samples;
mod server;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

use crate::calls::Comparison;
use crate::server::{Connection, Tidemark};

pub type Fallible<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Options {
    /// How PostgreSQL is reached: `host=… port=… user=… dbname=…`.
    #[arg(long, env = "TIDEMARK_POSTGRES")]
    postgres: String,
    /// The program `tidemark`, which is started for the comparison.
    #[arg(long, default_value = "target/debug/tidemark")]
    server: PathBuf,
    /// How a running Tidemark is reached, instead of starting one.
    #[arg(long)]
    tidemark: Option<String>,
    #[arg(long, default_value = "docs/functions.md")]
    page: PathBuf,
    /// A file for the list of differences, with a statement for each.
    #[arg(long)]
    differences: Option<PathBuf>,
    /// Compares the page with what it should be, and writes nothing.
    #[arg(long)]
    check: bool,
    /// Compares only the functions whose names contain this.
    #[arg(long)]
    only: Option<String>,
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let options = Options::parse();
    let started = match options.tidemark {
        Some(_) => None,
        None => Some(Tidemark::start(&options.server).await?),
    };
    let config = started.as_ref().map(|started| started.config.clone()).or(options.tidemark);
    let mut postgres = Connection::open(&options.postgres).await?;
    let tidemark = Connection::open(&config.unwrap_or_default()).await?;
    let mut entries = catalog::entries(&mut postgres).await?;
    if let Some(only) = &options.only {
        entries.retain(|entry| entry.name.contains(only));
    }
    let mut comparison = Comparison::new(postgres, tidemark);
    let mut compared = vec![];
    for entry in entries {
        let by_type = is_of_the_server(&entry);
        let state = comparison.state(&entry, by_type).await;
        compared.push((entry, state));
    }
    let page = report::page(&compared);
    let differences = report::differences(&compared);
    if let Some(path) = options.differences {
        std::fs::write(path, &differences)?;
    }
    if options.only.is_some() {
        println!("{differences}");
        return Ok(());
    }
    if options.check {
        return check(&page, &std::fs::read_to_string(&options.page)?);
    }
    Ok(std::fs::write(&options.page, page)?)
}

/// Whether the values depend on the server, so that only types can be compared.
fn is_of_the_server(entry: &catalog::Entry) -> bool {
    let is_privilege = entry.name.starts_with("has_") || entry.name == "format_type";
    report::chapter_of(entry).is_some_and(|(number, _)| number == "9.26") && !is_privilege
}

fn check(page: &str, stored: &str) -> Fallible<()> {
    let changed: Vec<_> =
        page.lines().zip(stored.lines()).filter(|(now, then)| now != then).take(5).collect();
    if page == stored {
        return Ok(());
    }
    for (now, then) in changed {
        println!("- {then}\n+ {now}");
    }
    Err("the page is not current: write it anew".into())
}
