//! Whether the data files that a version names are there and as they were written.

use std::collections::HashMap;
use std::sync::Arc;

use super::BackupError;
use crate::hummock::sst::SstInfo;
use crate::hummock::version::{FileEntry, Version};
use crate::id::SstId;
use crate::layout;
use crate::storage::Storage;
use crate::storage::checksum::Summed;

/// Told how many of how many files are done.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Objects an error names; the others it counts.
const SHOWN_MAX: usize = 5;

/// Makes sure that every file of `version` exists with its size. Lists the directory once.
pub async fn objects(
    version: &Version,
    storage: &Storage,
    data_dir: &str,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let listed = storage.list(&layout::directory(data_dir)).await?;
    let sizes: HashMap<SstId, u64> = listed
        .iter()
        .filter_map(|object| Some((layout::parse_sst(&object.location)?, object.size)))
        .collect();
    let total = objects_of(version).count() as u64;
    let (mut missing, mut damaged) = (Vec::new(), Vec::new());
    for (done, file) in (1..).zip(objects_of(version)) {
        let SstInfo { id, size_bytes, .. } = &*file.sst;
        match sizes.get(id) {
            None => missing.push(id.to_string()),
            Some(found) if found != size_bytes => {
                damaged.push(format!("{id} (has {found} bytes, was written with {size_bytes})"));
            }
            Some(_) => {}
        }
        progress(done, total);
    }
    report(missing, damaged)
}

/// Makes sure that every file of `version` holds the bytes that were written. Reads them all.
pub async fn checksums(
    version: &Version,
    storage: &Storage,
    data_dir: &str,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let total = objects_of(version).count() as u64;
    let mut damaged = Vec::new();
    for (done, file) in (1..).zip(objects_of(version)) {
        if sha256_of(storage, data_dir, &file.sst).await? != file.sst.sha256 {
            damaged.push(format!("{} (does not match its checksum)", file.sst.id));
        }
        progress(done, total);
    }
    report(vec![], damaged)
}

/// The files that are objects. Inline rows are covered by the checksums of the snapshot.
pub fn objects_of(version: &Version) -> impl Iterator<Item = &Arc<FileEntry>> {
    version.all_files().filter(|file| file.sst.is_object())
}

async fn sha256_of(
    storage: &Storage,
    data_dir: &str,
    sst: &SstInfo,
) -> Result<String, BackupError> {
    let path = layout::sst(data_dir, sst.id);
    let read = storage.read_with(&path, 0..sst.size_bytes, |from| {
        let mut summed = Summed::new(from);
        std::io::copy(&mut summed, &mut std::io::sink())?;
        Ok::<_, std::io::Error>(summed.finish().2)
    });
    let file = storage.name_of(&path);
    read.await?.map_err(|error| BackupError::damaged(&file, error.to_string()))
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
