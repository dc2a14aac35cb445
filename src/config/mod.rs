//! Process settings: the flags and the environment of one server. Never mixed with cluster parameters.
//!
//! [`ServerArgs`] is what was typed, [`Settings`] is what it means: checked, complete, and shown
//! without credentials. Parameters that live in the cluster itself are in [`crate::params`].

mod meta_store;

pub use meta_store::{EtcdArgs, MetaStoreSetting, MetaStoreType, sqlite_endpoint};

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;

use crate::meta::maintenance::MaintenanceSettings;
use crate::params::{self, ParamError, ParamSpec};
use crate::storage::{CacheSettings, DiskCache};
use crate::storage_url::{self, StorageUrl};

pub const LISTEN_ADDR: &str = "127.0.0.1:4566";
pub const META_ADDR: &str = "127.0.0.1:5690";
pub const DATA_DIRECTORY: &str = "hummock_001";
pub const BACKUP_DIRECTORY: &str = "backup";
/// Where the embedded meta store lies inside the store directory.
pub const META_STORE_FILE: &str = "meta_store/single_node.db";
/// Where the embedded state store lies inside the store directory.
pub const STATE_STORE_FOLDER: &str = "state_store";

const META_CACHE_BYTES: usize = 256 << 20;
const BLOCK_CACHE_BYTES: usize = 256 << 20;
const FILE_CACHE_BYTES: usize = 10 << 30;
const COMPACTOR_MEMORY_BYTES: usize = 512 << 20;
const VACUUM_INTERVAL_SEC: u32 = 60;
/// Six hours, as with RisingWave.
const MIN_SST_RETENTION_TIME_SEC: u32 = 21_600;

const HUMMOCK_PREFIX: &str = "hummock+";
const STATE_STORE_IN_MEMORY: &str = "hummock+memory";
/// What is taken when the machine does not tell how much memory it has.
const MEMORY_BYTES_FALLBACK: u64 = 1 << 30;

/// The flags of a server. Each also reads an environment variable.
#[derive(Clone, clap::Args)]
pub struct ServerArgs {
    /// Address of the SQL server
    #[arg(long, env = "RW_LISTEN_ADDR", value_name = "HOST:PORT", default_value = LISTEN_ADDR)]
    pub listen_addr: String,

    /// Address of the meta server
    #[arg(long, env = "RW_META_ADDR", value_name = "HOST:PORT", default_value = META_ADDR)]
    pub meta_addr: String,

    /// Folder of the embedded stores [default: ~/.tidemark]
    #[arg(long, env = "RW_SINGLE_NODE_STORE_DIRECTORY", value_name = "DIR")]
    pub store_directory: Option<PathBuf>,

    /// Keep everything in memory: it ends with the process
    #[arg(long, env = "RW_IN_MEMORY", value_parser = BoolishValueParser::new())]
    pub in_memory: bool,

    /// Kind of meta store
    #[arg(long, env = "RW_META_STORE_TYPE", value_name = "TYPE")]
    pub meta_store_type: Option<MetaStoreType>,

    /// The older name of --meta-store-type
    #[arg(long, env = "RW_BACKEND", value_name = "TYPE", hide = true)]
    pub backend: Option<MetaStoreType>,

    /// File of the meta store: a path, or sqlite://PATH?mode=rwc
    #[arg(long, env = "RW_SQL_ENDPOINT", hide_env_values = true, value_name = "ENDPOINT")]
    pub sql_endpoint: Option<String>,

    #[command(flatten)]
    pub etcd: EtcdArgs,

    /// Storage of the data: hummock+fs:///PATH or hummock+memory
    #[arg(long, env = "RW_STATE_STORE", hide_env_values = true, value_name = "URL")]
    pub state_store: Option<String>,

    /// Directory of the data inside the state store
    #[arg(long, env = "RW_DATA_DIRECTORY", value_name = "DIR", default_value = DATA_DIRECTORY)]
    pub data_directory: String,

    /// Storage of the meta snapshots of a new cluster [default: the state store]
    #[arg(long, env = "RW_BACKUP_STORAGE_URL", hide_env_values = true, value_name = "URL")]
    pub backup_storage_url: Option<String>,

