//! Cluster parameters as one table: name, type, default, whether it may change, what it means.

use std::collections::BTreeMap;
use std::fmt;

use crate::storage::StorageLocation;
use crate::storage_url;

pub const STATE_STORE: &str = "state_store";
pub const DATA_DIRECTORY: &str = "data_directory";
pub const BACKUP_STORAGE_URL: &str = "backup_storage_url";
pub const BACKUP_STORAGE_DIRECTORY: &str = "backup_storage_directory";
pub const SSTABLE_SIZE_MB: &str = "sstable_size_mb";
pub const TIME_TRAVEL_RETENTION_MS: &str = "time_travel_retention_ms";
pub const SCRUB_INTERVAL_MS: &str = "scrub_interval_ms";

/// Minimum retention in milliseconds, unless it is 0 (no history is kept).
const RETENTION_MS_MIN: u64 = 600_000;

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct ParamSpec {
    pub name: &'static str,
    kind: Kind,
    /// The value in a new cluster; `None` if the settings of the process decide.
    pub default: Option<&'static str>,
    pub mutable: bool,
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Whole numbers in `min..=max`.
    Integer {
        min: u64,
        max: u64,
    },
    RetentionMs,
    Url,
    Path,
}

/// Every parameter, in the order `SHOW PARAMETERS` prints them.
pub const PARAMS: [ParamSpec; 7] = [
    ParamSpec {
        name: SSTABLE_SIZE_MB,
        kind: Kind::Integer { min: 1, max: 4096 },
        default: Some("256"),
        mutable: false,
        description: "target size of a data file",
    },
    ParamSpec {
        name: STATE_STORE,
        kind: Kind::Url,
        default: None,
        mutable: false,
        description: "URL of the storage that holds the data",
    },
    ParamSpec {
        name: DATA_DIRECTORY,
        kind: Kind::Path,
        default: None,
        mutable: false,
        description: "directory of the data inside the state store",
    },
    ParamSpec {
        name: BACKUP_STORAGE_URL,
        kind: Kind::Url,
        default: None,
        mutable: true,
        description: "URL of the storage that holds the meta snapshots",
    },
    ParamSpec {
        name: BACKUP_STORAGE_DIRECTORY,
        kind: Kind::Path,
        default: Some("backup"),
        mutable: true,
        description: "directory of the meta snapshots inside the backup storage",
    },
    ParamSpec {
        name: TIME_TRAVEL_RETENTION_MS,
        kind: Kind::RetentionMs,
        default: Some("600000"),
        mutable: true,
        description: "how far back a meta snapshot can be read, counted from when it is taken",
    },
    ParamSpec {
        name: SCRUB_INTERVAL_MS,
        kind: Kind::Integer { min: 0, max: u32::MAX as u64 * 1000 },
        default: Some("604800000"),
        mutable: true,
        description: "time in which every data file is read once to find damage; 0 for never",
    },
];

