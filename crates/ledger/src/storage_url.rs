//! Storage URLs (`fs://`, `s3://`, `memory` and others): parsing them, and printing them without credentials.

use std::fmt;
use std::path::{Component, PathBuf};

/// The accepted forms; part of every error message.
const EXPECTED: &str = "expected fs:///path, s3://bucket, minio://ID:KEY@host:port/bucket, \
                        gcs://bucket, azblob://container, memory or memory://name";
const HUMMOCK_PREFIX: &str = "hummock+";

/// The location of an object store.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum StorageUrl {
    /// A directory on this machine.
    Fs { root: PathBuf },
    /// A bucket on Amazon S3, or on the server whose endpoint the environment names; credentials come from
    /// the environment too.
    S3 { bucket: String },
    /// A bucket on an S3-compatible server without TLS; key and secret as they are written in the URL.
    Minio { key: String, secret: String, host: String, bucket: String },
    /// A bucket on Google Cloud Storage; credentials come from the environment.
    Gcs { bucket: String },
    /// A container in Azure Blob Storage; account and credentials come from the environment.
    Azblob { container: String },
    /// In the memory of this process, lost when it ends. Equal names mean the same store.
    Memory { name: String },
}

/// Why a text is not a storage URL. Contains nothing of the text that could be a credential.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageUrlError {
    #[error("this is not a storage url, {EXPECTED}")]
    NotUrl,
    #[error("this build has no storage of scheme \"{scheme}\", {EXPECTED}")]
    Scheme { scheme: String },
    #[error("a url of scheme \"{scheme}\" names {missing}, {EXPECTED}")]
    Missing { scheme: &'static str, missing: &'static str },
    #[error("the path \"{path}\" of a storage url must be absolute and without \"..\", {EXPECTED}")]
    Path { path: String },
}

impl StorageUrl {
    /// Parses a URL. The prefix `hummock+` must have been removed.
    pub fn parse(text: &str) -> Result<Self, StorageUrlError> {
        let text = text.trim();
        if text == "memory" {
            return Ok(Self::Memory { name: String::new() });
        }
        let (scheme, rest) = text.split_once("://").ok_or(StorageUrlError::NotUrl)?;
        match scheme {
            "memory" => Ok(Self::Memory { name: rest.to_owned() }),
            "fs" => parse_root(rest),
            "s3" => Ok(Self::S3 { bucket: bucket("s3", rest)? }),
            "gcs" => Ok(Self::Gcs { bucket: bucket("gcs", rest)? }),
            "azblob" => Ok(Self::Azblob { container: bucket("azblob", rest)? }),
            "minio" => parse_minio(rest),
            other if is_scheme(other) => Err(StorageUrlError::Scheme { scheme: other.to_owned() }),
            _ => Err(StorageUrlError::NotUrl),
        }
    }
}

impl StorageUrl {
    /// Whether the store is across a network, where replies can get lost.
    pub fn is_far(&self) -> bool {
        !matches!(self, Self::Fs { .. } | Self::Memory { .. })
    }

    /// Whether both name the same store, ignoring credentials.
    pub fn is_same_location(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Minio { host, bucket, .. }, Self::Minio { host: h, bucket: b, .. }) => {
                (host, bucket) == (h, b)
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fs { root } => write!(f, "fs://{}", root.display()),
            Self::S3 { bucket } => write!(f, "s3://{bucket}"),
            Self::Gcs { bucket } => write!(f, "gcs://{bucket}"),
            Self::Azblob { container } => write!(f, "azblob://{container}"),
            Self::Minio { key, secret, host, bucket } => {
                write!(f, "minio://{key}:{secret}@{host}/{bucket}")
            }
            Self::Memory { name } if name.is_empty() => f.write_str("memory"),
            Self::Memory { name } => write!(f, "memory://{name}"),
        }
    }
}

/// Masks credentials, since debug output ends up in logs.
impl fmt::Debug for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(&self.to_string()))
    }
}

/// Parses the bucket name after a scheme. Credentials and a path are refused; the path belongs to the
/// directory.
fn bucket(scheme: &'static str, rest: &str) -> Result<String, StorageUrlError> {
    let name = rest.trim_end_matches('/');
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c));
    if name.is_empty() || name.contains(odd) {
        let missing = "one bucket, without credentials or a path";
        return Err(StorageUrlError::Missing { scheme, missing });
    }
    Ok(name.to_owned())
}

/// Parses what follows `minio://`: `key:secret@host:port/bucket`.
fn parse_minio(rest: &str) -> Result<StorageUrl, StorageUrlError> {
    let missing = |missing| StorageUrlError::Missing { scheme: "minio", missing };
    let (credentials, rest) =
        rest.rsplit_once('@').ok_or_else(|| missing("a key and a secret before an @"))?;
    let (key, secret) =
        credentials.split_once(':').ok_or_else(|| missing("a key and a secret before an @"))?;
    let (host, name) = rest.split_once('/').ok_or_else(|| missing("a host and a bucket"))?;
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-.:[]".contains(c));
    if key.is_empty() || secret.is_empty() || host.is_empty() || host.contains(odd) {
        return Err(missing("a key, a secret, a host and a bucket"));
    }
    let bucket = bucket("minio", name)?;
    let [key, secret, host] = [key, secret, host].map(str::to_owned);
    Ok(StorageUrl::Minio { key, secret, host, bucket })
}

