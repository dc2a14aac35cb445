//! `rw_worker_nodes`: the processes of the cluster, fetched at each scan.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::system_catalog::SystemContext;
use crate::system_catalog::cell::{Cell, Row};
use crate::system_catalog::relation::{RelationKind, Rows, SystemRelation, Wanted};
use tidemark_engine::meta::command::Role;
use tidemark_engine::meta::workers::WorkerNode;
use tidemark_pg::error::SqlError;
use tidemark_pg::types::SystemType;

pub(super) const RELATION: SystemRelation = SystemRelation {
    name: "rw_worker_nodes",
    oid: 14013,
    kind: RelationKind::Table,
    columns: &[
        ("id", SystemType::Int4),
        ("host", SystemType::Varchar),
        ("port", SystemType::Varchar),
        ("type", SystemType::Varchar),
        ("state", SystemType::Varchar),
        ("parallelism", SystemType::Int4),
        ("is_streaming", SystemType::Bool),
        ("is_serving", SystemType::Bool),
        ("rw_version", SystemType::Varchar),
        ("system_total_memory_bytes", SystemType::Int8),
        ("system_total_cpu_cores", SystemType::Int8),
        ("started_at", SystemType::Timestamptz),
    ],
    rows: Rows::Fetched(nodes),
};

fn nodes(context: &SystemContext, _: Wanted) -> BoxFuture<'_, Result<Vec<Row>, SqlError>> {
    async move { Ok(context.meta.worker_nodes().await?.iter().map(row).collect()) }.boxed()
}

fn row(node: &WorkerNode) -> Row {
    let info = &node.info;
    let (host, port) = info.addr.rsplit_once(':').unwrap_or((&info.addr, ""));
    vec![
        Cell::from(u64::from(node.id)),
        Cell::from(host),
        Cell::from(port),
        Cell::from(info.role.worker_type()),
        Cell::from(node.state()),
        Cell::from(u64::from(info.parallelism)),
        Cell::from(false),
        Cell::from(info.role == Role::Frontend),
        Cell::from(info.release.as_str()),
        Cell::from(info.memory_bytes),
        Cell::from(u64::from(info.parallelism)),
        Cell::from(Some(info.started_micros())),
    ]
}
