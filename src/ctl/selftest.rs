//! `selftest`: reports what a storage supports, by the probe that a server runs when it starts.

use clap::Args;

use super::{CtlError, say};
use crate::config;
use tidemark_ledger::meta_error::chain;
use tidemark_ledger::storage::StorageLocation;

#[derive(Args)]
pub(super) struct SelftestArgs {
    /// The storage, as --state-store or --backup-storage-url name it
    #[arg(value_name = "URL")]
    url: String,
    /// Directory in which a small object is written and deleted
    #[arg(long, value_name = "DIR", default_value = config::DATA_DIRECTORY)]
    directory: String,
}

pub(super) async fn run(args: SelftestArgs) -> Result<(), CtlError> {
    let location = StorageLocation::new(args.url, args.directory);
    let storage = location.open_existing().map_err(tidemark_ledger::backup::BackupError::from)?;
    let probed = storage.probe_each(&location.directory).await;
    let probed = probed.map_err(tidemark_ledger::backup::BackupError::from)?;
    for found in &probed {
        let said = found.outcome.as_ref().map_or_else(|error| chain(error), |()| "ok".to_owned());
        say(&format!("{:<20} {said}", found.capability))?;
    }
    match probed.iter().filter(|found| found.outcome.is_err()).count() {
        0 => Ok(()),
        missing => Err(CtlError::Incapable { location: location.to_string(), missing }),
    }
}
