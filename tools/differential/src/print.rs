//! The SQL of a statement.

use crate::ast::{
    Body, Change, Condition, Conflict, Distinct, Expression, From, Grouping, Item, Kind, Order,
    Query, Select, Sets, Statement, Window,
};
use crate::signatures::{Piece, Table};

/// Prints statements whose calls are rows of `table`.
#[derive(Clone, Copy)]
pub struct Printer<'t> {
    pub table: &'t Table,
    /// Prints a family of types in place of columns and literals: the shape of a statement.
    pub is_shape: bool,
}

impl Printer<'_> {
    pub fn statement(self, statement: &Statement) -> String {
        match statement {
            Statement::Query(query) => self.query(query),
            Statement::Change(change) => self.change(change),
        }
    }

    pub fn query(self, query: &Query) -> String {
        let mut sql = String::new();
        for (index, common) in query.with.iter().enumerate() {
            let opening = if index == 0 { "WITH " } else { ", " };
            let inner = self.query(&common.query);
            let (name, columns, hint) = (&common.name, common.columns.join(", "), common.hint);
            sql += &format!("{opening}{name}({columns}) AS {hint}({inner})");
        }
        if !query.with.is_empty() {
            sql.push(' ');
        }
        sql += &self.body(&query.body);
        let keys = query.order.iter().map(|(at, direction)| format!("{at}{direction}"));
        sql += &list(" ORDER BY ", keys);
        sql += &query.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        sql += &query.offset.map_or(String::new(), |offset| format!(" OFFSET {offset}"));
        sql
    }

    fn body(self, body: &Body) -> String {
        match body {
            Body::Select(select) => self.select(select),
            Body::Set { operator, left, right } => {
                format!("({}) {operator} ({})", self.body(left), self.body(right))
            }
            Body::Values(rows) => {
                let rows = rows.iter().map(|row| format!("({})", self.expressions(row)));
                list("VALUES ", rows)
            }
        }
    }

    fn select(self, select: &Select) -> String {
        let mut sql = "SELECT".to_owned();
        match select.distinct {
            Distinct::No => {}
            Distinct::Yes => sql += " DISTINCT",
            Distinct::On(keys) => {
                let key = |(at, item): (usize, &Item)| match &item.value.kind {
                    // An integer would be a position in any case.
                    Kind::Literal(_) => (at + 1).to_string(),
                    _ => self.expression(&item.value),
                };
                let keys = select.items.iter().enumerate().take(keys).map(key);
                sql += &format!("{})", list(" DISTINCT ON (", keys));
            }
        }
        sql += &list(" ", select.items.iter().map(|item| self.item(item)));
        if let Some(from) = &select.from {
            sql += &format!(" FROM {}", self.from(from));
        }
        sql += &self.optional(" WHERE ", select.filter.as_ref());
        if let Some(grouping) = &select.grouping {
            sql += &self.grouping(grouping);
        }
        sql + &self.optional(" HAVING ", select.having.as_ref())
    }

    fn optional(self, opening: &str, expression: Option<&Expression>) -> String {
        expression.map_or(String::new(), |inner| format!("{opening}{}", self.expression(inner)))
    }

    fn item(self, item: &Item) -> String {
        let value = self.expression(&item.value);
        match &item.alias {
            Some(alias) => format!("{value} AS {alias}"),
            None => value,
        }
    }

    fn grouping(self, grouping: &Grouping) -> String {
        let all = self.expressions(&grouping.columns);
        match &grouping.sets {
            _ if grouping.columns.is_empty() => String::new(),
            Sets::Plain => format!(" GROUP BY {all}"),
            Sets::Rollup => format!(" GROUP BY ROLLUP ({all})"),
            Sets::Cube => format!(" GROUP BY CUBE ({all})"),
            Sets::Explicit(sets) => {
                let set = |set: &Vec<usize>| {
                    let columns = set.iter().filter_map(|at| grouping.columns.get(*at));
                    let columns = columns.map(|column| self.expression(column));
                    format!("({})", list("", columns))
                };
                format!("{})", list(" GROUP BY GROUPING SETS (", sets.iter().map(set)))
            }
        }
    }

    fn from(self, from: &From) -> String {
        match from {
            From::Table { name, alias } if name == alias => name.clone(),
            From::Table { name, alias } => format!("{name} AS {alias}"),
            From::Derived { query, alias, columns, is_lateral } => {
                let lateral = if *is_lateral { "LATERAL " } else { "" };
                let columns = columns.join(", ");
                format!("{lateral}({}) AS {alias}({columns})", self.query(query))
            }
            From::Join { kind, left, right, condition } => {
                let joined = format!("{} {kind} {}", self.from(left), self.join_right(right));
                match condition {
                    Condition::On(on) => format!("{joined} ON {}", self.expression(on)),
                    Condition::Using(columns) => format!("{joined} USING ({})", columns.join(", ")),
                    Condition::Nothing => joined,
                }
            }
        }
    }

    fn join_right(self, right: &From) -> String {
        match right {
            From::Join { .. } => format!("({})", self.from(right)),
            _ => self.from(right),
        }
    }

    fn expressions(self, expressions: &[Expression]) -> String {
        list("", expressions.iter().map(|inner| self.expression(inner)))
    }

    pub fn expression(self, expression: &Expression) -> String {
        let Kind::Call { signature, arguments, queries, window } = &expression.kind else {
            return self.leaf(expression);
        };
        let arguments: Vec<String> = arguments.iter().map(|inner| self.expression(inner)).collect();
        let (mut next, mut queries) = (0, queries.iter());
        let mut sql = String::new();
        for piece in &self.table.signatures[*signature].pieces {
            match piece {
                Piece::Text(text) => sql += text,
                Piece::Argument { .. } | Piece::Pool(_) => {
                    sql += arguments.get(next).map_or("", String::as_str);
                    next += 1;
                }
                Piece::Same(index) => sql += arguments.get(*index).map_or("", String::as_str),
                Piece::Query { .. } => {
                    sql += &queries.next().map_or(String::new(), |query| self.query(query));
                }
                Piece::Window => {
                    sql += &window.as_deref().map_or("()".to_owned(), |w| self.window(w));
                }
            }
        }
        sql
    }

    fn leaf(self, leaf: &Expression) -> String {
        match &leaf.kind {
            Kind::Literal(text) if self.is_shape && text.starts_with("NULL") => "NULL".to_owned(),
            Kind::Literal(_) | Kind::Column(_) if self.is_shape => leaf.of.family().to_owned(),
            Kind::Literal(text) | Kind::Column(text) => text.clone(),
            Kind::Call { .. } => String::new(),
        }
    }

    fn window(self, window: &Window) -> String {
        let partition = window.partition.iter().map(|key| self.expression(key));
        let mut parts = vec![list("PARTITION BY ", partition)];
        parts.push(list("ORDER BY ", window.order.iter().map(|key| self.order(key))));
        parts.extend(window.frame.clone());
        parts.retain(|part| !part.is_empty());
        format!("({})", parts.join(" "))
    }

    fn order(self, order: &Order) -> String {
        format!("{}{}", self.expression(&order.key), order.direction)
    }

    fn assignments(self, set: &[(String, Expression)]) -> String {
        let set =
            set.iter().map(|(column, value)| format!("{column} = {}", self.expression(value)));
        list("", set)
    }

    fn change(self, change: &Change) -> String {
        let returning =
            |items: &[Item]| list(" RETURNING ", items.iter().map(|item| self.item(item)));
        match change {
            Change::Insert { table, columns, source, conflict, returning: items } => {
                let columns = columns.join(", ");
                let source = self.query(source);
                let conflict =
                    conflict.as_ref().map_or(String::new(), |conflict| self.conflict(conflict));
                format!("INSERT INTO {table} ({columns}) {source}{conflict}{}", returning(items))
            }
            Change::Update { table, set, filter, returning: items } => {
                let filter = self.optional(" WHERE ", filter.as_ref());
                let set = self.assignments(set);
                format!("UPDATE {table} SET {set}{filter}{}", returning(items))
            }
            Change::Delete { table, filter, returning: items } => {
                let filter = self.optional(" WHERE ", filter.as_ref());
                format!("DELETE FROM {table}{filter}{}", returning(items))
            }
        }
    }

    fn conflict(self, conflict: &Conflict) -> String {
        match conflict {
            Conflict::Nothing => " ON CONFLICT (id) DO NOTHING".to_owned(),
            Conflict::Update { set, filter } => {
                let (set, filter) =
                    (self.assignments(set), self.optional(" WHERE ", filter.as_ref()));
                format!(" ON CONFLICT (id) DO UPDATE SET {set}{filter}")
            }
        }
    }
}

/// The parts with commas between them after `opening`; nothing if there are none.
fn list(opening: &str, parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { String::new() } else { format!("{opening}{}", parts.join(", ")) }
}
