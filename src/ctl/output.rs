//! How results look on a terminal: tables as psql prints them, sizes, shell words.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use indicatif::{ProgressBar, ProgressStyle};

/// Rows under a header. Numeric columns are right-aligned.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: vec![] }
    }

    /// Adds a row, which must have one cell per column. A null is an empty cell.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.header.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.header[column].chars().count()]).max().unwrap_or(0)
    }

    fn is_numeric(&self, column: usize) -> bool {
        let mut cells =
            self.rows.iter().map(|row| &row[column]).filter(|c| !c.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.header.len()).map(|i| self.width(i)).collect();
        let numeric: Vec<bool> = (0..self.header.len()).map(|i| self.is_numeric(i)).collect();
        let columns = || widths.iter().copied().zip(numeric.iter().copied());
        let names = self.header.iter().zip(columns());
        let names = names.map(|(name, (width, _))| format!(" {name:^width$} "));
        writeln!(f, "{}", names.collect::<Vec<_>>().join("|").trim_end())?;
        let rule = widths.iter().map(|width| "-".repeat(width + 2));
        writeln!(f, "{}", rule.collect::<Vec<_>>().join("+"))?;
        for row in &self.rows {
            let cells = row.iter().zip(columns()).map(|(cell, (width, numeric))| {
                if numeric { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("|").trim_end())?;
        }
        let rows = self.rows.len();
        write!(f, "({rows} row{})", if rows == 1 { "" } else { "s" })
    }
}

/// A human-readable size: `1.21 MiB`.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A human-readable count: `1,200,000`.
pub fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A progress bar for the files of a job on stderr; draws nothing if that is not a terminal.
pub fn progress_bar(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")
        .expect("the template is fixed and valid");
    ProgressBar::new(0).with_style(style).with_message(what.to_owned())
}

/// Sets a bar to the progress of a job.
pub fn show(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

/// Quotes a word for a shell, if necessary.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

/// The command that connects psql to the server at `addr`.
pub fn psql_line(addr: SocketAddr) -> String {
    let host = match addr.ip() {
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host,
    };
    format!("psql -h {host} -p {} -d dev -U root", addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_as_in_psql() {
        let mut table = Table::new(["id", "remarks"]);
        table.push(vec!["1".to_owned(), "nightly".to_owned()]);
        table.push(vec!["10".to_owned(), String::new()]);
        let expected = " id | remarks\n----+---------\n  1 | nightly\n 10 |\n(2 rows)";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn words_are_quoted_only_when_a_shell_needs_it() {
        assert_eq!(shell_word("fs:///a/b"), "fs:///a/b");
        assert_eq!(shell_word("it's late"), r"'it'\''s late'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn psql_is_sent_to_an_address_it_can_reach() {
        let line = psql_line("0.0.0.0:4566".parse().unwrap());
        assert_eq!(line, "psql -h 127.0.0.1 -p 4566 -d dev -U root");
    }
}
