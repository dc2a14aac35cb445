//! Counts the file descriptors that this process may still open.

/// Descriptors reserved for files and store connections of queries.
pub const KEPT: usize = 24;
/// Assumed if the system does not report a limit.
const FREE_FALLBACK: usize = 512;
/// Upper bound: enough for any server, and some systems report "unlimited" as a value they cannot reach.
const LIMIT_MAX: u64 = 1 << 20;

/// Raises the limit as far as permitted, and returns the number of free descriptors.
pub fn free() -> usize {
    let limit = rlimit::increase_nofile_limit(LIMIT_MAX);
    let limit = limit.ok().and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(FREE_FALLBACK, |limit| limit.saturating_sub(in_use()))
}

/// Descriptors in use, if the system lists them, else 0.
fn in_use() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
