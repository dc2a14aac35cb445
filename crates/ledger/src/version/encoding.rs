//! A version as text: one JSON value per line.
//!
//! | line | holds |
//! |---|---|
//! | 1 | `{"format":1,"id":…,"safe_epoch":…,"max_committed_epoch":…,"files":n}` |
//! | 2 to n + 1 | a [`FileEntry`] each, by table and data file |
//!
//! Checkpoints and snapshots store these lines in a zstd frame. Both directions stream. The test reads
//! `tests/fixtures/version-v1.jsonl`; `UPDATE_FIXTURES=1` rewrites it.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FileEntry, Version};
use crate::epoch::Epoch;
use crate::error::HummockError;
use crate::id::{ObjectId, SstId, VersionId};
use crate::sst::SstColumn;

const FORMAT: u32 = 1;
/// Number of buffered bytes at which lines are written out.
const LINES_BYTES: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    id: VersionId,
    safe_epoch: Epoch,
    max_committed_epoch: Epoch,
    files: usize,
}

/// Writes `version` to `out`, many lines at a time.
pub fn encode(version: &Version, mut out: impl Write) -> io::Result<()> {
    let header = Header {
        format: FORMAT,
        id: version.id,
        safe_epoch: version.safe_epoch,
        max_committed_epoch: version.max_committed_epoch,
        files: version.file_count(),
    };
    let mut lines = Vec::with_capacity(2 * LINES_BYTES);
    push_line(&mut lines, &header)?;
    for file in version.all_files() {
        push_line(&mut lines, &**file)?;
        if lines.len() >= LINES_BYTES {
            out.write_all(&lines)?;
            lines.clear();
        }
    }
    out.write_all(&lines)
}

/// Reads a version and checks its invariants.
pub fn decode(from: impl BufRead) -> Result<Version, HummockError> {
    let mut reader = Reader::open(from)?;
    let Header { id, safe_epoch, max_committed_epoch, .. } = reader.header;
    let mut version = Version { id, max_committed_epoch, ..Version::empty(safe_epoch) };
    let mut columns = Arc::default();
    while let Some(mut file) = reader.next_file()? {
        share_columns(&mut file, &mut columns);
        version.insert(file);
    }
    version.check()?;
    Ok(version)
}

/// Reads a version file by file, without holding all of it in memory.
pub struct Reader<R> {
    from: R,
    line: Vec<u8>,
    header: Header,
    last: Option<(ObjectId, SstId)>,
    count: usize,
}

impl<R: BufRead> Reader<R> {
    pub fn open(mut from: R) -> Result<Self, HummockError> {
        let mut line = Vec::new();
        let header: Header = read_line(&mut from, &mut line)?
            .ok_or_else(|| HummockError::Corrupt("a version without a first line".to_owned()))?;
        if header.format != FORMAT {
            let found = header.format;
            return Err(HummockError::Format { what: "version", found, read: FORMAT });
        }
        Ok(Self { from, line, header, last: None, count: 0 })
    }

    /// The next file; `None` at the end, where the number of files must be that of the first line.
    pub fn next_file(&mut self) -> Result<Option<FileEntry>, HummockError> {
        let Some(file) = read_line::<FileEntry>(&mut self.from, &mut self.line)? else {
            let (found, expected) = (self.count, self.header.files);
            return match found == expected {
                true => Ok(None),
                false => {
                    let what = format!("{found} files where {expected} were written");
                    Err(HummockError::Corrupt(what))
                }
            };
        };
        let position = Some((file.table_id, file.sst.id));
        if position <= self.last {
            return Err(HummockError::Corrupt(format!("file {} is out of order", file.sst.id)));
        }
        self.last = position;
        self.count += 1;
        Ok(Some(file))
    }

    /// Number of files read so far.
    pub fn count(&self) -> usize {
        self.count
    }
}

fn push_line(lines: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, value)?;
    lines.push(b'\n');
    Ok(())
}

/// Shares one list of columns among consecutive files: files of a table mostly have the same columns.
fn share_columns(file: &mut FileEntry, last: &mut Arc<[SstColumn]>) {
    let sst = Arc::get_mut(&mut file.sst).expect("nobody else has what was just read");
    if sst.columns == *last {
        sst.columns = Arc::clone(last);
    } else {
        *last = Arc::clone(&sst.columns);
    }
}

