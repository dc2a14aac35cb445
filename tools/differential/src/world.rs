//! Random tables with random rows. They differ in size from none to a few dozen rows, and share column names.

use fastrand::Rng;

use crate::types::{self, Type, pick, quoted};

const TABLES: usize = 4;
const COLUMNS_MAX: usize = 5;
const ROWS_MAX: usize = 14;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    pub of: Type,
    pub declared: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: Vec<TableColumn>,
    /// Whether the first column, `id`, is the primary key.
    pub has_key: bool,
    /// Texts of values; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub tables: Vec<Table>,
}

impl World {
    /// Four tables: one is empty at times, two have a key, and `k` and `g` are in several of them.
    pub fn random(rng: &mut Rng) -> Self {
        let tables = (0..TABLES).map(|index| table(rng, index)).collect();
        Self { tables }
    }

    /// One table with a column of each type.
    pub fn of_all_types(rng: &mut Rng) -> Self {
        let column = |(at, of): (usize, &Type)| TableColumn {
            name: format!("c{at}"),
            of: *of,
            declared: of.name(),
        };
        let mut columns: Vec<TableColumn> = types::ALL.iter().enumerate().map(column).collect();
        columns
            .insert(0, TableColumn { name: "id".to_owned(), of: Type::Int4, declared: "integer" });
        let rows = (0..ROWS_MAX).map(|at| row(rng, &columns, true, at)).collect();
        Self { tables: vec![Table { name: "t0".to_owned(), columns, has_key: true, rows }] }
    }

    pub fn statements(&self) -> Vec<String> {
        self.tables.iter().flat_map(Table::statements).collect()
    }
}

impl Table {
    /// Its first column and those that are wanted.
    pub fn keeping(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.columns.len())
            .filter(|at| *at == 0 || is_wanted(&self.columns[*at].name))
            .collect();
        let columns = kept.iter().map(|at| self.columns[*at].clone()).collect();
        let rows = self.rows.iter().map(|row| kept.iter().map(|at| row[*at].clone()).collect());
        Self { columns, rows: rows.collect(), ..self.clone() }
    }

    /// Half of its rows, or all but one.
    pub fn fewer_rows(&self) -> Vec<Vec<Vec<Option<String>>>> {
        let (rows, half) = (&self.rows, self.rows.len() / 2);
        let mut found = vec![];
        if half > 0 {
            found.extend([rows[..half].to_vec(), rows[half..].to_vec()]);
        }
        found.extend((0..rows.len()).map(|at| [&rows[..at], &rows[at + 1..]].concat()));
        found
    }

    /// What creates the table and fills it.
    pub fn statements(&self) -> Vec<String> {
        let column = |(at, column): (usize, &TableColumn)| {
            let key = if self.has_key && at == 0 { " PRIMARY KEY" } else { "" };
            format!("{} {}{key}", column.name, column.declared)
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        let mut statements = vec![format!("CREATE TABLE {} ({})", self.name, columns.join(", "))];
        if !self.rows.is_empty() {
            let cell =
                |cell: &Option<String>| cell.as_ref().map_or("NULL".to_owned(), |c| quoted(c));
            let row = |row: &Vec<Option<String>>| {
                format!("({})", row.iter().map(cell).collect::<Vec<_>>().join(", "))
            };
            let rows: Vec<String> = self.rows.iter().map(row).collect();
            statements.push(format!("INSERT INTO {} VALUES {}", self.name, rows.join(", ")));
        }
        statements
    }
}

fn table(rng: &mut Rng, index: usize) -> Table {
    let has_key = index < 2;
    let mut columns = vec![];
    let mut add = |name: &str, of: Type, rng: &mut Rng| {
        columns.push(TableColumn { name: name.to_owned(), of, declared: of.declared(rng) });
    };
    add("id", Type::Int4, rng);
    let shared = pick(rng, &[Type::Int4, Type::Int4, Type::Int8, Type::Int2]);
    add("k", shared, rng);
    if index != 1 {
        add("g", Type::Text, rng);
    }
    for at in 0..rng.usize(2..=COLUMNS_MAX) {
        let all = if rng.u8(..3) == 0 { types::ALL } else { types::PLAIN };
        let of = pick(rng, all);
        add(&format!("c{index}{at}"), of, rng);
    }
    let count = match rng.u8(..8) {
        0 => 0,
        1 => 1,
        _ => rng.usize(2..=ROWS_MAX),
    };
    let mut rows: Vec<Vec<Option<String>>> =
        (0..count).map(|at| row(rng, &columns, has_key, at)).collect();
    if !has_key && count > 2 {
        let again = rows[0].clone();
        rows.push(again);
    }
    Table { name: format!("t{index}"), columns, has_key, rows }
}

fn row(rng: &mut Rng, columns: &[TableColumn], has_key: bool, at: usize) -> Vec<Option<String>> {
    let cell = |(position, column): (usize, &TableColumn)| match position {
        0 if has_key => Some(at.to_string()),
        _ if rng.u8(..5) == 0 => None,
        1 if types::INTEGERS.contains(&column.of) => Some(rng.u8(..4).to_string()),
        2 if column.of == Type::Text => Some(pick(rng, &["a", "b", "", "ab"]).to_owned()),
        _ => Some(value(rng, column)),
    };
    columns.iter().enumerate().map(cell).collect()
}

/// A value that the column can hold without rounding.
fn value(rng: &mut Rng, column: &TableColumn) -> String {
    let text = column.of.value(rng);
    match column.of {
        // A longer fraction than the column has is rounded when it is written, which is not what is tested here.
        Type::Numeric if text.len() > 9 => "7".to_owned(),
        _ => text,
    }
}
