//! One worker: it checks signatures, and then runs the statements of seeds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use crate::ast::{Body, Distinct, From, Grouping, Item, Query, Select, Sets, Statement};
use crate::compare::{Difference, Verdict};
use crate::generate::Generator;
use crate::known::{Case, known};
use crate::oracles;
use crate::pair::{Judged, Pair, refusal};
use crate::print::Printer;
use crate::report::{Finding, Parts, Report};
use crate::signatures::{Place, Table};
use crate::world::World;
use crate::{Fallible, say};

/// Whatever the seeds: the same signatures are checked with the same arguments.
const SIGNATURE_SEED: u64 = 20_260_301;
/// Of so many statements, one changes a table.
const CHANGE_IN: u64 = 7;
/// Words that tell causes apart.
const WORDS: &[&str] = &[
    " DISTINCT",
    " DISTINCT ON ",
    " FROM ",
    " WHERE ",
    " GROUP BY ",
    " ROLLUP ",
    " CUBE ",
    " GROUPING SETS ",
    " HAVING ",
    " ORDER BY ",
    " LIMIT ",
    " OFFSET ",
    "WITH ",
    " JOIN ",
    "LEFT JOIN",
    "RIGHT JOIN",
    "FULL JOIN",
    "CROSS JOIN",
    "NATURAL ",
    " USING ",
    "LATERAL ",
    " UNION ",
    " UNION ALL ",
    " INTERSECT ",
    " INTERSECT ALL ",
    " EXCEPT ",
    " EXCEPT ALL ",
    "VALUES ",
    "INSERT ",
    "UPDATE ",
    "DELETE ",
    "ON CONFLICT",
    "RETURNING",
    " PARTITION BY ",
    " FILTER ",
    "NULLS FIRST",
];

/// What all workers share.
pub struct Shared {
    pub table: Table,
    pub report: Mutex<Report>,
}

impl Shared {
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a statement comes from.
pub struct Origin<'o> {
    pub text: String,
    pub world: &'o World,
}

/// Checks some of the signatures, each alone, with literals or with the columns of one table; returns those on which
/// both servers agree. Larger statements are made of them.
pub fn check_signatures(
    pair: &mut Pair,
    shared: &Shared,
    signatures: &[usize],
    tries: usize,
    schema: &str,
) -> Fallible<Vec<usize>> {
    let world = World::of_all_types(&mut Rng::with_seed(SIGNATURE_SEED));
    pair.enter(schema, &world)?;
    let mut usable = vec![];
    for signature in signatures {
        if shared.table.signatures[*signature].has_query()
            || agrees(pair, shared, *signature, tries, &world)
        {
            usable.push(*signature);
        }
    }
    pair.leave();
    Ok(usable)
}

/// Calls that agree are told apart from others by one statement with all of them.
fn agrees(pair: &mut Pair, shared: &Shared, signature: usize, tries: usize, world: &World) -> bool {
    let seed = SIGNATURE_SEED + signature as u64;
    let mut generator = Generator::new(seed, &shared.table, world, &[]);
    let calls: Vec<Item> = (0..tries)
        .map(|at| {
            let (value, alias) = (generator.single_call(signature), Some(format!("c{at}")));
            Item { value, alias }
        })
        .collect();
    let place = shared.table.signatures[signature].place;
    let together = one_row(calls.clone(), place);
    let judged = pair.judge(&shared.table, &together);
    if judged.verdict == Verdict::Equal {
        shared.report().count(judged.verdict);
        return true;
    }
    let mut agrees = true;
    for call in calls {
        let statement = one_row(vec![Item { alias: None, ..call }], place);
        let judged = pair.judge(&shared.table, &statement);
        shared.report().count(judged.verdict);
        if let Verdict::Differ(difference) = judged.verdict {
            agrees &= difference == Difference::Errors;
            let origin = Origin { text: "signatures".to_owned(), world };
            if !note(pair, shared, statement, judged, signature, &origin) {
                break;
            }
        }
    }
    agrees
}

fn one_row(items: Vec<Item>, place: Place) -> Statement {
    if place == Place::Anywhere {
        return Statement::Query(Query::of_items(items));
    }
    let from = Some(From::Table { name: "t0".to_owned(), alias: "t0".to_owned() });
    let grouping = Grouping { columns: vec![], sets: Sets::Plain };
    let grouping = (place == Place::Aggregate).then_some(grouping);
    let (distinct, filter, having) = (Distinct::No, None, None);
    let select = Select { distinct, items, from, filter, grouping, having };
    Statement::Query(Query::of(Body::Select(Box::new(select))))
}

