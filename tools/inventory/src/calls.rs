//! Calls an entry with samples on both servers and compares what they answer.

use std::collections::BTreeMap;

use crate::catalog::{Entry, Kind};
use crate::samples;
use crate::server::{Answer, Connection};

/// How Tidemark's entry compares to PostgreSQL's.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Every call was answered as PostgreSQL answers it.
    Equal,
    /// Some calls were refused, the others answered as PostgreSQL answers them.
    InPart(Difference),
    Differs(Difference),
    /// Every call was refused.
    Missing,
    /// No call says anything: there are no samples, or PostgreSQL refuses all of them.
    NotCompared,
}

/// The shortest statement that shows a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub sql: String,
    pub postgres: String,
    pub tidemark: String,
}

/// Functions that change a server, or wait: they are called with NULLs only.
const UNTOUCHED: [&str; 26] = [
    "pg_sleep",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_advisory",
    "pg_try_advisory",
    "setval",
    "set_config",
    "pg_create",
    "pg_drop",
    "pg_copy",
    "pg_import",
    "pg_notify",
    "pg_switch",
    "pg_start",
    "pg_stop",
    "pg_backup",
    "pg_export",
    "pg_wal",
    "pg_log",
    "pg_file",
    "pg_relation_filenode",
    "query_to",
    "table_to",
    "schema_to",
    "database_to",
    "cursor_to",
];

/// The same without arguments: they are not called at all.
const NEVER_CALLED: [&str; 6] = [
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_promote",
    "pg_switch_wal",
    "pg_backup_stop",
    "pg_wal_replay",
];

/// Two servers, and which types the second has.
pub struct Comparison {
    pub postgres: Connection,
    pub tidemark: Connection,
    types: BTreeMap<String, bool>,
}

impl Comparison {
    pub fn new(postgres: Connection, tidemark: Connection) -> Self {
        Self { postgres, tidemark, types: BTreeMap::new() }
    }

    /// Compares the answers of both servers to calls of `entry`.
    pub async fn state(&mut self, entry: &Entry, by_type_only: bool) -> State {
        if NEVER_CALLED.iter().any(|name| entry.name.starts_with(name)) {
            return State::NotCompared;
        }
        for type_name in entry.arguments.iter().chain([&entry.result]) {
            if !self.has_type(type_name).await {
                return State::Missing;
            }
        }
        let (mut equal, mut refused, mut gives_rows) = (0, None, false);
        for sql in statements(entry) {
            let (mut postgres, mut tidemark) =
                (self.postgres.ask(&sql).await, self.tidemark.ask(&sql).await);
            if entry.is_volatile || by_type_only {
                (postgres, tidemark) = (postgres.shape(), tidemark.shape());
            }
            gives_rows |= matches!(postgres, Answer::Rows { .. });
            if postgres.equals(&tidemark) {
                equal += usize::from(matches!(postgres, Answer::Rows { .. }));
                continue;
            }
            let difference =
                Difference { sql, postgres: postgres.shown(), tidemark: tidemark.shown() };
            if !tidemark.is_refusal() {
                return State::Differs(difference);
            }
            if refused.replace(difference).is_some() && equal == 0 {
                break;
            }
        }
        match refused {
            _ if !gives_rows => State::NotCompared,
            None => State::Equal,
            Some(_) if equal == 0 => State::Missing,
            Some(difference) => State::InPart(difference),
        }
    }

    async fn has_type(&mut self, name: &str) -> bool {
        if name.contains("any") || ["record", "void"].contains(&name) {
            return true;
        }
        if let Some(has) = self.types.get(name) {
            return *has;
        }
        let sql = format!("SELECT NULL::{name}");
        let refused = matches!(self.tidemark.ask(&sql).await, Answer::Failed { .. });
        let has = !refused || matches!(self.postgres.ask(&sql).await, Answer::Failed { .. });
        self.types.insert(name.to_owned(), has);
        has
    }
}

/// Statements that call the entry with samples, the shortest first.
fn statements(entry: &Entry) -> Vec<String> {
    let mut statements = match &entry.kind {
        Kind::Aggregate => aggregates(entry, |args| format!("{}({args})", entry.name), 0),
        Kind::OrderedSet(direct) => ordered_sets(entry, *direct),
        Kind::Window => windows(entry),
        Kind::Function | Kind::Operator | Kind::Cast => argument_lists(entry)
            .iter()
            .map(|args| format!("SELECT {}", call(entry, args)))
            .collect(),
    };
    statements.sort_by_key(String::len);
    statements
}

