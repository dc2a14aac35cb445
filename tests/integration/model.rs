//! Runs random programs on the engine and on a model without files, which keeps every state of the database
//! by epoch. After each step both must agree.
//!
//! Runs 2,000 programs, or `TIDEMARK_MODEL_PROGRAMS`. A failing program is shrunk to the shortest one that
//! still fails, and printed as steps; those found so far are named tests at the end.

mod ddl;
mod dml;
mod engine;
mod world;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::engine::Engine;
use self::world::History;

const PROGRAMS: u32 = 2000;
const STEPS_MAX: usize = 14;

/// A step of a program. Numbers refer to tables, columns and snapshots by index among the existing ones.
#[derive(Clone, Debug)]
pub enum Step {
    CreateTable {
        keyed: bool,
    },
    DropTable(u8),
    AddColumn {
        table: u8,
        backfill: Option<i8>,
    },
    DropColumn {
        table: u8,
        column: u8,
    },
    RenameColumn {
        table: u8,
        column: u8,
    },
    /// To the next wider integer type.
    WidenColumn {
        table: u8,
        column: u8,
    },
    RenameTable(u8),
    /// Rows with keys from `from` on; `object` forces a data file even for a few rows.
    Insert {
        table: u8,
        from: u8,
        count: u8,
        object: bool,
    },
    /// The rows whose first column has the remainder `rest` when divided by `by`.
    Delete {
        table: u8,
        by: u8,
        rest: u8,
    },
    Update {
        table: u8,
        by: u8,
        rest: u8,
        to: i8,
    },
    Truncate(u8),
    /// A statement of a transaction, which begins with the first one.
    InTransaction(Box<Step>),
    EndTransaction {
        commit: bool,
    },
    /// Two writes with the same view that kill the same rows: one of them must fail.
    Collide {
        table: u8,
    },
    /// A write that commits this number of scheduler turns after the compaction of all tables began.
    WhileCompacting {
        write: Box<Step>,
        turns: u8,
    },
    Compact,
    Vacuum {
        any_age: bool,
    },
    Backup,
    DeleteSnapshot(u8),
    Retention {
        none: bool,
    },
    /// Changes the location of new snapshots.
    MoveBackups {
        other: bool,
    },
    Advance {
        seconds: u16,
    },
    /// Sets the clock back.
    ClockBack {
        seconds: u16,
    },
    /// A session begins to read, and keeps its view.
    Hold,
    Release,
    Restart,
    Restore(u8),
}