/// Adds a difference of one call, unless its cause is known from before; whether it is a new one. The cause is the
/// row of the table, unless the difference is still there without the call.
fn note(
    pair: &mut Pair,
    shared: &Shared,
    statement: Statement,
    judged: Judged,
    signature: usize,
    origin: &Origin<'_>,
) -> bool {
    let Verdict::Differ(difference) = judged.verdict else { return true };
    let cause = match difference {
        Difference::Internal => refusal(&judged.tidemark),
        _ => format!(
            "{} {}",
            called(&shared.table.signatures[signature].row),
            refusal(&judged.tidemark)
        ),
    };
    if shared.report().is_repeated(difference, &cause) {
        return false;
    }
    let (statement, judged) = pair.shrink(&shared.table, statement, judged);
    let cause = match statement.signatures().contains(&signature) {
        true => cause,
        false if difference == Difference::Internal => cause,
        false => Printer { table: &shared.table, is_shape: true }.statement(&statement),
    };
    if !shared.report().is_repeated(difference, &cause) {
        report(pair, shared, &statement, judged, cause, origin);
    }
    true
}

/// A row of the table without its filter and its window, which mostly differ for the same cause.
fn called(row: &str) -> &str {
    row.split(" FILTER ").next().and_then(|row| row.split(" OVER ").next()).unwrap_or(row)
}

/// Adds a difference that was shrunk, with the smallest tables.
fn report(
    pair: &mut Pair,
    shared: &Shared,
    statement: &Statement,
    judged: Judged,
    cause: String,
    origin: &Origin<'_>,
) {
    let Verdict::Differ(difference) = judged.verdict else { return };
    let table = &shared.table;
    let (world, judged) = pair.shrink_world(table, origin.world, statement, judged);
    let mut script = world.statements();
    script.push(Printer { table, is_shape: false }.statement(statement));
    if let Statement::Change(change) = statement {
        script.push(format!("SELECT * FROM {}", change.table()));
    }
    let Judged { postgres, tidemark, .. } = judged;
    let case = Case { difference, postgres: &postgres, tidemark: &tidemark };
    let documented = known(&case).map(|known| known.documented);
    let origin = origin.text.clone();
    shared.report().add(Finding {
        difference,
        cause,
        script,
        postgres,
        tidemark,
        origin,
        known: documented,
    });
}

/// Runs the statements of one seed; `only` one of them if it is given.
pub fn run_seed(
    pair: &mut Pair,
    shared: &Shared,
    usable: &[usize],
    seed: u64,
    statements: u64,
    only: Option<u64>,
) -> Fallible<()> {
    let world = World::random(&mut Rng::with_seed(seed));
    pair.enter(&format!("s{seed}"), &world)?;
    for index in 0..statements {
        if only.is_none_or(|only| only == index) {
            let own = seed.wrapping_mul(1_000_003).wrapping_add(index);
            let mut generator = Generator::new(own, &shared.table, &world, usable);
            let statement =
                if index % CHANGE_IN == 0 { generator.top_change() } else { generator.top_query() };
            let text = format!("--seed {seed} --only {index}");
            run_one(pair, shared, statement, &Origin { text, world: &world });
        }
    }
    if only.is_none() {
        oracles::run(pair, shared, usable, seed, &world)?;
    }
    pair.leave();
    Ok(())
}

fn run_one(pair: &mut Pair, shared: &Shared, statement: Statement, origin: &Origin<'_>) {
    if shared.report().is_worn_out(&parts(&shared.table, &statement)) {
        return;
    }
    let judged = pair.judge(&shared.table, &statement);
    shared.report().count(judged.verdict);
    let Verdict::Differ(difference) = judged.verdict else { return };
    if difference == Difference::Lost {
        say(&format!("{}: a session was lost", origin.text));
    }
    if difference == Difference::WeRefuse
        && !shared.report().is_new_refusal(refusal(&judged.tidemark))
    {
        let cause = refusal(&judged.tidemark);
        shared.report().is_repeated(difference, &cause);
        return;
    }
    let (statement, judged) = pair.shrink(&shared.table, statement, judged);
    shared.report().note_parts(parts(&shared.table, &statement));
    let cause = match difference {
        Difference::WeRefuse | Difference::Internal => refusal(&judged.tidemark),
        Difference::TheyRefuse => refusal(&judged.postgres),
        _ => Printer { table: &shared.table, is_shape: true }.statement(&statement),
    };
    if !shared.report().is_repeated(difference, &cause) {
        report(pair, shared, &statement, judged, cause, origin);
    }
}

fn parts(table: &Table, statement: &Statement) -> Parts {
    let sql = Printer { table, is_shape: true }.statement(statement);
    let words = WORDS.iter().copied().filter(|word| sql.contains(word)).collect();
    Parts { signatures: statement.signatures(), words }
}
