//! Copies the data files that a version names to another directory. Files that are there already with the
//! right size stay, so an interrupted copy can be continued.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::listing::Listing;
use super::verify::{Progress, SHOWN_MAX};
use super::{BackupError, OpenLocation};
use crate::layout;
use crate::sst::SstInfo;
use crate::storage::{Expected, StorageError};
use crate::version::Version;

/// Number of files that are copied at the same time.
const FILES_AT_ONCE: usize = 4;

/// The files that a directory lacks, and how much it has.
#[derive(Clone, Debug, Default)]
pub struct CopyPlan {
    pub missing: Vec<Arc<SstInfo>>,
    pub missing_bytes: u64,
    /// Files whose name is taken by a file of another size.
    pub in_the_way: Vec<Arc<SstInfo>>,
    pub there: u64,
    pub there_bytes: u64,
}

impl CopyPlan {
    /// Plans what to copy so that every file of `version` is in the directory of `listed`.
    pub fn new(version: &Version, listed: &Listing) -> Self {
        let mut plan = Self::default();
        for sst in version.objects() {
            match listed.files.get(&sst.id) {
                None => {
                    plan.missing_bytes += sst.size_bytes;
                    plan.missing.push(Arc::clone(sst));
                }
                Some(found) if found.size_bytes == sst.size_bytes => {
                    plan.there += 1;
                    plan.there_bytes += sst.size_bytes;
                }
                Some(_) => plan.in_the_way.push(Arc::clone(sst)),
            }
        }
        plan
    }

    /// Refuses a directory that others may have used.
    ///
    /// # Errors
    /// [`BackupError::ObjectsInTheWay`] when the name of a file is taken by another one.
    pub fn check_free(&self, directory: &str) -> Result<(), BackupError> {
        if self.in_the_way.is_empty() {
            return Ok(());
        }
        let shown: Vec<_> =
            self.in_the_way.iter().take(SHOWN_MAX).map(|sst| sst.id.to_string()).collect();
        let (count, location) = (self.in_the_way.len(), directory.to_owned());
        Err(BackupError::ObjectsInTheWay { location, count, shown: shown.join(", ") })
    }
}

/// Copies the missing files, a few at a time, and replaces the files that are in the way. Each copy is
/// verified; one that is not whole does not stay.
pub async fn copy_files(
    plan: &CopyPlan,
    from: &OpenLocation,
    to: &OpenLocation,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let total = (plan.missing.len() + plan.in_the_way.len()) as u64;
    let files = plan.missing.iter().map(|sst| (sst, false));
    let files = files.chain(plan.in_the_way.iter().map(|sst| (sst, true)));
    let copies = files.map(|(sst, over)| copy_file(Arc::clone(sst), from, to, over));
    // Collected, because a lazy iterator over borrowed files could not move between threads.
    let copies: Vec<_> = copies.collect();
    let copied = stream::iter(copies).buffer_unordered(FILES_AT_ONCE);
    let count = |done: u64, ()| async move {
        progress(done + 1, total);
        Ok(done + 1)
    };
    copied.try_fold(0, count).await?;
    Ok(())
}

async fn copy_file(
    sst: Arc<SstInfo>,
    from: &OpenLocation,
    to: &OpenLocation,
    over: bool,
) -> Result<(), BackupError> {
    let expected = Expected { size_bytes: sst.size_bytes, sha256: sst.sha256 };
    let source = layout::sst(&from.directory, sst.id);
    let target = layout::sst(&to.directory, sst.id);
    if over {
        return Ok(from.storage.copy_over(&source, &to.storage, &target, expected).await?);
    }
    match from.storage.copy_to(&source, &to.storage, &target, expected).await {
        // Another process has copied the same file.
        Err(StorageError::AlreadyExists { .. })
            if to.storage.size(&target).await? == sst.size_bytes =>
        {
            Ok(())
        }
        copied => Ok(copied?),
    }
}
