//! `rw_hummock_current_version`: the version this session reads, and the range of epochs it covers.

use std::sync::Arc;

use crate::system_catalog::SystemContext;
use crate::system_catalog::relation::{SystemRelation, relation};
use tidemark_ledger::version::Version;

pub(super) const RELATION: SystemRelation = relation!(
    Table 14002 "rw_hummock_current_version", |_context, version: Arc<Version>| from versions,
    {
        version_id: Int8 = version.id.0,
        safe_epoch: Int8 = version.safe_epoch.as_u64(),
        max_committed_epoch: Int8 = version.max_committed_epoch.as_u64(),
    }
);

fn versions(context: &SystemContext) -> Vec<Arc<Version>> {
    vec![Arc::clone(&context.view.version)]
}