    /// Directory of the meta snapshots of a new cluster
    #[arg(
        long,
        env = "RW_BACKUP_STORAGE_DIRECTORY",
        value_name = "DIR",
        default_value = BACKUP_DIRECTORY
    )]
    pub backup_storage_directory: String,

    /// Memory that queries may take [default: 70 % of the machine's]
    #[arg(long, env = "RW_TOTAL_MEMORY_BYTES", value_name = "BYTES")]
    pub total_memory_bytes: Option<NonZeroUsize>,

    /// Memory for the footers of data files, and as much again for the filters of their keys
    #[arg(
        long,
        env = "RW_META_CACHE_BYTES",
        value_name = "BYTES",
        default_value_t = META_CACHE_BYTES
    )]
    pub meta_cache_bytes: usize,

    /// Memory for pages of data files [default: 256 MiB, none where they are local files]
    #[arg(long, env = "RW_BLOCK_CACHE_BYTES", value_name = "BYTES")]
    pub block_cache_bytes: Option<usize>,

    /// Folder on a local disk for pages of data files [default: none]
    #[arg(long, env = "RW_FILE_CACHE_DIRECTORY", value_name = "DIR")]
    pub file_cache_directory: Option<PathBuf>,

    /// Disk space for pages of data files
    #[arg(
        long,
        env = "RW_FILE_CACHE_BYTES",
        value_name = "BYTES",
        default_value_t = FILE_CACHE_BYTES,
        requires = "file_cache_directory"
    )]
    pub file_cache_bytes: usize,

    /// Threads that one query may use [default: the machine's cores]
    #[arg(long, env = "RW_PARALLELISM", value_name = "N")]
    pub parallelism: Option<NonZeroUsize>,

    /// Compact tables in the background
    #[arg(
        long,
        env = "RW_COMPACTION",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    pub compaction: bool,

    /// Memory that one compaction may take for sorting
    #[arg(
        long,
        env = "RW_COMPACTOR_MEMORY_BYTES",
        value_name = "BYTES",
        default_value_t = COMPACTOR_MEMORY_BYTES
    )]
    pub compactor_memory_bytes: usize,

    /// Seconds between two vacuums; 0 for none
    #[arg(
        long,
        env = "RW_VACUUM_INTERVAL_SEC",
        value_name = "SECONDS",
        default_value_t = VACUUM_INTERVAL_SEC
    )]
    pub vacuum_interval_sec: u32,

    /// The least age of an object that vacuum may delete
    #[arg(
        long,
        env = "RW_MIN_SST_RETENTION_TIME_SEC",
        value_name = "SECONDS",
        default_value_t = MIN_SST_RETENTION_TIME_SEC
    )]
    pub min_sst_retention_time_sec: u32,
}

/// What queries may use of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// For what queries hold; beyond it they spill to disk or fail.
    pub memory_bytes: usize,
    /// Threads of one query.
    pub parallelism: usize,
    /// For the footers of data files, and as much again for the filters of their keys.
    pub meta_cache_bytes: usize,
    /// For pages of data files.
    pub block_cache: CacheSettings,
}

/// What a server needs to know to start.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`; port 0 takes a free one.
    pub listen_addr: String,
    /// `host:port`; port 0 takes a free one.
    pub meta_addr: String,
    pub meta_store: MetaStoreSetting,
    /// With its `hummock+`.
    pub state_store: String,
    pub data_directory: String,
    pub backup_storage_url: String,
    pub backup_storage_directory: String,
    pub resources: Resources,
    pub maintenance: MaintenanceSettings,
}

/// Flags or variables that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{flag} cannot be empty")]
    Empty { flag: &'static str },
    #[error("{flag} is not host:port: \"{value}\"")]
    Address { flag: &'static str, value: String },
    #[error("{one} and {other} contradict each other")]
    Contradiction { one: &'static str, other: &'static str },
    #[error("the value of {flag} cannot be used")]
    Value {
        flag: &'static str,
        #[source]
        source: ParamError,
    },
    #[error("--state-store does not begin with \"hummock+\": \"{url}\"")]
    NotHummock { url: String },
    #[error("{needing} needs {flag}")]
    Missing { needing: &'static str, flag: &'static str },
    #[error("the file that {flag} names, \"{}\", cannot be read: {reason}", path.display())]
    File { flag: &'static str, path: PathBuf, reason: String },
    #[error("the meta store type \"sql\" needs --sql-endpoint")]
    NoEndpoint,
    #[error("--sql-endpoint names a database this build does not have: \"{endpoint}\"")]
    Endpoint { endpoint: String },
    #[error("this user has no home directory to keep the stores in")]
    NoHome,
    #[error("the store directory \"{}\" cannot be used: {reason}", path.display())]
    Directory { path: PathBuf, reason: String },
}

impl ConfigError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Empty { .. } | Self::Value { .. } | Self::Missing { .. } | Self::File { .. } => {
                return None;
            }
            Self::Address { .. } => "write it like 127.0.0.1:4566; port 0 takes a free one",
            Self::Contradiction { .. } => "give only one of them; environment variables count too",
            Self::NotHummock { .. } => "write it like hummock+fs:///var/lib/tidemark",
            Self::NoEndpoint | Self::Endpoint { .. } => {
                "write it like sqlite:///var/lib/tidemark/meta.db?mode=rwc"
            }
            Self::NoHome | Self::Directory { .. } => "name a folder with --store-directory",
        };
        Some(text.to_owned())
    }
}

