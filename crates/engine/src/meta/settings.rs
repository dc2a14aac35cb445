//! How maintenance is to be done.

/// The flags of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaintenanceSettings {
    /// Whether tables are compacted without being asked for.
    pub compaction: bool,
    /// What the sorting of one compaction may take.
    pub compaction_memory_bytes: usize,
    /// Rows that one compaction may take.
    pub compaction_rows_max: u64,
    /// Whether processes may follow that go on when this one ends.
    pub workers_outside: bool,
    /// Time between two vacuums; zero for never.
    pub vacuum_interval_ms: u64,
    /// An object younger than this is never deleted.
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
