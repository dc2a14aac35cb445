//! Reads a snapshot, section by section. Nothing in the file is trusted before it is verified.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use object_store::path::Path;

use super::{
    END_MAGIC, FORMAT, Footer, HEADER_BYTES, MAGIC, Section, TAIL_BYTES, VERSION_SECTION,
    frame_sha256, section_of,
};
use crate::backup::{BackupError, ManifestEntry, SnapshotInfo, Tables};
use crate::id::SstId;
use crate::meta_store::Pair;
use crate::state::State;
use crate::storage::checksum::Summed;
use crate::storage::{ChunkReader, Storage};
use crate::version::{Version, encoding};

/// Number of bytes of the end that are fetched at once: enough for nearly every footer.
const TAIL_FETCH_BYTES: u64 = 64 << 10;
/// Maximum bytes that are allocated at once because of a length in the file.
const TRUSTED_BYTES: u64 = 64 << 10;

/// An open snapshot. Holds only the footer in memory.
#[derive(Debug)]
pub struct SnapshotReader {
    storage: Storage,
    path: Path,
    /// The name of the file in messages.
    file: String,
    size_bytes: u64,
    footer: Footer,
}

impl SnapshotReader {
    /// Reads and verifies the header and the footer. With `expected`, also checks that they are those of the
    /// snapshot that the manifest lists.
    pub async fn open(
        storage: &Storage,
        path: &Path,
        expected: Option<&ManifestEntry>,
    ) -> Result<Self, BackupError> {
        let file = storage.name_of(path);
        let size_bytes = storage.size(path).await?;
        let frame = Frame::fetch(storage, path, size_bytes).await?;
        let footer = frame.footer(&file)?;
        if let Some(entry) = expected {
            check_listed(entry, &footer.detail.info, size_bytes)
                .map_err(|what| BackupError::damaged(&file, what))?;
        }
        Ok(Self { storage: storage.clone(), path: path.clone(), file, size_bytes, footer })
    }

    pub fn info(&self) -> &SnapshotInfo {
        &self.footer.detail.info
    }

    /// The tables in the footer.
    pub fn tables(&self) -> &Tables {
        &self.footer.detail.state_table_info
    }

    /// The names of the sections that hold pairs.
    pub fn pair_sections(&self) -> impl Iterator<Item = &str> {
        let names = self.footer.sections.iter().map(|section| section.name.as_str());
        names.filter(|name| *name != VERSION_SECTION)
    }

    /// Reads the pairs of one section, in order of key; none if there is no such section.
    pub async fn pairs(&self, name: &str) -> Result<Vec<Pair>, BackupError> {
        let mut sections = self.footer.sections.iter();
        match sections.find(|section| section.name == name && name != VERSION_SECTION) {
            Some(section) => self.read_section(section, decode_pairs).await,
            None => Ok(vec![]),
        }
    }

    /// Reads the pairs of all sections, in order of key.
    pub async fn all_pairs(&self) -> Result<Vec<Pair>, BackupError> {
        let mut pairs = Vec::new();
        for name in self.pair_sections() {
            pairs.extend(self.pairs(name).await?);
        }
        pairs.sort();
        Ok(pairs)
    }

    /// Reads the version and checks it against the footer.
    pub async fn version(&self) -> Result<Version, BackupError> {
        let version = self.read_section(self.version_section()?, decode_version).await?;
        let info = self.info();
        let said = (info.hummock_version_id, info.safe_epoch, info.max_committed_epoch);
        if said != (version.id, version.safe_epoch, version.max_committed_epoch) {
            let what = "its version is not the one its footer says";
            return Err(BackupError::damaged(&self.file, what));
        }
        Ok(version)
    }

    /// Reads the data files that the version names, with their sizes in bytes. Inline rows are in the
    /// snapshot itself.
    pub async fn objects(&self) -> Result<Vec<(SstId, u64)>, BackupError> {
        self.read_section(self.version_section()?, decode_objects).await
    }

    fn version_section(&self) -> Result<&Section, BackupError> {
        let mut sections = self.footer.sections.iter();
        let section = sections.find(|section| section.name == VERSION_SECTION);
        section.ok_or_else(|| BackupError::damaged(&self.file, "it has no section \"version\""))
    }

    /// Reads all metadata.
    pub async fn state(&self) -> Result<State, BackupError> {
        let pairs = self.all_pairs().await?;
        Ok(State::decode(&pairs, self.version().await?)?)
    }

