//! What this machine has: memory and processors.

use std::fs;
use std::thread::available_parallelism;

/// Bytes of memory that programs may still take: what the kernel says is available, or the limit of the container if
/// that is less. `None` where the system does not say.
pub(crate) fn available_memory() -> Option<u64> {
    let system = kib("/proc/meminfo", "MemAvailable:");
    // Where there is no limit, the file says "max" or is not there.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok());
    match (system, limit) {
        (Some(system), Some(limit)) => Some(system.min(limit)),
        (system, limit) => system.or(limit),
    }
}

/// The most memory that this process ever had, in bytes; 0 where the system does not say.
pub(crate) fn peak_memory() -> u64 {
    kib("/proc/self/status", "VmHWM:").unwrap_or(0)
}

/// How many threads run at a time.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// A line of a file of the kernel that says so many kB.
fn kib(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_says_what_there_is() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
        assert!(peak_memory() > 1 << 16);
        assert!(cores() > 0);
    }
}