impl ServerArgs {
    /// What the flags mean.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        self.check_in_memory()?;
        let state_store = self.state_store()?;
        let backup_storage_url = match &self.backup_storage_url {
            Some(url) => parameter("--backup-storage-url", params::BACKUP_STORAGE_URL, url)?,
            None => storage_url::without_hummock(&state_store).to_owned(),
        };
        Ok(Settings {
            listen_addr: address("--listen-addr", &self.listen_addr)?,
            meta_addr: address("--meta-addr", &self.meta_addr)?,
            meta_store: self.meta_store()?,
            data_directory: parameter(
                "--data-directory",
                params::DATA_DIRECTORY,
                &self.data_directory,
            )?,
            backup_storage_url,
            backup_storage_directory: parameter(
                "--backup-storage-directory",
                params::BACKUP_STORAGE_DIRECTORY,
                &self.backup_storage_directory,
            )?,
            resources: self.resources(&state_store),
            state_store,
            maintenance: MaintenanceSettings {
                compaction: self.compaction,
                compaction_memory_bytes: self.compactor_memory_bytes,
                vacuum_interval_ms: u64::from(self.vacuum_interval_sec) * 1000,
                min_sst_retention_ms: u64::from(self.min_sst_retention_time_sec) * 1000,
                ..MaintenanceSettings::default()
            },
        })
    }

    fn resources(&self, state_store: &str) -> Resources {
        let url = StorageUrl::parse(storage_url::without_hummock(state_store));
        let far = url.is_ok_and(|url| url.is_far());
        let default_block_cache = if far { BLOCK_CACHE_BYTES } else { 0 };
        let disk = self.file_cache_directory.clone();
        Resources {
            memory_bytes: self.total_memory_bytes.map_or_else(default_memory, NonZeroUsize::get),
            parallelism: self.parallelism.map_or_else(default_parallelism, NonZeroUsize::get),
            meta_cache_bytes: self.meta_cache_bytes,
            block_cache: CacheSettings {
                memory_bytes: self.block_cache_bytes.unwrap_or(default_block_cache),
                disk: disk.map(|directory| DiskCache { directory, bytes: self.file_cache_bytes }),
            },
        }
    }

    /// `--in-memory` says where everything is; another flag that says so too is a mistake.
    fn check_in_memory(&self) -> Result<(), ConfigError> {
        let stored = self.meta_store_type.or(self.backend).is_some_and(|t| t != MetaStoreType::Mem);
        let others = [
            ("--store-directory", self.store_directory.is_some()),
            ("--state-store", self.state_store.is_some()),
            ("--sql-endpoint", self.sql_endpoint.is_some()),
            ("--meta-store-type", stored),
            ("--etcd-endpoints", self.etcd.given().is_some()),
        ];
        match others.into_iter().find(|(_, given)| self.in_memory && *given) {
            Some((other, _)) => Err(ConfigError::Contradiction { one: "--in-memory", other }),
            None => Ok(()),
        }
    }

    fn state_store(&self) -> Result<String, ConfigError> {
        let flag = "--state-store";
        match &self.state_store {
            None if self.in_memory => Ok(STATE_STORE_IN_MEMORY.to_owned()),
            None => {
                let folder = self.store_folder()?.join(STATE_STORE_FOLDER);
                let url = format!("{HUMMOCK_PREFIX}fs://{}", folder.display());
                parameter("--store-directory", params::STATE_STORE, &url)
            }
            Some(url) if url.trim().is_empty() => Err(ConfigError::Empty { flag }),
            Some(url) if !url.trim().starts_with(HUMMOCK_PREFIX) => {
                Err(ConfigError::NotHummock { url: storage_url::mask(url) })
            }
            Some(url) => parameter(flag, params::STATE_STORE, url),
        }
    }

    fn meta_store(&self) -> Result<MetaStoreSetting, ConfigError> {
        if let (Some(named), Some(backend)) = (self.meta_store_type, self.backend)
            && named != backend
        {
            let (one, other) = ("--meta-store-type", "RW_BACKEND");
            return Err(ConfigError::Contradiction { one, other });
        }
        let by_default = if self.in_memory { MetaStoreType::Mem } else { MetaStoreType::Sqlite };
        match self.meta_store_type.or(self.backend).unwrap_or(by_default) {
            MetaStoreType::Mem if self.sql_endpoint.is_some() => Err(ConfigError::Contradiction {
                one: "--meta-store-type mem",
                other: "--sql-endpoint",
            }),
            kind if kind != MetaStoreType::Etcd && self.etcd.given().is_some() => {
                let one = self.etcd.given().unwrap_or_default();
                Err(ConfigError::Contradiction {
                    one,
                    other: "another --meta-store-type than etcd",
                })
            }
            MetaStoreType::Mem => Ok(MetaStoreSetting::Memory),
            MetaStoreType::Etcd if self.sql_endpoint.is_none() => {
                self.etcd.settings().map(MetaStoreSetting::Etcd)
            }
            MetaStoreType::Sqlite if self.sql_endpoint.is_none() => {
                let file = self.store_folder()?.join(META_STORE_FILE);
                Ok(MetaStoreSetting::Sqlite { endpoint: file.display().to_string() })
            }
            kind => sqlite_endpoint(kind, self.sql_endpoint.as_deref())
                .map(|endpoint| MetaStoreSetting::Sqlite { endpoint }),
        }
    }

    /// The store directory as an absolute path that a URL can hold.
    fn store_folder(&self) -> Result<PathBuf, ConfigError> {
        let folder = match &self.store_directory {
            Some(path) if path.as_os_str().is_empty() => {
                return Err(ConfigError::Empty { flag: "--store-directory" });
            }
            Some(path) => path.clone(),
            None => std::env::home_dir().ok_or(ConfigError::NoHome)?.join(".tidemark"),
        };
        let wrong = |path: &Path, reason: &str| ConfigError::Directory {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let folder = std::path::absolute(&folder).map_err(|e| wrong(&folder, &e.to_string()))?;
        if folder.to_str().is_none() {
            return Err(wrong(&folder, "its name is not UTF-8"));
        }
        if folder.is_file() {
            return Err(wrong(&folder, "it is a file"));
        }
        Ok(folder)
    }
}

