//! Expressions of a wanted type.

use super::{Generator, Scope, Visible};
use crate::ast::{Expression, Kind, Order, Window};
use crate::signatures::{Piece, Place};
use crate::types::{self, Type, pick, quoted};

const DIRECTIONS: &[&str] =
    &["", "", " ASC", " DESC", " NULLS FIRST", " DESC NULLS LAST", " DESC NULLS FIRST"];

const FRAMES: &[&str] = &[
    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    "ROWS 2 PRECEDING",
    "ROWS BETWEEN 2 FOLLOWING AND 3 FOLLOWING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
];

/// Frames that take in all peers: the order among them does not matter.
const PEER_FRAMES: &[&str] = &[
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    "GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
];

impl Generator<'_> {
    /// A call whose arguments are literals, or columns of the first table if it takes rows.
    pub fn single_call(&mut self, signature: usize) -> Expression {
        let table = &self.world.tables[0];
        self.keyed.push(table.name.clone());
        let columns: Vec<Visible> = super::visible_columns(table, &table.name);
        let columns = if self.table.signatures[signature].place == Place::Anywhere {
            vec![]
        } else {
            columns
        };
        let scope = Scope { aggregated: Some(&columns), ..Scope::plain(&columns, &[]) };
        self.call(signature, scope, 1)
    }

    pub fn expression(&mut self, of: Type, scope: Scope<'_>, depth: usize) -> Expression {
        if depth == 0 || self.one_in(6) {
            return self.leaf(of, scope);
        }
        if scope.aggregated.is_some()
            && self.one_in(2)
            && let Some(signature) = self.signature(of, Place::Aggregate, false)
        {
            return self.call(signature, scope, depth);
        }
        if scope.windows
            && self.one_in(4)
            && let Some(signature) = self.signature(of, Place::Window, false)
        {
            return self.call(signature, scope, depth);
        }
        match self.signature(of, Place::Anywhere, depth > 1) {
            Some(signature) => self.call(signature, scope, depth),
            None => self.leaf(of, scope),
        }
    }

    /// A column, or else a literal.
    fn leaf(&mut self, of: Type, scope: Scope<'_>) -> Expression {
        let own: Vec<&Visible> = scope.columns.iter().filter(|column| column.of == of).collect();
        let outer: Vec<&Visible> = scope.outer.iter().filter(|column| column.of == of).collect();
        let choices =
            if own.is_empty() || (!outer.is_empty() && self.one_in(3)) { outer } else { own };
        if choices.is_empty() || self.one_in(6) {
            if let Some(signature) = self.signature(of, Place::Aggregate, false)
                && scope.aggregated.is_some()
                && !self.one_in(4)
            {
                return self.call(signature, scope, 1);
            }
            return self.literal(of);
        }
        Expression::column(of, choices[self.rng.usize(..choices.len())].reference.clone())
    }

    /// A literal that has its type on its own.
    pub fn literal(&mut self, of: Type) -> Expression {
        if self.one_in(10) {
            return Expression::literal(of, format!("NULL::{}", of.name()));
        }
        let value = of.value(&mut self.rng);
        let text = match self.rng.u8(..3) {
            _ if of.is_natural(&value) && !self.one_in(4) => value,
            0 => format!("CAST({} AS {})", quoted(&value), of.name()),
            1 if !of.name().ends_with(']') => format!("{} {}", of.name(), quoted(&value)),
            _ => format!("{}::{}", quoted(&value), of.name()),
        };
        Expression::literal(of, text)
    }

    /// A literal whose type its surroundings determine.
    fn untyped(&mut self, of: Type) -> Expression {
        let text =
            if self.one_in(6) { "NULL".to_owned() } else { quoted(&of.value(&mut self.rng)) };
        Expression::literal(of, text)
    }

    pub fn call(&mut self, signature: usize, scope: Scope<'_>, depth: usize) -> Expression {
        let known = &self.table.signatures[signature];
        // Arguments of an aggregate contain none; those of a window no window.
        let inner = match (known.place, scope.aggregated) {
            (Place::Aggregate, Some(columns)) => Scope::plain(columns, scope.outer),
            _ => Scope { windows: false, ..scope },
        };
        let depth = depth - 1;
        let (mut arguments, mut queries, mut window) = (vec![], vec![], None);
        for piece in &known.pieces {
            match piece {
                Piece::Text(_) | Piece::Same(_) => {}
                Piece::Argument { of, may_be_untyped } if *may_be_untyped && self.one_in(3) => {
                    arguments.push(self.untyped(*of));
                }
                Piece::Argument { of, .. } => arguments.push(self.expression(*of, inner, depth)),
                Piece::Pool(pool) => arguments.push(self.pooled(*pool)),
                Piece::Query { of, is_scalar } => {
                    queries.push(self.sub_query(of, *is_scalar, inner, depth));
                }
                Piece::Window => window = Some(Box::new(self.window(inner))),
            }
        }
        let kind = Kind::Call { signature, arguments, queries, window };
        Expression { of: known.result, kind }
    }

    fn pooled(&mut self, pool: usize) -> Expression {
        let pool = &self.table.pools[pool];
        let value = &pool.values[self.rng.usize(..pool.values.len())];
        let text = match pool.of {
            Type::Int4 if value.starts_with('-') => format!("({value})"),
            Type::Int4 => value.clone(),
            Type::Text => quoted(value),
            of => format!("{}::{}", quoted(value), of.name()),
        };
        Expression::literal(pool.of, text)
    }

    /// A window whose result does not depend on the order of peers: they are equal in every column, or a frame
    /// takes in all of them.
    fn window(&mut self, scope: Scope<'_>) -> Window {
        let mut window = Window::default();
        if self.one_in(2) && !scope.columns.is_empty() {
            let of = scope.columns[self.rng.usize(..scope.columns.len())].of;
            window.partition.push(self.sort_key(of, scope).key);
        }
        if self.one_in(3) {
            // All rows of a partition are peers; whatever takes one of them by its position is a call of its own.
            window.frame = None;
        }
        let of = pick(&mut self.rng, types::PLAIN);
        window.order.push(self.sort_key(of, scope));
        if self.one_in(4) {
            window.frame = Some(pick(&mut self.rng, PEER_FRAMES).to_owned());
        }
        for column in self.tie_breakers(scope.columns) {
            let key = Expression::column(column.of, column.reference.clone());
            window.order.push(Order { key, direction: "" });
        }
        if window.frame.is_none() && self.one_in(2) {
            window.frame = Some(pick(&mut self.rng, FRAMES).to_owned());
        }
        window
    }

    /// The key, if all columns are those of one table that has one; or else every column.
    fn tie_breakers<'c>(&self, columns: &'c [Visible]) -> &'c [Visible] {
        let alias = |column: &Visible| column.reference.split('.').next().map(str::to_owned);
        let first = columns.first().and_then(alias);
        let is_single = columns.iter().all(|column| alias(column) == first);
        match first.is_some_and(|alias| self.keyed.contains(&alias)) && is_single {
            true => &columns[..1],
            false => columns,
        }
    }

    fn sort_key(&mut self, of: Type, scope: Scope<'_>) -> Order {
        let key = match self.leaf(of, Scope { aggregated: None, ..scope }) {
            // A literal as a sort key would be a position.
            Expression { kind: Kind::Literal(text), .. } => {
                Expression::literal(of, format!("({text})"))
            }
            key => key,
        };
        Order { key, direction: pick(&mut self.rng, DIRECTIONS) }
    }
}
