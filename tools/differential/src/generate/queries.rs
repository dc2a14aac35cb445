//! Queries with wanted column types.

use super::{CommonTable, Generator, Scope, Visible};
use crate::ast::{
    Body, Common, Condition, Distinct, Expression, From, Grouping, Item, Query, Select, Sets,
    Statement,
};
use crate::signatures::Place;
use crate::types::{self, Type, pick};

const DEPTH: usize = 3;
const DIRECTIONS: &[&str] =
    &["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST", " DESC NULLS FIRST"];
const SET_OPERATORS: &[&str] =
    &["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"];
const JOINS: &[&str] = &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// The sources of rows of a query and the columns they show.
struct Source {
    from: From,
    columns: Vec<Visible>,
    /// Columns by bare name, for `USING` and `NATURAL`.
    names: Vec<(String, Type)>,
}

impl Generator<'_> {
    /// A statement that answers with rows.
    pub fn top_query(&mut self) -> Statement {
        let count = self.rng.usize(1..4);
        let types: Vec<Type> = (0..count).map(|_| self.any_type(&[])).collect();
        Statement::Query(self.query(&types, &[], DEPTH, true))
    }

    /// A query whose rows a condition chooses, and nothing else does.
    pub fn top_condition(&mut self) -> Query {
        let source = self.source(&[], 2);
        let scope = Scope::plain(&source.columns, &[]);
        let filter = Some(self.expression(Type::Bool, scope, DEPTH));
        let first = source.columns.iter().take(4).enumerate();
        let items = first
            .map(|(at, column)| Item { value: visible_of(column), alias: Some(format!("c{at}")) });
        let (distinct, grouping, having) = (Distinct::No, None, None);
        let (items, from) = (items.collect(), Some(source.from));
        Query::of(Body::Select(Box::new(Select {
            distinct,
            items,
            from,
            filter,
            grouping,
            having,
        })))
    }

    fn query(&mut self, of: &[Type], outer: &[Visible], depth: usize, is_top: bool) -> Query {
        let before = self.common.len();
        let mut with = vec![];
        if depth > 1 && self.one_in(8) {
            with.push(self.common_table(depth - 1));
        }
        let body = self.body(of, outer, depth, is_top);
        let mut query = Query::of(body);
        query.with = with;
        self.common.truncate(before);
        let is_distinct_on = matches!(
            &query.body, Body::Select(select) if matches!(select.distinct, Distinct::On(_))
        );
        if is_distinct_on || self.one_in(3) {
            self.order(&mut query, of.len(), is_distinct_on);
            if self.one_in(2) {
                query.limit = Some(self.rng.u64(..5));
            }
            if self.one_in(4) {
                query.offset = Some(self.rng.u64(..4));
            }
        }
        query
    }

    /// By all columns, so that rows that compare equal are equal. `DISTINCT ON` wants its own columns first.
    fn order(&mut self, query: &mut Query, count: usize, in_order: bool) {
        let mut positions: Vec<usize> = (1..=count).collect();
        if !in_order {
            self.rng.shuffle(&mut positions);
        }
        let keys = positions.into_iter().map(|at| (at, pick(&mut self.rng, DIRECTIONS)));
        query.order = keys.collect();
    }

    fn common_table(&mut self, depth: usize) -> Common {
        let count = self.rng.usize(1..4);
        let types: Vec<Type> = (0..count).map(|_| self.any_type(&[])).collect();
        let query = self.query(&types, &[], depth, false);
        let name = self.fresh("w");
        let columns: Vec<(String, Type)> =
            (0..count).map(|at| (format!("c{at}"), types[at])).collect();
        let hint = pick(&mut self.rng, &["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        self.common.push(CommonTable { name: name.clone(), columns });
        Common { name, columns: names, hint, query }
    }

    fn body(&mut self, of: &[Type], outer: &[Visible], depth: usize, is_top: bool) -> Body {
        if depth > 0 && self.one_in(8) {
            let left = Box::new(self.body(of, outer, depth - 1, is_top));
            let right = Box::new(self.body(of, outer, depth - 1, false));
            return Body::Set { operator: pick(&mut self.rng, SET_OPERATORS), left, right };
        }
        if !is_top && self.one_in(20) {
            let count = self.rng.usize(1..4);
            let rows = (0..count).map(|_| of.iter().map(|of| self.literal(*of)).collect());
            return Body::Values(rows.collect());
        }
        Body::Select(Box::new(self.select(of, outer, depth, is_top)))
    }

    fn select(&mut self, of: &[Type], outer: &[Visible], depth: usize, is_top: bool) -> Select {
        let source =
            if depth == 0 && self.one_in(4) { None } else { Some(self.source(outer, depth)) };
        let columns = source.as_ref().map_or(&[][..], |source| &source.columns);
        let plain = Scope::plain(columns, outer);
        let filter = self.one_in(2).then(|| self.expression(Type::Bool, plain, depth.min(2)));
        let is_grouped = source.is_some() && self.one_in(4);
        let grouping = is_grouped.then(|| self.grouping(columns));
        let grouped: Vec<Visible> =
            grouping.iter().flat_map(|grouping| &grouping.columns).map(visible).collect();
        let scope = match grouping {
            Some(_) => {
                Scope { columns: &grouped, outer, aggregated: Some(columns), windows: false }
            }
            None => Scope { windows: source.is_some(), ..plain },
        };
        let mut items = vec![];
        for (at, of) in of.iter().enumerate() {
            let value = self.expression(*of, scope, depth.min(2));
            let alias = if is_top && self.one_in(3) { None } else { Some(format!("c{at}")) };
            items.push(Item { value, alias });
        }
        let having = (is_grouped && self.one_in(3)).then(|| self.expression(Type::Bool, scope, 1));
        let distinct = match self.rng.u8(..12) {
            0 => Distinct::Yes,
            1 if is_top && !is_grouped => Distinct::On(1),
            _ => Distinct::No,
        };
        let from = source.map(|source| source.from);
        Select { distinct, items, from, filter, grouping, having }
    }

    /// By columns, which both servers take for the same in `SELECT` and in `GROUP BY`.
    fn grouping(&mut self, columns: &[Visible]) -> Grouping {
        let count = self.rng.usize(..4).min(columns.len());
        let mut chosen: Vec<Expression> = vec![];
        for _ in 0..count {
            let column = &columns[self.rng.usize(..columns.len())];
            let column = Expression::column(column.of, column.reference.clone());
            if !chosen.contains(&column) {
                chosen.push(column);
            }
        }
        let sets = match self.rng.u8(..8) {
            0 => Sets::Rollup,
            1 => Sets::Cube,
            2 => {
                let count = self.rng.usize(1..4);
                let set =
                    |rng: &mut fastrand::Rng| (0..chosen.len()).filter(|_| rng.bool()).collect();
                Sets::Explicit((0..count).map(|_| set(&mut self.rng)).collect())
            }
            _ => Sets::Plain,
        };
        Grouping { columns: chosen, sets }
    }

    fn source(&mut self, outer: &[Visible], depth: usize) -> Source {
        if depth > 0 && self.one_in(3) {
            return self.join(outer, depth - 1);
        }
        if depth > 1 && self.one_in(6) {
            return self.derived(outer, depth - 1, false);
        }
        let common = self.common.len();
        if common > 0 && self.one_in(2) {
            let common = self.common[self.rng.usize(..common)].clone();
            return self.named(&common.name, &common.columns);
        }
        let table = &self.world.tables[self.rng.usize(..self.world.tables.len())];
        let columns: Vec<(String, Type)> =
            table.columns.iter().map(|column| (column.name.clone(), column.of)).collect();
        let source = self.named(&table.name, &columns);
        if let (true, From::Table { alias, .. }) = (table.has_key, &source.from) {
            self.keyed.push(alias.clone());
        }
        source
    }

    fn named(&mut self, name: &str, columns: &[(String, Type)]) -> Source {
        let alias = self.fresh("a");
        let from = From::Table { name: name.to_owned(), alias: alias.clone() };
        Source { from, columns: qualified(&alias, columns), names: columns.to_vec() }
    }

    fn derived(&mut self, outer: &[Visible], depth: usize, is_lateral: bool) -> Source {
        let count = self.rng.usize(1..4);
        let types: Vec<Type> = (0..count).map(|_| self.any_type(outer)).collect();
        let query = Box::new(self.query(&types, outer, depth, false));
        let alias = self.fresh("a");
        let columns: Vec<(String, Type)> =
            (0..count).map(|at| (format!("d{at}"), types[at])).collect();
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        let from = From::Derived { query, alias: alias.clone(), columns: names, is_lateral };
        Source { from, columns: qualified(&alias, &columns), names: columns }
    }

    fn join(&mut self, outer: &[Visible], depth: usize) -> Source {
        let left = self.source(outer, depth);
        if self.one_in(6) {
            return self.lateral(left, outer, depth);
        }
        let right = self.source(outer, depth);
        let shared = shared(&left, &right);
        match self.rng.u8(..6) {
            0 => joined("CROSS JOIN", left, right, Condition::Nothing),
            1 | 2 if !shared.is_empty() => {
                let mut using = shared;
                if self.one_in(2) {
                    using.truncate(1);
                }
                self.using(left, right, using)
            }
            _ => {
                let columns = [left.columns.as_slice(), &right.columns].concat();
                let on = self.join_condition(&left, &right, Scope::plain(&columns, outer), depth);
                joined(pick(&mut self.rng, JOINS), left, right, Condition::On(on))
            }
        }
    }

    fn lateral(&mut self, left: Source, outer: &[Visible], depth: usize) -> Source {
        let around = [left.columns.as_slice(), outer].concat();
        let right = self.derived(&around, depth, true);
        if self.one_in(2) {
            return joined("CROSS JOIN", left, right, Condition::Nothing);
        }
        let columns = [left.columns.as_slice(), &right.columns].concat();
        let on = self.expression(Type::Bool, Scope::plain(&columns, outer), 1);
        joined(pick(&mut self.rng, &["JOIN", "LEFT JOIN"]), left, right, Condition::On(on))
    }

    /// Most joins compare a column of one side with one of the other.
    fn join_condition(
        &mut self,
        left: &Source,
        right: &Source,
        scope: Scope<'_>,
        depth: usize,
    ) -> Expression {
        let pairs = left.columns.iter().flat_map(|a| right.columns.iter().map(move |b| (a, b)));
        let pairs: Vec<_> = pairs.filter(|(a, b)| a.of == b.of).collect();
        let any = self.expression(Type::Bool, scope, depth.min(2));
        if pairs.is_empty() || self.one_in(4) {
            return any;
        }
        let (a, b) = pairs[self.rng.usize(..pairs.len())];
        let equal = self
            .named_call(&format!("({0} = {0})", a.of.tag()), vec![visible_of(a), visible_of(b)]);
        match equal {
            Some(equal) if self.one_in(4) => {
                self.named_call("(bool AND bool)", vec![equal.clone(), any]).unwrap_or(equal)
            }
            equal => equal.unwrap_or(any),
        }
    }

    /// A call of the signature with this text, if it is usable.
    fn named_call(&self, text: &str, arguments: Vec<Expression>) -> Option<Expression> {
        let named = |index: &&usize| self.table.signatures[**index].text == text;
        let signature = *self.usable.iter().find(named)?;
        let (queries, window) = (vec![], None);
        let kind = crate::ast::Kind::Call { signature, arguments, queries, window };
        Some(Expression { of: self.table.signatures[signature].result, kind })
    }

    fn using(&mut self, left: Source, right: Source, using: Vec<(String, Type)>) -> Source {
        let names: Vec<String> = using.iter().map(|(name, _)| name.clone()).collect();
        let condition = Condition::Using(names.clone());
        let kind = pick(&mut self.rng, JOINS);
        let all_shared = shared(&left, &right).len() == names.len();
        let mut source = joined(kind, left, right, condition);
        if all_shared
            && self.one_in(3)
            && let From::Join { kind, condition, .. } = &mut source.from
        {
            *condition = Condition::Nothing;
            *kind = match *kind {
                "LEFT JOIN" => "NATURAL LEFT JOIN",
                "RIGHT JOIN" => "NATURAL RIGHT JOIN",
                "FULL JOIN" => "NATURAL FULL JOIN",
                _ => "NATURAL JOIN",
            };
        }
        source.names.retain(|(name, _)| !names.contains(name));
        for (name, of) in using {
            // The merged column, referred to without a table, besides those of both sides.
            source.columns.insert(0, Visible { reference: name.clone(), of });
            source.names.push((name, of));
        }
        source
    }

    /// A query in an expression, which may refer to columns around it.
    pub fn sub_query(
        &mut self,
        of: &[Type],
        is_scalar: bool,
        scope: Scope<'_>,
        depth: usize,
    ) -> Query {
        let around = [scope.columns, scope.outer].concat();
        let outer = if self.one_in(3) { &[][..] } else { &around[..] };
        let any = [self.any_type(outer)];
        let of = if of.is_empty() { &any } else { of };
        if is_scalar {
            return self.scalar_query(of[0], outer, depth);
        }
        self.query(of, outer, depth, false)
    }

    /// One row at most: an aggregate without groups, or the first row.
    fn scalar_query(&mut self, of: Type, outer: &[Visible], depth: usize) -> Query {
        let source = self.source(outer, depth);
        let plain = Scope::plain(&source.columns, outer);
        let filter = self.one_in(2).then(|| self.expression(Type::Bool, plain, 1));
        let aggregate = self.signature(of, Place::Aggregate, false).filter(|_| !self.one_in(3));
        let scope = Scope { columns: &[], aggregated: Some(&source.columns), ..plain };
        let value = match aggregate {
            Some(signature) => self.call(signature, scope, 1),
            None => self.expression(of, plain, 1),
        };
        let items = vec![Item { value, alias: Some("c0".to_owned()) }];
        let (distinct, having) = (Distinct::No, None);
        let grouping = aggregate.map(|_| Grouping { columns: vec![], sets: Sets::Plain });
        let from = Some(source.from);
        let select = Select { distinct, items, from, filter, grouping, having };
        let mut query = Query::of(Body::Select(Box::new(select)));
        if aggregate.is_none() {
            self.order(&mut query, 1, false);
            query.limit = Some(1);
        }
        query
    }
}

fn visible(column: &Expression) -> Visible {
    let reference = match &column.kind {
        crate::ast::Kind::Column(text) => text.clone(),
        _ => String::new(),
    };
    Visible { reference, of: column.of }
}

fn visible_of(column: &Visible) -> Expression {
    Expression::column(column.of, column.reference.clone())
}

fn qualified(alias: &str, columns: &[(String, Type)]) -> Vec<Visible> {
    let visible =
        |(name, of): &(String, Type)| Visible { reference: format!("{alias}.{name}"), of: *of };
    columns.iter().map(visible).collect()
}

fn joined(kind: &'static str, left: Source, right: Source, condition: Condition) -> Source {
    let columns = [left.columns, right.columns].concat();
    let names = [left.names, right.names].concat();
    let (left, right) = (Box::new(left.from), Box::new(right.from));
    Source { from: From::Join { kind, left, right, condition }, columns, names }
}

/// Columns that are once on each side, and merge to the type of the left one or a wider number.
fn shared(left: &Source, right: &Source) -> Vec<(String, Type)> {
    let once = |names: &[(String, Type)], wanted: &str| {
        let mut of = names.iter().filter(|(name, _)| name == wanted).map(|(_, of)| *of);
        of.next().filter(|_| of.next().is_none())
    };
    let rank = |of: Type| types::NUMBERS.iter().position(|known| *known == of);
    let merge = |(name, _): &(String, Type)| {
        let (a, b) = (once(&left.names, name)?, once(&right.names, name)?);
        let merged = match (rank(a), rank(b)) {
            _ if a == b => a,
            (Some(x), Some(y)) => types::NUMBERS[x.max(y)],
            _ => return None,
        };
        (merged != Type::Jsonb).then(|| (name.clone(), merged))
    };
    left.names.iter().filter_map(merge).collect()
}
