//! Statements that change a table.

use super::{Generator, Scope, Visible, visible_columns};
use crate::ast::{Body, Change, Conflict, Expression, Item, Query, Statement};
use crate::types::Type;
use crate::world::Table;

const DEPTH: usize = 2;

impl Generator<'_> {
    pub fn top_change(&mut self) -> Statement {
        let world = self.world;
        let table = &world.tables[self.rng.usize(..world.tables.len())];
        let columns = visible_columns(table, &table.name);
        let scope = Scope::plain(&columns, &[]);
        let filter = (!self.one_in(4)).then(|| self.expression(Type::Bool, scope, DEPTH));
        Statement::Change(match self.rng.u8(..3) {
            0 => self.insert(table, &columns),
            1 => {
                let (set, returning) = (self.assignments(table, scope), self.returning(&columns));
                Change::Update { table: table.name.clone(), set, filter, returning }
            }
            _ => Change::Delete {
                table: table.name.clone(),
                filter,
                returning: self.returning(&columns),
            },
        })
    }

    /// Two to four rows; with a key, some of them collide.
    fn insert(&mut self, table: &Table, columns: &[Visible]) -> Change {
        let count = self.rng.usize(2..5);
        let mut rows = vec![];
        for at in 0..count {
            let key = Expression::literal(Type::Int4, (self.rng.usize(..8) * 5 + at).to_string());
            let others = table.columns[1..].iter().map(|column| match column.of {
                // What a column cannot hold is refused by both in ways of their own.
                Type::Varchar | Type::Numeric => Expression::literal(column.of, "NULL"),
                of => self.literal(of),
            });
            rows.push(std::iter::once(key).chain(others).collect());
        }
        let conflict = table.has_key.then(|| self.conflict(table, columns));
        let columns_named = table.columns.iter().map(|column| column.name.clone()).collect();
        let source = Query::of(Body::Values(rows));
        let returning = self.returning(columns);
        Change::Insert {
            table: table.name.clone(),
            columns: columns_named,
            source,
            conflict,
            returning,
        }
    }

    fn conflict(&mut self, table: &Table, columns: &[Visible]) -> Conflict {
        if self.one_in(3) {
            return Conflict::Nothing;
        }
        let excluded = visible_columns(table, "excluded");
        let both = [columns, &excluded].concat();
        let scope = Scope::plain(&both, &[]);
        let set = self.assignments(table, scope);
        let filter = self.one_in(3).then(|| self.expression(Type::Bool, scope, 1));
        Conflict::Update { set, filter }
    }

    /// New values for one or two columns other than the key.
    fn assignments(&mut self, table: &Table, scope: Scope<'_>) -> Vec<(String, Expression)> {
        let settable = &table.columns[1..];
        let mut set: Vec<(String, Expression)> = vec![];
        for _ in 0..self.rng.usize(1..3) {
            let column = &settable[self.rng.usize(..settable.len())];
            if set.iter().all(|(name, _)| *name != column.name) {
                set.push((column.name.clone(), self.expression(column.of, scope, DEPTH)));
            }
        }
        set
    }

    fn returning(&mut self, columns: &[Visible]) -> Vec<Item> {
        if self.one_in(2) {
            return vec![];
        }
        let of = self.any_type(columns);
        let value = self.expression(of, Scope::plain(columns, &[]), 1);
        vec![Item { value, alias: None }]
    }
}
