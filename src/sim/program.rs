//! Random programs: steps of a cluster, each of which does several things at the same time. Everything
//! is compared after each step.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use super::chaos::Without;
use super::contention::contend;
use super::frontend::{Change, CheckError, Frontend};
use super::job::{Job, backup_directory, judge, learn};
use super::link::Link;
use super::world::{HANGS, JOURNAL, Memory, TABLES, World};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::{AlterStep, CatalogCommand, NewColumn, RelationKind};
use tidemark_ledger::ambient;
use tidemark_ledger::ambient::simulated::{Process, Simulation, within};
use tidemark_ledger::catalog::{ColumnType, PUBLIC};
use tidemark_ledger::meta_error::MetaError;

const STEPS_MIN: u64 = 6;
const STEPS_MAX: u64 = 16;
/// Maximum number of client statements in one step.
const STATEMENTS_MAX: u64 = 5;
/// Minimum age of an older copy of the meta store, and of the number of commits that it lacks.
const OLDER_MS: u64 = 2_000;
const OLDER_COMMITS: usize = 4;

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    /// What is wrong, with a trace of all that was done.
    pub outcome: Result<(), String>,
    pub hash: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs the program of this seed. No other run of this name may be active.
pub fn run(name: &str, seed: u64, without: Without) -> Run {
    let simulation = Simulation::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc);
    let mut world = match World::new(name, &simulation.times, without) {
        Ok(world) => world,
        Err(why) => return Run { outcome: Err(why), hash: 0, counts: BTreeMap::new() },
    };
    let outcome = simulation.runtime.block_on(Box::pin(steps(&mut world)));
    let (hash, mut counts) = (world.chaos.hash(), world.chaos.counts());
    counts.insert("compared: tables at epochs", world.compared);
    let outcome = outcome.map_err(|what| format!("{}\n  {what}", world.chaos.trace()));
    Run { outcome, hash, counts }
}

async fn steps(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    world.mend().await?;
    world.create_table(JOURNAL, false).await.map_err(|e| e.to_string())?;
    for (name, keyed) in TABLES {
        world.create_table(name, keyed).await.map_err(|e| e.to_string())?;
    }
    chaos.set(true);
    let count = STEPS_MIN + chaos.below(STEPS_MAX - STEPS_MIN);
    // A failing program is shrunk by ending it earlier.
    let most = std::env::var("SIM_STEPS").ok().and_then(|steps| steps.parse().ok());
    for step in 0..count.min(most.unwrap_or(count)) {
        world.mend().await?;
        chaos.event(&format!("step {step}"));
        let done = within(HANGS, Box::pin(one_step(world))).await;
        done.unwrap_or_else(|| Err("something waits for what never comes".to_owned()))?;
        world.check().await?;
    }
    Box::pin(end(world)).await
}

/// The stores stop failing: whatever went wrong before, everything must work.
async fn end(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    chaos.event("the end");
    pass(world, 45_000).await;
    chaos.set(false);
    world.clock.set_right();
    if let Some(server) = world.link.server() {
        server.process.kill();
    }
    world.start_server().await.map_err(|e| format!("the last start: {e}"))?;
    world.mend().await?;
    for frontend in world.frontends.clone() {
        frontend.report().await.map_err(|e| format!("the last report: {e}"))?;
        // Every frontend works, though a write may still conflict with itself.
        CheckError::told(frontend.write(Change::Any).await, &chaos)?;
        CheckError::told(frontend.read().await, &chaos)?;
    }
    let mut last = vec![Job::Backup { copy_data: true }, Job::Vacuum];
    if chaos.has("manual") {
        last.insert(0, Job::CompactAll);
    }
    for job in last {
        job.run(&world.link)
            .await
            .map_err(|e| format!("{job:?} fails though nothing is wrong: {e}"))?;
        world.check().await?;
    }
    Ok(())
}

