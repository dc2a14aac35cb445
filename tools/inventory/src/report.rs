//! Writes `docs/functions.md`, and the list of differences.

use std::collections::BTreeMap;

use crate::calls::State;
use crate::catalog::{Entry, Kind};
use crate::chapters::{self, CHAPTERS, Chapter};

/// An entry and how it compares.
pub type Compared = (Entry, State);

/// Longest text of a cell before the rest is counted.
const CELL_MAX: usize = 110;

/// Longest line of a paragraph.
const LINE_MAX: usize = 120;

const HEAD: &str = "\
# Functions, operators and casts

What PostgreSQL 15 has in `pg_catalog` for users to call, and what Tidemark has of it. `tools/inventory` writes this
page: it reads `pg_proc`, `pg_operator`, `pg_aggregate` and `pg_cast` of a PostgreSQL, calls every entry on both servers
with sample values of each argument's type, NULL among them, and compares the types, values and SQLSTATEs they answer:

```sh
scripts/functions            # writes it
scripts/functions --check    # compares it
scripts/functions --only round --differences /dev/stdout    # some functions, with the statements that differ
```

- **equal**: argument lists for which every call was answered as PostgreSQL answers it. Of functions whose values
  change from call to call, and of chapter 9.26, types alone are compared.
- **in part**: some calls are refused (42883, 0A000), the others equal.
- **differs**: some call is answered differently.
- **missing**: all calls are refused.
- **not compared**: PostgreSQL refuses the samples too, or the function changes the server.

Not in these catalogs, and so not here, is what the grammar spells out: `AND`, `CASE`, `COALESCE`, `NULLIF`, `GREATEST`,
`LEAST`, `IN`, `ANY`, `BETWEEN`, `IS …`, `ARRAY[…]`, `ROW(…)`, `CURRENT_DATE`, `GROUPING`.
";

/// The whole page.
pub fn page(compared: &[Compared]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Totals\n\n");
    page.push_str(&totals(compared));
    for (chapter, _) in CHAPTERS {
        for (title, of_kind) in [("functions", false), ("operators", true)] {
            let entries = compared.iter().filter(|(entry, _)| {
                chapter_of(entry) == Some(chapter) && (entry.kind == Kind::Operator) == of_kind
            });
            let table = table(entries);
            if !table.is_empty() {
                let (number, name) = chapter;
                let heading =
                    if name.ends_with(title) { String::new() } else { format!(": {title}") };
                page.push_str(&format!("\n## {number} {name}{heading}\n\n{table}"));
            }
        }
    }
    let casts = table(compared.iter().filter(|(entry, _)| entry.kind == Kind::Cast));
    page.push_str(&format!("\n## Casts\n\n{casts}"));
    page
}

/// Each difference with its statement, for whoever mends them.
pub fn differences(compared: &[Compared]) -> String {
    let mut list = String::new();
    for (entry, state) in compared {
        let (kind, difference) = match state {
            State::Differs(difference) => ("differs", difference),
            State::InPart(difference) => ("in part", difference),
            _ => continue,
        };
        list.push_str(&format!(
            "- {kind}: {}\n    {}\n    postgres: {}\n    tidemark: {}\n",
            entry.signature(),
            difference.sql,
            difference.postgres,
            difference.tidemark
        ));
    }
    list
}

/// The chapter of a function or operator; casts have none.
pub fn chapter_of(entry: &Entry) -> Option<Chapter> {
    let kind = match entry.kind {
        Kind::Aggregate | Kind::OrderedSet(_) => 'a',
        Kind::Window => 'w',
        Kind::Function => 'f',
        Kind::Operator => 'o',
        Kind::Cast => return None,
    };
    let types: Vec<_> = entry.arguments.iter().chain([&entry.result]).cloned().collect();
    Some(chapters::of(&entry.name, kind, &types))
}

const STATES: [&str; 5] = ["equal", "in part", "differs", "missing", "not compared"];

fn column(state: &State) -> usize {
    match state {
        State::Equal => 0,
        State::InPart(_) => 1,
        State::Differs(_) => 2,
        State::Missing => 3,
        State::NotCompared => 4,
    }
}

