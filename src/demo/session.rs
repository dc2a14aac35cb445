//! A SQL session of the demo: runs a statement and shows it with its result.

use tokio_postgres::error::DbError;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::DemoError;
use super::output::Screen;
use super::picture::Picture;
use super::process::ServerProcess;
use crate::ctl::output::{self, Table};

/// A connection to the server.
pub(super) struct Session {
    pub client: Client,
}

impl Session {
    pub async fn open(server: &ServerProcess) -> Result<Self, DemoError> {
        let client = server.connect().await.map_err(DemoError::Connect)?;
        Ok(Self { client })
    }

    /// Runs a statement; shows it and its result.
    pub async fn show(&self, screen: &Screen, statement: &str) -> Result<Table, DemoError> {
        screen.sql(statement)?;
        let messages = self.run(statement).await?;
        let table = table(&messages);
        match affected(&messages) {
            Some(rows) if table.row_count() == 0 => {
                let plural = if rows == 1 { "" } else { "s" };
                screen.result(&format!("({} row{plural} affected)", output::count(rows)))?;
            }
            _ if table.row_count() > 0 => screen.result(&table)?,
            _ => {}
        }
        Ok(table)
    }

    /// Like [`Session::show`], for a statement that returns one value.
    pub async fn show_value(&self, screen: &Screen, statement: &str) -> Result<String, DemoError> {
        screen.sql(statement)?;
        let value = self.value(statement).await?;
        screen.result(&value)?;
        Ok(value)
    }

    /// Returns the one value of a statement; shows nothing.
    pub async fn value(&self, statement: &str) -> Result<String, DemoError> {
        let messages = self.run(statement).await?;
        let value = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if !row.is_empty() => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.ok_or_else(|| DemoError::NoValue { statement: statement.to_owned() })
    }

    /// Runs a statement that must be refused; shows it and the error. Returns `None` if it succeeded.
    pub async fn refused(
        &self,
        screen: &Screen,
        statement: &str,
    ) -> Result<Option<DbError>, DemoError> {
        screen.sql(statement)?;
        let error = match self.client.simple_query(statement).await {
            Ok(_) => None,
            Err(error) => match error.as_db_error() {
                Some(refused) => Some(refused.clone()),
                None => return Err(sql_error(statement)(error)),
            },
        };
        match &error {
            None => screen.result(&"(it was taken)")?,
            Some(error) => {
                screen.result(&format!("{}:  {}", error.severity(), error.message()))?;
                if let Some(hint) = error.hint() {
                    screen.result(&format!("HINT:  {hint}"))?;
                }
            }
        }
        Ok(error)
    }

    /// Takes a picture of every table; shows nothing.
    pub async fn picture(&self) -> Result<Picture, DemoError> {
        Picture::take(&self.client).await.map_err(sql_error("SELECT count(*), … of every table"))
    }

    async fn run(&self, statement: &str) -> Result<Vec<SimpleQueryMessage>, DemoError> {
        self.client.simple_query(statement).await.map_err(sql_error(statement))
    }
}

pub(super) fn sql_error(statement: &str) -> impl Fn(tokio_postgres::Error) -> DemoError {
    let statement = statement.to_owned();
    move |source| DemoError::Sql { statement: statement.clone(), source }
}

fn table(messages: &[SimpleQueryMessage]) -> Table {
    let mut table = Table::default();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            if table.row_count() == 0 {
                table = Table::new(row.columns().iter().map(|column| column.name()));
            }
            table.push((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect());
        }
    }
    table
}

fn affected(messages: &[SimpleQueryMessage]) -> Option<u64> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) if *rows > 0 => Some(*rows),
        _ => None,
    })
}
