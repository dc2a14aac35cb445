//! Both servers side by side: a statement runs on each, and a difference is made small.

use std::path::PathBuf;

use crate::ast::{Change, Statement};
use crate::compare::{Difference, Exactness, Verdict, compare};
use crate::print::Printer;
use crate::shrink::smaller;
use crate::signatures;
use crate::wire::{Address, Answer, Session};
use crate::world::{Table, World};
use crate::{Fallible, say, servers};

/// Statements tried to make one difference smaller.
const SHRINK_TRIES_MAX: usize = 800;
/// Statements tried to make its tables smaller.
const WORLD_TRIES_MAX: usize = 30;

/// A session with each server, in the same schema.
pub struct Pair {
    pub postgres: Session,
    pub tidemark: Session,
    schema: String,
    /// The program of Tidemark and its meta address, to compact tables with.
    compactor: Option<(PathBuf, String)>,
}

/// What a statement led to.
#[derive(Clone, Debug)]
pub struct Judged {
    pub verdict: Verdict,
    pub postgres: Answer,
    pub tidemark: Answer,
}

impl Pair {
    pub fn open(
        postgres: &Address,
        tidemark: &Address,
        compactor: Option<(PathBuf, String)>,
    ) -> Fallible<Self> {
        let (postgres, tidemark) = (Session::open(postgres)?, Session::open(tidemark)?);
        Ok(Self { postgres, tidemark, schema: String::new(), compactor })
    }

    /// Compacts every table, if the server is one of ours.
    pub fn compact(&self) -> Fallible<()> {
        self.compactor.as_ref().map_or(Ok(()), |(program, meta)| servers::compact(program, meta))
    }

    /// Goes to a new schema with the tables of a world.
    pub fn enter(&mut self, schema: &str, world: &World) -> Fallible<()> {
        schema.clone_into(&mut self.schema);
        self.on_both(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))?;
        self.on_both(&format!("CREATE SCHEMA {schema}"))?;
        for session in [&mut self.postgres, &mut self.tidemark] {
            session.set(&format!("SET search_path = {schema}"));
        }
        self.create(world)
    }

    fn create(&mut self, world: &World) -> Fallible<()> {
        world.statements().iter().try_for_each(|statement| self.on_both(statement))
    }

    pub fn leave(&mut self) {
        if let Err(error) = self.on_both(&format!("DROP SCHEMA {} CASCADE", self.schema)) {
            say(&error.to_string());
        }
    }

    /// Runs what must succeed on both.
    pub fn on_both(&mut self, sql: &str) -> Fallible<()> {
        for session in [&mut self.postgres, &mut self.tidemark] {
            if let answer @ (Answer::Error { .. } | Answer::Lost { .. }) = session.run(sql) {
                return Err(format!("{sql}: {answer:?}").into());
            }
        }
        Ok(())
    }

    /// Runs a statement on both. A change is undone; the content of its table is compared as well.
    pub fn judge(&mut self, table: &signatures::Table, statement: &Statement) -> Judged {
        let sql = Printer { table, is_shape: false }.statement(statement);
        let exactness = exactness(table, statement);
        match statement {
            Statement::Query(_) => self.judge_sql(&sql, exactness),
            Statement::Change(change) => {
                self.both("BEGIN");
                let mut judged = self.judge_sql(&sql, exactness);
                if judged.verdict == Verdict::Equal {
                    let target = change.table();
                    judged = self.judge_sql(&format!("SELECT * FROM {target}"), exactness);
                }
                self.both("ROLLBACK");
                judged
            }
        }
    }

    fn both(&mut self, sql: &str) {
        self.postgres.run(sql);
        self.tidemark.run(sql);
    }

    pub fn judge_sql(&mut self, sql: &str, exactness: Exactness) -> Judged {
        let (postgres, tidemark) = (self.postgres.run(sql), self.tidemark.run(sql));
        let verdict = compare(&postgres, &tidemark, exactness);
        Judged { verdict, postgres, tidemark }
    }

    /// The smallest statement found that still differs in the same way, and what it leads to.
    pub fn shrink(
        &mut self,
        table: &signatures::Table,
        statement: Statement,
        judged: Judged,
    ) -> (Statement, Judged) {
        let (mut best, mut outcome) = (statement, judged);
        let mut tries = 0;
        'smaller: loop {
            for candidate in smaller(&best) {
                tries += 1;
                if tries > SHRINK_TRIES_MAX {
                    break 'smaller;
                }
                let judged = self.judge(table, &candidate);
                if is_same_difference(&judged, &outcome) {
                    (best, outcome) = (candidate, judged);
                    continue 'smaller;
                }
            }
            break;
        }
        (best, outcome)
    }

    /// The smallest tables found on which the statement still differs, and what it leads to there.
    pub fn shrink_world(
        &mut self,
        table: &signatures::Table,
        world: &World,
        statement: &Statement,
        judged: Judged,
    ) -> (World, Judged) {
        let sql = Printer { table, is_shape: false }.statement(statement);
        let (mut best, mut outcome) = (world.clone(), judged);
        best.tables.retain(|table| mentions(&sql, &table.name));
        let mut tries = 0;
        'smaller: loop {
            for candidate in smaller_worlds(&best, &sql) {
                tries += 1;
                if tries > WORLD_TRIES_MAX {
                    break 'smaller;
                }
                if self.recreate(&candidate).is_err() {
                    continue;
                }
                let judged = self.judge(table, statement);
                if is_same_difference(&judged, &outcome) {
                    (best, outcome) = (candidate, judged);
                    continue 'smaller;
                }
            }
            break;
        }
        if let Err(error) = self.recreate(world) {
            say(&error.to_string());
        }
        (best, outcome)
    }

    fn recreate(&mut self, world: &World) -> Fallible<()> {
        for table in &world.tables {
            self.on_both(&format!("DROP TABLE IF EXISTS {}", table.name))?;
        }
        self.create(world)
    }
}