async fn pass(world: &World, ms: u64) {
    world.chaos.event(&format!("{ms} ms pass"));
    ambient::sleep(Duration::from_millis(ms)).await;
}

async fn one_step(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    doom(world);
    match chaos.below(30) {
        0..=4 => serve(world, None).await,
        5..=9 if chaos.has("workers") => compact_by_workers(world).await,
        10 | 11 if chaos.has("manual") => contend(world).await,
        12 | 13 if chaos.has("manual") => {
            let job = Job::compaction(&chaos);
            serve(world, Some(job)).await
        }
        14..=16 => serve(world, Some(Job::Vacuum)).await,
        17 | 18 => {
            let job = Job::Backup { copy_data: chaos.one_in(3) };
            serve(world, Some(job)).await
        }
        19 => {
            let job = Job::other(world);
            serve(world, Some(job)).await
        }
        20 if chaos.has("ddl") => change_catalog(world).await,
        21 => {
            let minutes = 1 + chaos.below(20);
            chaos.event(&format!("{minutes} minutes pass"));
            world.clock.jump(i64::try_from(minutes * 60_000).expect("small"));
            pass(world, 1_000 + chaos.below(20_000)).await;
            Ok(())
        }
        22 if chaos.has("clock") => {
            jump(world);
            Ok(())
        }
        23 | 24 if chaos.has("takeovers") => take_over(world).await,
        25 | 26 if chaos.has("rollbacks") => go_back(world).await,
        27 if chaos.has("restores") => restore(world).await,
        28 | 29 if chaos.has("zombies") => ask_zombie(world).await,
        _ => serve(world, Some(Job::Vacuum)).await,
    }
}

/// Sets the clock of the meta server back or forward.
fn jump(world: &World) {
    let chaos = &world.chaos;
    let ms = i64::try_from(chaos.below(600_000)).expect("small");
    let back = chaos.one_in(2);
    chaos.event(&format!("the clock jumps {ms} ms, back: {back}"));
    chaos.count("clock: jumps");
    world.clock.jump(if back { -ms } else { ms });
}

/// Now and then, picks a process that is to end at one of its next calls.
fn doom(world: &World) {
    let chaos = &world.chaos;
    if !chaos.has("crashes") || !chaos.one_in(5) {
        return;
    }
    let servers = world.link.server().map(|server| server.process);
    let frontends = world.frontends.iter().map(|f| Arc::clone(&f.follower.process));
    let compactors = world.compactors.iter().map(|c| Arc::clone(&c.follower.process));
    let all: Vec<Arc<Process>> = servers.into_iter().chain(frontends).chain(compactors).collect();
    if let Some(process) = chaos.pick(&all) {
        chaos.doom(&process, chaos.below(20));
    }
}

/// Runs statements of clients, each after a random delay.
async fn clients(world: &World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let doing = (0..chaos.below(STATEMENTS_MAX + 1)).filter_map(|_| {
        let frontend = chaos.pick(&world.frontends)?;
        let (delay_ms, kind) = (chaos.below(400), chaos.below(8));
        Some(one_client(world, frontend, delay_ms, kind))
    });
    let outcomes = join_all(doing.collect::<Vec<_>>()).await;
    outcomes.into_iter().collect()
}

async fn one_client(
    world: &World,
    frontend: Arc<Frontend>,
    delay_ms: u64,
    kind: u64,
) -> Result<(), String> {
    ambient::sleep(Duration::from_millis(delay_ms)).await;
    let of = Arc::clone(&frontend);
    let statement = async move {
        match kind {
            0..=4 => of.write(Change::Any).await,
            5 | 6 => of.read().await,
            _ => {
                of.hold();
                drop(of.report().await);
                Ok(())
            }
        }
    };
    run_statement(world, &frontend, statement).await
}

/// Runs a statement in the process of its frontend. It may fail, or end with the process.
pub async fn run_statement(
    world: &World,
    frontend: &Frontend,
    statement: impl Future<Output = Result<(), CheckError>> + Send + 'static,
) -> Result<(), String> {
    let process = Arc::clone(&frontend.follower.process);
    let done = world.in_process(&process, Box::pin(statement)).await?;
    CheckError::told(done.unwrap_or(Ok(())), &world.chaos)
}

