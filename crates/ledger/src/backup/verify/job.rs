//! Verifies many snapshots, one after another. It reports progress, records results as it goes, and continues
//! a run over all snapshots that was interrupted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::examine::{CheckFailure, Examiner};
use super::{Check, DataAt, Event, Report, Request, Subset, Verdict, Verification, Verified};
use crate::backup::manifest::{Manifest, RunNote, VerificationRun};
use crate::backup::{BackupError, ManifestEntry, OpenLocation};
use crate::id::SnapshotId;
use crate::meta_error::chain;

/// Number of results that are recorded together: each time rewrites the manifest.
const NOTED_TOGETHER: usize = 50;
/// How long results wait to be recorded together.
const NOTE_PAUSE: Duration = Duration::from_secs(2);

/// Checks the requested snapshots; none of them if one is not listed. A snapshot that is deleted meanwhile is
/// left out if all were requested, and an error if it was named. `now` returns the time of a check, RFC 3339,
/// UTC.
pub async fn verify(
    location: &OpenLocation,
    request: &Request,
    data: DataAt<'_>,
    now: impl Fn() -> String,
    report: Report<'_>,
) -> Result<Vec<Verified>, BackupError> {
    let manifest = Manifest::read(location).await?;
    let entries = chosen(&manifest, location, request)?;
    let run = Run::of(&manifest, request, &now);
    let (resumed, left) = run.divide(entries);
    report(Event::Begun {
        snapshots: (resumed.len() + left.len()) as u64,
        resumed: (!resumed.is_empty()).then(|| run.note.begun_at.clone()),
    });
    let mut verified = vec![];
    for found in resumed {
        report(Event::Verified(found.clone()));
        verified.push(found);
    }
    let mut notes = Notes { location, run: &run, waiting: vec![], since: Instant::now() };
    let mut examiner = Examiner::new(location, request.check, data);
    for entry in left {
        let snapshot_id = entry.info.id;
        let files = |done, total| report(Event::Files { snapshot_id, done, total });
        let looked = examiner.examine(&entry, &files).await;
        let verification = outcome(looked, request.check, now());
        notes.waiting.push((entry, Verified { snapshot_id, verification }));
        if notes.are_due() {
            tell(notes.write(false).await?, &mut verified, report);
        }
    }
    tell(notes.write(true).await?, &mut verified, report);
    let order = order_of(&manifest, request);
    verified.sort_by_key(|found| order.get(&found.snapshot_id).copied());
    Ok(verified)
}

fn tell(found: Vec<Verified>, verified: &mut Vec<Verified>, report: Report<'_>) {
    found.iter().cloned().map(Event::Verified).for_each(report);
    verified.extend(found);
}

/// The position of each snapshot in the request.
fn order_of(manifest: &Manifest, request: &Request) -> BTreeMap<SnapshotId, usize> {
    let ids = request.ids.clone().unwrap_or_else(|| manifest.ids());
    ids.into_iter().zip(0..).collect()
}

fn chosen(
    manifest: &Manifest,
    location: &OpenLocation,
    request: &Request,
) -> Result<Vec<ManifestEntry>, BackupError> {
    let Some(ids) = &request.ids else { return Ok(manifest.snapshot_metadata.clone()) };
    let unknown: Vec<_> = ids.iter().copied().filter(|id| manifest.entry(*id).is_none()).collect();
    if !unknown.is_empty() {
        let (location, known) = (location.to_string(), manifest.ids());
        return Err(BackupError::UnknownSnapshots { unknown, location, known });
    }
    Ok(ids.iter().filter_map(|id| manifest.entry(*id)).cloned().collect())
}

fn outcome(looked: Result<(), CheckFailure>, check: Check, verified_at: String) -> Verification {
    let (result, detail) = match looked {
        Ok(()) => (Verdict::Ok, None),
        Err(CheckFailure::Damaged(error)) => (Verdict::Damaged, Some(chain(&error))),
        Err(CheckFailure::Unable(error)) => (Verdict::CouldNotVerify, Some(chain(&error))),
    };
    let Check { level, subset: coverage } = check;
    Verification { verified_at, level, coverage, result, detail }
}