/// Shows no credentials: settings go to logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen_addr", &self.listen_addr)
            .field("meta_addr", &self.meta_addr)
            .field("meta_store", &self.meta_store)
            .field("state_store", &storage_url::mask(&self.state_store))
            .field("data_directory", &self.data_directory)
            .field("backup_storage_url", &storage_url::mask(&self.backup_storage_url))
            .field("backup_storage_directory", &self.backup_storage_directory)
            .field("resources", &self.resources)
            .field("maintenance", &self.maintenance)
            .finish()
    }
}

/// `host:port`, also when written as `http://host:port/`.
fn address(flag: &'static str, value: &str) -> Result<String, ConfigError> {
    let value = value.trim();
    if value.is_empty() {
        return Err(ConfigError::Empty { flag });
    }
    let bare = value.strip_prefix("http://").unwrap_or(value).trim_end_matches('/');
    let wrong = || ConfigError::Address { flag, value: storage_url::mask(value) };
    let (host, port) = bare.rsplit_once(':').ok_or_else(wrong)?;
    let odd = |c: char| c == '/' || c == '@' || c.is_whitespace();
    if host.is_empty() || host.contains(odd) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(bare.to_owned())
}

/// A value that becomes a cluster parameter is checked as one.
fn parameter(flag: &'static str, name: &str, value: &str) -> Result<String, ConfigError> {
    ParamSpec::find(name).and_then(|spec| spec.parse(value)).map_err(|source| match source {
        ParamError::Empty(_) => ConfigError::Empty { flag },
        source => ConfigError::Value { flag, source },
    })
}

