//! The error of the meta role, which is sent over RPC as it is.

use serde::{Deserialize, Serialize};

use crate::DamagedFile;
use crate::storage::StorageError;

/// Why a command was refused or failed. Nothing was changed, unless it is [`ErrorKind::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct MetaError {
    pub kind: ErrorKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of errors that callers distinguish. The frontend maps each to a SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    DuplicateSchema,
    DuplicateRelation,
    DuplicateColumn,
    UndefinedSchema,
    UndefinedRelation,
    UndefinedColumn,
    UndefinedParameter,
    UndefinedSnapshot,
    WrongRelationKind,
    ReservedName,
    InvalidDefinition,
    NotSupported,
    /// Other objects depend on the one to drop.
    DependentObjects,
    InvalidParameter,
    ImmutableParameter,
    /// Another writer changed the same rows, keys or definition first; a retry may succeed.
    Conflict,
    /// The files staged for this write may have been deleted: it must start over.
    GivenUp,
    DiskFull,
    Storage,
    /// The stored data does not match what was written.
    Damaged,
    /// This server has been deposed and may no longer write.
    Deposed,
    /// The command may or may not have been executed.
    Unknown,
    Internal,
}

/// Why a request to the meta role failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RpcError {
    /// The meta role replied with this error.
    #[error(transparent)]
    Refused(#[from] MetaError),
    /// The request was not sent, or changes nothing.
    #[error("cannot reach the meta role at {addr}: {reason}")]
    Unreachable { addr: String, reason: String },
    /// The request was sent, and may have been carried out.
    #[error("lost the meta role at {addr} before it answered: {reason}")]
    Lost { addr: String, reason: String },
}

impl RpcError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.hint.clone(),
            Self::Unreachable { .. } => Some(
                "Check that the server runs and that RW_META_ADDR names its meta address."
                    .to_owned(),
            ),
            Self::Lost { .. } => Some("Look whether it was done, then try again.".to_owned()),
        }
    }
}

impl MetaError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error of a command that failed but may have been executed.
    pub fn unknown(failure: &(dyn std::error::Error + 'static)) -> Self {
        let message = format!("it is not known whether this was done: {}", chain(failure));
        Self::new(ErrorKind::Unknown, message).hint("Look whether it was, before you do it again.")
    }

    /// The error of a failed storage operation, with its whole chain of causes and the hint that one of them
    /// has. It is [`ErrorKind::Damaged`] for a [`DamagedFile`], [`ErrorKind::DiskFull`] for a full disk, and
    /// [`ErrorKind::Storage`] otherwise.
    pub fn storage(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(damaged) = causes(error).find_map(|c| c.downcast_ref::<DamagedFile>()) {
            let error = Self::new(ErrorKind::Damaged, damaged.to_string());
            return error.detail(damaged.detail()).hint(damaged.hint());
        }
        let kind = if is_disk_full(error) { ErrorKind::DiskFull } else { ErrorKind::Storage };
        let hint = causes(error).find_map(|cause| cause.downcast_ref::<StorageError>()?.hint());
        Self { hint, ..Self::new(kind, chain(error)) }
    }
}

/// An error and its causes on one line. A cause whose text is there already is left out.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    text
}

/// The error itself, then each of its causes.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        let sqlite =
            cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        io.is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
            || sqlite == Some(rusqlite::ErrorCode::DiskFull)
    })
}