/// The run over all snapshots that this is or continues. Checks of named snapshots belong to no run.
struct Run {
    note: VerificationRun,
    is_noted: bool,
    goes_on: bool,
}

impl Run {
    fn of(manifest: &Manifest, request: &Request, now: &impl Fn() -> String) -> Self {
        let is_noted = request.ids.is_none();
        let known = manifest.verification_run.as_ref();
        let known = known.filter(|run| is_noted && !request.restart && run.is_of(request.check));
        let note = known.cloned().unwrap_or_else(|| VerificationRun::new(now(), request.check));
        Self { note, is_noted, goes_on: known.is_some() }
    }

    /// The results that it has already, and the snapshots that are left to check.
    fn divide(&self, entries: Vec<ManifestEntry>) -> (Vec<Verified>, Vec<ManifestEntry>) {
        let (done, left): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| self.has_looked_at(entry));
        let found = |entry: ManifestEntry| {
            let snapshot_id = entry.info.id;
            entry.verification.map(|verification| Verified { snapshot_id, verification })
        };
        (done.into_iter().filter_map(found).collect(), left)
    }

    fn has_looked_at(&self, entry: &ManifestEntry) -> bool {
        let VerificationRun { begun_at, level, coverage } = &self.note;
        let is_of_run = |found: &Verification| {
            let sees_as_much = found.level >= *level
                && (found.coverage == *coverage || found.coverage == Subset::ALL);
            // Times in one form, in UTC, compare as texts.
            found.verified_at >= *begun_at
                && sees_as_much
                && found.result != Verdict::CouldNotVerify
        };
        self.goes_on && entry.verification.as_ref().is_some_and(is_of_run)
    }
}

/// Results that are not recorded yet.
struct Notes<'a> {
    location: &'a OpenLocation,
    run: &'a Run,
    waiting: Vec<(ManifestEntry, Verified)>,
    since: Instant,
}

impl Notes<'_> {
    fn are_due(&self) -> bool {
        self.waiting.len() >= NOTED_TOGETHER || self.since.elapsed() >= NOTE_PAUSE
    }

    /// Records the waiting results, and returns those of snapshots that are still listed. If they cannot be
    /// recorded, all of them are returned.
    async fn write(&mut self, is_end: bool) -> Result<Vec<Verified>, BackupError> {
        self.since = Instant::now();
        let waiting = std::mem::take(&mut self.waiting);
        let note = match (self.run.is_noted, is_end) {
            (false, _) => RunNote::None,
            (true, false) => RunNote::GoesOn(self.run.note.clone()),
            (true, true) => RunNote::Ended,
        };
        if waiting.is_empty() && !(is_end && self.run.is_noted) {
            return Ok(vec![]);
        }
        let manifest = match Manifest::remember(self.location, &waiting, &note).await {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::warn!(%error, "could not remember a verification");
                return Ok(waiting.into_iter().map(|(_, verified)| verified).collect());
            }
        };
        self.still_listed(&manifest, waiting)
    }

    fn still_listed(
        &self,
        manifest: &Manifest,
        looked: Vec<(ManifestEntry, Verified)>,
    ) -> Result<Vec<Verified>, BackupError> {
        let is_listed = |seen: &ManifestEntry| {
            manifest.entry(seen.info.id).is_some_and(|entry| entry.sha256 == seen.sha256)
        };
        let (listed, gone): (Vec<_>, Vec<_>) =
            looked.into_iter().partition(|(entry, _)| is_listed(entry));
        if !gone.is_empty() && !self.run.is_noted {
            let unknown = gone.into_iter().map(|(entry, _)| entry.info.id).collect();
            let (location, known) = (self.location.to_string(), manifest.ids());
            return Err(BackupError::UnknownSnapshots { unknown, location, known });
        }
        Ok(listed.into_iter().map(|(_, verified)| verified).collect())
    }
}