/// Runs statements of clients and, if there is one, a job at the same time.
async fn serve(world: &mut World, job: Option<Job>) -> Result<(), String> {
    let directory = backup_directory(world);
    if let Some(Job::DeleteSnapshots { ids }) = &job {
        world.must_be_listed.retain(|(_, id)| !ids.contains(id));
    }
    let asked = async {
        match &job {
            Some(job) => Some(job.run(&world.link).await),
            None => None,
        }
    };
    let (outcome, clients) = futures::join!(asked, clients(world));
    clients?;
    if let (Some(job), Some(outcome)) = (&job, outcome) {
        learn(world, job, directory, outcome)?;
    }
    report(world).await
}

/// Now and then, keeps a copy of the meta store. Frontends report what they have in use.
pub async fn report(world: &mut World) -> Result<(), String> {
    world.remember().await;
    for frontend in world.frontends.clone() {
        let process = Arc::clone(&frontend.follower.process);
        let report = async move { frontend.report().await };
        drop(world.in_process(&process, report).await?);
    }
    Ok(())
}

/// Runs compactors and clients at the same time.
async fn compact_by_workers(world: &World) -> Result<(), String> {
    let work = world.compactors.iter().map(|compactor| {
        let (compactor, chaos) = (Arc::clone(compactor), Arc::clone(&world.chaos));
        let process = Arc::clone(&compactor.follower.process);
        let work = async move {
            while compactor.work().await?.is_some() {
                chaos.count("done: compactions by workers");
            }
            compactor.follower.report(None).await
        };
        async move { world.in_process(&process, Box::pin(work)).await }
    });
    let (worked, clients) = futures::join!(join_all(work.collect::<Vec<_>>()), clients(world));
    clients?;
    for outcome in worked {
        if let Some(Err(error)) = outcome? {
            world.chaos.note(&format!("a compaction: {error}"));
            judge(&error, &world.chaos)?;
        }
    }
    Ok(())
}

/// Creates, drops or alters a table.
async fn change_catalog(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let others: Vec<String> = {
        let model = world.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.tables.keys().filter(|name| *name != JOURNAL).cloned().collect()
    };
    let outcome = match chaos.below(3) {
        0 => {
            let name = format!("t{}", chaos.times.now_ms());
            let (made, clients) =
                futures::join!(world.create_table(&name, chaos.one_in(2)), clients(world));
            clients?;
            made
        }
        1 => {
            let Some(name) = chaos.pick(&others) else { return Ok(()) };
            drop_table(world, &name).await?
        }
        _ => {
            let Some(name) = chaos.pick(&others) else { return Ok(()) };
            let column = NewColumn {
                name: format!("c{}", chaos.times.now_ms()),
                column_type: ColumnType::Integer,
                not_null: false,
                default: None,
                backfill: None,
            };
            let step = AlterStep::AddColumn { column, if_not_exists: false };
            let schema = PUBLIC.to_owned();
            let alter = CatalogCommand::AlterTable { schema, name, if_exists: false, step };
            ask_catalog(world, alter).await?.map(|_| ())
        }
    };
    if let Err(error) = outcome {
        chaos.note(&format!("a change of the catalog: {error}"));
        judge(&error, &chaos)?;
    }
    Ok(())
}

async fn ask_catalog(
    world: &World,
    command: CatalogCommand,
) -> Result<Result<tidemark_ledger::epoch::Epoch, MetaError>, String> {
    let ask = |node: Arc<MetaNode>| {
        let command = command.clone();
        async move { node.manager.change_catalog(command).await }
    };
    let (changed, clients) = futures::join!(world.link.call("change catalog", ask), clients(world));
    clients?;
    Ok(changed.map(|committed| committed.epoch))
}

