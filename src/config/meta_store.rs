//! Which meta store is meant: kind, endpoints, credentials.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::BoolishValueParser;

use super::ConfigError;
use tidemark_ledger::meta_store::{
    EtcdSettings, EtcdStore, EtcdTls, EtcdUser, MemoryStore, MetaStore, SqliteStore, StoreError,
};
use tidemark_ledger::storage_url;

/// The kinds of meta store that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetaStoreType {
    Mem,
    /// The endpoint is a file.
    Sqlite,
    /// The endpoint says which database it is.
    Sql,
    Etcd,
}

/// How to reach etcd. Shared by the server and by `restore-meta`.
#[derive(Clone, clap::Args)]
pub struct EtcdArgs {
    /// Endpoints of etcd, separated by commas: host:port, http://host:port or https://host:port
    #[arg(long, env = "RW_ETCD_ENDPOINTS", value_name = "ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,

    /// Sign in to etcd with --etcd-username and a password
    #[arg(long, env = "RW_ETCD_AUTH", value_parser = BoolishValueParser::new())]
    pub etcd_auth: bool,

    /// Name of the etcd user
    #[arg(long, env = "RW_ETCD_USERNAME", value_name = "NAME")]
    pub etcd_username: Option<String>,

    /// Password of the etcd user; RW_ETCD_PASSWORD keeps it out of the list of processes
    #[arg(long, env = "RW_ETCD_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub etcd_password: Option<String>,

    /// File that holds the password of the etcd user
    #[arg(long, env = "RW_ETCD_PASSWORD_FILE", value_name = "PATH")]
    pub etcd_password_file: Option<PathBuf>,

    /// Certificate authority of etcd, in PEM
    #[arg(long, env = "RW_ETCD_CA", value_name = "PATH")]
    pub etcd_ca: Option<PathBuf>,

    /// Certificate to show to etcd, in PEM
    #[arg(long, env = "RW_ETCD_CERT", value_name = "PATH", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(long, env = "RW_ETCD_KEY", value_name = "PATH", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
}

/// Where the metadata of this server is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum MetaStoreSetting {
    Sqlite { endpoint: String },
    Etcd(EtcdSettings),
    Memory,
}

impl MetaStoreSetting {
    /// Opens the store, in which nothing is made or altered before something is committed.
    pub async fn open(&self) -> Result<Arc<dyn MetaStore>, StoreError> {
        Ok(match self {
            Self::Sqlite { endpoint } => Arc::new(SqliteStore::open_target(endpoint).await?),
            Self::Etcd(settings) => Arc::new(EtcdStore::connect(settings).await?),
            Self::Memory => Arc::new(MemoryStore::default()),
        })
    }
}

impl EtcdArgs {
    /// A flag that says that etcd is meant, if one was given. An empty text is RisingWave's default and
    /// says nothing.
    pub fn given(&self) -> Option<&'static str> {
        let text = |value: &Option<String>| value.as_ref().is_some_and(|v| !v.trim().is_empty());
        let flags = [
            ("--etcd-endpoints", self.etcd_endpoints.iter().any(|e| !e.trim().is_empty())),
            ("--etcd-auth", self.etcd_auth),
            ("--etcd-username", text(&self.etcd_username)),
            ("--etcd-password", text(&self.etcd_password)),
            ("--etcd-password-file", self.etcd_password_file.is_some()),
            ("--etcd-ca", self.etcd_ca.is_some()),
            ("--etcd-cert", self.etcd_cert.is_some()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// What the flags mean, once etcd is what is meant.
    pub fn settings(&self) -> Result<EtcdSettings, ConfigError> {
        let tls = EtcdTls {
            ca: self.etcd_ca.clone(),
            identity: self.etcd_cert.clone().zip(self.etcd_key.clone()),
        };
        let with_tls = tls != EtcdTls::default();
        let given = self.etcd_endpoints.iter().map(|e| e.trim()).filter(|e| !e.is_empty());
        let endpoints: Vec<String> =
            given.map(|endpoint| etcd_endpoint(endpoint, with_tls)).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ConfigError::Missing {
                needing: "the meta store type \"etcd\"",
                flag: "--etcd-endpoints",
            });
        }
        Ok(EtcdSettings { endpoints, user: self.user()?, tls })
    }

    fn user(&self) -> Result<Option<EtcdUser>, ConfigError> {
        let name = self.etcd_username.clone().filter(|name| !name.trim().is_empty());
        let password = self.password()?;
        match (self.etcd_auth, name, password) {
            (false, None, None) => Ok(None),
            (false, Some(_), _) => {
                Err(ConfigError::Missing { needing: "--etcd-username", flag: "--etcd-auth" })
            }
            (false, None, Some(_)) => {
                Err(ConfigError::Missing { needing: "--etcd-password", flag: "--etcd-auth" })
            }
            (true, None, _) => {
                Err(ConfigError::Missing { needing: "--etcd-auth", flag: "--etcd-username" })
            }
            (true, Some(_), None) => {
                Err(ConfigError::Missing { needing: "--etcd-auth", flag: "--etcd-password" })
            }
            (true, Some(name), Some(password)) => Ok(Some(EtcdUser { name, password })),
        }
    }

    fn password(&self) -> Result<Option<String>, ConfigError> {
        let given = self.etcd_password.clone().filter(|password| !password.is_empty());
        match (&self.etcd_password_file, given) {
            (None, given) => Ok(given),
            (Some(_), Some(_)) => Err(ConfigError::Contradiction {
                one: "--etcd-password",
                other: "--etcd-password-file",
            }),
            (Some(path), None) => read_secret(path).map(Some),
        }
    }
}

