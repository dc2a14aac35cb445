//! Smaller statements than a given one. Each step goes down: a call to an argument or a literal, a column to a literal,
//! a literal to the simplest one, a join to one side. Whoever shrinks keeps a step if the difference is still there.

use crate::ast::{
    Body, Change, Condition, Conflict, Distinct, Expression, From, Grouping, Item, Kind, Query,
    Select, Sets, Statement, Window,
};
use crate::types::{Type, quoted};

/// The statements one step smaller, those with the largest cuts first.
pub fn smaller(statement: &Statement) -> Vec<Statement> {
    match statement {
        Statement::Query(query) => {
            let mut found = vec![];
            inner_queries(query, &mut found);
            found.extend(smaller_query(query, true));
            found.into_iter().map(Statement::Query).collect()
        }
        Statement::Change(change) => {
            smaller_change(change).into_iter().map(Statement::Change).collect()
        }
    }
}

/// Each list with one member replaced by something smaller.
fn each<T: Clone>(all: &[T], smaller: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut found = vec![];
    for (at, one) in all.iter().enumerate() {
        for less in smaller(one) {
            let mut changed = all.to_vec();
            changed[at] = less;
            found.push(changed);
        }
    }
    found
}

/// Each list without one member; never the empty one.
fn without_one<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    let without = |at| [&all[..at], &all[at + 1..]].concat();
    if all.len() < 2 { vec![] } else { (0..all.len()).map(without).collect() }
}

/// Nothing, or something smaller.
fn optional(value: Option<&Expression>) -> Vec<Option<Expression>> {
    let Some(value) = value else { return vec![] };
    std::iter::once(None).chain(smaller_expression(value).into_iter().map(Some)).collect()
}

/// Queries inside a query, each of which may stand alone.
fn inner_queries(query: &Query, found: &mut Vec<Query>) {
    found.extend(query.with.iter().map(|common| common.query.clone()));
    if let Body::Select(select) = &query.body {
        select.from.iter().for_each(|from| queries_of_from(from, found));
        let values = select.items.iter().map(|item| &item.value);
        values.chain(&select.filter).for_each(|value| queries_of_expression(value, found));
    }
}

fn queries_of_from(from: &From, found: &mut Vec<Query>) {
    match from {
        From::Table { .. } => {}
        From::Derived { query, .. } => found.push((**query).clone()),
        From::Join { left, right, .. } => {
            queries_of_from(left, found);
            queries_of_from(right, found);
        }
    }
}

fn queries_of_expression(expression: &Expression, found: &mut Vec<Query>) {
    if let Kind::Call { arguments, queries, .. } = &expression.kind {
        found.extend(queries.iter().cloned());
        arguments.iter().for_each(|argument| queries_of_expression(argument, found));
    }
}

fn smaller_query(query: &Query, is_top: bool) -> Vec<Query> {
    let mut found = vec![];
    let with = |change: &dyn Fn(&mut Query)| {
        let mut changed = query.clone();
        change(&mut changed);
        changed
    };
    if let Body::Set { left, right, .. } = &query.body {
        for side in [left, right] {
            found.push(with(&|query| query.body = (**side).clone()));
        }
    }
    for at in 0..query.with.len() {
        found.push(with(&|query| drop(query.with.remove(at))));
    }
    if query.offset.is_some() {
        found.push(with(&|query| query.offset = None));
    }
    if query.limit.is_some() {
        found.push(with(&|query| query.limit = None));
    }
    if is_top && !query.order.is_empty() && may_be_unordered(query) {
        found.push(with(&|query| query.order.clear()));
    }
    if is_top {
        found.extend(with_fewer_items(query));
    }
    found.extend(
        query
            .order
            .iter()
            .enumerate()
            .filter(|(_, key)| !key.1.is_empty())
            .map(|(at, _)| with(&|query| query.order[at].1 = "")),
    );
    found.extend(smaller_body(&query.body).into_iter().map(|body| Query { body, ..query.clone() }));
    for (at, common) in query.with.iter().enumerate() {
        for less in smaller_query(&common.query, false) {
            found.push(with(&|query| query.with[at].query = less.clone()));
        }
    }
    found
}

fn may_be_unordered(query: &Query) -> bool {
    let takes_first =
        matches!(&query.body, Body::Select(select) if matches!(select.distinct, Distinct::On(_)));
    query.limit.is_none() && query.offset.is_none() && !takes_first
}

