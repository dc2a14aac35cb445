//! The error for a data file that is missing or whose bytes are not those that were written.

use std::ops::Range;
use std::sync::Arc;

use crate::id::{ObjectId, SstId};
use crate::storage::Damage;

/// A damaged or missing data file. No row was returned from the damaged bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("data file {sst} of table {} is {}", self.table_name(), self.state())]
pub struct DamagedFile {
    pub sst: SstId,
    /// The table through which it was read.
    pub table: ObjectId,
    /// The table's name, if known.
    pub name: Option<Arc<str>>,
    /// Name of the object; `None` if the rows are inline.
    pub object: Option<String>,
    /// The damaged bytes.
    pub range: Range<u64>,
    pub damage: Damage,
}

impl DamagedFile {
    fn table_name(&self) -> String {
        match &self.name {
            Some(name) => format!("\"{name}\""),
            None => self.table.to_string(),
        }
    }

    fn state(&self) -> String {
        match self.damage {
            Damage::Gone => "gone".to_owned(),
            Damage::Checksum | Damage::EndsAt(_) => {
                format!("damaged in bytes {} to {}", self.range.start, self.range.end)
            }
        }
    }

    /// What is wrong, as a sentence.
    pub fn detail(&self) -> String {
        let holder = match &self.object {
            Some(object) => format!("object \"{object}\""),
            None => "metadata that holds its rows".to_owned(),
        };
        match self.damage {
            Damage::Checksum => format!("The {holder} does not match its checksum."),
            Damage::EndsAt(bytes) => format!("The {holder} ends after {bytes} bytes."),
            Damage::Gone => format!("The {holder} does not exist."),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self.object {
            Some(_) => format!(
                "Bring it back from a backup with copies of the data files: risectl hummock repair-object {}",
                self.sst
            ),
            None => "Restore a meta snapshot; see risectl meta list-meta-snapshots.".to_owned(),
        }
    }
}
