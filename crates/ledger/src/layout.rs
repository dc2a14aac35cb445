//! Every object path we write, with its parser.
//!
//! | object | in |
//! |---|---|
//! | `<id>.data` | the data directory |
//! | `checkpoint/<version id>-<nonce>.version` | the data directory |
//! | `lease.json` | the data directory |
//! | `<id>.snapshot` | a backup directory |
//! | `manifest.json` | a backup directory |
//! | `data/<id>.data`, `data/<life>/<id>.data` | a backup directory: copies of data files |
//!
//! Names that begin with a dot are locks and probes of [`crate::storage`]; listings leave them out.

use object_store::path::Path;

use crate::id::{SnapshotId, SstId, VersionId};

/// A data file.
pub fn sst(data_dir: &str, id: SstId) -> Path {
    directory(data_dir).join(format!("{id}.data"))
}

/// The id of the data file at this path; `None` for other objects.
pub fn parse_sst(path: &Path) -> Option<SstId> {
    parse_number(path, ".data").map(SstId)
}

/// The same, but only for a path directly in `data_dir`.
pub fn parse_sst_in(data_dir: &str, path: &Path) -> Option<SstId> {
    parse_sst(path).filter(|id| sst(data_dir, *id) == *path)
}

/// The directory of checkpoints.
pub fn checkpoints(data_dir: &str) -> Path {
    directory(data_dir).join("checkpoint")
}

/// A checkpoint of the version. The nonce keeps names unique even if a version id repeats.
pub fn checkpoint(data_dir: &str, id: VersionId, nonce: &str) -> Path {
    checkpoints(data_dir).join(format!("{id}-{nonce}.version"))
}

/// The version id of the checkpoint at this path; `None` for other objects.
pub fn parse_checkpoint(data_dir: &str, path: &Path) -> Option<VersionId> {
    let (version, nonce) = path.filename()?.strip_suffix(".version")?.split_once('-')?;
    let version = VersionId(version.parse().ok()?);
    (checkpoint(data_dir, version, nonce) == *path).then_some(version)
}

/// The lease of the data directory.
pub fn lease(data_dir: &str) -> Path {
    directory(data_dir).join("lease.json")
}

/// A meta snapshot.
pub fn snapshot(backup_dir: &str, id: SnapshotId) -> Path {
    directory(backup_dir).join(format!("{id}.snapshot"))
}

/// The id of the meta snapshot at this path; `None` for other objects.
pub fn parse_snapshot(path: &Path) -> Option<SnapshotId> {
    parse_number(path, ".snapshot").map(SnapshotId)
}

/// The manifest of a backup directory.
pub fn manifest(backup_dir: &str) -> Path {
    directory(backup_dir).join("manifest.json")
}

/// The directory of data file copies inside a backup directory, laid out like a data directory. Different
/// lives of a cluster may give one id to different files, so each life has a subdirectory; the first life,
/// whose name is empty, uses the directory itself.
pub fn copies(backup_dir: &str, life: &str) -> String {
    let all = directory(backup_dir).join("data");
    if life.is_empty() { all.to_string() } else { all.join(life).to_string() }
}

/// Converts a configured directory to an object path.
pub fn directory(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|_| Path::from(text))
}

/// The number in the file name, if it is written in the form we use (no sign, no leading zeros).
fn parse_number(path: &Path, suffix: &str) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(suffix)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_as_the_ids_they_were_made_of() {
        let path = sst("hummock_001", SstId(42));
        assert_eq!(path.as_ref(), "hummock_001/42.data");
        assert_eq!(parse_sst(&path), Some(SstId(42)));
        let path = snapshot("a/backup/", SnapshotId(7));
        assert_eq!(path.as_ref(), "a/backup/7.snapshot");
        assert_eq!(parse_snapshot(&path), Some(SnapshotId(7)));
        assert_eq!(checkpoint("/d", VersionId(3), "ab").as_ref(), "d/checkpoint/3-ab.version");
    }

    #[test]
    fn foreign_names_are_no_ids() {
        for name in ["d/042.data", "d/+4.data", "d/4.data.bak", "d/x.data", "d/4.snapshot"] {
            assert_eq!(parse_sst(&Path::from(name)), None, "{name}");
        }
    }
}
