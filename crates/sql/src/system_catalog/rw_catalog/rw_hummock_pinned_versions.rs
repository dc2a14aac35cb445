//! `rw_hummock_pinned_versions`: the versions pinned by frontends, fetched at each scan.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::{Cell, Row};
use crate::system_catalog::relation::{RelationKind, Rows, SystemRelation, Wanted};
use tidemark_pg::error::SqlError;
use tidemark_pg::types::SystemType;

pub(super) const RELATION: SystemRelation = SystemRelation {
    name: "rw_hummock_pinned_versions",
    oid: 14012,
    kind: RelationKind::Table,
    columns: &[
        ("worker_node", SystemType::Varchar),
        ("min_pinned_version_id", SystemType::Int8),
        ("pinned_meta_snapshots", SystemType::Varchar),
    ],
    rows: Rows::Fetched(pinned),
};

fn pinned(context: &SystemContext, _: Wanted) -> BoxFuture<'_, Result<Vec<Row>, SqlError>> {
    async move {
        let pinned = context.meta.pinned_versions().await?;
        let row = |pinned: &tidemark_engine::meta::workers::PinnedVersion| {
            let snapshots = pinned.snapshots.iter().map(|snapshot| snapshot.id.to_string());
            let snapshots = snapshots.collect::<Vec<_>>().join(", ");
            vec![
                Cell::from(Some(&pinned.worker)),
                Cell::from(pinned.version.0),
                Cell::from(Some(snapshots)),
            ]
        };
        Ok(pinned.iter().map(row).collect())
    }
    .boxed()
}