/// A change of rows.
fn write() -> impl Strategy<Value = Step> {
    let table = || 0..4_u8;
    prop_oneof![
        8 => (table(), 0..20_u8, 1..6_u8, any::<bool>()).prop_map(|(table, from, count, object)| {
            Step::Insert { table, from, count, object }
        }),
        4 => (table(), 1..4_u8, 0..3_u8).prop_map(|(table, by, rest)| {
            Step::Delete { table, by, rest }
        }),
        3 => (table(), 1..4_u8, 0..3_u8, any::<i8>()).prop_map(|(table, by, rest, to)| {
            Step::Update { table, by, rest, to }
        }),
        1 => table().prop_map(Step::Truncate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let table = || 0..4_u8;
    prop_oneof![
        3 => any::<bool>().prop_map(|keyed| Step::CreateTable { keyed }),
        1 => table().prop_map(Step::DropTable),
        1 => (table(), any::<Option<i8>>())
            .prop_map(|(table, backfill)| Step::AddColumn { table, backfill }),
        1 => (table(), 0..4_u8).prop_map(|(table, column)| Step::DropColumn { table, column }),
        1 => (table(), 0..4_u8).prop_map(|(table, column)| Step::RenameColumn { table, column }),
        2 => (table(), 0..4_u8).prop_map(|(table, column)| Step::WidenColumn { table, column }),
        1 => table().prop_map(Step::RenameTable),
        14 => write(),
        6 => write().prop_map(|write| Step::InTransaction(Box::new(write))),
        3 => any::<bool>().prop_map(|commit| Step::EndTransaction { commit }),
        1 => table().prop_map(|table| Step::Collide { table }),
        6 => (write(), any::<u8>()).prop_map(|(write, turns)| {
            Step::WhileCompacting { write: Box::new(write), turns }
        }),
        4 => Just(Step::Compact),
        4 => any::<bool>().prop_map(|any_age| Step::Vacuum { any_age }),
        3 => Just(Step::Backup),
        1 => (0..3_u8).prop_map(Step::DeleteSnapshot),
        1 => any::<bool>().prop_map(|none| Step::Retention { none }),
        1 => any::<bool>().prop_map(|other| Step::MoveBackups { other }),
        3 => (1..900_u16).prop_map(|seconds| Step::Advance { seconds }),
        1 => (1..900_u16).prop_map(|seconds| Step::ClockBack { seconds }),
        1 => Just(Step::Hold),
        1 => Just(Step::Release),
        1 => Just(Step::Restart),
        1 => (0..3_u8).prop_map(Step::Restore),
    ]
}

/// Runs a program; the error says where the engine and the model differ.
fn run(steps: &[Step]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut engine = Engine::start().await;
        let mut history = History::new(engine.first_epoch());
        for (number, step) in steps.iter().enumerate() {
            let differs = match engine.step(step, &mut history).await {
                None => engine.differs(&history, number).await,
                shown => shown,
            };
            if let Some(differs) = differs {
                return Err(format!("after step {} ({step:?}): {differs}", number + 1));
            }
        }
        match engine.differs_anywhere(&history).await {
            Some(differs) => Err(format!("at the end: {differs}")),
            None => Ok(()),
        }
    })
}

