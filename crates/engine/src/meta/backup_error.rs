//! Maps errors of backups to errors of the meta role.

use tidemark_ledger::backup::BackupError;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::storage::StorageError;

pub(super) fn backup_error(error: &BackupError) -> MetaError {
    let mut meta = MetaError::storage(error);
    match error {
        BackupError::UnknownSnapshots { .. } | BackupError::NotFound { .. } => {
            meta.kind = ErrorKind::UndefinedSnapshot;
        }
        BackupError::HeldByOther { .. } => meta.kind = ErrorKind::Deposed,
        BackupError::Damaged { .. }
        | BackupError::OldManifest { .. }
        | BackupError::ObjectsDamaged { .. }
        | BackupError::Storage(StorageError::ChecksumMismatch { .. }) => {
            meta.kind = ErrorKind::Damaged;
        }
        BackupError::Unsure { .. } => meta.kind = ErrorKind::Unknown,
        _ => {}
    }
    meta.hint = error.hint();
    meta
}
