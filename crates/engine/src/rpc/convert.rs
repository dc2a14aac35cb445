//! Converts between Rust values and messages of the RPC.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use super::proto::Json;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};

pub fn to_json<T: Serialize>(value: &T) -> Result<Json, Status> {
    let json = serde_json::to_vec(value).map_err(|e| Status::internal(e.to_string()))?;
    Ok(Json { json, worker: String::new() })
}

pub fn from_json<T: DeserializeOwned>(message: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(message).map_err(|e| Status::invalid_argument(e.to_string()))
}

/// An error of the meta role as a status, whose details carry all of it.
pub fn to_status(error: &MetaError) -> Status {
    let details = serde_json::to_vec(error).unwrap_or_default();
    Status::with_details(code_of(error.kind), error.message.clone(), details.into())
}

/// The meta role's error that a status carries, if any.
pub fn from_status(status: &Status) -> Option<MetaError> {
    serde_json::from_slice(status.details()).ok()
}

fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::DuplicateSchema | ErrorKind::DuplicateRelation | ErrorKind::DuplicateColumn => {
            Code::AlreadyExists
        }
        ErrorKind::UndefinedSchema
        | ErrorKind::UndefinedRelation
        | ErrorKind::UndefinedColumn
        | ErrorKind::UndefinedParameter
        | ErrorKind::UndefinedSnapshot => Code::NotFound,
        ErrorKind::WrongRelationKind
        | ErrorKind::ReservedName
        | ErrorKind::InvalidDefinition
        | ErrorKind::NotSupported
        | ErrorKind::InvalidParameter
        | ErrorKind::ImmutableParameter => Code::InvalidArgument,
        ErrorKind::DependentObjects | ErrorKind::Deposed => Code::FailedPrecondition,
        ErrorKind::Conflict | ErrorKind::GivenUp => Code::Aborted,
        ErrorKind::DiskFull => Code::ResourceExhausted,
        ErrorKind::Storage => Code::Unavailable,
        ErrorKind::Damaged => Code::DataLoss,
        ErrorKind::Unknown => Code::Unknown,
        ErrorKind::Internal => Code::Internal,
    }
}
