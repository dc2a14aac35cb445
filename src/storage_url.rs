//! `fs://`, `memory`: what a storage URL says, and how it is shown without its secrets.

use std::fmt;
use std::path::{Component, PathBuf};

/// What a user may write; named by every error.
const EXPECTED: &str = "expected fs:///path, memory or memory://name";
const HUMMOCK_PREFIX: &str = "hummock+";

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageUrl {
    /// A directory of this machine.
    Fs { root: PathBuf },
    /// This process; gone when it ends. One name is one store.
    Memory { name: String },
}

/// Why a text is not a storage URL. Holds nothing of the text that could be a credential.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageUrlError {
    #[error("this is not a storage url, {EXPECTED}")]
    NotUrl,
    #[error("this build has no storage of scheme \"{scheme}\", {EXPECTED}")]
    Scheme { scheme: String },
    #[error("the path \"{path}\" of a storage url must be absolute and without \"..\", {EXPECTED}")]
    Path { path: String },
}

impl StorageUrl {
    /// Reads a URL as users write it. The prefix `hummock+` is not part of it.
    pub fn parse(text: &str) -> Result<Self, StorageUrlError> {
        let text = text.trim();
        if text == "memory" {
            return Ok(Self::Memory { name: String::new() });
        }
        let (scheme, rest) = text.split_once("://").ok_or(StorageUrlError::NotUrl)?;
        match scheme {
            "memory" => Ok(Self::Memory { name: rest.to_owned() }),
            "fs" => parse_root(rest),
            other if is_scheme(other) => Err(StorageUrlError::Scheme { scheme: other.to_owned() }),
            _ => Err(StorageUrlError::NotUrl),
        }
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fs { root } => write!(f, "fs://{}", root.display()),
            Self::Memory { name } if name.is_empty() => f.write_str("memory"),
            Self::Memory { name } => write!(f, "memory://{name}"),
        }
    }
}

/// Reads what follows `fs://`: `/path`, or `@/path` as older clusters write it.
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

/// The URL of a state store without the prefix that says it is one.
pub fn without_hummock(url: &str) -> &str {
    url.strip_prefix(HUMMOCK_PREFIX).unwrap_or(url)
}

/// The text with the user and password of a URL starred out; other text as it is.
pub fn mask(text: &str) -> String {
    let Some(scheme_end) = text.find("://").map(|at| at + "://".len()) else {
        return text.to_owned();
    };
    let (scheme, rest) = text.split_at(scheme_end);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
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
    fn memory_has_a_name_or_none() {
        for text in ["memory", "memory://scratch"] {
            assert_eq!(StorageUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_this_build_cannot_read_is_refused_and_never_echoed() {
        for text in ["minio://key:secret@127.0.0.1:9000/b", "s3://key:secret@b", "key:secret"] {
            let error = StorageUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("fs:///path, memory"), "{error}");
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