/// Parses what follows `fs://`: `/path`, or `@/path` as older clusters write it.
fn parse_root(rest: &str) -> Result<StorageUrl, StorageUrlError> {
    let path = PathBuf::from(rest.strip_prefix('@').unwrap_or(rest));
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if climbs || !path.is_absolute() {
        let shown = mask(&format!("fs://{rest}"));
        let path = shown.trim_start_matches("fs://").to_owned();
        return Err(StorageUrlError::Path { path });
    }
    Ok(StorageUrl::Fs { root: path.components().collect() })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Strips the prefix `hummock+`, which marks the URL of a state store.
pub fn without_hummock(url: &str) -> &str {
    url.strip_prefix(HUMMOCK_PREFIX).unwrap_or(url)
}

/// Whether two URLs name the same store, ignoring credentials and the prefix `hummock+`.
pub fn is_same_location(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|url| without_hummock(url.trim()));
    match (StorageUrl::parse(a), StorageUrl::parse(b)) {
        (Ok(a), Ok(b)) => a.is_same_location(&b),
        _ => a == b,
    }
}

/// Replaces the user and password in a URL by asterisks; leaves other text as it is.
pub fn mask(text: &str) -> String {
    let Some(scheme_end) = text.find("://").map(|at| at + "://".len()) else {
        return text.to_owned();
    };
    let (scheme, rest) = text.split_at(scheme_end);
    // A secret of an object store may contain a slash; a path or a query in these schemes may contain an @.
    let bare = ["fs://", "memory://", "sqlite://", "http://", "https://"];
    let authority = match bare.contains(&without_hummock(scheme)) {
        true => &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())],
        false => rest,
    };
    match authority.rfind('@') {
        None | Some(0) => text.to_owned(),
        Some(at) => {
            let stars = if authority[..at].contains(':') { "****:****" } else { "****" };
            format!("{scheme}{stars}{}", &rest[at..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fs(root: &str) -> StorageUrl {
        StorageUrl::Fs { root: PathBuf::from(root) }
    }

    #[test]
    fn the_spellings_of_one_directory_are_one_url() {
        for text in ["fs:///data/a", "fs://@/data/a", " fs:///data//a/ ", "fs:///data/./a"] {
            assert_eq!(StorageUrl::parse(text), Ok(fs("/data/a")), "{text}");
        }
        assert_eq!(fs("/data/a").to_string(), "fs:///data/a");
    }

    #[test]
    fn buckets_read_back_as_they_were_written() {
        for text in ["s3://b.1", "gcs://b-2", "azblob://c_3", "minio://k:s/e+t@127.0.0.1:9000/b"] {
            let url = StorageUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), text);
            assert!(!format!("{url:?}").contains("s/e+t"));
        }
        assert_eq!(StorageUrl::parse("s3://b/").unwrap().to_string(), "s3://b");
        for text in ["s3://", "s3://b/path", "minio://127.0.0.1/b", "minio://k:s@127.0.0.1"] {
            assert!(StorageUrl::parse(text).unwrap_err().to_string().contains("names"), "{text}");
        }
    }

    #[test]
    fn memory_has_a_name_or_none() {
        for text in ["memory", "memory://scratch"] {
            assert_eq!(StorageUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_this_build_cannot_read_is_refused_and_never_echoed() {
        for text in ["hdfs://key:secret@127.0.0.1:9000/b", "s3://k:secret@b", "key:secret"] {
            let error = StorageUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("fs:///path, s3://bucket"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for text in ["fs://relative/a", "fs://user:secret@host/a", "fs:///a/../b", "fs://", ""] {
            let error = StorageUrl::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn masking_hides_the_user_and_nothing_else() {
        let cases = [
            ("minio://ak:sk@127.0.0.1:9301/b", "minio://****:****@127.0.0.1:9301/b"),
            ("hummock+minio://ak:s@k@127.0.0.1/b", "hummock+minio://****:****@127.0.0.1/b"),
            ("minio://ak:s/k@127.0.0.1/b", "minio://****:****@127.0.0.1/b"),
            ("azblob://account@root", "azblob://****@root"),
            ("fs:///a/b@c:d", "fs:///a/b@c:d"),
            ("fs://@/a", "fs://@/a"),
            ("https://127.0.0.1/?u=a:b@c", "https://127.0.0.1/?u=a:b@c"),
            ("600000", "600000"),
        ];
        for (text, shown) in cases {
            assert_eq!(mask(text), shown);
        }
    }

    #[test]
    fn the_hummock_prefix_is_optional() {
        assert_eq!(without_hummock("hummock+fs:///a"), "fs:///a");
        assert_eq!(without_hummock("memory"), "memory");
    }
}
