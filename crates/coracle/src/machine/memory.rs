//! The machine's memory and process numbers, as the kernel tells them.

use std::collections::BTreeMap;

use lifecycle::node::{Level, Signal};

/// What could be read.
pub(super) fn levels() -> BTreeMap<Signal, Level> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let memory = memory(&read("/proc/meminfo"));
    let numbers = numbers(&read("/proc/loadavg"), &read("/proc/sys/kernel/pid_max"));
    let all = [
        (Signal::MemoryAvailable, memory),
        (Signal::PidAvailable, numbers),
    ];
    all.into_iter()
        .filter_map(|(signal, level)| Some((signal, level?)))
        .collect()
}

/// `/proc/meminfo`: what the kernel reckons could be had without swapping is available.
fn memory(text: &str) -> Option<Level> {
    let bytes = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    Some(Level {
        capacity: bytes("MemTotal:")?,
        available: bytes("MemAvailable:")?,
    })
}

/// `/proc/loadavg` counts the threads that there are (`pkg/kubelet/stats/pidlimit`).
fn numbers(loadavg: &str, pid_max: &str) -> Option<Level> {
    let counts = loadavg.split_whitespace().nth(3)?;
    let taken: u64 = counts.split_once('/')?.1.parse().ok()?;
    let capacity: u64 = pid_max.trim().parse().ok()?;
    Some(Level {
        capacity,
        available: capacity.saturating_sub(taken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read_or_left_out() {
        let text = "MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n";
        let level = Level {
            capacity: 2 << 20,
            available: 1 << 20,
        };
        assert_eq!(memory(text), Some(level));
        assert_eq!(memory("MemTotal: 2048 kB\n"), None);
        let level = Level {
            capacity: 32768,
            available: 32646,
        };
        assert_eq!(numbers("0.1 0.2 0.3 2/122 999\n", "32768\n"), Some(level));
        assert_eq!(numbers("", "32768"), None);
        assert!(levels().contains_key(&Signal::MemoryAvailable));
    }
}
