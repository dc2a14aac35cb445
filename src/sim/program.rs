//! Random programs: what a cluster goes through, several things at a time, with a look at everything after
//! each step.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use super::chaos::{Chaos, Without};
use super::frontend::{Frontend, Trouble};
use super::link::Link;
use super::world::{HANGS, JOURNAL, Memory, PLACES, World};
use crate::ambient;
use crate::ambient::simulated::{Process, Simulation, within};
use crate::backup::verify::{self, Check, Level, Subset};
use crate::catalog::{ColumnType, PUBLIC};
use crate::id::SnapshotId;
use crate::meta::MetaNode;
use crate::meta::command::{AlterStep, BackupOptions, CatalogCommand, NewColumn, RelationKind};
use crate::meta::error::{ErrorKind, MetaError};
use crate::params;

const STEPS_MIN: u64 = 6;
const STEPS_MAX: u64 = 16;
/// What a client does meanwhile, at most so many times.
const MEANWHILE_MAX: u64 = 5;
/// An older copy of the meta store is older by at least so much, and lacks so many commits.
const OLDER_MS: u64 = 2_000;
const OLDER_COMMITS: usize = 4;

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// What is not as it must be, with all that was done.
    pub outcome: Result<(), String>,
    pub hash: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs the program of this seed. No other run of this name may be going on.
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
    for (name, keyed) in [(JOURNAL, false), ("a", true), ("b", true), ("c", false)] {
        world.create_table(name, keyed).await.map_err(|e| e.to_string())?;
    }
    chaos.set(true);
    let count = STEPS_MIN + chaos.below(STEPS_MAX - STEPS_MIN);
    // A program that fails is shrunk by ending it earlier.
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

/// The stores behave again: whatever went wrong before, all works.
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
        // Each, as long as it does not conflict with itself.
        Trouble::told(frontend.write().await, &chaos)?;
        Trouble::told(frontend.read().await, &chaos)?;
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

