//! Random programs: the steps a cluster goes through, with a check of everything after each.

use std::sync::Arc;

use super::Random;
use super::check::judge_text;
use super::steps::{Ask, Told};
use super::world::{BACKUP_DIRECTORIES, Happened, Holds, World};
use crate::meta::MetaNode;
use tidemark_ledger::id::{SnapshotId, SstId};
use tidemark_ledger::params;

/// Faults per thousand calls; each program uses one of these rates.
const RATES: [u64; 3] = [10, 40, 120];
const STEPS_MAX: u64 = 20;
/// Attempts to start a server.
const STARTS: usize = 3;

/// Runs the program of this seed. With `lies`, the meta store lies, and the program must fail.
///
/// # Errors
/// What is wrong, with a trace of all that was done.
pub async fn run(seed: u64, lies: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let rate = random.pick(&RATES).expect("there are some");
    let (apart, fenced) = (random.one_in(2), random.one_in(2));
    let mut world = World::new(seed, rate, apart, fenced).await?;
    if lies {
        world.chaos.lie();
    }
    let outcome = Box::pin(steps(&mut world, &mut random)).await;
    outcome.map_err(|what| {
        let head = format!("program {seed}, {rate} faults in a thousand calls");
        let kinds = format!("backups apart: {apart}, fenced: {fenced}");
        format!("{head}, {kinds}\n{}\n  {what}", world.chaos.trace())
    })
}

async fn steps(world: &mut World, random: &mut Random) -> Result<(), String> {
    for _ in 0..4 + random.below(STEPS_MAX - 4) {
        world.chaos.set(true);
        Box::pin(step(world, random)).await?;
        looked_at(world).await?;
        if random.one_in(4) {
            world.chaos.note("  everything arrives".to_owned());
            world.chaos.drain().await;
            looked_at(world).await?;
        }
        drop_halted(world);
    }
    Box::pin(end(world)).await
}

async fn looked_at(world: &mut World) -> Result<(), String> {
    world.check().await
}

/// Makes a server that can no longer write an old one: it must never write again.
fn drop_halted(world: &mut World) {
    if let Some(node) = world.node.take_if(|node| !node.manager.is_writable()) {
        world.old.push((node, Arc::clone(&world.meta)));
    }
}

/// The stores stop failing: whatever went wrong before, everything must work.
async fn end(world: &mut World) -> Result<(), String> {
    world.chaos.note("  the end".to_owned());
    world.chaos.drain().await;
    world.chaos.set(false);
    looked_at(world).await?;
    let node = world.opened(&Arc::clone(&world.meta)).await?;
    begun(world, node).await?;
    looked_at(world).await?;
    let node = Arc::clone(world.node.as_ref().expect("it has just begun"));
    let copies = Ask::Backup { copy_data: true };
    let all = [Ask::Insert { files: 2 }, Ask::Backup { copy_data: false }, copies, Ask::Vacuum];
    for ask in all {
        must_do(world, &node, &ask).await?;
    }
    let ids = listed(world, &node);
    must_do(world, &node, &Ask::DeleteSnapshots { ids }).await?;
    world.clock.advance_ms(3_600_000);
    must_do(world, &node, &Ask::Vacuum).await?;
    for old in world.old.clone() {
        world.ask_old(&old, &Ask::Flush).await?;
        world.ask_old(&old, &Ask::Vacuum).await?;
    }
    looked_at(world).await
}

async fn must_do(world: &mut World, node: &Arc<MetaNode>, ask: &Ask) -> Result<(), String> {
    let told = world.ask(node, ask).await?;
    if let Some(error) = told.error() {
        return Err(format!("{ask:?} fails though nothing is wrong: {error}"));
    }
    world.learn_told(told)?;
    looked_at(world).await
}

