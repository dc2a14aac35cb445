//! The JSON form of a plan, which `--json` prints. Contains no credentials.

use serde_json::{Value, json};

use super::Plan;
use crate::storage_url::mask;

impl Plan {
    pub fn to_json(&self) -> Value {
        let overwritten = self.overwritten.iter();
        let overwritten = overwritten.map(|(name, value)| ((*name).to_owned(), mask(value).into()));
        json!({
            "snapshot": self.entry,
            "tables": self.tables,
            "backup_location": self.request.backup.to_string(),
            "data_location": self.request.hummock.to_string(),
            "newest_snapshot_id": self.newest.info.id,
            "loss": self.loss,
            "target": self.target,
            "next_ids": self.ids,
            "version_id": self.version.id,
            "parameters_overwritten": overwritten.collect::<serde_json::Map<_, Value>>(),
            "copy": self.copy.as_ref().map(|copy| json!({
                "from": copy.from.to_string(),
                "files": copy.files.missing.len(),
                "bytes": copy.files.missing_bytes,
                "files_there": copy.files.there,
                "bytes_there": copy.files.there_bytes,
            })),
        })
    }
}