async fn drop_table(world: &World, name: &str) -> Result<Result<(), MetaError>, String> {
    let with_table = |edit: &dyn Fn(&mut super::model::Table)| {
        let mut model = world.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = model.tables.get_mut(name) {
            edit(table);
        }
    };
    with_table(&|table| table.may_be_dropped = true);
    let command = CatalogCommand::DropRelation {
        kind: RelationKind::Table,
        schema: PUBLIC.to_owned(),
        name: name.to_owned(),
        if_exists: false,
        cascade: false,
    };
    let outcome = ask_catalog(world, command).await?;
    if let Ok(epoch) = outcome {
        with_table(&|table| table.dropped = Some(epoch));
    }
    Ok(outcome.map(|_| ()))
}

/// Ends the server, or makes another one take over while it works.
async fn take_over(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    if chaos.one_in(2)
        && let Some(server) = world.link.server()
    {
        chaos.event("the server ends");
        server.process.kill();
        return Ok(());
    }
    chaos.event("another server begins");
    chaos.count("done: takeovers");
    if let Err(why) = world.start_server().await {
        chaos.note(&why);
    }
    Ok(())
}

/// Requests a job from a server that must not do anything any more, and checks that it fails.
async fn ask_zombie(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let leads = world.link.server().is_some();
    let Some(server) = chaos.pick(&world.zombies).filter(|_| leads) else { return Ok(()) };
    let link = Link::new(&chaos);
    link.set(Some(server.clone()));
    // The server checks the lease once a second.
    ambient::sleep(Duration::from_millis(20_000)).await;
    let job = match chaos.below(3) {
        0 => Job::Vacuum,
        1 => Job::Backup { copy_data: false },
        _ => Job::Flush,
    };
    let asked = async { job.run(&link).await };
    let (outcome, clients) = futures::join!(asked, clients(world));
    clients?;
    chaos.count("done: deposed servers asked");
    match outcome {
        Ok(_) => Err(format!("{} was deposed, and did {job:?}", server.process.name)),
        Err(error) => judge(&error, &chaos),
    }
}

/// The meta store goes back to an earlier state: no server may continue from it.
async fn go_back(world: &mut World) -> Result<(), String> {
    let (now_ms, commits) = (world.chaos.times.now_ms(), world.meta.commits());
    let lacks = |at_ms: u64| commits.iter().filter(|c| c.at_ms > at_ms).count();
    let is_old =
        |memory: &Memory| memory.at_ms + OLDER_MS <= now_ms && lacks(memory.at_ms) >= OLDER_COMMITS;
    let Some(memory) = world.memory.take_if(|memory| is_old(memory)) else { return Ok(()) };
    let chaos = Arc::clone(&world.chaos);
    if let Some(server) = world.link.server() {
        server.process.kill();
    }
    let pairs = world.meta.pairs().await;
    chaos.event("the meta store is as it was");
    chaos.count("meta store: older copy");
    world.meta.put_back(memory.pairs, commits.clone()).await;
    match world.start_server().await {
        // The check finds whatever is missing.
        Ok(()) => Ok(()),
        Err(why) => {
            chaos.note(&why);
            chaos.event("it does not start");
            world.meta.put_back(pairs, commits).await;
            Ok(())
        }
    }
}

/// Restores a snapshot, which begins a new life.
async fn restore(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let listed: Vec<_> = world.must_be_listed.iter().cloned().collect();
    let Some((location, id)) = chaos.pick(&listed) else { return Ok(()) };
    Box::pin(world.restore(&location, id)).await?;
    Ok(())
}

impl World {
    /// Keeps a copy of the meta store now and then, to go back to it later.
    async fn remember(&mut self) {
        if self.memory.is_none() && self.chaos.one_in(3) {
            let (pairs, at_ms) = (self.meta.pairs().await, self.chaos.times.now_ms());
            self.memory = Some(Memory { pairs, at_ms });
        }
    }
}