async fn step(world: &mut World, random: &mut Random) -> Result<(), String> {
    let Some(node) = world.node.clone() else {
        if let Some((before, _)) = world.before.clone()
            && random.one_in(2)
        {
            asked_before(world, random, &before).await?;
        }
        return start(world).await;
    };
    match random.below(22) {
        0..=11 => {
            let ask = any(world, random, &node);
            let told = world.ask(&node, &ask).await?;
            world.learn_told(told)
        }
        12 | 13 => together(world, random, &node).await,
        14 => {
            let minutes = 1 + random.below(30);
            world.chaos.note(format!("    {minutes} minutes pass"));
            world.clock.advance_ms(minutes * 60_000);
            Ok(())
        }
        15 => {
            world.chaos.note("    the server ends".to_owned());
            drop(node);
            world.node = None;
            start(world).await
        }
        16 => take_over(world, None).await,
        17 => {
            let ask = any(world, random, &node);
            take_over(world, Some((node, ask))).await
        }
        18 | 19 => {
            let Some(old) = random.pick(&world.old) else { return Ok(()) };
            let ask = any(world, random, &old.0);
            world.chaos.note("    of a server that was deposed".to_owned());
            world.ask_old(&old, &ask).await
        }
        _ => restore(world, random).await,
    }
}

/// A random request to a server.
fn any(world: &mut World, random: &mut Random, node: &MetaNode) -> Ask {
    match random.below(19) {
        15 => compact(world, random),
        16 => Ask::CreateTable { name: format!("t{}", world.model.tables.len()) },
        17 => drop_table(world, random),
        0..=4 => Ask::Insert { files: 1 + u32::from(random.one_in(2)) },
        5 => delete(world, random),
        6 | 7 => Ask::Backup { copy_data: false },
        8 => Ask::Backup { copy_data: true },
        9 => {
            let mut ids = vec![];
            ids.extend(random.pick(&listed(world, node)));
            if ids.is_empty() || random.one_in(8) {
                ids.push(SnapshotId(999_999));
            }
            Ask::DeleteSnapshots { ids }
        }
        10 => {
            let value = (600_000 + random.below(1000)).to_string();
            Ask::Alter { name: params::TIME_TRAVEL_RETENTION_MS, value }
        }
        11 => {
            let value = random.pick(&BACKUP_DIRECTORIES).expect("there are some").to_owned();
            Ask::Alter { name: params::BACKUP_STORAGE_DIRECTORY, value }
        }
        12 => Ask::Verify,
        _ => Ask::Vacuum,
    }
}

/// Deletes rows that no other request will ever try to delete.
fn delete(world: &mut World, random: &mut Random) -> Ask {
    let mut rows: Vec<(SstId, u32)> = vec![];
    for _ in 0..=random.below(2) {
        let others = world.model.untouched.iter().filter(|row| rows.iter().all(|r| r.0 != row.0));
        let others: Vec<_> = others.copied().collect();
        rows.extend(random.pick(&others));
    }
    world.model.untouched.retain(|row| !rows.contains(row));
    if rows.is_empty() { Ask::Flush } else { Ask::Delete { rows } }
}

/// Replaces a random file with another.
fn compact(world: &World, random: &mut Random) -> Ask {
    let born = world.model.facts.iter().filter(|fact| fact.happened == Happened::Yes);
    let born: Vec<SstId> = born.flat_map(|fact| fact.born.iter().copied()).collect();
    random.pick(&born).map_or(Ask::Flush, |from| Ask::Compact { from })
}

fn drop_table(world: &World, random: &mut Random) -> Ask {
    let tables = world.model.tables.iter().filter(|(_, there)| **there == Happened::Yes);
    let tables: Vec<String> = tables.map(|(name, _)| name.clone()).collect();
    random.pick(&tables).map_or(Ask::Flush, |name| Ask::DropTable { name })
}

/// The listed snapshots of the server's current backup location.
fn listed(world: &World, node: &MetaNode) -> Vec<SnapshotId> {
    let current = World::current_backup_directory(node);
    let snapshots = world.model.snapshots.iter();
    let there = snapshots.filter(|((directory, _), snapshot)| {
        *directory == current && snapshot.listed == Happened::Yes
    });
    there.map(|((_, id), _)| *id).collect()
}

/// Sends two requests at once.
async fn together(
    world: &mut World,
    random: &mut Random,
    node: &Arc<MetaNode>,
) -> Result<(), String> {
    let first = match random.one_in(3) {
        true => compact(world, random),
        false => Ask::Insert { files: 1 },
    };
    let other = match random.below(5) {
        0 => Ask::Insert { files: 2 },
        1 => Ask::Backup { copy_data: random.one_in(2) },
        2 => delete(world, random),
        3 => Ask::DeleteSnapshots { ids: listed(world, node) },
        _ => Ask::Vacuum,
    };
    let (one, two) = tokio::join!(world.ask(node, &first), world.ask(node, &other));
    let (one, two): (Told, Told) = (one?, two?);
    world.learn_told(one)?;
    world.learn_told(two)
}

