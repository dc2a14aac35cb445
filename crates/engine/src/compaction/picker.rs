//! Picks what to compact next. Pure: maps a version to a task.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use tidemark_ledger::id::{ObjectId, SstId};
use tidemark_ledger::version::{FileEntry, Version};

/// A file is rewritten when at least one in this many of its rows is dead.
const DEAD_SHARE: u64 = 5;
/// A tier of similarly sized files is merged once it has this many files.
const FILES_PER_TIER: usize = 8;
/// Files below this size are in one tier; each further tier is four times as large.
const TIER_BYTES: u64 = 1 << 20;
const TIER_FACTOR: u64 = 4;
/// Large files with overlapping keys are merged once more than this many overlap.
const OVERLAP_MAX: usize = 4;

/// The limits of one task.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Output files are closed at this size.
    pub sst_bytes_target: u64,
    /// Maximum rows of all inputs together: where a row went takes four bytes of memory.
    pub rows_max: u64,
    pub files_max: usize,
}

/// Files of one table to be rewritten together. Holds only their ids: what is alive in them is looked
/// up when the task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub table_id: ObjectId,
    /// In order of id.
    pub inputs: Vec<SstId>,
    pub reason: Reason,
}

/// Why a task is worth running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Many rows are dead.
    Dead,
    /// The metadata holds many small batches of rows.
    Inline,
    /// Many files are small.
    Small,
    /// Many files have overlapping key ranges.
    Overlap,
    /// A user asked for it.
    Manual,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "dead rows",
            Self::Inline => "inline rows",
            Self::Small => "small files",
            Self::Overlap => "overlapping keys",
            Self::Manual => "manual",
        })
    }
}

/// The most urgent task of a table, if any.
pub fn pick(version: &Version, table_id: ObjectId, limits: &Limits) -> Option<Task> {
    let alive = alive(version, table_id);
    let candidates = [
        (Reason::Inline, inline(&alive)),
        (Reason::Dead, dead(&alive)),
        (Reason::Small, small(&alive, limits)),
        (Reason::Overlap, overlapping(&alive, limits)),
    ];
    candidates.into_iter().find_map(|(reason, inputs)| {
        let inputs = ids(bounded(inputs?, limits));
        Some(Task { table_id, inputs, reason })
    })
}

/// Tasks that compact a table as far as possible; each file is in at most one of them.
pub fn pick_all(version: &Version, table_id: ObjectId, limits: &Limits) -> Vec<Task> {
    let alive = alive(version, table_id);
    let is_dirty = |file: &FileEntry| file.stamps.rows() > 0 || file.sst.inline.is_some();
    let overlap = layers(&alive).into_iter().max().unwrap_or_default() > 1;
    let wanted: Vec<_> = alive
        .iter()
        .filter(|file| overlap || is_dirty(file) || is_small(file, limits))
        .cloned()
        .collect();
    if wanted.len() < 2 && !wanted.iter().any(|file| is_dirty(file)) {
        return vec![];
    }
    let mut tasks = vec![];
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        let inputs = bounded(rest.to_vec(), limits);
        rest = &rest[inputs.len()..];
        tasks.push(Task { table_id, inputs: ids(inputs), reason: Reason::Manual });
    }
    tasks
}

fn ids(files: Vec<Arc<FileEntry>>) -> Vec<SstId> {
    files.into_iter().map(|file| file.sst.id).collect()
}

fn alive(version: &Version, table_id: ObjectId) -> Vec<Arc<FileEntry>> {
    version.open_files(table_id).cloned().collect()
}

/// The first of `files`, as many as one task takes; at least one.
fn bounded(mut files: Vec<Arc<FileEntry>>, limits: &Limits) -> Vec<Arc<FileEntry>> {
    let mut rows = 0;
    let fits = files.iter().take_while(|file| {
        rows += file.sst.rows;
        rows <= limits.rows_max
    });
    let fits = fits.count().clamp(1, limits.files_max.max(1));
    files.truncate(fits);
    files
}

fn inline(alive: &[Arc<FileEntry>]) -> Option<Vec<Arc<FileEntry>>> {
    use tidemark_ledger::sst::{INLINE_BYTES_PER_TABLE, INLINE_FILES_PER_TABLE};
    let inline: Vec<_> = alive.iter().filter(|file| file.sst.inline.is_some()).cloned().collect();
    let bytes: u64 = inline.iter().map(|file| file.sst.size_bytes).sum();
    let due = inline.len() >= INLINE_FILES_PER_TABLE || bytes >= INLINE_BYTES_PER_TABLE;
    due.then_some(inline)
}

fn dead(alive: &[Arc<FileEntry>]) -> Option<Vec<Arc<FileEntry>>> {
    let is_due = |file: &&Arc<FileEntry>| {
        file.sst.inline.is_none() && file.stamps.rows() * DEAD_SHARE >= file.sst.rows.max(1)
    };
    let due: Vec<_> = alive.iter().filter(is_due).cloned().collect();
    (!due.is_empty()).then_some(due)
}

fn is_small(file: &FileEntry, limits: &Limits) -> bool {
    file.sst.size_bytes < limits.sst_bytes_target / 2
}

/// The lowest tier of small files that is full.
fn small(alive: &[Arc<FileEntry>], limits: &Limits) -> Option<Vec<Arc<FileEntry>>> {
    let mut tiers: BTreeMap<u32, Vec<Arc<FileEntry>>> = BTreeMap::new();
    let small = alive.iter().filter(|f| f.sst.inline.is_none() && is_small(f, limits));
    for file in small {
        tiers.entry(tier(file.sst.size_bytes)).or_default().push(Arc::clone(file));
    }
    tiers.into_values().find(|files| files.len() >= FILES_PER_TIER)
}

fn tier(size_bytes: u64) -> u32 {
    (size_bytes / TIER_BYTES).checked_ilog(TIER_FACTOR).map_or(0, |log| log + 1)
}

/// The large files that overlap the most overlapped one, if more than [`OVERLAP_MAX`] overlap there.
fn overlapping(alive: &[Arc<FileEntry>], limits: &Limits) -> Option<Vec<Arc<FileEntry>>> {
    let large: Vec<_> = alive.iter().filter(|file| !is_small(file, limits)).cloned().collect();
    let layers = layers(&large);
    let deepest = (0..large.len()).max_by_key(|at| layers[*at])?;
    if layers[deepest] <= OVERLAP_MAX {
        return None;
    }
    let range = large[deepest].sst.keys.as_ref()?;
    let over = large.iter().filter(|file| file.sst.keys.as_ref().is_some_and(|k| k.meets(range)));
    Some(over.cloned().collect())
}

/// For each file, the number of files whose key ranges overlap its own, itself included. 0 for files
/// without known keys.
fn layers(files: &[Arc<FileEntry>]) -> Vec<usize> {
    let keys = |file: &Arc<FileEntry>| file.sst.keys.clone();
    let known: Vec<_> = files.iter().map(keys).collect();
    let meeting = |range: &tidemark_ledger::sst::KeyRange| {
        known.iter().flatten().filter(|other| other.meets(range)).count()
    };
    known.iter().map(|range| range.as_ref().map_or(0, meeting)).collect()
}

#[cfg(test)]
mod tests;