/// The text of a file, without the line's end that editors leave there.
fn read_secret(path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        flag: "--etcd-password-file",
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// An endpoint with its scheme.
fn etcd_endpoint(endpoint: &str, with_tls: bool) -> Result<String, ConfigError> {
    let flag = "--etcd-endpoints";
    let (scheme, host) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.trim_end_matches('/')),
        None if with_tls => ("https", endpoint),
        None => ("http", endpoint),
    };
    if !["http", "https"].contains(&scheme) {
        return Err(ConfigError::Address { flag, value: storage_url::mask(endpoint) });
    }
    if scheme == "http" && with_tls {
        return Err(ConfigError::Contradiction {
            one: "an endpoint with http://",
            other: "--etcd-ca or --etcd-cert",
        });
    }
    if host.contains('@') {
        return Err(ConfigError::UserInAddress { flag });
    }
    let host = super::address(flag, host)?;
    Ok(format!("{scheme}://{host}"))
}

/// The SQLite endpoint that `--meta-store-type` and `--sql-endpoint` name together.
pub fn sqlite_endpoint(kind: MetaStoreType, endpoint: Option<&str>) -> Result<String, ConfigError> {
    let endpoint = endpoint.map(str::trim);
    if endpoint == Some("") {
        return Err(ConfigError::Empty { flag: "--sql-endpoint" });
    }
    let endpoint = endpoint.ok_or(ConfigError::NoEndpoint);
    let unknown = |endpoint: &str| ConfigError::Endpoint { endpoint: storage_url::mask(endpoint) };
    match kind {
        MetaStoreType::Mem => Err(ConfigError::Contradiction {
            one: "--meta-store-type mem",
            other: "--sql-endpoint",
        }),
        MetaStoreType::Etcd => Err(ConfigError::Contradiction {
            one: "--meta-store-type etcd",
            other: "--sql-endpoint",
        }),
        MetaStoreType::Sql => match endpoint? {
            sqlite if sqlite.starts_with("sqlite:") => Ok(sqlite.to_owned()),
            other => Err(unknown(other)),
        },
        MetaStoreType::Sqlite => match endpoint? {
            other if other.contains("://") && !other.starts_with("sqlite:") => Err(unknown(other)),
            file => Ok(file.to_owned()),
        },
    }
}

impl fmt::Debug for MetaStoreSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What to call it in a message, without credentials.
impl fmt::Display for MetaStoreSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { endpoint } => f.write_str(&storage_url::mask(endpoint)),
            Self::Etcd(settings) => fmt::Display::fmt(settings, f),
            Self::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        etcd: EtcdArgs,
    }

    fn settings(flags: &[&str]) -> Result<EtcdSettings, String> {
        let args = std::iter::once("tidemark").chain(flags.iter().copied());
        let cli = Cli::try_parse_from(args).map_err(|e| e.to_string())?;
        cli.etcd.settings().map_err(|e| crate::cli::chain(&e))
    }

    #[test]
    fn endpoints_get_a_scheme_and_are_shown_without_one() {
        let plain = settings(&["--etcd-endpoints", "127.0.0.1:1,http://[::1]:2/"]).unwrap();
        assert_eq!(plain.endpoints, ["http://127.0.0.1:1", "http://[::1]:2"]);
        assert_eq!(plain.to_string(), "etcd://127.0.0.1:1,[::1]:2");
        let tls = settings(&["--etcd-endpoints", "127.0.0.1:1", "--etcd-ca", "ca.pem"]).unwrap();
        assert_eq!(tls.endpoints, ["https://127.0.0.1:1"]);
        for wrong in ["ftp://127.0.0.1:1", "127.0.0.1"] {
            let error = settings(&["--etcd-endpoints", wrong]).unwrap_err();
            assert!(error.contains("--etcd-endpoints is not host:port"), "{error}");
        }
        let user = settings(&["--etcd-endpoints", "http://u:secret@127.0.0.1:1"]).unwrap_err();
        assert!(user.contains("holds a user") && !user.contains("secret"), "{user}");
        assert!(settings(&["--etcd-endpoints", "http://h:1", "--etcd-ca", "x"]).is_err());
        assert!(settings(&[]).unwrap_err().contains("needs --etcd-endpoints"));
    }

    #[test]
    fn credentials_are_whole_and_never_shown() {
        let with = |flags: &[&str]| settings(&[&["--etcd-endpoints", "h:1"], flags].concat());
        let user = ["--etcd-auth", "--etcd-username", "root", "--etcd-password", "secret"];
        let settings = with(&user).unwrap();
        assert!(!format!("{settings:?}{settings}").contains("secret"));
        assert_eq!(settings.user.unwrap().password, "secret");
        for part in [&user[..3], &user[1..], &["--etcd-auth"], &user[3..]] {
            assert!(with(part).unwrap_err().contains("needs --etcd-"), "{part:?}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of the file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let read = with(&[&user[..3], &["--etcd-password-file", path]].concat()).unwrap();
        assert_eq!(read.user.unwrap().password, "of the file");
        let none = with(&[&user[..3], &["--etcd-password-file", "/none/there"]].concat());
        assert!(none.unwrap_err().contains("/none/there"));
    }

    #[test]
    fn an_endpoint_is_a_file_or_a_url_by_the_type() {
        let file = sqlite_endpoint(MetaStoreType::Sqlite, Some("/a/b.db"));
        assert_eq!(file.unwrap(), "/a/b.db");
        let url = sqlite_endpoint(MetaStoreType::Sql, Some("sqlite:///a/b.db?mode=rwc"));
        assert_eq!(url.unwrap(), "sqlite:///a/b.db?mode=rwc");
        assert!(sqlite_endpoint(MetaStoreType::Sql, Some("/a/b.db")).is_err());
        assert!(sqlite_endpoint(MetaStoreType::Sqlite, Some("")).is_err());
    }
}