/// One result column less, and sort keys that follow.
fn with_fewer_items(query: &Query) -> Vec<Query> {
    let Body::Select(select) = &query.body else { return vec![] };
    let mut found = vec![];
    for (at, items) in without_one(&select.items).into_iter().enumerate() {
        let mut changed = query.clone();
        changed.body = Body::Select(Box::new(Select { items, ..(**select).clone() }));
        changed.order.retain(|(position, _)| *position != at + 1);
        for key in changed.order.iter_mut().filter(|(position, _)| *position > at + 1) {
            key.0 -= 1;
        }
        found.push(changed);
    }
    found
}

fn smaller_body(body: &Body) -> Vec<Body> {
    match body {
        Body::Select(select) => smaller_select(select)
            .into_iter()
            .map(|select| Body::Select(Box::new(select)))
            .collect(),
        Body::Set { operator, left, right } => {
            let set = |left: &Body, right: &Body| Body::Set {
                operator,
                left: Box::new(left.clone()),
                right: Box::new(right.clone()),
            };
            let mut found = vec![];
            found.extend([left, right].map(|side| (**side).clone()));
            found.extend(smaller_body(left).iter().map(|less| set(less, right)));
            found.extend(smaller_body(right).iter().map(|less| set(left, less)));
            found
        }
        Body::Values(rows) => {
            let mut found = without_one(rows);
            found.extend(each(rows, |row| each(row, smaller_expression)));
            found.into_iter().map(Body::Values).collect()
        }
    }
}

fn smaller_select(select: &Select) -> Vec<Select> {
    let mut found = vec![];
    let base = || select.clone();
    if select.from.is_some() {
        found.push(Select { from: None, ..base() });
    }
    if select.distinct != Distinct::No {
        found.push(Select { distinct: Distinct::No, ..base() });
    }
    let grouping = |grouping| Select { grouping, ..base() };
    if let Some(known) = &select.grouping {
        found.push(grouping(None));
        found.extend(smaller_grouping(known).into_iter().map(|less| grouping(Some(less))));
    }
    for having in optional(select.having.as_ref()) {
        found.push(Select { having, ..base() });
    }
    for from in select.from.iter().flat_map(smaller_from) {
        found.push(Select { from: Some(from), ..base() });
    }
    for filter in optional(select.filter.as_ref()) {
        found.push(Select { filter, ..base() });
    }
    for items in each(&select.items, smaller_item) {
        found.push(Select { items, ..base() });
    }
    found
}

fn smaller_item(item: &Item) -> Vec<Item> {
    let values = smaller_expression(&item.value);
    values.into_iter().map(|value| Item { value, alias: item.alias.clone() }).collect()
}

fn smaller_grouping(grouping: &Grouping) -> Vec<Grouping> {
    let mut found = vec![];
    if grouping.sets != Sets::Plain {
        found.push(Grouping { sets: Sets::Plain, ..grouping.clone() });
    }
    if let Sets::Explicit(sets) = &grouping.sets {
        let with = |sets| Grouping { sets: Sets::Explicit(sets), ..grouping.clone() };
        found.extend(without_one(sets).into_iter().map(with));
    } else {
        let with = |columns| Grouping { columns, ..grouping.clone() };
        found.extend(without_one(&grouping.columns).into_iter().map(with));
        if grouping.columns.len() == 1 {
            found.push(with(vec![]));
        }
    }
    found
}

fn smaller_from(from: &From) -> Vec<From> {
    match from {
        From::Table { .. } => vec![],
        From::Derived { query, alias, columns, is_lateral } => {
            let with = |query, is_lateral| From::Derived {
                query: Box::new(query),
                alias: alias.clone(),
                columns: columns.clone(),
                is_lateral,
            };
            let mut found = vec![];
            if *is_lateral {
                found.push(with((**query).clone(), false));
            }
            found.extend(
                smaller_query(query, false).into_iter().map(|less| with(less, *is_lateral)),
            );
            found
        }
        From::Join { kind, left, right, condition } => {
            let with = |kind, left: &From, right: &From, condition: &Condition| From::Join {
                kind,
                left: Box::new(left.clone()),
                right: Box::new(right.clone()),
                condition: condition.clone(),
            };
            let mut found = vec![(**left).clone(), (**right).clone()];
            if let Condition::On(on) = condition {
                for less in smaller_expression(on) {
                    found.push(with(kind, left, right, &Condition::On(less)));
                }
            }
            if let Condition::Using(names) = condition {
                for names in without_one(names) {
                    found.push(with(kind, left, right, &Condition::Using(names)));
                }
            }
            found.extend(smaller_from(left).iter().map(|less| with(kind, less, right, condition)));
            found.extend(smaller_from(right).iter().map(|less| with(kind, left, less, condition)));
            found
        }
    }
}

