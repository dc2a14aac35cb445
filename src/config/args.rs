//! The flags of each kind of process. Each flag also reads an environment variable.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::meta_store::{EtcdArgs, MetaStoreSetting, MetaStoreType, sqlite_endpoint};
use super::{
    BACKUP_DIRECTORY, CompactorSettings, ConfigError, DATA_DIRECTORY, FrontendSettings,
    LISTEN_ADDR, META_ADDR, META_STORE_FILE, MetaSettings, STATE_STORE_FOLDER, Settings,
    StoreSettings, address,
};
use tidemark_engine::meta::settings::MaintenanceSettings;
use tidemark_ledger::epoch::Epoch;
use tidemark_ledger::params::{self, ParamError, ParamSpec};
use tidemark_ledger::storage::DiskCache;
use tidemark_ledger::storage_url;
use tidemark_sql::settings::{
    AUTHENTICATION_TIMEOUT_SEC, CONNECTIONS_MAX, ConnectionSettings, Resources,
};

const META_CACHE_BYTES: usize = 256 << 20;
const FILE_CACHE_BYTES: usize = 10 << 30;
const COMPACTOR_MEMORY_BYTES: usize = 512 << 20;
const VACUUM_INTERVAL_SEC: u32 = 60;
/// Six hours, as with RisingWave.
const MIN_SST_RETENTION_TIME_SEC: u32 = 21_600;

const HUMMOCK_PREFIX: &str = "hummock+";
const STATE_STORE_IN_MEMORY: &str = "hummock+memory";

/// All roles in one process.
#[derive(Clone, clap::Args)]
pub struct ServerArgs {
    #[command(flatten)]
    pub sql: SqlArgs,

    /// Address of the meta server
    #[arg(long, env = "RW_META_ADDR", value_name = "HOST:PORT", default_value = META_ADDR)]
    pub meta_addr: String,

    #[command(flatten)]
    pub stores: StoreArgs,

    #[command(flatten)]
    pub queries: QueryArgs,

    #[command(flatten)]
    pub maintenance: MaintenanceArgs,

    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// The meta role alone.
#[derive(Clone, clap::Args)]
pub struct MetaArgs {
    /// Address to serve the other roles and risectl on
    #[arg(long, env = "RW_LISTEN_ADDR", value_name = "HOST:PORT", default_value = META_ADDR)]
    pub listen_addr: String,

    /// Address under which others reach it [default: --listen-addr]
    #[arg(long, env = "RW_ADVERTISE_ADDR", value_name = "HOST:PORT")]
    pub advertise_addr: Option<String>,

    #[command(flatten)]
    pub stores: StoreArgs,

    #[command(flatten)]
    pub maintenance: MaintenanceArgs,

    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// A frontend alone.
#[derive(Clone, clap::Args)]
pub struct FrontendArgs {
    #[command(flatten)]
    pub sql: SqlArgs,

    /// Address under which clients reach it [default: --listen-addr]
    #[arg(long, env = "RW_ADVERTISE_ADDR", value_name = "HOST:PORT")]
    pub advertise_addr: Option<String>,

    #[command(flatten)]
    pub meta: MetaAddrArgs,

    #[command(flatten)]
    pub queries: QueryArgs,

    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// A compactor alone.
#[derive(Clone, clap::Args)]
pub struct CompactorArgs {
    #[command(flatten)]
    pub meta: MetaAddrArgs,

    #[command(flatten)]
    pub sorting: SortingArgs,

    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// Where clients find SQL.
#[derive(Clone, clap::Args)]
pub struct SqlArgs {
    /// Address of the SQL server
    #[arg(long, env = "RW_LISTEN_ADDR", value_name = "HOST:PORT", default_value = LISTEN_ADDR)]
    pub listen_addr: String,

    /// Sessions there may be at a time
    #[arg(
        long,
        env = "RW_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = CONNECTIONS_MAX,
        value_parser = sessions
    )]
    pub max_connections: usize,

