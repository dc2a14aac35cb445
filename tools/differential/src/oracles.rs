//! What must hold on Tidemark alone: the rows where a condition is true, false and unknown are all rows; a table made
//! of a query holds its rows; and an answer is the same after compaction, and at its epoch after more writes.

use crate::Fallible;
use crate::ast::{Body, Expression, Kind, Query, Select, Statement};
use crate::compare::{Difference, Verdict, compare};
use crate::generate::Generator;
use crate::pair::{Pair, exactness};
use crate::print::Printer;
use crate::report::Finding;
use crate::run::Shared;
use crate::signatures::Table;
use crate::types::Type;
use crate::wire::{Answer, Row};
use crate::world::World;

/// Queries of a seed that each oracle takes.
const QUERIES: u64 = 12;

pub fn run(
    pair: &mut Pair,
    shared: &Shared,
    usable: &[usize],
    seed: u64,
    world: &World,
) -> Fallible<()> {
    let mut remembered = vec![];
    for index in 0..QUERIES {
        let own = seed.wrapping_mul(1_000_003).wrapping_add(1_000_000 + index);
        let mut generator = Generator::new(own, &shared.table, world, usable);
        let condition = generator.top_condition();
        let origin = format!("seed {seed}, oracle {index}");
        partition(pair, shared, &condition, &origin);
        let statement = generator.top_query();
        create_as(pair, shared, &statement, &origin);
        let sql = Printer { table: &shared.table, is_shape: false }.statement(&statement);
        let answer = pair.tidemark.run(&sql);
        if !answer.is_error() {
            remembered.push((statement, sql, answer));
        }
    }
    let epoch = back_up(pair)?;
    change_everything(pair, world);
    pair.compact()?;
    pair.tidemark.run(&format!("SET QUERY_EPOCH = {epoch}"));
    for (statement, sql, before) in remembered {
        let after = pair.tidemark.run(&sql);
        let verdict = compare(&before, &after, exactness(&shared.table, &statement));
        let script = vec![format!("SET QUERY_EPOCH = {epoch}"), sql];
        settle(
            shared,
            verdict,
            "at QUERY_EPOCH, after compaction",
            script,
            (before, after),
            &format!("seed {seed}"),
        );
    }
    pair.tidemark.run("SET QUERY_EPOCH = 0");
    Ok(())
}

/// A query with a condition and without one, with its negation, and where it is NULL.
fn partition(pair: &mut Pair, shared: &Shared, query: &Query, origin: &str) {
    let Body::Select(select) = &query.body else { return };
    let Some(filter) = &select.filter else { return };
    let mut answers = vec![];
    let mut script = vec![];
    let conditions = [
        None,
        Some(filter.clone()),
        wrapped(&shared.table, "(NOT bool)", filter),
        wrapped(&shared.table, "(bool IS NULL)", filter),
    ];
    for filter in conditions {
        let select = Select { filter, ..(**select).clone() };
        let query = Query { body: Body::Select(Box::new(select)), ..query.clone() };
        let sql = Printer { table: &shared.table, is_shape: false }.query(&query);
        answers.push(pair.tidemark.run(&sql));
        script.push(sql);
    }
    let (Some(columns), Some(all)) = (columns(&answers[0]), answers[0].rows()) else { return };
    let parts: Option<Vec<&[Row]>> = answers[1..].iter().map(Answer::rows).collect();
    let Some(parts) = parts else { return };
    let whole = Answer::Rows { columns: columns.clone(), rows: all.to_vec() };
    let parts = Answer::Rows { columns, rows: parts.concat() };
    let statement = Statement::Query(query.clone());
    let verdict = compare(&whole, &parts, exactness(&shared.table, &statement));
    settle(
        shared,
        verdict,
        "p, NOT p and p IS NULL are not all rows",
        script,
        (whole, parts),
        origin,
    );
}

fn columns(answer: &Answer) -> Option<Vec<crate::wire::Column>> {
    match answer {
        Answer::Rows { columns, .. } => Some(columns.clone()),
        _ => None,
    }
}

fn wrapped(table: &Table, text: &str, filter: &Expression) -> Option<Expression> {
    let signature = table.signatures.iter().position(|known| known.text == text)?;
    let (arguments, queries, window) = (vec![filter.clone()], vec![], None);
    Some(Expression { of: Type::Bool, kind: Kind::Call { signature, arguments, queries, window } })
}

/// A table made of a query has its rows, as far as its columns have names.
fn create_as(pair: &mut Pair, shared: &Shared, statement: &Statement, origin: &str) {
    let Statement::Query(query) = statement else { return };
    let mut query = query.clone();
    if let Body::Select(select) = &mut query.body {
        for (at, item) in select.items.iter_mut().enumerate() {
            item.alias = Some(format!("c{at}"));
        }
    }
    let sql = Printer { table: &shared.table, is_shape: false }.query(&query);
    let before = pair.tidemark.run(&sql);
    if before.is_error() {
        return;
    }
    let script = vec![format!("CREATE TABLE made AS {sql}"), "SELECT * FROM made".to_owned()];
    let made = pair.tidemark.run(&script[0]);
    let after = if made.is_error() { made } else { pair.tidemark.run(&script[1]) };
    pair.tidemark.run("DROP TABLE IF EXISTS made");
    let mut exactness = exactness(&shared.table, statement);
    exactness.is_ordered = false;
    let verdict = compare(&before, &after, exactness);
    settle(shared, verdict, "CREATE TABLE AS", script, (before, after), origin);
}

/// Takes a snapshot; returns the newest epoch that it covers.
fn back_up(pair: &mut Pair) -> Fallible<u64> {
    pair.tidemark.run("BACKUP");
    let newest = "SELECT max(max_committed_epoch) FROM rw_catalog.rw_meta_snapshot";
    match pair.tidemark.run(newest) {
        Answer::Rows { rows, .. } => {
            let cell = rows.first().and_then(|row| row.first()).cloned().flatten();
            Ok(cell.ok_or("the snapshot is not listed")?.parse()?)
        }
        answer => Err(format!("no snapshot: {answer:?}").into()),
    }
}

/// Commits changes of every table, which the past must not show.
fn change_everything(pair: &mut Pair, world: &World) {
    for table in &world.tables {
        let name = &table.name;
        for change in [
            format!("UPDATE {name} SET k = 9 WHERE id % 2 = 0"),
            format!("DELETE FROM {name} WHERE id % 3 = 0"),
            format!("INSERT INTO {name} (id, k) VALUES (1001, 1), (1002, 2)"),
        ] {
            pair.tidemark.run(&change);
        }
    }
}

/// Counts an oracle's verdict, and reports a wrong one.
fn settle(
    shared: &Shared,
    verdict: Verdict,
    name: &str,
    script: Vec<String>,
    (postgres, tidemark): (Answer, Answer),
    origin: &str,
) {
    shared.report().count(verdict);
    let Verdict::Differ(difference) = verdict else { return };
    let difference =
        if difference == Difference::TheyRefuse { Difference::WeRefuse } else { difference };
    let error = crate::pair::refusal(&tidemark);
    let cause = format!("{name} {error}");
    let origin = format!("{origin}, without PostgreSQL: first and second answer");
    let known = None;
    shared.report().add(Finding { difference, cause, script, postgres, tidemark, origin, known });
}
