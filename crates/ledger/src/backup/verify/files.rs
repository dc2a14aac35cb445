//! Checks that the data files of a version exist and are as they were written.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Subset;
use crate::backup::listing::Listing;
use crate::backup::{BackupError, OpenLocation};
use crate::id::SstId;
use crate::layout;
use crate::sst::SstInfo;
use crate::storage::checksum::{Checksum, Summed};
use crate::version::Version;

/// The callback for progress: the number of files that are done, and of all files.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Number of objects that an error names; the others are only counted.
pub const SHOWN_MAX: usize = 5;
/// Number of files that are read at the same time.
const FILES_AT_ONCE: usize = 4;

/// Checks that every file of `version` in `subset` was listed with its size.
///
/// # Errors
/// [`BackupError::ObjectsMissing`], or else [`BackupError::ObjectsDamaged`] for files of another size.
pub fn sizes(
    version: &Version,
    listed: &Listing,
    subset: Subset,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    // Inline rows are covered by the checksums of the snapshot.
    let files = || version.objects().filter(|sst| subset.holds(sst.id));
    let total = files().count() as u64;
    let (mut missing, mut damaged) = (vec![], vec![]);
    for (done, sst) in (1..).zip(files()) {
        let SstInfo { id, size_bytes, .. } = &**sst;
        match listed.files.get(id) {
            None => missing.push(id.to_string()),
            Some(found) if found.size_bytes != *size_bytes => {
                let found = found.size_bytes;
                damaged.push(format!("{id} (has {found} bytes, was written with {size_bytes})"));
            }
            Some(_) => {}
        }
        progress(done, total);
    }
    report(missing, damaged)
}

/// Checks that every file of `version` in `subset` has its checksum. Reads all of them, a few at a time.
///
/// # Errors
/// [`BackupError::ObjectsDamaged`] if one does not match.
pub async fn checksums(
    version: &Version,
    location: &OpenLocation,
    subset: Subset,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    checksums_unless(&mut Proven::new(), version, location, subset, progress).await
}

/// Files of one location whose checksum has been verified.
pub type Proven = HashSet<(SstId, Checksum)>;

/// The same, except for files in `proven`; the files it verifies are added there.
pub async fn checksums_unless(
    proven: &mut Proven,
    version: &Version,
    location: &OpenLocation,
    subset: Subset,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let mut files = chosen(version, subset);
    files.retain(|sst| !proven.contains(&(sst.id, sst.sha256)));
    let total = files.len() as u64;
    // Collected, because a lazy iterator over borrowed files could not move between threads.
    let reads: Vec<_> = files.into_iter().map(|sst| looked_at(location, sst)).collect();
    let mut results = stream::iter(reads).buffered(FILES_AT_ONCE);
    let (mut damaged, mut done) = (vec![], 0);
    while let Some((sst, found)) = results.try_next().await? {
        match found {
            Some(what) => damaged.push(what),
            None => drop(proven.insert((sst.id, sst.sha256))),
        }
        done += 1;
        progress(done, total);
    }
    report(vec![], damaged)
}

async fn looked_at(
    location: &OpenLocation,
    sst: Arc<SstInfo>,
) -> Result<(Arc<SstInfo>, Option<String>), BackupError> {
    let found = is_as_written(location, Arc::clone(&sst)).await?;
    Ok((sst, found))
}

fn chosen(version: &Version, subset: Subset) -> Vec<Arc<SstInfo>> {
    version.objects().filter(|sst| subset.holds(sst.id)).cloned().collect()
}

/// What is wrong with the bytes of a file; `None` if they are as written.
async fn is_as_written(
    location: &OpenLocation,
    sst: Arc<SstInfo>,
) -> Result<Option<String>, BackupError> {
    let path = layout::sst(&location.directory, sst.id);
    let read = location.storage.read_with(&path, 0..sst.size_bytes, |from| {
        let mut summed = Summed::new(from);
        std::io::copy(&mut summed, &mut std::io::sink())?;
        Ok::<_, std::io::Error>(summed.finish().2)
    });
    let file = location.storage.name_of(&path);
    let found = read.await?.map_err(|error| BackupError::damaged(&file, error.to_string()))?;
    Ok((found != sst.sha256.to_string())
        .then(|| format!("{} (does not match its checksum)", sst.id)))
}

fn report(missing: Vec<String>, damaged: Vec<String>) -> Result<(), BackupError> {
    let shown = |objects: &[String]| objects[..objects.len().min(SHOWN_MAX)].join(", ");
    if !missing.is_empty() {
        let (count, shown) = (missing.len(), shown(&missing));
        return Err(BackupError::ObjectsMissing { count, shown });
    }
    if !damaged.is_empty() {
        let (count, shown) = (damaged.len(), shown(&damaged));
        return Err(BackupError::ObjectsDamaged { count, shown });
    }
    Ok(())
}