/// How exactly the answers to a statement are compared.
pub fn exactness(table: &signatures::Table, statement: &Statement) -> Exactness {
    let is_ordered = matches!(statement, Statement::Query(query) if query.is_ordered());
    let signatures = statement.signatures();
    let is_approximate = signatures.iter().any(|index| table.signatures[*index].is_approximate);
    Exactness { is_ordered, is_approximate }
}

fn is_same_difference(judged: &Judged, other: &Judged) -> bool {
    judged.verdict == other.verdict
        && match judged.verdict {
            Verdict::Differ(Difference::WeRefuse | Difference::Internal) => {
                refusal(&judged.tidemark) == refusal(&other.tidemark)
            }
            Verdict::Differ(Difference::TheyRefuse) => {
                refusal(&judged.postgres) == refusal(&other.postgres)
            }
            _ => true,
        }
}

/// An error without what depends on names and numbers.
pub fn refusal(answer: &Answer) -> String {
    let Answer::Error { code, message } = answer else { return String::new() };
    let mut words = vec![code.clone()];
    let mut is_quoted = false;
    for word in message.split(' ') {
        is_quoted ^= word.matches(['"', '\'']).count() % 2 == 1;
        let names =
            word.contains(|letter: char| letter.is_ascii_digit() || "\"'(".contains(letter));
        words.push(if is_quoted || names { "…".to_owned() } else { word.to_owned() });
    }
    words.dedup();
    words.truncate(9);
    words.join(" ")
}

fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
}

/// Worlds with fewer columns or rows, the smallest first.
fn smaller_worlds(world: &World, sql: &str) -> Vec<World> {
    let mut found = vec![];
    for (at, table) in world.tables.iter().enumerate() {
        let narrow = table.keeping(|name| mentions(sql, name));
        let few = table.fewer_rows().into_iter().map(|rows| Table { rows, ..table.clone() });
        let changed = (narrow != *table).then_some(narrow).into_iter().chain(few);
        for table in changed {
            let mut world = world.clone();
            world.tables[at] = table;
            found.push(world);
        }
    }
    found
}

impl Change {
    /// The table that it changes.
    pub fn table(&self) -> &str {
        let (Self::Insert { table, .. } | Self::Update { table, .. } | Self::Delete { table, .. }) =
            self;
        table
    }
}