/// Another server starts to lead, while the previous one may be at work.
async fn take_over(world: &mut World, busy: Option<(Arc<MetaNode>, Ask)>) -> Result<(), String> {
    world.chaos.note("    another server takes over".to_owned());
    let meta = Arc::clone(&world.meta);
    let (opened, told) = match &busy {
        None => (Box::pin(world.opened(&meta)).await, None),
        Some((node, ask)) => {
            let (told, opened) = tokio::join!(world.ask(node, ask), Box::pin(world.opened(&meta)));
            (opened, Some(told?))
        }
    };
    if let Some(told) = told {
        world.learn_told(told)?;
    }
    match opened {
        Ok(node) => begun(world, node).await,
        Err(text) => refused(world, &text),
    }
}

fn refused(world: &World, text: &str) -> Result<(), String> {
    world.chaos.note(format!("    it does not start: {text}"));
    judge_text(text, text.contains("could not"))
}

/// Starts a server if there is none.
async fn start(world: &mut World) -> Result<(), String> {
    let meta = Arc::clone(&world.meta);
    for _ in 0..STARTS {
        world.chaos.note("    a server starts".to_owned());
        match Box::pin(world.opened(&meta)).await {
            Ok(node) => return begun(world, node).await,
            Err(text) => refused(world, &text)?,
        }
    }
    Ok(())
}

/// A server has started to lead: it continues after everything that was acknowledged.
async fn begun(world: &mut World, node: Arc<MetaNode>) -> Result<(), String> {
    world.replace_node(Arc::clone(&node));
    world.chaos.set(false);
    let flushed = node.manager.flush().await;
    world.chaos.set(true);
    match flushed {
        Ok(committed) if committed.epoch <= world.model.newest => {
            Err(format!("epoch {} is used twice", committed.epoch))
        }
        Ok(committed) => {
            world.model.newest = committed.epoch;
            Ok(())
        }
        // Another server started at the same time, or an earlier lease request arrives now.
        Err(error) => {
            world.chaos.note(format!("    its first commit: {error}"));
            judge_text(&error.message, false)
        }
    }
}

/// Restores a snapshot, which begins a new life.
async fn restore(world: &mut World, random: &mut Random) -> Result<(), String> {
    let snapshots = world.model.snapshots.iter();
    let listed = snapshots.filter(|(_, snapshot)| snapshot.listed == Happened::Yes);
    let listed: Vec<_> = listed.map(|(key, _)| key.clone()).collect();
    let Some((location, id)) = random.pick(&listed) else { return Ok(()) };
    let before = Arc::clone(&world.meta);
    if !Box::pin(world.restore(&location, id)).await? {
        return Ok(());
    }
    world.chaos.set(true);
    for _ in 0..random.below(3) {
        if let Some((before, _)) = world.before.clone() {
            asked_before(world, random, &before).await?;
        }
    }
    start(world).await?;
    if world.node.is_some() && random.one_in(2) {
        world.chaos.note("    the life before starts again".to_owned());
        match Box::pin(world.opened(&before)).await {
            Ok(_) => return Err("the life before has the data directory again".to_owned()),
            Err(text) => refused(world, &text)?,
        }
    }
    Ok(())
}

/// The server of the previous life continues until the next one begins. What it commits is lost with it.
async fn asked_before(
    world: &mut World,
    random: &mut Random,
    before: &Arc<MetaNode>,
) -> Result<(), String> {
    world.clock.advance_ms(15_000);
    let ask = match random.below(4) {
        0 => Ask::Backup { copy_data: false },
        1 => Ask::Vacuum,
        2 => Ask::Flush,
        _ => Ask::Insert { files: 1 },
    };
    world.chaos.note("    of the life before".to_owned());
    let mut told = world.ask(before, &ask).await?;
    if let Told::Backup { before, .. } = &mut told {
        **before = Holds::default();
    }
    let writes = matches!(told, Told::Write { .. });
    world.learn_told(told)?;
    if writes && let Some(fact) = world.model.facts.last_mut() {
        fact.happened = Happened::No;
        let born = fact.born.clone();
        world.model.untouched.retain(|(sst, _)| !born.contains(sst));
    }
    Ok(())
}