fn default_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// 70 % of the machine's memory.
fn default_memory() -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = mem_total_bytes(&meminfo).map_or(MEMORY_BYTES_FALLBACK, |total| total / 10 * 7);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The line `MemTotal:  24576000 kB` in bytes.
pub fn mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        server: ServerArgs,
    }

    /// What the flags mean. The environment of the test process is taken to say nothing.
    fn settings(flags: &[&str]) -> Result<Settings, String> {
        let args = std::iter::once("tidemark").chain(flags.iter().copied());
        let cli = Cli::try_parse_from(args).map_err(|e| e.to_string())?;
        cli.server.settings().map_err(|e| crate::cli::chain(&e))
    }

    #[test]
    fn everything_has_a_default_under_the_store_directory() {
        let settings = settings(&["--store-directory", "/srv/tide"]).unwrap();
        let endpoint = "/srv/tide/meta_store/single_node.db".to_owned();
        assert_eq!(settings.meta_store, MetaStoreSetting::Sqlite { endpoint });
        assert_eq!(settings.state_store, "hummock+fs:///srv/tide/state_store");
        assert_eq!(settings.data_directory, "hummock_001");
        assert_eq!(settings.backup_storage_url, "fs:///srv/tide/state_store");
        assert_eq!(settings.backup_storage_directory, "backup");
        assert_eq!(settings.listen_addr, "127.0.0.1:4566");
        assert_eq!(settings.meta_addr, "127.0.0.1:5690");
        assert!(settings.resources.memory_bytes > 0 && settings.resources.parallelism > 0);
    }

    #[test]
    fn in_memory_needs_no_folder_and_refuses_one() {
        let in_memory = settings(&["--in-memory"]).unwrap();
        assert_eq!(in_memory.meta_store, MetaStoreSetting::Memory);
        assert_eq!(in_memory.state_store, "hummock+memory");
        assert_eq!(in_memory.backup_storage_url, "memory");
        let refused = settings(&["--in-memory", "--state-store", "hummock+fs:///x"]).unwrap_err();
        assert_eq!(refused, "--in-memory and --state-store contradict each other");
        assert!(settings(&["--in-memory", "--store-directory", "/x"]).is_err());
        assert!(settings(&["--in-memory", "--meta-store-type", "sqlite"]).is_err());
    }

    #[test]
    fn addresses_may_be_urls_and_must_have_a_port() {
        let in_memory = |addr: &str| settings(&["--in-memory", "--meta-addr", addr]);
        assert_eq!(in_memory("http://[::1]:7/").unwrap().meta_addr, "[::1]:7");
        assert_eq!(in_memory("0.0.0.0:0").unwrap().meta_addr, "0.0.0.0:0");
        for wrong in ["localhost", "h:70000", ":1", "http://u:secret@h/x", "a b:1"] {
            let error = in_memory(wrong).unwrap_err();
            assert!(error.contains("--meta-addr is not host:port"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(in_memory(" ").unwrap_err(), "--meta-addr cannot be empty");
    }

    #[test]
    fn stores_that_cannot_be_used_are_refused_by_name() {
        let with = |flag: &str, value: &str| settings(&["--store-directory", "/x", flag, value]);
        let plain = with("--state-store", "fs://u:secret@/x").unwrap_err();
        assert!(plain.contains("does not begin with \"hummock+\""), "{plain}");
        assert!(!plain.contains("secret"), "{plain}");
        let scheme = with("--state-store", "hummock+nonsense://x").unwrap_err();
        assert!(scheme.starts_with("the value of --state-store cannot be used"), "{scheme}");
        assert!(with("--backup-storage-url", "").unwrap_err().contains("cannot be empty"));
        assert!(with("--data-directory", " ").unwrap_err().contains("cannot be empty"));
        let etcd = with("--meta-store-type", "etcd").unwrap_err();
        assert!(etcd.contains("needs --etcd-endpoints"), "{etcd}");
        let sqlite = with("--etcd-endpoints", "127.0.0.1:1").unwrap_err();
        assert!(sqlite.contains("contradict"), "{sqlite}");
        assert!(with("--meta-store-type", "sql").unwrap_err().contains("needs --sql-endpoint"));
        let postgres = with("--sql-endpoint", "postgres://u:secret@h/db").unwrap_err();
        assert!(postgres.contains("does not have"), "{postgres}");
        assert!(!postgres.contains("secret"), "{postgres}");
        assert!(with("--parallelism", "0").is_err());
    }

    #[test]
    fn logs_show_no_credentials() {
        let mut settings = settings(&["--in-memory"]).unwrap();
        settings.backup_storage_url = "s3://key:secret@host/bucket".to_owned();
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn memory_is_read_from_the_machine() {
        assert_eq!(mem_total_bytes("MemTotal:       2048 kB\nMemFree: 1 kB"), Some(2 << 20));
        assert_eq!(mem_total_bytes("nothing"), None);
    }
}