/// The simplest literal of a type, written with its type.
fn simplest(of: Type) -> String {
    let value = of.simplest();
    if of.is_natural(value) {
        value.to_owned()
    } else {
        format!("{}::{}", quoted(value), of.name())
    }
}

fn smaller_expression(expression: &Expression) -> Vec<Expression> {
    let of = expression.of;
    let null = format!("NULL::{}", of.name());
    let literals = [simplest(of), null.clone()].map(|text| Expression::literal(of, text));
    match &expression.kind {
        Kind::Literal(text) if text.starts_with("NULL") || *text == simplest(of) => vec![],
        // What has no type of its own, or is out of a pool, stays as it is.
        Kind::Literal(text) if text.starts_with('\'') && text.ends_with('\'') => vec![],
        Kind::Literal(_) | Kind::Column(_) => literals.into(),
        Kind::Call { signature, arguments, queries, window } => {
            let mut found: Vec<Expression> = literals.into();
            found.extend(arguments.iter().filter(|argument| argument.of == of).cloned());
            let call = |arguments, queries, window| {
                let kind = Kind::Call { signature: *signature, arguments, queries, window };
                Expression { of, kind }
            };
            for less in each(queries, |query| smaller_query(query, false)) {
                found.push(call(arguments.clone(), less, window.clone()));
            }
            for less in each(arguments, smaller_expression) {
                found.push(call(less, queries.clone(), window.clone()));
            }
            for less in window.iter().flat_map(|window| smaller_window(window)) {
                found.push(call(arguments.clone(), queries.clone(), Some(Box::new(less))));
            }
            found
        }
    }
}

/// The order stays: without all of it, peers would be in any order.
fn smaller_window(window: &Window) -> Vec<Window> {
    let mut found = vec![];
    if !window.partition.is_empty() {
        found.push(Window { partition: vec![], ..window.clone() });
    }
    if window.frame.is_some() {
        found.push(Window { frame: None, ..window.clone() });
    }
    found
}

fn smaller_set(set: &[(String, Expression)]) -> Vec<Vec<(String, Expression)>> {
    let mut found = without_one(set);
    found.extend(each(set, |(name, value)| {
        smaller_expression(value).into_iter().map(|less| (name.clone(), less)).collect()
    }));
    found
}

fn smaller_change(change: &Change) -> Vec<Change> {
    let mut found = vec![];
    let (Change::Insert { returning, .. }
    | Change::Update { returning, .. }
    | Change::Delete { returning, .. }) = change;
    let mut lists = each(returning, smaller_item);
    if !returning.is_empty() {
        lists.insert(0, vec![]);
    }
    for less in lists {
        let mut changed = change.clone();
        let (Change::Insert { returning, .. }
        | Change::Update { returning, .. }
        | Change::Delete { returning, .. }) = &mut changed;
        *returning = less;
        found.push(changed);
    }
    match change {
        Change::Insert { table, columns, source, conflict, returning } => {
            let with = |source, conflict| Change::Insert {
                table: table.clone(),
                columns: columns.clone(),
                source,
                conflict,
                returning: returning.clone(),
            };
            found.extend(
                smaller_query(source, false).into_iter().map(|less| with(less, conflict.clone())),
            );
            if let Some(Conflict::Update { set, filter }) = conflict {
                let update =
                    |set, filter| with(source.clone(), Some(Conflict::Update { set, filter }));
                found.extend(
                    optional(filter.as_ref()).into_iter().map(|less| update(set.clone(), less)),
                );
                found.extend(smaller_set(set).into_iter().map(|less| update(less, filter.clone())));
            }
        }
        Change::Update { table, set, filter, returning } => {
            let with = |set, filter| Change::Update {
                table: table.clone(),
                set,
                filter,
                returning: returning.clone(),
            };
            found.extend(optional(filter.as_ref()).into_iter().map(|less| with(set.clone(), less)));
            found.extend(smaller_set(set).into_iter().map(|less| with(less, filter.clone())));
        }
        Change::Delete { table, filter, returning } => {
            found.extend(optional(filter.as_ref()).into_iter().map(|filter| Change::Delete {
                table: table.clone(),
                filter,
                returning: returning.clone(),
            }));
        }
    }
    found
}