/// The value of the next line; `None` at the end.
fn read_line<T: serde::de::DeserializeOwned>(
    from: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> Result<Option<T>, HummockError> {
    line.clear();
    let read = from.read_until(b'\n', line);
    read.map_err(|source| HummockError::Stream { action: "read the version", source })?;
    if line.is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_slice(line);
    value.map(Some).map_err(|e| HummockError::Corrupt(format!("a line of the version: {e}")))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::epoch::Lifetime;
    use crate::id::ColumnId;
    use crate::sst::{InlineRows, KeyRange, SstInfo};
    use crate::storage::{BLOCK_BYTES, BlockSums, Checksum};
    use crate::version::sample::{OTHER, TABLE};
    use crate::version::tests::{churned, epoch, parted, shared};

    fn text_of(version: &Version) -> String {
        let mut bytes = Vec::new();
        encode(version, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_version_reads_back_as_it_was_written() {
        let version = churned();
        assert_eq!(decode(text_of(&version).as_bytes()).unwrap(), version);
        let empty = Version::empty(Epoch::from_u64(1 << 16));
        assert_eq!(decode(text_of(&empty).as_bytes()).unwrap(), empty);
    }

    #[test]
    fn what_is_not_a_whole_version_is_refused() {
        let text = text_of(&churned());
        let lines: Vec<_> = text.lines().collect();
        let swapped = [lines[0], lines[2], lines[1]].join("\n");
        let wrong = [
            String::new(),
            lines[0].to_owned(),
            lines[..2].join("\n"),
            format!("{text}{}\n", lines[2]),
            swapped,
            text.replace("\"format\":1", "\"format\":2"),
            text.replace("\"row_group_rows\":[10]", "\"row_group_rows\":[9]"),
            text[..text.len() - 5].to_owned(),
        ];
        for text in wrong {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn entries_say_their_table_only_if_the_file_was_written_for_another() {
        for version in [shared(), parted()] {
            let text = text_of(&version);
            let begin: Vec<_> = text.lines().map(|line| &line[..14]).collect();
            assert_eq!(begin[1..], ["{\"sst\":{\"id\":1", "{\"table_id\":9,"], "{text}");
            assert_eq!(decode(text.as_bytes()).unwrap(), version);
            let lines: Vec<_> = text.lines().collect();
            for wrong in [[0, 2, 1], [0, 1, 1], [0, 2, 2]] {
                let text = wrong.map(|line| lines[line]).join("\n");
                assert!(decode(text.as_bytes()).is_err(), "{text}");
            }
        }
        let read = decode(text_of(&shared()).as_bytes()).unwrap();
        let [one, other] =
            [TABLE, OTHER].map(|table| &read.open_file(table, SstId(1)).unwrap().sst);
        assert!(Arc::ptr_eq(one, other), "what is in the file is in memory once");
    }

    #[test]
    fn inline_rows_count_for_each_table_that_stores_them() {
        let mut version = inline();
        let file = version.open_file(ObjectId(2), SstId(7)).unwrap().clone();
        let bytes = version.inline_bytes;
        let lifetime = Lifetime::since(epoch(4)).ended_at(epoch(5));
        version.insert(FileEntry { table_id: OTHER, lifetime, ..FileEntry::clone(&file) });
        assert_eq!(version.inline_bytes, 2 * bytes);
        assert_eq!(decode(text_of(&version).as_bytes()).unwrap(), version);
        assert_eq!(version.data_files().count(), 1);
        let kept = version.retain_since(epoch(5));
        assert_eq!((kept.inline_bytes, kept.file_count()), (bytes, 1));
    }

    #[test]
    fn format_1_reads_forever() {
        let written = crate::fixtures::read_or_update("version-v1.jsonl", || text_of(&churned()));
        assert_eq!(decode(written.as_slice()).unwrap(), churned());
    }

    /// A version with inline rows and a key range.
    fn inline() -> Version {
        let values: ArrayRef = Arc::new(StringViewArray::from(vec![Some("ada"), None]));
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("k", keys), ("v", values)]).unwrap();
        let rows = InlineRows::encode(&rows).unwrap().unwrap();
        let sst = SstInfo {
            id: SstId(7),
            written_for: ObjectId(2),
            rows: 2,
            size_bytes: rows.bytes().len() as u64,
            row_group_rows: vec![2],
            sha256: Checksum::of(rows.bytes()),
            block_sums: None,
            columns: [(1, "k"), (2, "v")]
                .map(|(id, name)| SstColumn { id: ColumnId(id), name: name.to_owned() })
                .into(),
            keys: KeyRange::of(&[0x80, 0, 1], &[0x80, 0, 2]),
            inline: Some(Box::new(rows)),
        };
        let mut version = Version::empty(Epoch::from_u64(1 << 16));
        version.max_committed_epoch = Epoch::from_u64(5 << 16);
        version.insert(FileEntry::born(Arc::new(sst), Epoch::from_u64(3 << 16)));
        version
    }

    /// A version with a file whose blocks have checksums.
    fn summed() -> Version {
        let content: Vec<u8> = (0..BLOCK_BYTES + 100).map(|at| at.to_le_bytes()[1]).collect();
        let sst = SstInfo {
            id: SstId(8),
            written_for: ObjectId(2),
            rows: 3,
            size_bytes: content.len() as u64,
            row_group_rows: vec![3],
            sha256: Checksum::of(&content),
            block_sums: Some(BlockSums::of(&content)),
            columns: [SstColumn { id: ColumnId(1), name: "k".to_owned() }].into(),
            keys: None,
            inline: None,
        };
        let mut version = Version::empty(Epoch::from_u64(1 << 16));
        version.max_committed_epoch = Epoch::from_u64(5 << 16);
        version.insert(FileEntry::born(Arc::new(sst), Epoch::from_u64(3 << 16)));
        version
    }

    #[test]
    fn block_sums_of_format_1_read_forever() {
        let name = "version-v1-block-sums.jsonl";
        let written = crate::fixtures::read_or_update(name, || text_of(&summed()));
        assert_eq!(decode(written.as_slice()).unwrap(), summed());
    }

    #[test]
    fn inline_rows_of_format_1_read_forever() {
        let name = "version-v1-inline.jsonl";
        let written = crate::fixtures::read_or_update(name, || text_of(&inline()));
        let version = decode(written.as_slice()).unwrap();
        let file = version.open_file(ObjectId(2), SstId(7)).unwrap();
        assert_eq!(version.inline_bytes, file.sst.size_bytes);
        assert_eq!(file.sst.keys, KeyRange::of(&[0x80, 0, 1], &[0x80, 0, 2]));
        let rows = file.sst.inline_rows(file.table_id).unwrap().unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
        let values: Vec<_> = rows.column(1).as_string::<i32>().iter().collect();
        assert_eq!(values, [Some("ada"), None]);
    }
}
