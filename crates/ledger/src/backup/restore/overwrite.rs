//! Parameters that the restored cluster gets instead of those in the snapshot, because its data or its
//! backups are elsewhere now.

use super::Request;
use crate::backup::BackupError;
use crate::layout;
use crate::params::{
    BACKUP_STORAGE_DIRECTORY, BACKUP_STORAGE_URL, DATA_DIRECTORY, ParamSpec, STATE_STORE,
};
use crate::state::State;
use crate::storage::StorageLocation;
use crate::storage_url::{is_same_location, mask, without_hummock};

/// The parameters to overwrite.
#[derive(Clone, Debug, Default)]
pub struct Overwrite {
    /// The data is where the request says, not where the snapshot says.
    pub hummock: bool,
    pub backup_url: Option<String>,
    pub backup_directory: Option<String>,
}

/// The parameters that change, in their stored form.
///
/// # Errors
/// [`BackupError::Param`] for an invalid value; [`BackupError::UrlMismatch`] or
/// [`BackupError::DirectoryMismatch`] if the data is elsewhere and the request does not say so.
pub(super) fn params(
    request: &Request,
    state: &State,
) -> Result<Vec<(&'static str, String)>, BackupError> {
    let Request { overwrite, hummock, copy_data, .. } = request;
    let mut given = vec![];
    if overwrite.hummock || *copy_data {
        given.push((STATE_STORE, format!("hummock+{}", without_hummock(hummock.url.trim()))));
        given.push((DATA_DIRECTORY, hummock.directory.clone()));
    } else {
        check_location(state, hummock)?;
    }
    let url = overwrite.backup_url.iter().map(|url| (BACKUP_STORAGE_URL, url.clone()));
    let directory = overwrite.backup_directory.iter();
    given.extend(url.chain(directory.map(|dir| (BACKUP_STORAGE_DIRECTORY, dir.clone()))));
    let parsed =
        given.into_iter().map(|(name, value)| Ok((name, ParamSpec::find(name)?.parse(&value)?)));
    parsed.collect()
}

/// Checks that the data of the snapshot is where the restored cluster will look for it.
fn check_location(state: &State, hummock: &StorageLocation) -> Result<(), BackupError> {
    let (url, directory) = (state.params.value(STATE_STORE), state.params.value(DATA_DIRECTORY));
    if !is_same_location(url, &hummock.url) {
        let [snapshot, given] = [url, &hummock.url].map(|url| mask(without_hummock(url)));
        return Err(BackupError::UrlMismatch { snapshot, given });
    }
    if layout::directory(directory) != layout::directory(&hummock.directory) {
        let [snapshot, given] = [directory, &hummock.directory].map(str::to_owned);
        return Err(BackupError::DirectoryMismatch { snapshot, given });
    }
    Ok(())
}