    /// Verifies the checksum of the whole file.
    pub async fn check_whole(&self, sha256: &str) -> Result<(), BackupError> {
        let read = self.storage.read_with(&self.path, 0..self.size_bytes, |from| {
            let mut summed = Summed::new(from);
            io::copy(&mut summed, &mut io::sink())?;
            Ok::<_, io::Error>(summed.finish().2)
        });
        let found = read.await?.map_err(|e| BackupError::damaged(&self.file, e.to_string()))?;
        match found == sha256 {
            true => Ok(()),
            false => {
                let what = "it does not match the checksum in the manifest";
                Err(BackupError::damaged(&self.file, what))
            }
        }
    }

    async fn read_section<T: Send + 'static>(
        &self,
        section: &Section,
        decode: fn(&Section, &mut dyn BufRead) -> Result<T, String>,
    ) -> Result<T, BackupError> {
        let range = section.offset..section.offset + section.stored_bytes;
        let name = section.name.clone();
        let section = section.clone();
        let read = self
            .storage
            .read_with(&self.path, range, move |from| decode_section(from, &section, decode));
        read.await?.map_err(|reason| {
            BackupError::damaged(&self.file, format!("section \"{name}\" {reason}"))
        })
    }
}

/// The header and the footer of the file, and the checksum and magic that guard them.
struct Frame {
    header: Bytes,
    footer: Bytes,
    /// Where the footer begins and the sections end.
    footer_start: u64,
    sha256: Bytes,
    end_magic: Bytes,
}

impl Frame {
    async fn fetch(storage: &Storage, path: &Path, size_bytes: u64) -> Result<Self, BackupError> {
        let file = storage.name_of(path);
        let (header_bytes, tail_bytes) = (HEADER_BYTES as u64, TAIL_BYTES as u64);
        if size_bytes < header_bytes + tail_bytes {
            return Err(BackupError::damaged(&file, "it is too short to be a meta snapshot"));
        }
        let header = storage.get_range(path, 0..header_bytes).await?;
        let fetched_from = size_bytes.saturating_sub(TAIL_FETCH_BYTES).max(header_bytes);
        let mut end = storage.get_range(path, fetched_from..size_bytes).await?;
        let mut tail = end.split_off(end.len() - TAIL_BYTES);
        let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        let footer_end = size_bytes - tail_bytes;
        if length > footer_end - header_bytes {
            return Err(BackupError::damaged(&file, "its footer cannot be as long as it says"));
        }
        let footer_start = footer_end - length;
        let footer = match footer_start.checked_sub(fetched_from).map(usize::try_from) {
            Some(Ok(skipped)) => end.slice(skipped..),
            _ => storage.get_range(path, footer_start..footer_end).await?,
        };
        let end_magic = tail.split_off(TAIL_BYTES - END_MAGIC.len());
        Ok(Self { header, footer, footer_start, sha256: tail.slice(4..), end_magic })
    }

    /// Checks that this is a whole snapshot in a format this build reads, and decodes the footer.
    fn footer(&self, file: &str) -> Result<Footer, BackupError> {
        let damaged = |what: &str| Err(BackupError::damaged(file, what));
        if self.header[..8] != MAGIC[..] {
            return damaged("it does not begin as a meta snapshot does");
        }
        let format =
            u32::from_le_bytes([self.header[8], self.header[9], self.header[10], self.header[11]]);
        if format != FORMAT {
            let file = file.to_owned();
            return Err(BackupError::Format { file, found: format, read: FORMAT });
        }
        if self.end_magic[..] != END_MAGIC[..] {
            return damaged("it does not end as a meta snapshot does");
        }
        if self.sha256[..] != frame_sha256(&self.header, &self.footer) {
            return damaged("its footer does not match its checksum");
        }
        let footer: Footer = serde_json::from_slice(&self.footer)
            .map_err(|e| BackupError::damaged(file, format!("its footer: {e}")))?;
        if super::header(footer.detail.info.id)[..] != self.header[..] {
            return damaged("its header and its footer name different snapshots");
        }
        if !is_gapless(&footer.sections, self.footer_start) {
            return damaged("its sections do not fill it");
        }
        Ok(footer)
    }
}

/// Whether the sections follow one another without gaps from the header to the footer, and have unique names.
fn is_gapless(sections: &[Section], end: u64) -> bool {
    let mut names = HashSet::new();
    let mut next = Some(HEADER_BYTES as u64);
    for section in sections {
        if next != Some(section.offset) || !names.insert(&section.name) {
            return false;
        }
        next = section.offset.checked_add(section.stored_bytes);
    }
    next == Some(end)
}

