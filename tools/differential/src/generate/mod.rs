//! Random statements, typed and bounded in depth. A seed determines all of them.

mod changes;
mod expressions;
mod queries;

use fastrand::Rng;

use crate::signatures::{Place, Table};
use crate::types::{self, Type};
use crate::world;
use crate::world::World;

/// A column that an expression may refer to.
#[derive(Clone, Debug)]
pub struct Visible {
    pub reference: String,
    pub of: Type,
}

/// A query in `WITH` that may be read like a table.
#[derive(Clone, Debug)]
struct CommonTable {
    name: String,
    columns: Vec<(String, Type)>,
}

/// What an expression may consist of.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    /// The columns of its own query.
    columns: &'s [Visible],
    /// Those of queries around it.
    outer: &'s [Visible],
    /// In a grouped query, the columns that arguments of aggregates may have.
    aggregated: Option<&'s [Visible]>,
    /// Whether windows may be there.
    windows: bool,
}

impl<'s> Scope<'s> {
    fn plain(columns: &'s [Visible], outer: &'s [Visible]) -> Self {
        Self { columns, outer, aggregated: None, windows: false }
    }
}

/// Makes statements over one world.
pub struct Generator<'g> {
    pub rng: Rng,
    pub table: &'g Table,
    pub world: &'g World,
    /// Signatures that may be used, by result: those both servers have.
    pub usable: &'g [usize],
    names: usize,
    common: Vec<CommonTable>,
    /// Names of tables in `FROM` whose first column is their key.
    keyed: Vec<String>,
}

impl<'g> Generator<'g> {
    pub fn new(seed: u64, table: &'g Table, world: &'g World, usable: &'g [usize]) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            table,
            world,
            usable,
            names: 0,
            common: vec![],
            keyed: vec![],
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A usable signature with this result, if there is any.
    fn signature(&mut self, of: Type, place: Place, queries: bool) -> Option<usize> {
        let known = |index: &&usize| {
            let signature = &self.table.signatures[**index];
            signature.result == of
                && signature.place == place
                && (queries || !signature.has_query())
        };
        let choices: Vec<usize> = self.usable.iter().filter(known).copied().collect();
        if choices.is_empty() { None } else { Some(choices[self.rng.usize(..choices.len())]) }
    }

    /// A type, mostly one of the visible columns or a plain one.
    fn any_type(&mut self, columns: &[Visible]) -> Type {
        match self.rng.u8(..10) {
            0..=2 if !columns.is_empty() => columns[self.rng.usize(..columns.len())].of,
            3 => Type::Bool,
            4 | 5 => types::pick(&mut self.rng, types::NUMBERS),
            6 => types::pick(&mut self.rng, types::ALL),
            _ => types::pick(&mut self.rng, types::PLAIN),
        }
    }
}

/// The columns of a table under a name.
fn visible_columns(table: &world::Table, name: &str) -> Vec<Visible> {
    let visible = |column: &world::TableColumn| Visible {
        reference: format!("{name}.{}", column.name),
        of: column.of,
    };
    table.columns.iter().map(visible).collect()
}