/// Why a value was rejected. The messages are those of RisingWave.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    #[error("unrecognized system parameter \"{0}\"")]
    Unknown(String),
    #[error("\"{0}\" is immutable")]
    Immutable(&'static str),
    #[error("{0} cannot be empty")]
    Empty(&'static str),
    #[error("cannot parse parameter value: {name}: {reason}")]
    Unparsable { name: &'static str, reason: String },
    #[error("{name}: value {value} out of range, expect {min}..={max}")]
    OutOfRange { name: &'static str, value: String, min: u64, max: u64 },
    #[error("time_travel_retention_ms cannot be less than {RETENTION_MS_MIN}")]
    RetentionTooShort,
    #[error("{0} does not have a default value")]
    NoDefault(&'static str),
}

impl ParamSpec {
    pub fn find(name: &str) -> Result<&'static Self, ParamError> {
        let name = name.to_ascii_lowercase();
        PARAMS.iter().find(|p| p.name == name).ok_or(ParamError::Unknown(name))
    }

    /// Parses a value into its stored form, or says why it is invalid.
    pub fn parse(&self, value: &str) -> Result<String, ParamError> {
        let value = value.trim();
        if value.is_empty() {
            return Err(ParamError::Empty(self.name));
        }
        match self.kind {
            Kind::Integer { min, max } => self.parse_integer(value, min, max),
            Kind::RetentionMs => match self.parse_integer(value, 0, u64::from(u32::MAX) * 1000)? {
                zero if zero == "0" => Ok(zero),
                ms if ms.parse::<u64>().is_ok_and(|ms| ms >= RETENTION_MS_MIN) => Ok(ms),
                _ => Err(ParamError::RetentionTooShort),
            },
            Kind::Url => storage_url::StorageUrl::parse(storage_url::without_hummock(value))
                .map(|_| value.to_owned())
                .map_err(|e| self.unparsable(&e.to_string())),
            Kind::Path => self.parse_path(value),
        }
    }

    fn parse_integer(&self, value: &str, min: u64, max: u64) -> Result<String, ParamError> {
        let number: i128 = value
            .parse()
            .map_err(|_| self.unparsable(&format!("\"{value}\" is not a whole number")))?;
        if number < i128::from(min) || number > i128::from(max) {
            let value = value.to_owned();
            return Err(ParamError::OutOfRange { name: self.name, value, min, max });
        }
        Ok(number.to_string())
    }

    fn parse_path(&self, value: &str) -> Result<String, ParamError> {
        object_store::path::Path::parse(value.trim_matches('/'))
            .map(|path| path.to_string())
            .map_err(|e| self.unparsable(&e.to_string()))
            .and_then(
                |path| {
                    if path.is_empty() { Err(ParamError::Empty(self.name)) } else { Ok(path) }
                },
            )
    }

    fn unparsable(&self, reason: &str) -> ParamError {
        ParamError::Unparsable { name: self.name, reason: reason.to_owned() }
    }
}

/// The values of all parameters of one cluster.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

/// Masks credentials.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, self.shown(name)))).finish()
    }
}

impl Params {
    /// Sets a stored value without checking it. Names unknown to this build are kept too.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// The value of a parameter of [`PARAMS`], or its default.
    pub fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or_else(|| default_of(name), String::as_str)
    }

    /// The value as users may see it: without credentials.
    pub fn shown(&self, name: &str) -> String {
        storage_url::mask(self.value(name))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The backup location of new snapshots.
    pub fn backup_location(&self) -> StorageLocation {
        let value = |name| self.value(name).to_owned();
        StorageLocation::new(value(BACKUP_STORAGE_URL), value(BACKUP_STORAGE_DIRECTORY))
    }

    /// The state store and the data directory.
    pub fn data_location(&self) -> StorageLocation {
        let url = storage_url::without_hummock(self.value(STATE_STORE));
        StorageLocation::new(url, self.value(DATA_DIRECTORY))
    }

    /// The time travel retention in milliseconds.
    pub fn retention_ms(&self) -> u64 {
        self.value(TIME_TRAVEL_RETENTION_MS).parse().unwrap_or(RETENTION_MS_MIN)
    }

    /// Milliseconds in which the scrub reads every data file once; 0 for never.
    pub fn scrub_interval_ms(&self) -> u64 {
        self.value(SCRUB_INTERVAL_MS).parse().unwrap_or_default()
    }

    /// Target size of a data file in bytes.
    pub fn sst_bytes_target(&self) -> u64 {
        self.value(SSTABLE_SIZE_MB).parse::<u64>().unwrap_or(256) << 20
    }
}

fn default_of(name: &str) -> &'static str {
    PARAMS.iter().find(|p| p.name == name).and_then(|p| p.default).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<String, String> {
        ParamSpec::find(name).and_then(|p| p.parse(value)).map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_checked_by_their_kind() {
        assert_eq!(parse("TIME_TRAVEL_RETENTION_MS", " 700000 ").as_deref(), Ok("700000"));
        assert_eq!(parse(TIME_TRAVEL_RETENTION_MS, "0").as_deref(), Ok("0"));
        let short = parse(TIME_TRAVEL_RETENTION_MS, "5000").unwrap_err();
        assert_eq!(short, "time_travel_retention_ms cannot be less than 600000");
        let negative = parse(TIME_TRAVEL_RETENTION_MS, "-1").unwrap_err();
        assert!(negative.contains("out of range"), "{negative}");
        assert!(parse(TIME_TRAVEL_RETENTION_MS, "abc").unwrap_err().contains("cannot parse"));
        assert_eq!(parse("nope", "1").unwrap_err(), "unrecognized system parameter \"nope\"");
        let empty = parse(BACKUP_STORAGE_DIRECTORY, "  ").unwrap_err();
        assert_eq!(empty, "backup_storage_directory cannot be empty");
        assert!(parse(BACKUP_STORAGE_URL, "nonsense://x").unwrap_err().contains("cannot parse"));
        assert!(parse(BACKUP_STORAGE_DIRECTORY, "a/../b").is_err());
    }

    #[test]
    fn no_name_is_wider_than_the_documented_table() {
        assert!(PARAMS.iter().all(|p| p.name.len() <= BACKUP_STORAGE_DIRECTORY.len()));
    }
}