/// Something that a server is asked for.
#[derive(Clone, Debug)]
enum Job {
    CompactAll,
    Compact { table: &'static str },
    Vacuum,
    Backup { copy_data: bool },
    DeleteSnapshots { ids: Vec<SnapshotId> },
    Alter { name: &'static str, value: String },
    Verify,
    Flush,
}

impl Job {
    async fn run(&self, link: &Link) -> Result<Option<SnapshotId>, MetaError> {
        let ask = |node: Arc<MetaNode>| {
            let job = self.clone();
            async move { job.done_by(&node).await }
        };
        link.call("job", ask).await
    }

    async fn done_by(self, node: &Arc<MetaNode>) -> Result<Option<SnapshotId>, MetaError> {
        match self {
            Self::CompactAll => node.compact_all(None).await.map(|_| None),
            Self::Compact { table } => node.compact_all(Some((PUBLIC, table))).await.map(|_| None),
            Self::Vacuum => node.vacuum(Some(0), false).await.map(|_| None),
            Self::Backup { copy_data } => {
                let taken = node.backup(BackupOptions { remarks: None, copy_data }).await;
                taken.map(|entry| Some(entry.info.id))
            }
            Self::DeleteSnapshots { ids } => node.delete_snapshots(&ids).await.map(|()| None),
            Self::Alter { name, value } => {
                node.alter_system(name, Some(&value)).await.map(|_| None)
            }
            Self::Verify => {
                let check = Check { level: Level::Objects, subset: Subset::ALL };
                let request = verify::Request { ids: None, check, restart: false };
                node.verify_snapshots(&request, &|_| {}).await.map(|_| None)
            }
            Self::Flush => node.manager.flush().await.map(|_| None),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::CompactAll | Self::Compact { .. } => "done: manual compactions",
            Self::Vacuum => "done: vacuums",
            Self::Backup { .. } => "done: backups",
            Self::DeleteSnapshots { .. } => "done: deletions of snapshots",
            Self::Alter { .. } => "done: parameters changed",
            Self::Verify => "done: verifications",
            Self::Flush => "done: flushes",
        }
    }
}

async fn one_step(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    doom(world);
    match chaos.below(30) {
        0..=4 => beside(world, None).await,
        5..=9 if chaos.has("workers") => compact_by_workers(world).await,
        10..=13 if chaos.has("manual") => {
            let table = chaos.pick(&["a", "b", "c"]).expect("there are some");
            let one = Job::Compact { table };
            let job = if chaos.one_in(4) { one } else { Job::CompactAll };
            beside(world, Some(job)).await
        }
        14..=16 => beside(world, Some(Job::Vacuum)).await,
        17 | 18 => {
            let job = Job::Backup { copy_data: chaos.one_in(3) };
            beside(world, Some(job)).await
        }
        19 => {
            let job = some_job(world);
            beside(world, Some(job)).await
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
        _ => beside(world, Some(Job::Vacuum)).await,
    }
}

/// The clock of the meta server is set.
fn jump(world: &World) {
    let chaos = &world.chaos;
    let ms = i64::try_from(chaos.below(600_000)).expect("small");
    let back = chaos.one_in(2);
    chaos.event(&format!("the clock jumps {ms} ms, back: {back}"));
    chaos.count("clock: jumps");
    world.clock.jump(if back { -ms } else { ms });
}

/// Now and then, a process is to end at one of its next calls.
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

fn some_job(world: &World) -> Job {
    let chaos = &world.chaos;
    match chaos.below(6) {
        0 | 1 => {
            let listed: Vec<_> = world.must_be_listed.iter().map(|(_, id)| *id).collect();
            let ids = chaos.pick(&listed).into_iter().collect();
            Job::DeleteSnapshots { ids }
        }
        2 => {
            let value = (600_000 + chaos.below(1000)).to_string();
            Job::Alter { name: params::TIME_TRAVEL_RETENTION_MS, value }
        }
        3 => {
            let value = chaos.pick(&PLACES).expect("there are some").to_owned();
            Job::Alter { name: params::BACKUP_STORAGE_DIRECTORY, value }
        }
        4 => Job::Verify,
        _ => Job::Flush,
    }
}

/// What clients do meanwhile, each begun at some moment.
async fn clients(world: &World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let doing = (0..chaos.below(MEANWHILE_MAX + 1)).filter_map(|_| {
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
    let process = Arc::clone(&frontend.follower.process);
    let work = async move {
        match kind {
            0..=4 => frontend.write().await,
            5 | 6 => frontend.read().await,
            _ => {
                frontend.hold();
                drop(frontend.report().await);
                Ok(())
            }
        }
    };
    let done = world.in_process(&process, Box::pin(work)).await?;
    Trouble::told(done.unwrap_or(Ok(())), &world.chaos)
}

/// Clients work, and a job beside them.
async fn beside(world: &mut World, job: Option<Job>) -> Result<(), String> {
    let place = current_place(world);
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
        told(world, job, place, outcome)?;
    }
    world.remember().await;
    for frontend in world.frontends.clone() {
        let process = Arc::clone(&frontend.follower.process);
        let report = async move { frontend.report().await };
        drop(world.in_process(&process, report).await?);
    }
    Ok(())
}

fn told(
    world: &mut World,
    job: &Job,
    place: Option<String>,
    outcome: Result<Option<SnapshotId>, MetaError>,
) -> Result<(), String> {
    match outcome {
        Ok(taken) => {
            world.chaos.count(job.name());
            let taken = taken.zip(place).map(|(id, place)| (place, id));
            world.must_be_listed.extend(taken);
            Ok(())
        }
        Err(error) => {
            world.chaos.note(&format!("{job:?}: {error}"));
            judge(&error, &world.chaos)
        }
    }
}

/// Whether an error is a good one.
fn judge(error: &MetaError, chaos: &Chaos) -> Result<(), String> {
    let panicked = error.message.contains("panicked");
    if error.kind == ErrorKind::Internal && !(panicked && chaos.has("flips")) {
        return Err(format!("an error of our own: {error}"));
    }
    Ok(())
}

/// Where snapshots are now.
fn current_place(world: &World) -> Option<String> {
    let server = world.link.server()?;
    let state = server.node.manager.state();
    Some(state.params.value(params::BACKUP_STORAGE_DIRECTORY).to_owned())
}

/// Compactors work, and clients beside them.
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

/// Makes, drops or alters a table.
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
) -> Result<Result<crate::epoch::Epoch, MetaError>, String> {
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

/// The server ends, or another begins to lead while it works.
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

/// A server that must not do anything any more is asked all the same.
async fn ask_zombie(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let leads = world.link.server().is_some();
    let Some(server) = chaos.pick(&world.zombies).filter(|_| leads) else { return Ok(()) };
    let link = Link::new(&chaos);
    link.set(Some(server.clone()));
    // It looks at the lease once a second.
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

/// The meta store comes back as it was some time ago: no server may go on with it.
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
    world.meta.put_back(memory.pairs).await;
    match world.start_server().await {
        // Whatever is missing, the check finds.
        Ok(()) => Ok(()),
        Err(why) => {
            chaos.note(&why);
            chaos.event("it does not start");
            world.meta.put_back(pairs).await;
            Ok(())
        }
    }
}

/// Brings a snapshot back, as a life of its own.
async fn restore(world: &mut World) -> Result<(), String> {
    let chaos = Arc::clone(&world.chaos);
    let listed: Vec<_> = world.must_be_listed.iter().cloned().collect();
    let Some((place, id)) = chaos.pick(&listed) else { return Ok(()) };
    Box::pin(world.restore(&place, id)).await?;
    Ok(())
}

impl World {
    /// Keeps a copy of the meta store, to come back later.
    async fn remember(&mut self) {
        if self.memory.is_none() && self.chaos.one_in(3) {
            let (pairs, at_ms) = (self.meta.pairs().await, self.chaos.times.now_ms());
            self.memory = Some(Memory { pairs, at_ms });
        }
    }
}
