//! Writes a snapshot as a stream.

use std::collections::BTreeMap;
use std::io::{self, Write};

use object_store::path::Path;

use super::{END_MAGIC, Footer, Section, VERSION_SECTION, frame_sha256, header, section_of};
use crate::backup::{BackupError, SnapshotDetail};
use crate::meta_store::Pair;
use crate::storage::checksum::Summed;
use crate::storage::{Storage, StorageError};
use crate::version::{Version, encoding};

const ZSTD_LEVEL: i32 = 3;

/// A snapshot that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenSnapshot {
    pub size_bytes: u64,
    /// SHA-256 of the whole object, in hex.
    pub sha256: String,
}

/// Writes the snapshot that `detail` describes, of these pairs and this version.
///
/// # Errors
/// [`BackupError::Exists`] when there is an object of that name already; it stays as it is.
pub async fn write(
    storage: &Storage,
    path: &Path,
    pairs: Vec<Pair>,
    version: &Version,
    detail: &SnapshotDetail,
) -> Result<WrittenSnapshot, BackupError> {
    let (version, footer_detail) = (version.clone(), detail.clone());
    let written =
        storage.write_with(path, move |to| encode(to, &pairs, &version, footer_detail)).await;
    match written {
        Ok(encoded) => encoded.map_err(|source| {
            let file = storage.name_of(path);
            BackupError::Encode { file, source }
        }),
        Err(StorageError::AlreadyExists { path: location }) => {
            Err(BackupError::Exists { id: detail.info.id, location })
        }
        Err(error) => Err(error.into()),
    }
}

fn encode(
    to: impl Write,
    pairs: &[Pair],
    version: &Version,
    detail: SnapshotDetail,
) -> io::Result<WrittenSnapshot> {
    let mut out = Summed::new(to);
    let header = header(detail.info.id);
    out.write_all(&header)?;
    let mut sections = Vec::new();
    for (name, pairs) in by_section(pairs)? {
        let entries = pairs.len() as u64;
        sections.push(write_section(&mut out, name, entries, |raw| encode_pairs(&pairs, raw))?);
    }
    let files = version.file_count() as u64;
    let lines = |raw: &mut dyn Write| encoding::encode(version, raw);
    sections.push(write_section(&mut out, VERSION_SECTION, files, lines)?);
    let footer = serde_json::to_vec(&Footer { sections, detail })?;
    out.write_all(&footer)?;
    out.write_all(&length_of(&footer)?)?;
    out.write_all(&frame_sha256(&header, &footer))?;
    out.write_all(END_MAGIC)?;
    let (_, size_bytes, sha256) = out.finish();
    Ok(WrittenSnapshot { size_bytes, sha256 })
}

/// The pairs of each section, in order of key.
fn by_section(pairs: &[Pair]) -> io::Result<BTreeMap<&str, Vec<&Pair>>> {
    let mut sections = BTreeMap::<_, Vec<_>>::new();
    for pair in pairs {
        sections.entry(section_of(&pair.key)).or_default().push(pair);
    }
    if sections.contains_key(VERSION_SECTION) {
        let text = "the version is not written as pairs";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for pairs in sections.values_mut() {
        pairs.sort();
        if pairs.windows(2).any(|two| two[0].key == two[1].key) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a key is there twice"));
        }
    }
    Ok(sections)
}

fn write_section<W: Write>(
    out: &mut Summed<W>,
    name: &str,
    entries: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Section> {
    let offset = out.bytes();
    let encoder = zstd::Encoder::new(Summed::new(out), ZSTD_LEVEL)?;
    let mut raw = Counted { inner: encoder, bytes: 0 };
    write(&mut raw)?;
    let (_, stored_bytes, sha256) = raw.inner.finish()?.finish();
    let raw_bytes = raw.bytes;
    Ok(Section { name: name.to_owned(), offset, stored_bytes, raw_bytes, entries, sha256 })
}

/// A writer that counts the bytes that pass through it.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn encode_pairs(pairs: &[&Pair], raw: &mut dyn Write) -> io::Result<()> {
    for pair in pairs {
        raw.write_all(&length_of(pair.key.as_bytes())?)?;
        raw.write_all(pair.key.as_bytes())?;
        raw.write_all(&length_of(&pair.value)?)?;
        raw.write_all(&pair.value)?;
    }
    Ok(())
}

fn length_of(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    Ok(length.to_le_bytes())
}
