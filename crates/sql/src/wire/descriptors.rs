//! File descriptors: how many this process may still open.

/// Descriptors kept for what queries open: files, and connections to stores.
pub const KEPT: usize = 24;
/// Taken where the system does not say.
const FREE_FALLBACK: usize = 512;
/// No server of ours needs more, and some systems call "unlimited" what they cannot count to.
const LIMIT_MAX: u64 = 1 << 20;

/// Descriptors that are free, after the limit was raised as far as this process may raise it.
pub fn free() -> usize {
    let limit = rlimit::increase_nofile_limit(LIMIT_MAX);
    let limit = limit.ok().and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(FREE_FALLBACK, |limit| limit.saturating_sub(in_use()))
}

/// Descriptors in use, where the system lists them.
fn in_use() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