    /// Seconds that a client may take to log in
    #[arg(
        long,
        env = "RW_AUTHENTICATION_TIMEOUT_SEC",
        value_name = "SECONDS",
        default_value_t = AUTHENTICATION_TIMEOUT_SEC,
        value_parser = clap::value_parser!(u32).range(1..=600)
    )]
    pub authentication_timeout_sec: u32,
}

impl SqlArgs {
    fn connections(&self) -> ConnectionSettings {
        ConnectionSettings {
            connections_max: self.max_connections,
            authentication_timeout: Duration::from_secs(self.authentication_timeout_sec.into()),
        }
    }
}

/// A number of sessions: as many as PostgreSQL takes at most.
fn sessions(text: &str) -> Result<usize, String> {
    let max = text.parse().ok().filter(|max| (1..=262_143).contains(max));
    max.ok_or_else(|| "it can be from 1 to 262143".to_owned())
}

/// What a compaction may take.
#[derive(Clone, clap::Args)]
pub struct SortingArgs {
    /// Memory that one compaction may take for sorting
    #[arg(
        long,
        env = "RW_COMPACTOR_MEMORY_BYTES",
        value_name = "BYTES",
        default_value_t = COMPACTOR_MEMORY_BYTES
    )]
    pub compactor_memory_bytes: usize,
}

/// Where the meta role is.
#[derive(Clone, clap::Args)]
pub struct MetaAddrArgs {
    /// Addresses of the meta servers, separated by commas: the one that leads and those that stand by
    #[arg(
        long = "meta-addr",
        alias = "meta-address",
        env = "RW_META_ADDR",
        value_name = "ADDRS",
        default_value = META_ADDR
    )]
    pub meta_addrs: String,
}

/// Where metadata, data and meta snapshots are kept.
#[derive(Clone, clap::Args)]
pub struct StoreArgs {
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

    /// Storage of the data, like hummock+s3://BUCKET, hummock+fs:///PATH or hummock+memory
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

    /// Start on an object store that does not honour conditional writes: nothing then keeps a second
    /// cluster from the same data
    #[arg(long, env = "RW_ALLOW_UNFENCED_STORE", value_parser = BoolishValueParser::new())]
    pub allow_unfenced_store: bool,

    /// Start though the meta store lacks acknowledged commits, where it ends at this epoch: what was
    /// committed later is given up
    #[arg(long, value_name = "EPOCH")]
    pub accept_loss_after_epoch: Option<Epoch>,
}

/// What queries may use.
#[derive(Clone, clap::Args)]
pub struct QueryArgs {
    /// Memory that queries may take [default: 70 % of the machine's or the container's]
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

    /// Memory for pages of data files [default: 256 MiB, 32 MiB where they are local files]
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
}

/// How the data directory is kept in shape.
#[derive(Clone, clap::Args)]
pub struct MaintenanceArgs {
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

    #[command(flatten)]
    pub sorting: SortingArgs,

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

/// How the process is watched.
#[derive(Clone, clap::Args)]
pub struct MonitorArgs {
    /// Address to serve /metrics and /health on, over HTTP [default: none]
    #[arg(long, env = "RW_PROMETHEUS_LISTENER_ADDR", value_name = "HOST:PORT")]
    pub prometheus_listener_addr: Option<String>,
}

impl ServerArgs {
    /// What the flags mean.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let stores = self.stores.settings()?;
        let frontend = FrontendSettings {
            listen_addr: address("--listen-addr", &self.sql.listen_addr)?,
            advertise_addr: None,
            connections: self.sql.connections(),
            resources: self.queries.resources(),
        };
        let meta = MetaSettings {
            listen_addr: address("--meta-addr", &self.meta_addr)?,
            advertise_addr: None,
            stores,
            maintenance: self.maintenance.settings(),
        };
        Ok(Settings {
            meta: Some(meta),
            meta_addrs: None,
            frontend: Some(frontend),
            compactor: None,
            monitor_addr: self.monitor.addr()?,
        })
    }
}

