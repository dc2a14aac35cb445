//! Jobs requested from the meta role, and what their outcomes mean.

use std::sync::Arc;

use super::chaos::Chaos;
use super::link::Link;
use super::world::{BACKUP_DIRECTORIES, TABLES, World};
use tidemark_engine::meta::MetaNode;
use tidemark_engine::meta::command::BackupOptions;
use tidemark_ledger::backup::verify::{self, Check, Level, Subset};
use tidemark_ledger::catalog::PUBLIC;
use tidemark_ledger::id::SnapshotId;
use tidemark_ledger::meta_error::{ErrorKind, MetaError};
use tidemark_ledger::params;

/// A job of the meta role.
#[derive(Clone, Debug)]
pub enum Job {
    CompactAll,
    Compact { table: &'static str },
    Vacuum,
    Backup { copy_data: bool },
    DeleteSnapshots { ids: Vec<SnapshotId> },
    Alter { name: &'static str, value: String },
    Verify,
    Flush,
}

impl Job {
    pub async fn run(&self, link: &Link) -> Result<Option<SnapshotId>, MetaError> {
        let ask = |node: Arc<MetaNode>| {
            let job = self.clone();
            async move { job.done_by(&node).await }
        };
        link.call("job", ask).await
    }

    async fn done_by(self, node: &Arc<MetaNode>) -> Result<Option<SnapshotId>, MetaError> {
        match self {
            Self::CompactAll => node.compact_all(None).await.map(|_| None),
            Self::Compact { table } => node.compact_all(Some((PUBLIC, table))).await.map(|_| None),
            Self::Vacuum => node.vacuum(Some(0), false).await.map(|_| None),
            Self::Backup { copy_data } => {
                let taken = node.backup(BackupOptions { remarks: None, copy_data }).await;
                taken.map(|entry| Some(entry.info.id))
            }
            Self::DeleteSnapshots { ids } => node.delete_snapshots(&ids).await.map(|()| None),
            Self::Alter { name, value } => {
                node.alter_system(name, Some(&value)).await.map(|_| None)
            }
            Self::Verify => {
                let check = Check { level: Level::Objects, subset: Subset::ALL };
                let request = verify::Request { ids: None, check, restart: false };
                node.verify_snapshots(&request, &|_| {}).await.map(|_| None)
            }
            Self::Flush => node.manager.flush().await.map(|_| None),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::CompactAll | Self::Compact { .. } => "done: manual compactions",
            Self::Vacuum => "done: vacuums",
            Self::Backup { .. } => "done: backups",
            Self::DeleteSnapshots { .. } => "done: deletions of snapshots",
            Self::Alter { .. } => "done: parameters changed",
            Self::Verify => "done: verifications",
            Self::Flush => "done: flushes",
        }
    }

    /// A compaction of one table, or of all.
    pub fn compaction(chaos: &Chaos) -> Self {
        let (table, _) = chaos.pick(&TABLES).expect("there are some");
        if chaos.one_in(4) { Self::Compact { table } } else { Self::CompactAll }
    }

    /// A job other than a compaction, a vacuum or a backup.
    pub fn other(world: &World) -> Self {
        let chaos = &world.chaos;
        match chaos.below(6) {
            0 | 1 => {
                let listed: Vec<_> = world.must_be_listed.iter().map(|(_, id)| *id).collect();
                let ids = chaos.pick(&listed).into_iter().collect();
                Self::DeleteSnapshots { ids }
            }
            2 => {
                let value = (600_000 + chaos.below(1000)).to_string();
                Self::Alter { name: params::TIME_TRAVEL_RETENTION_MS, value }
            }
            3 => {
                let value = chaos.pick(&BACKUP_DIRECTORIES).expect("there are some").to_owned();
                Self::Alter { name: params::BACKUP_STORAGE_DIRECTORY, value }
            }
            4 => Self::Verify,
            _ => Self::Flush,
        }
    }
}

/// Updates what is known by the outcome of a job. `directory` was that of the backup location when it began.
pub fn learn(
    world: &mut World,
    job: &Job,
    directory: Option<String>,
    outcome: Result<Option<SnapshotId>, MetaError>,
) -> Result<(), String> {
    match outcome {
        Ok(taken) => {
            world.chaos.count(job.name());
            let taken = taken.zip(directory).map(|(id, directory)| (directory, id));
            world.must_be_listed.extend(taken);
            Ok(())
        }
        Err(error) => {
            world.chaos.note(&format!("{job:?}: {error}"));
            judge(&error, &world.chaos)
        }
    }
}

/// Rejects an error that only a bug of ours can cause.
pub fn judge(error: &MetaError, chaos: &Chaos) -> Result<(), String> {
    let panicked = error.message.contains("panicked");
    if error.kind == ErrorKind::Internal && !(panicked && chaos.has("flips")) {
        return Err(format!("an error of our own: {error}"));
    }
    Ok(())
}

/// The directory of the current backup location.
pub fn backup_directory(world: &World) -> Option<String> {
    let server = world.link.server()?;
    let state = server.node.manager.state();
    Some(state.params.value(params::BACKUP_STORAGE_DIRECTORY).to_owned())
}
