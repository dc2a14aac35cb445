//! Process settings: the flags and the environment of one server. Never mixed with cluster parameters.
//!
//! [`ServerArgs`] is what was typed, [`Settings`] is what it means: checked, complete, and shown
//! without credentials. Parameters that live in the cluster itself are in [`tidemark_ledger::params`].

mod args;
mod memory;
mod meta_store;

pub use args::{CompactorArgs, FrontendArgs, MetaArgs, ServerArgs};
pub use memory::available_bytes as memory_available_bytes;
pub use meta_store::{EtcdArgs, MetaStoreSetting, MetaStoreType, sqlite_endpoint};

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::params::ParamError;
use tidemark_ledger::storage_url;
use tidemark_sql::settings::{ConnectionSettings, Resources};

pub const LISTEN_ADDR: &str = "127.0.0.1:4566";
pub const META_ADDR: &str = "127.0.0.1:5690";
pub const DATA_DIRECTORY: &str = "hummock_001";
pub const BACKUP_DIRECTORY: &str = "backup";
/// Where the embedded meta store lies inside the store directory.
pub const META_STORE_FILE: &str = "meta_store/single_node.db";
/// Where the embedded state store lies inside the store directory.
pub const STATE_STORE_FOLDER: &str = "state_store";

/// What a process needs to know to start: the roles it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub meta: Option<MetaSettings>,
    /// Where the meta role is when another process has it: `host:port`, separated by commas.
    pub meta_addrs: Option<String>,
    pub frontend: Option<FrontendSettings>,
    pub compactor: Option<CompactorSettings>,
    /// `host:port` of the metrics.
    pub monitor_addr: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaSettings {
    /// `host:port`; port 0 takes a free one.
    pub listen_addr: String,
    /// Where others reach it, if not there.
    pub advertise_addr: Option<String>,
    pub stores: StoreSettings,
    pub maintenance: MaintenanceSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendSettings {
    /// `host:port`; port 0 takes a free one.
    pub listen_addr: String,
    /// Where clients reach it, if not there.
    pub advertise_addr: Option<String>,
    pub connections: ConnectionSettings,
    pub resources: Resources,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactorSettings {
    /// For sorting.
    pub memory_bytes: usize,
}

/// Where metadata, data and, in a new cluster, meta snapshots are.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSettings {
    pub meta_store: MetaStoreSetting,
    /// With its `hummock+`.
    pub state_store: String,
    pub data_directory: String,
    pub backup_storage_url: String,
    pub backup_storage_directory: String,
    /// Whether a state store will do that does not honour conditional writes.
    pub allow_unfenced: bool,
    /// The epoch at which a meta store that lacks acknowledged commits may end.
    pub accept_loss_after: Option<Epoch>,
}

/// Flags or variables that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{flag} cannot be empty")]
    Empty { flag: &'static str },
    #[error("{flag} is not host:port: \"{value}\"")]
    Address { flag: &'static str, value: String },
    #[error("an address of {flag} holds a user")]
    UserInAddress { flag: &'static str },
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
            Self::UserInAddress { .. } => "write host:port, and the user with --etcd-username",
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

/// Shows no credentials: settings go to logs.
impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("meta_store", &self.meta_store)
            .field("state_store", &storage_url::mask(&self.state_store))
            .field("data_directory", &self.data_directory)
            .field("backup_storage_url", &storage_url::mask(&self.backup_storage_url))
            .field("backup_storage_directory", &self.backup_storage_directory)
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

/// Threads of one query: the machine's cores.
pub fn default_parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// 70 % of the memory there is.
pub fn default_memory() -> usize {
    usize::try_from(memory::available_bytes() / 10 * 7).unwrap_or(usize::MAX)
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

    fn stores_of(settings: &Settings) -> StoreSettings {
        settings.meta.clone().unwrap().stores
    }

    #[test]
    fn everything_has_a_default_under_the_store_directory() {
        let settings = settings(&["--store-directory", "/srv/tide"]).unwrap();
        let endpoint = "/srv/tide/meta_store/single_node.db".to_owned();
        let stores = stores_of(&settings);
        assert_eq!(stores.meta_store, MetaStoreSetting::Sqlite { endpoint });
        assert_eq!(stores.state_store, "hummock+fs:///srv/tide/state_store");
        assert_eq!(stores.data_directory, "hummock_001");
        assert_eq!(stores.backup_storage_url, "fs:///srv/tide/state_store");
        assert_eq!(stores.backup_storage_directory, "backup");
        let (meta, frontend) = (settings.meta.clone().unwrap(), settings.frontend.clone().unwrap());
        assert_eq!(frontend.listen_addr, "127.0.0.1:4566");
        assert_eq!(meta.listen_addr, "127.0.0.1:5690");
        assert!(frontend.resources.memory_bytes > 0 && frontend.resources.parallelism > 0);
    }

    #[test]
    fn in_memory_needs_no_folder_and_refuses_one() {
        let in_memory = stores_of(&settings(&["--in-memory"]).unwrap());
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
        let in_memory = |addr: &str| {
            let settings = settings(&["--in-memory", "--meta-addr", addr])?;
            Ok::<_, String>(settings.meta.unwrap().listen_addr)
        };
        assert_eq!(in_memory("http://[::1]:7/").unwrap(), "[::1]:7");
        assert_eq!(in_memory("0.0.0.0:0").unwrap(), "0.0.0.0:0");
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
        let stores = &mut settings.meta.as_mut().unwrap().stores;
        stores.backup_storage_url = "s3://key:secret@host/bucket".to_owned();
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