impl MetaArgs {
    /// What the flags mean.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let stores = self.stores.settings()?;
        if storage_url::without_hummock(&stores.state_store).starts_with("memory") {
            return Err(ConfigError::Contradiction {
                one: "the meta role alone",
                other: "a state store in memory",
            });
        }
        let maintenance =
            MaintenanceSettings { workers_outside: true, ..self.maintenance.settings() };
        let meta = MetaSettings {
            listen_addr: address("--listen-addr", &self.listen_addr)?,
            advertise_addr: advertised(self.advertise_addr.as_deref())?,
            stores,
            maintenance,
        };
        Ok(Settings { meta: Some(meta), monitor_addr: self.monitor.addr()?, ..Settings::default() })
    }
}

impl FrontendArgs {
    /// What the flags mean.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let frontend = FrontendSettings {
            listen_addr: address("--listen-addr", &self.sql.listen_addr)?,
            advertise_addr: advertised(self.advertise_addr.as_deref())?,
            connections: self.sql.connections(),
            resources: self.queries.resources(),
        };
        Ok(Settings {
            meta_addrs: Some(self.meta.addrs()?),
            frontend: Some(frontend),
            monitor_addr: self.monitor.addr()?,
            ..Settings::default()
        })
    }
}

impl CompactorArgs {
    /// What the flags mean.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let memory_bytes = self.sorting.compactor_memory_bytes;
        Ok(Settings {
            meta_addrs: Some(self.meta.addrs()?),
            compactor: Some(CompactorSettings { memory_bytes }),
            monitor_addr: self.monitor.addr()?,
            ..Settings::default()
        })
    }
}

impl MetaAddrArgs {
    fn addrs(&self) -> Result<String, ConfigError> {
        let addrs = self.meta_addrs.split(',').map(|addr| address("--meta-addr", addr));
        Ok(addrs.collect::<Result<Vec<_>, _>>()?.join(","))
    }
}

impl MonitorArgs {
    fn addr(&self) -> Result<Option<String>, ConfigError> {
        let addr = self.prometheus_listener_addr.as_deref();
        addr.map(|addr| address("--prometheus-listener-addr", addr)).transpose()
    }
}

impl QueryArgs {
    fn resources(&self) -> Resources {
        let disk = self.file_cache_directory.clone();
        Resources {
            memory_bytes: self
                .total_memory_bytes
                .map_or_else(super::default_memory, NonZeroUsize::get),
            parallelism: self
                .parallelism
                .map_or_else(super::default_parallelism, NonZeroUsize::get),
            meta_cache_bytes: self.meta_cache_bytes,
            block_cache_bytes: self.block_cache_bytes,
            file_cache: disk.map(|directory| DiskCache { directory, bytes: self.file_cache_bytes }),
        }
    }
}

impl MaintenanceArgs {
    fn settings(&self) -> MaintenanceSettings {
        MaintenanceSettings {
            compaction: self.compaction,
            compaction_memory_bytes: self.sorting.compactor_memory_bytes,
            vacuum_interval_ms: u64::from(self.vacuum_interval_sec) * 1000,
            min_sst_retention_ms: u64::from(self.min_sst_retention_time_sec) * 1000,
            ..MaintenanceSettings::default()
        }
    }
}

impl StoreArgs {
    fn settings(&self) -> Result<StoreSettings, ConfigError> {
        self.check_in_memory()?;
        let state_store = self.state_store()?;
        let backup_storage_url = match &self.backup_storage_url {
            Some(url) => parameter("--backup-storage-url", params::BACKUP_STORAGE_URL, url)?,
            None => storage_url::without_hummock(&state_store).to_owned(),
        };
        Ok(StoreSettings {
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
            state_store,
            allow_unfenced: self.allow_unfenced_store,
            accept_loss_after: self.accept_loss_after_epoch,
        })
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

fn advertised(addr: Option<&str>) -> Result<Option<String>, ConfigError> {
    addr.map(|addr| address("--advertise-addr", addr)).transpose()
}

/// A value that becomes a cluster parameter is checked as one.
fn parameter(flag: &'static str, name: &str, value: &str) -> Result<String, ConfigError> {
    ParamSpec::find(name).and_then(|spec| spec.parse(value)).map_err(|source| match source {
        ParamError::Empty(_) => ConfigError::Empty { flag },
        source => ConfigError::Value { flag, source },
    })
}