/// Checks that an open file is the one that the manifest lists.
fn check_listed(entry: &ManifestEntry, info: &SnapshotInfo, size_bytes: u64) -> Result<(), String> {
    if entry.size_bytes != 0 && entry.size_bytes != size_bytes {
        let listed = entry.size_bytes;
        return Err(format!("it has {size_bytes} bytes, the manifest says {listed}"));
    }
    let facts = |info: &SnapshotInfo| {
        (info.id, info.hummock_version_id, info.safe_epoch, info.max_committed_epoch)
    };
    let differs = |listed: &str, found: &str| !listed.is_empty() && listed != found;
    if facts(&entry.info) != facts(info)
        || differs(&entry.info.cluster_id, &info.cluster_id)
        || differs(&entry.info.created_at, &info.created_at)
    {
        return Err("it is not the snapshot that the manifest lists".to_owned());
    }
    Ok(())
}

/// Decodes a section. A checksum mismatch of its stored bytes is reported before an error of the decoder.
fn decode_section<T>(
    from: ChunkReader,
    section: &Section,
    decode: fn(&Section, &mut dyn BufRead) -> Result<T, String>,
) -> Result<T, String> {
    let mut stored = BufReader::new(Summed::new(from));
    let decoded = decode_raw(&mut stored, section, decode);
    io::copy(&mut stored, &mut io::sink()).map_err(|e| e.to_string())?;
    let (_, _, sha256) = stored.into_inner().finish();
    if sha256 != section.sha256 {
        return Err("does not match its checksum".to_owned());
    }
    decoded
}

/// Decodes the content of the zstd frame, and never more of it than the footer announces.
fn decode_raw<T>(
    stored: impl BufRead,
    section: &Section,
    decode: fn(&Section, &mut dyn BufRead) -> Result<T, String>,
) -> Result<T, String> {
    let decoder = zstd::Decoder::with_buffer(stored).map_err(|e| e.to_string())?.single_frame();
    let mut raw = BufReader::new(decoder.take(section.raw_bytes));
    let decoded = decode(section, &mut raw)?;
    let left = raw.fill_buf().map_err(|e| e.to_string())?.len();
    let mut limited = raw.into_inner();
    if left > 0 || limited.limit() > 0 {
        return Err("is not as long as the footer says".to_owned());
    }
    limited.set_limit(1);
    match limited.read(&mut [0]) {
        Ok(0) => Ok(decoded),
        Ok(_) => Err("is longer than the footer says".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The objects of the version, decoded without holding the whole version.
fn decode_objects(section: &Section, raw: &mut dyn BufRead) -> Result<Vec<(SstId, u64)>, String> {
    let mut reader = encoding::Reader::open(raw).map_err(|e| e.to_string())?;
    let mut objects = Vec::new();
    while let Some(file) = reader.next_file().map_err(|e| e.to_string())? {
        if file.sst.is_object() {
            objects.push((file.sst.id, file.sst.size_bytes));
        }
    }
    // Several tables may have an object.
    objects.sort_unstable();
    objects.dedup();
    match reader.count() as u64 == section.entries {
        true => Ok(objects),
        false => Err("has not as many entries as the footer says".to_owned()),
    }
}

fn decode_version(section: &Section, raw: &mut dyn BufRead) -> Result<Version, String> {
    let version = encoding::decode(raw).map_err(|e| e.to_string())?;
    match version.file_count() as u64 == section.entries {
        true => Ok(version),
        false => Err("has not as many entries as the footer says".to_owned()),
    }
}

fn decode_pairs(section: &Section, raw: &mut dyn BufRead) -> Result<Vec<Pair>, String> {
    let mut pairs: Vec<Pair> = Vec::new();
    while !raw.fill_buf().map_err(|e| e.to_string())?.is_empty() {
        let key = read_counted(raw)?;
        let key = String::from_utf8(key).map_err(|_| "has a key that is no text".to_owned())?;
        if section_of(&key) != section.name {
            return Err("has a key of another section".to_owned());
        }
        if pairs.last().is_some_and(|last| last.key >= key) {
            return Err("has keys out of order".to_owned());
        }
        pairs.push(Pair { key, value: read_counted(raw)?.into() });
    }
    match pairs.len() as u64 == section.entries {
        true => Ok(pairs),
        false => Err("has not as many entries as the footer says".to_owned()),
    }
}

/// Reads a length and that number of bytes.
fn read_counted(raw: &mut dyn BufRead) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    raw.read_exact(&mut length).map_err(|e| e.to_string())?;
    let length = u64::from(u32::from_le_bytes(length));
    let at_once = usize::try_from(length.min(TRUSTED_BYTES)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(at_once);
    Read::take(&mut *raw, length).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err("ends within an entry".to_owned()),
    }
}