#[test]
fn the_engine_answers_as_the_model_does() {
    let programs = std::env::var("TIDEMARK_MODEL_PROGRAMS").ok();
    let programs = programs.map_or(PROGRAMS, |text| text.parse().unwrap());
    let config = Config { cases: programs, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let outcome =
        runner.run(&vec(step(), 1..STEPS_MAX), |steps| run(&steps).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Programs for bugs that other stores had.
mod known {
    use super::{Step, run};

    fn passes(steps: &[Step]) {
        if let Err(differs) = run(steps) {
            panic!("{differs}");
        }
    }

    fn insert(from: u8, object: bool) -> Step {
        Step::Insert { table: 0, from, count: 5, object }
    }

    #[test]
    fn an_idle_table_past_retention_stays_readable() {
        let later = || Step::Advance { seconds: 899 };
        let idle = [
            Step::CreateTable { keyed: true },
            insert(0, true),
            Step::CreateTable { keyed: true },
            later(),
            later(),
            Step::Insert { table: 1, from: 0, count: 2, object: true },
            Step::Vacuum { any_age: true },
            later(),
            Step::Vacuum { any_age: true },
        ];
        passes(&idle);
    }

    #[test]
    fn a_column_renamed_and_its_past_forgotten_keeps_its_values() {
        let steps = [
            Step::CreateTable { keyed: false },
            insert(0, true),
            Step::RenameColumn { table: 0, column: 1 },
            Step::Retention { none: true },
            Step::Vacuum { any_age: true },
            Step::Compact,
            Step::Vacuum { any_age: true },
            Step::Restart,
        ];
        passes(&steps);
    }

    #[test]
    fn a_column_dropped_and_added_again_is_another_one() {
        let steps = [
            Step::CreateTable { keyed: true },
            insert(0, true),
            Step::DropColumn { table: 0, column: 1 },
            Step::AddColumn { table: 0, backfill: Some(7) },
            insert(3, false),
            Step::Backup,
            Step::Compact,
        ];
        passes(&steps);
    }

    #[test]
    fn a_widened_column_keeps_its_values_and_its_past() {
        let widen = |column| Step::WidenColumn { table: 0, column };
        let steps = [
            Step::CreateTable { keyed: true },
            insert(0, true),
            insert(5, false),
            Step::AddColumn { table: 0, backfill: Some(7) },
            Step::Backup,
            widen(0),
            widen(1),
            widen(2),
            insert(3, true),
            insert(12, false),
            Step::Compact,
            widen(1),
            Step::Update { table: 0, by: 2, rest: 0, to: -9 },
            Step::Compact,
            Step::Vacuum { any_age: true },
            Step::Restore(0),
        ];
        passes(&steps);
    }

    #[test]
    fn a_dropped_table_is_in_its_snapshot() {
        let steps = [
            Step::CreateTable { keyed: false },
            insert(0, true),
            Step::Retention { none: true },
            Step::Backup,
            Step::DropTable(0),
            Step::Advance { seconds: 800 },
            Step::Vacuum { any_age: true },
            Step::Restore(0),
            Step::Vacuum { any_age: true },
        ];
        passes(&steps);
    }

    #[test]
    fn compaction_repeats_no_row_in_the_past_and_loses_no_delete() {
        // At one of these turns the compaction has read the rows and not committed yet.
        for turns in 0..80 {
            let delete = |rest| {
                let write = Box::new(Step::Delete { table: 0, by: 3, rest });
                Step::WhileCompacting { write, turns }
            };
            let steps = [
                Step::CreateTable { keyed: turns % 2 == 0 },
                insert(0, true),
                insert(5, true),
                insert(10, false),
                delete(0),
                delete(1),
                Step::ClockBack { seconds: 600 },
                Step::Compact,
                Step::Backup,
                Step::Vacuum { any_age: true },
                Step::Restart,
            ];
            passes(&steps);
        }
    }

    #[test]
    fn what_dies_while_a_compaction_waits_for_another_stays_dead() {
        // The last table is compacted after the others; the writes commit at each turn until then.
        for turns in 0..=u8::MAX {
            let insert = |table| Step::Insert { table, from: 0, count: 5, object: true };
            let writes = [
                Step::Delete { table: 2, by: 2, rest: 0 },
                Step::Update { table: 2, by: 3, rest: 1, to: 9 },
                Step::Insert { table: 2, from: 3, count: 4, object: false },
                Step::Truncate(2),
            ];
            let write = Box::new(writes[usize::from(turns) % writes.len()].clone());
            let create = || Step::CreateTable { keyed: true };
            let steps = [
                create(),
                create(),
                create(),
                insert(0),
                insert(0),
                insert(1),
                insert(1),
                insert(2),
                Step::Insert { table: 2, from: 5, count: 5, object: false },
                Step::WhileCompacting { write, turns },
                Step::Restart,
            ];
            passes(&steps);
        }
    }

    #[test]
    fn a_transaction_commits_though_compactions_moved_its_rows() {
        for keyed in [true, false] {
            let within = |step| Step::InTransaction(Box::new(step));
            let update = |to| within(Step::Update { table: 0, by: 3, rest: 0, to });
            let steps = [
                Step::CreateTable { keyed },
                insert(0, true),
                insert(3, true),
                insert(6, false),
                update(-1),
                within(Step::Delete { table: 0, by: 3, rest: 1 }),
                Step::Compact,
                update(-2),
                Step::EndTransaction { commit: true },
                Step::Vacuum { any_age: true },
            ];
            passes(&steps);
        }
    }

    #[test]
    fn a_long_read_outlives_vacuum() {
        let steps = [
            Step::CreateTable { keyed: true },
            insert(0, true),
            Step::Retention { none: true },
            Step::Hold,
            Step::Truncate(0),
            Step::Vacuum { any_age: true },
            Step::Vacuum { any_age: true },
            Step::Release,
            Step::Vacuum { any_age: true },
        ];
        passes(&steps);
    }

    #[test]
    fn a_restore_of_the_first_snapshot_keeps_what_the_later_ones_hold() {
        let steps = [
            Step::CreateTable { keyed: true },
            insert(0, true),
            Step::Retention { none: true },
            Step::Backup,
            insert(3, true),
            Step::Backup,
            Step::Truncate(0),
            Step::Restore(0),
            Step::Vacuum { any_age: true },
            insert(9, true),
            Step::Restore(1),
            Step::Vacuum { any_age: true },
        ];
        passes(&steps);
    }
}
