//! The settings of maintenance.

/// The maintenance flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaintenanceSettings {
    /// Whether tables are compacted automatically.
    pub compaction: bool,
    /// Memory for the sorting of one compaction.
    pub compaction_memory_bytes: usize,
    /// Maximum rows of one compaction.
    pub compaction_rows_max: u64,
    /// Whether there may be workers in other processes, which continue when this one ends.
    pub workers_outside: bool,
    /// Time between two vacuums; zero disables them.
    pub vacuum_interval_ms: u64,
    /// Minimum age of an object to be deleted.
    pub min_sst_retention_ms: u64,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self {
            compaction: true,
            compaction_memory_bytes: 512 << 20,
            compaction_rows_max: 32 << 20,
            workers_outside: false,
            vacuum_interval_ms: 60_000,
            min_sst_retention_ms: 21_600_000,
        }
    }
}