fn totals(compared: &[Compared]) -> String {
    let mut chapters: BTreeMap<usize, [usize; 5]> = BTreeMap::new();
    for (entry, state) in compared {
        let chapter = chapter_of(entry);
        let place =
            CHAPTERS.iter().position(|(c, _)| Some(*c) == chapter).unwrap_or(CHAPTERS.len());
        chapters.entry(place).or_default()[column(state)] += 1;
    }
    let head = ["chapter"].into_iter().chain(STATES).map(str::to_owned).collect();
    let mut rows = vec![head];
    let mut sum = [0; 5];
    for (place, counts) in chapters {
        let title =
            CHAPTERS.get(place).map_or("Casts".to_owned(), |((n, t), _)| format!("{n} {t}"));
        rows.push([title].into_iter().chain(counts.map(|n| n.to_string())).collect());
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let all = ["all".to_owned()].into_iter().chain(sum.map(|n| n.to_string()));
    rows.push(all.collect());
    aligned(&rows)
}

/// A row per name: the argument lists in each state.
fn table<'a>(entries: impl Iterator<Item = &'a Compared>) -> String {
    let mut names: BTreeMap<&str, [Vec<String>; 5]> = BTreeMap::new();
    for (entry, state) in entries {
        let name = if entry.kind == Kind::Cast { &entry.arguments[0] } else { &entry.name };
        names.entry(name).or_default()[column(state)].push(types_of(entry));
    }
    if names.is_empty() {
        return String::new();
    }
    let has_some = names.values().any(|cells| cells[..3].iter().any(|cell| !cell.is_empty()));
    if !has_some && names.len() > 1 {
        return none_of(&names);
    }
    let used: Vec<_> =
        (0..5).filter(|column| names.values().any(|cells| !cells[*column].is_empty())).collect();
    let first = if names.len() == 1 { "name" } else { "" };
    let head = [first].into_iter().chain(used.iter().map(|column| STATES[*column]));
    let mut rows = vec![head.map(str::to_owned).collect()];
    for (name, cells) in names {
        let cells = used.iter().map(|column| listed(&cells[*column]));
        rows.push([format!("`{}`", name.replace('|', "\\|"))].into_iter().chain(cells).collect());
    }
    aligned(&rows)
}

/// A paragraph for a chapter of which Tidemark has nothing.
fn none_of(names: &BTreeMap<&str, [Vec<String>; 5]>) -> String {
    let mut text = "None of:".to_owned();
    let mut width = text.len();
    for (index, name) in names.keys().enumerate() {
        let end = if index + 1 == names.len() { "." } else { "," };
        let word = format!("`{name}`{end}");
        let breaks = width + word.len() >= LINE_MAX;
        text.push(if breaks { '\n' } else { ' ' });
        width = if breaks { word.len() } else { width + word.len() + 1 };
        text.push_str(&word);
    }
    text.push('\n');
    text
}

/// The argument types of an entry, shortened.
fn types_of(entry: &Entry) -> String {
    if entry.kind == Kind::Cast {
        return short(&entry.result);
    }
    let types: Vec<_> = entry.arguments.iter().map(|name| short(name)).collect();
    format!("({})", types.join(", "))
}

fn short(type_name: &str) -> String {
    let names = [
        ("timestamp without time zone", "timestamp"),
        ("timestamp with time zone", "timestamptz"),
        ("time without time zone", "time"),
        ("time with time zone", "timetz"),
        ("double precision", "float8"),
        ("character varying", "varchar"),
        ("bit varying", "varbit"),
        ("character", "char"),
    ];
    let found = names.iter().find_map(|(long, short)| {
        type_name.strip_prefix(long).map(|rest| format!("{short}{rest}"))
    });
    found.unwrap_or_else(|| type_name.to_owned())
}

fn listed(types: &[String]) -> String {
    let mut cell = String::new();
    for (index, text) in types.iter().enumerate() {
        if cell.len() + text.len() > CELL_MAX {
            cell.push_str(&format!(" and {} more", types.len() - index));
            break;
        }
        if index > 0 {
            cell.push(' ');
        }
        cell.push_str(text);
    }
    cell.replace('|', "\\|")
}

/// A Markdown table whose columns are aligned.
fn aligned(rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows[0].len()).map(|column| width(column).max(3)).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(&rows[0]);
    text.push_str(&line(&rule));
    rows[1..].iter().for_each(|row| text.push_str(&line(row)));
    text
}
