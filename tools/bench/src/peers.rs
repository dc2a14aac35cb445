//! The other engines, each in a Python process of its own (`peers/peer.py`).

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Fallible;

/// The Python with the packages, and how PostgreSQL is reached; set by `scripts/bench`.
const PYTHON: &str = "TIDEMARK_BENCH_PYTHON";
pub const POSTGRES: &str = "TIDEMARK_POSTGRES";

/// An engine that answers lines of JSON.
pub struct Peer {
    pub version: String,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Peer {
    /// Those there are; none without `scripts/bench`.
    pub async fn all(scratch: &Path) -> Fallible<Vec<Self>> {
        let Ok(python) = std::env::var(PYTHON) else { return Ok(vec![]) };
        let dsn = std::env::var(POSTGRES)?;
        let mut peers = vec![];
        for engine in ["duckdb", "delta", "postgres"] {
            peers.push(Self::start(&python, engine, &scratch.join(engine), &dsn).await?);
        }
        Ok(peers)
    }

    async fn start(python: &str, engine: &str, directory: &Path, dsn: &str) -> Fallible<Self> {
        std::fs::create_dir_all(directory)?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(engine)
            .arg(directory)
            .arg(dsn)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().ok_or("the peer takes no orders")?;
        let stdout = child.stdout.take().ok_or("the peer gives no answers")?;
        let answers = BufReader::new(stdout).lines();
        let mut peer = Self { version: engine.to_owned(), orders, answers, _child: child };
        let hello = peer.answer().await?;
        peer.version = hello["version"].as_str().unwrap_or(engine).to_owned();
        Ok(peer)
    }

    pub async fn create(&mut self, table: &str, rows: u64) -> Fallible<f64> {
        self.order(json!({"do": "create", "table": table, "rows": rows})).await
    }

    pub async fn update(&mut self, table: &str, filter: &str, set: (&str, &str)) -> Fallible<f64> {
        let set = [set.0, set.1];
        self.order(json!({"do": "update", "table": table, "where": filter, "set": set})).await
    }

    pub async fn delete(&mut self, table: &str, filter: &str) -> Fallible<f64> {
        self.order(json!({"do": "delete", "table": table, "where": filter})).await
    }

    pub async fn drop_table(&mut self, table: &str) -> Fallible<f64> {
        self.order(json!({"do": "drop", "table": table})).await
    }

    /// Runs a query and takes in its rows; how long it took, in milliseconds.
    pub async fn query(&mut self, sql: &str) -> Fallible<f64> {
        self.order(json!({"do": "query", "sql": sql})).await
    }

    async fn order(&mut self, order: Value) -> Fallible<f64> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        let answer = self.answer().await?;
        if let Some(error) = answer["error"].as_str() {
            return Err(format!("{}: {error}", self.version).into());
        }
        answer["ms"].as_f64().ok_or_else(|| format!("{}: no time", self.version).into())
    }

    async fn answer(&mut self) -> Fallible<Value> {
        let line = self.answers.next_line().await?.ok_or("the peer is gone")?;
        Ok(serde_json::from_str(&line)?)
    }
}
