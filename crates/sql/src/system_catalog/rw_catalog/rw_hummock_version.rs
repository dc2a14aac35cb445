//! `rw_hummock_version`: the version this session reads, with totals of its contents.

use std::sync::Arc;

use crate::system_catalog::SystemContext;
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_ledger::version::Version;

pub(super) const RELATION: SystemRelation = relation!(
    Table 14010 "rw_hummock_version", |_context, version: Arc<Version>| from versions,
    {
        version_id: Int8 = version.id.0,
        safe_epoch: Int8 = version.safe_epoch.as_u64(),
        max_committed_epoch: Int8 = version.max_committed_epoch.as_u64(),
        files: Int8 = version.file_count() as u64,
        rows: Int8 = version.all_files().map(|file| file.sst.rows).sum::<u64>(),
        bytes: Int8 = version.data_files().map(|sst| sst.size_bytes).sum::<u64>(),
        inline_bytes: Int8 = version.inline_bytes,
    }
);

fn versions(context: &SystemContext) -> Vec<Arc<Version>> {
    vec![Arc::clone(&context.view.version)]
}
