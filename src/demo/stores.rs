//! The stores of the demo's cluster: in a folder, or where the user says.

use std::path::PathBuf;

use clap::Args;

use super::DemoError;
use crate::config::{self, EtcdArgs, MetaStoreSetting, MetaStoreType};
use crate::ctl::output::shell_word;
use tidemark_ledger::layout;
use tidemark_ledger::meta_store::{Operation, Txn};
use tidemark_ledger::storage::Storage;
use tidemark_ledger::storage_url::{self, StorageUrl};

/// Which stores the user asks for.
#[derive(Args, Clone)]
pub(super) struct DemoStoreArgs {
    /// Kind of meta store; it must be empty, and the demo deletes its contents
    #[arg(long, value_name = "TYPE", default_value = "sqlite")]
    meta_store_type: MetaStoreType,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// Storage of the data and of the backups: hummock+URL [default: in the store directory]
    #[arg(long, value_name = "URL")]
    state_store: Option<String>,
}

/// The stores of one cluster.
#[derive(Clone)]
pub(super) struct Stores {
    folder: PathBuf,
    meta: MetaStoreSetting,
    location: DemoStoreArgs,
}

impl Stores {
    pub fn new(location: DemoStoreArgs, folder: PathBuf) -> Result<Self, DemoError> {
        let meta = match location.meta_store_type {
            MetaStoreType::Etcd => MetaStoreSetting::Etcd(location.etcd.settings()?),
            MetaStoreType::Sqlite => {
                let endpoint = folder.join(config::META_STORE_FILE).display().to_string();
                MetaStoreSetting::Sqlite { endpoint }
            }
            MetaStoreType::Mem | MetaStoreType::Sql => return Err(DemoError::MetaStoreType),
        };
        Ok(Self { folder, meta, location })
    }

    /// Refuses a meta store that is not empty.
    pub async fn check_empty(&self) -> Result<(), DemoError> {
        let store = self.meta.open().await?;
        match store.list("").await?.is_empty() {
            true => Ok(()),
            false => Err(DemoError::MetaStoreNotEmpty { store: store.name().to_owned() }),
        }
    }

    /// The flags of a server on these stores.
    pub fn server_flags(&self) -> Vec<String> {
        let mut flags = vec!["--store-directory".to_owned(), self.folder.display().to_string()];
        flags.extend(self.etcd_flags());
        if let Some(url) = &self.location.state_store {
            flags.extend(["--state-store".to_owned(), url.clone()]);
        }
        flags
    }

    /// The arguments of `risectl` that restore a snapshot into these stores.
    pub fn restore_args(&self, id: &str) -> Vec<String> {
        let mut args: Vec<String> =
            ["meta", "restore-meta", "--meta-snapshot-id", id].map(str::to_owned).to_vec();
        match &self.meta {
            MetaStoreSetting::Sqlite { endpoint } => {
                let flags = ["--meta-store-type", "sqlite", "--sql-endpoint", endpoint];
                args.extend(flags.map(str::to_owned));
            }
            _ => args.extend(self.etcd_flags()),
        }
        let url = self.storage_url();
        let data = [
            "--backup-storage-url",
            &url,
            "--backup-storage-directory",
            config::BACKUP_DIRECTORY,
            "--hummock-storage-url",
            &url,
            "--hummock-storage-directory",
            config::DATA_DIRECTORY,
        ];
        args.extend(data.map(str::to_owned));
        args
    }

    /// A secret the processes need, passed in the environment so that process listings do not show it.
    pub fn environment(&self) -> Option<(&'static str, String)> {
        match &self.meta {
            MetaStoreSetting::Etcd(settings) => {
                settings.user.as_ref().map(|user| ("RW_ETCD_PASSWORD", user.password.clone()))
            }
            _ => None,
        }
    }

    /// The command that would delete the metadata.
    pub fn losing_command(&self) -> String {
        match &self.meta {
            MetaStoreSetting::Sqlite { endpoint } => {
                let folder = PathBuf::from(endpoint);
                let folder = folder.parent().unwrap_or(&folder).display().to_string();
                format!("rm -r {}", shell_word(&folder))
            }
            _ => "etcdctl del --prefix tidemark/".to_owned(),
        }
    }

    /// Deletes the metadata.
    pub async fn lose_metadata(&self) -> Result<(), DemoError> {
        if let MetaStoreSetting::Sqlite { endpoint } = &self.meta {
            let file = PathBuf::from(endpoint);
            let folder = file.parent().unwrap_or(&file).to_owned();
            return std::fs::remove_dir_all(&folder).map_err(|source| DemoError::File {
                action: "remove",
                path: folder,
                source,
            });
        }
        let store = self.meta.open().await?;
        let pairs = store.list("").await?;
        let operations =
            pairs.into_iter().map(|pair| Operation::Delete { key: pair.key }).collect();
        Ok(store.commit(Txn { operations, ..Txn::default() }).await?)
    }

    pub async fn has_metadata(&self) -> Result<bool, DemoError> {
        Ok(!self.meta.open().await?.list("").await?.is_empty())
    }

    /// Number of objects in the data directory.
    pub async fn data_objects(&self) -> Result<usize, DemoError> {
        let url = StorageUrl::parse(&self.storage_url())
            .map_err(tidemark_ledger::storage::StorageError::from)?;
        let storage = Storage::open_existing(&url)?;
        Ok(storage.list(&layout::directory(config::DATA_DIRECTORY)).await?.len())
    }

    /// URL of the storage of data and backups, with credentials.
    fn storage_url(&self) -> String {
        match &self.location.state_store {
            Some(url) => storage_url::without_hummock(url).to_owned(),
            None => format!("fs://{}", self.folder.join(config::STATE_STORE_FOLDER).display()),
        }
    }

    fn etcd_flags(&self) -> Vec<String> {
        let MetaStoreSetting::Etcd(settings) = &self.meta else { return vec![] };
        let endpoints = settings.endpoints.join(",");
        let mut flags: Vec<String> = ["--meta-store-type", "etcd", "--etcd-endpoints", &endpoints]
            .map(str::to_owned)
            .to_vec();
        if let Some(user) = &settings.user {
            flags.extend(["--etcd-auth", "--etcd-username", &user.name].map(str::to_owned));
        }
        let mut file = |flag: &str, path: Option<&PathBuf>| {
            if let Some(path) = path {
                flags.extend([flag.to_owned(), path.display().to_string()]);
            }
        };
        file("--etcd-ca", settings.tls.ca.as_ref());
        file("--etcd-cert", settings.tls.identity.as_ref().map(|(certificate, _)| certificate));
        file("--etcd-key", settings.tls.identity.as_ref().map(|(_, key)| key));
        flags
    }
}
