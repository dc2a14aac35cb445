//! `rw_hummock_sstables`: every data file of every table in the version this session reads, including dead ones.
//! A file that two tables have is listed for each.

use std::sync::Arc;

use crate::system_catalog::SystemContext;
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_ledger::sst::KeyRange;
use tidemark_ledger::version::FileEntry;
use tidemark_ledger::{layout, params};

struct Listed {
    file: Arc<FileEntry>,
    /// `None` for inline rows.
    object: Option<String>,
}

pub(super) const RELATION: SystemRelation = relation!(
    Table 14011 "rw_hummock_sstables", |_context, listed: Listed| from files,
    {
        sstable_id: Int8 = listed.file.sst.id.0,
        table_id: Int4 = listed.file.table_id,
        object: Varchar = listed.object.as_ref(),
        born_epoch: Int8 = listed.file.lifetime.born.as_u64(),
        died_epoch: Int8 = listed.file.lifetime.died.map(|died| died.as_u64()),
        rows: Int8 = listed.file.sst.rows,
        dead_rows: Int8 = listed.file.stamps.rows(),
        size_bytes: Int8 = listed.file.sst.size_bytes,
        key_range_left: Bytea = listed.file.sst.keys.as_ref().map(KeyRange::min),
        key_range_right: Bytea = listed.file.sst.keys.as_ref().map(KeyRange::max),
    }
);

fn files(context: &SystemContext) -> Vec<Listed> {
    let directory = context.view.params.value(params::DATA_DIRECTORY);
    let listed = |file: &Arc<FileEntry>| {
        let object = file.sst.is_object().then(|| layout::sst(directory, file.sst.id).to_string());
        Listed { file: Arc::clone(file), object }
    };
    context.view.version.all_files().map(listed).collect()
}
