//! How much memory this process may use: what the machine has, or the container it runs in.

use std::path::{Path, PathBuf};

/// What is taken when the machine does not tell how much memory it has.
const FALLBACK_BYTES: u64 = 1 << 30;

const MEMINFO: &str = "/proc/meminfo";
const OWN_CGROUPS: &str = "/proc/self/cgroup";
const CGROUPS: &str = "/sys/fs/cgroup";

/// The machine's memory, or less where a control group of the process has a limit.
pub fn available_bytes() -> u64 {
    let machine = read(Path::new(MEMINFO)).and_then(|text| mem_total_bytes(&text));
    let files = limit_files(&read(Path::new(OWN_CGROUPS)).unwrap_or_default());
    let limits = files.iter().filter_map(|file| limit_bytes(&read(file)?));
    limits.chain([machine.unwrap_or(FALLBACK_BYTES)]).min().unwrap_or(FALLBACK_BYTES)
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// The line `MemTotal:  24576000 kB` in bytes.
fn mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Where limits of memory may be, for a process in these groups: of each group and of those around it.
/// Within a container its own group is the root.
fn limit_files(own_cgroups: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    for line in own_cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (PathBuf::from(CGROUPS), "memory.max"),
            v1 if v1.split(',').any(|controller| controller == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(group).join(file)));
    }
    files
}

/// A limit in bytes; `max` is none.
fn limit_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(mem_total_bytes("MemTotal:       2048 kB\nMemFree: 1 kB"), Some(2 << 20));
        assert_eq!(mem_total_bytes("nothing"), None);
        assert!(available_bytes() > 1 << 20);
    }

    #[test]
    fn limits_are_looked_for_in_the_groups_of_the_process() {
        let files = |text: &str| -> Vec<String> {
            limit_files(text).iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(files("0::/"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            files("0::/kubepods/pod1"),
            [
                "/sys/fs/cgroup/kubepods/pod1/memory.max",
                "/sys/fs/cgroup/kubepods/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n"),
            [
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert_eq!(files("nonsense"), Vec::<String>::new());
    }

    #[test]
    fn a_group_may_have_no_limit() {
        assert_eq!(limit_bytes("536870912\n"), Some(512 << 20));
        assert_eq!(limit_bytes("max\n"), None);
    }
}