fn argument_lists(entry: &Entry) -> Vec<Vec<String>> {
    let lists = samples::arguments(&entry.arguments).unwrap_or_default();
    if UNTOUCHED.iter().any(|prefix| entry.name.starts_with(prefix)) {
        let nulls = entry.arguments.iter().map(|name| format!("NULL::{name}"));
        return vec![nulls.collect()];
    }
    lists
}

fn call(entry: &Entry, arguments: &[String]) -> String {
    match (&entry.kind, arguments) {
        (Kind::Operator, [left, right]) => format!("{left} {} {right}", entry.name),
        (Kind::Operator, [right]) => format!("{} {right}", entry.name),
        (Kind::Cast, [from]) => format!("{from}::{}", entry.result),
        // From a set of rows with columns, which a call in the select list gives as one record.
        _ if entry.result == "record" => format!("* FROM {}({})", entry.name, arguments.join(", ")),
        _ => format!("{}({})", entry.name, arguments.join(", ")),
    }
}

/// Calls over several rows, over one, over none, and over a NULL.
fn aggregates(entry: &Entry, call: impl Fn(&str) -> String, skip: usize) -> Vec<String> {
    let types = &entry.arguments[skip..];
    if types.is_empty() {
        return vec![format!("SELECT {} FROM (VALUES (1), (2)) v(a)", call("*"))];
    }
    let mut statements = vec![];
    for of_text in [false, true] {
        let polymorphic = types.iter().any(|name| name.contains("any"));
        if of_text && !polymorphic {
            continue;
        }
        let columns: Option<Vec<_>> =
            types.iter().map(|name| column_samples(name, of_text)).collect();
        let Some(columns) = columns else { return vec![] };
        let names: Vec<_> = ["a", "b", "c", "d"].into_iter().take(columns.len()).collect();
        let names = names.join(", ");
        let called = call(&names);
        let row = |index: usize| {
            let cells = columns.iter().map(|column| column[index % column.len()].clone());
            format!("({})", cells.collect::<Vec<_>>().join(", "))
        };
        let nulls = columns.iter().map(|_| "NULL").collect::<Vec<_>>().join(", ");
        let some = format!("{}, {}, {}", row(0), row(1), row(0));
        let all: Vec<_> = (0..6).map(row).collect();
        let all = format!("{}, ({nulls})", all.join(", "));
        let from = |rows: &str| format!("SELECT {called} FROM (VALUES {rows}) v({names})");
        statements.extend([from(&some), from(&all), from(&row(0))]);
        statements.push(format!("{} WHERE false", from(&some)));
        statements.push(format!("{} WHERE a IS NULL", from(&all)));
    }
    statements
}

fn column_samples(type_name: &str, of_text: bool) -> Option<Vec<String>> {
    let name = match type_name {
        "anyarray" | "anycompatiblearray" if of_text => "text[]",
        "anyarray" | "anycompatiblearray" => "integer[]",
        name if name.contains("any") && of_text => "text",
        name if name.contains("any") => "integer",
        name => name,
    };
    samples::of(name)
}

fn ordered_sets(entry: &Entry, direct: usize) -> Vec<String> {
    let ordered_by = &entry.arguments[direct.min(entry.arguments.len())..];
    let first: Option<Vec<_>> = entry.arguments[..direct.min(entry.arguments.len())]
        .iter()
        .map(|name| samples::of(name).map(|values| values[0].clone()))
        .collect();
    let Some(first) = first else { return vec![] };
    // The hypothetical row of rank() and kin has the types of the columns.
    let hypothetical =
        entry.arguments.len() == 1 && entry.arguments[0].contains("any") && direct == 1;
    let (arguments, skip) = match hypothetical {
        true => ("2".to_owned(), 0),
        false => (first.join(", "), entry.arguments.len() - ordered_by.len()),
    };
    aggregates(
        entry,
        |columns| format!("{}({arguments}) WITHIN GROUP (ORDER BY {columns})", entry.name),
        skip,
    )
}

fn windows(entry: &Entry) -> Vec<String> {
    let lists = match entry.arguments.is_empty() {
        true => vec![vec![]],
        false => samples::arguments(&entry.arguments).unwrap_or_default(),
    };
    let call = |list: &Vec<String>| {
        let arguments = list.iter().zip(&entry.arguments);
        let arguments = arguments.enumerate().map(|(index, (value, name))| {
            if index == 0 && name.contains("any") { "a".to_owned() } else { value.clone() }
        });
        format!("{}({})", entry.name, arguments.collect::<Vec<_>>().join(", "))
    };
    let rows = "(VALUES (3), (-2), (NULL), (0), (3)) v(a)";
    lists
        .iter()
        .map(|list| format!("SELECT {} OVER (ORDER BY a) FROM {rows}", call(list)))
        .collect()
}
