//! What a session sees in all tables, small enough to compare: row counts and fingerprints.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::tpch::{self, Table};
use crate::ctl::output;

/// Hex digits of a fingerprint that are shown and compared.
const FINGERPRINT_DIGITS: usize = 16;

/// The tables as one session sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture(Vec<TablePicture>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct TablePicture {
    table: &'static str,
    contents: Contents,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Contents {
    Rows {
        count: u64,
        fingerprint: String,
    },
    /// The query failed; holds the reason, such as a table or column that does not exist.
    Unreadable(String),
}

impl Picture {
    /// Queries every table.
    pub async fn take(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let mut tables = Vec::with_capacity(tpch::TABLES.len());
        for table in &tpch::TABLES {
            tables
                .push(TablePicture { table: table.name, contents: look_at(client, table).await? });
        }
        Ok(Self(tables))
    }

    /// The names of the tables that differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(one, other)| one != other).map(|(one, _)| one.table).collect()
    }

    /// Formats the picture as a table; compares each row with another picture if there is one.
    pub fn table(&self, compared: Option<(&str, &Self)>) -> output::Table {
        let mut header = vec!["table", "rows", "fingerprint"];
        header.extend(compared.map(|(name, _)| name));
        let mut shown = output::Table::new(header);
        for (location, picture) in self.0.iter().enumerate() {
            let mut row = vec![picture.table.to_owned()];
            row.extend(match &picture.contents {
                Contents::Rows { count, fingerprint } => [count.to_string(), fingerprint.clone()],
                Contents::Unreadable(reason) => [String::new(), reason.clone()],
            });
            row.extend(compared.map(|(_, other)| {
                if other.0.get(location) == Some(picture) { "same" } else { "DIFFERENT" }.to_owned()
            }));
            shown.push(row);
        }
        shown
    }
}

async fn look_at(client: &Client, table: &Table) -> Result<Contents, tokio_postgres::Error> {
    match client.simple_query(&table.fingerprint_sql()).await {
        Ok(messages) => Ok(contents(&messages)),
        Err(error) => match error.as_db_error() {
            Some(refused) => Ok(Contents::Unreadable(refused.message().to_owned())),
            None => Err(error),
        },
    }
}

/// Reads the one row of a fingerprint query: a count, then aggregates.
fn contents(messages: &[SimpleQueryMessage]) -> Contents {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let Some(row) = row else { return Contents::Unreadable("no row".to_owned()) };
    let cells: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("null")).collect();
    match cells.first().and_then(|count| count.parse().ok()) {
        Some(count) => Contents::Rows { count, fingerprint: fingerprint(&cells) },
        None => Contents::Unreadable("no count".to_owned()),
    }
}

fn fingerprint(cells: &[&str]) -> String {
    let digest = Sha256::digest(cells.join("|"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..FINGERPRINT_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(table: &'static str, count: u64, cells: &[&str]) -> TablePicture {
        let contents = Contents::Rows { count, fingerprint: fingerprint(cells) };
        TablePicture { table, contents }
    }

    #[test]
    fn a_picture_names_what_differs_from_another() {
        let before = Picture(vec![picture("a", 1, &["1", "x"]), picture("b", 2, &["2", "y"])]);
        let after = Picture(vec![picture("a", 1, &["1", "x"]), picture("b", 2, &["2", "z"])]);
        assert_eq!(after.differences(&before), ["b"]);
        let shown = after.table(Some(("before", &before))).to_string();
        assert!(shown.contains("same") && shown.contains("DIFFERENT"), "{shown}");
    }
}
