//! Compactions that wait for each other while rows of their tables die.
//!
//! Tables get several files each. Then several compactions of them are requested at the same time: each
//! task waits for those before it, and clients update and delete rows of all tables until the last one
//! is done. A task that reads its rows from an older state than it claims would bring rows back, which
//! the comparison of all epochs after the step finds.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::frontend::{Change, Frontend};
use super::job::{Job, learn};
use super::meta_store::Commit;
use super::program::{report, run_statement};
use super::world::World;
use tidemark_ledger::ambient;
use tidemark_ledger::id::{SnapshotId, SstId};
use tidemark_ledger::meta_error::MetaError;

/// Inserts per client before the compactions.
const INSERTS: u64 = 4;
/// Maximum number of writes per client while compactions run.
const KILLS_MAX: u64 = 12;
/// Maximum pause between two of these writes.
const PAUSE_MS_MAX: u64 = 60;
/// Counts compactions that waited while rows of their inputs died.
pub const OVERTAKEN: &str = "done: compactions overtaken by deaths of their rows while they waited";

/// Compacts tables while clients change them.
pub async fn contend(world: &mut World) -> Result<(), String> {
    insert(world).await?;
    let before = world.meta.commits().len();
    let count = 1 + world.chaos.below(3);
    let jobs: Vec<Job> = (0..count).map(|_| Job::compaction(&world.chaos)).collect();
    let outcomes = compact(world, &jobs).await?;
    for (job, outcome) in jobs.iter().zip(outcomes) {
        learn(world, job, None, outcome)?;
    }
    for _ in 0..overtaken(&world.meta.commits()[before..]) {
        world.chaos.count(OVERTAKEN);
    }
    report(world).await
}

/// Every client inserts into tables, one write after another.
async fn insert(world: &World) -> Result<(), String> {
    let inserting = world.frontends.iter().map(|frontend| insert_by(world, frontend));
    join_all(inserting).await.into_iter().collect()
}

async fn insert_by(world: &World, frontend: &Arc<Frontend>) -> Result<(), String> {
    for _ in 0..INSERTS {
        write(world, frontend, Change::Insert).await?;
    }
    Ok(())
}

/// Runs the jobs. Every client updates and deletes rows until the last one is done.
async fn compact(
    world: &World,
    jobs: &[Job],
) -> Result<Vec<Result<Option<SnapshotId>, MetaError>>, String> {
    let over = Cell::new(false);
    let compacting = async {
        let outcomes = join_all(jobs.iter().map(|job| job.run(&world.link))).await;
        over.set(true);
        outcomes
    };
    let killing = world.frontends.iter().map(|frontend| kill(world, frontend, &over));
    let (outcomes, killed) = futures::join!(compacting, join_all(killing));
    killed.into_iter().collect::<Result<(), String>>()?;
    Ok(outcomes)
}

async fn kill(world: &World, frontend: &Arc<Frontend>, over: &Cell<bool>) -> Result<(), String> {
    for _ in 0..KILLS_MAX {
        if over.get() {
            break;
        }
        ambient::sleep(Duration::from_millis(world.chaos.below(PAUSE_MS_MAX))).await;
        write(world, frontend, Change::Kill).await?;
    }
    Ok(())
}

async fn write(world: &World, frontend: &Arc<Frontend>, change: Change) -> Result<(), String> {
    let of = Arc::clone(frontend);
    run_statement(world, frontend, async move { of.write(change).await }).await
}

/// Number of compactions some of whose rows died before an earlier one was committed.
fn overtaken(commits: &[Commit]) -> usize {
    let (mut dying, mut died): (BTreeSet<SstId>, BTreeSet<SstId>) = Default::default();
    let mut count = 0;
    for commit in commits {
        if commit.replaced.is_empty() {
            dying.extend(&commit.stamped);
        } else {
            count += usize::from(!commit.replaced.is_disjoint(&died));
            died.append(&mut dying);
        }
    }
    count
}
