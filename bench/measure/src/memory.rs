//! What a process has, as its kernel counts it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// What a process has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Its share of memory, KiB (`Pss`).
    pub pss: u64,
    /// Page tables, KiB (`VmPTE`).
    pub tables: u64,
    /// Mappings.
    pub mappings: u64,
    /// Descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Held {
    /// By a process, now.
    pub fn by(pid: u32) -> anyhow::Result<Held> {
        let status = read(pid, "status")?;
        Ok(Held {
            pss: field(&read(pid, "smaps_rollup")?, "Pss:")?,
            tables: field(&status, "VmPTE:")?,
            mappings: read(pid, "maps")?.lines().count() as u64,
            descriptors: std::fs::read_dir(proc(pid, "fd"))?.count() as u64,
            threads: field(&status, "Threads:")?,
        })
    }

    /// Memory and page tables, KiB.
    pub fn memory(&self) -> u64 {
        self.pss + self.tables
    }
}

/// The most memory that a process ever had, KiB (`VmHWM`).
pub fn peak(pid: u32) -> anyhow::Result<u64> {
    field(&read(pid, "status")?, "VmHWM:")
}

/// CPU time of a process, that of its threads which have ended too, in steps of a clock tick (10 ms).
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name may hold anything: the fields are counted from its closing parenthesis on, the
    // state being the third (proc_pid_stat(5)).
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let times = fields.split_whitespace().skip(14 - 3).take(2);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    let milliseconds = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_millis(milliseconds))
}

/// CPU time of this process, as fine as the clock.
pub fn cpu() -> anyhow::Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

/// Bytes of the main heap that are in use. What other threads have allocated may be in other heaps.
pub fn heap() -> u64 {
    // SAFETY: it only reads the allocator's own counts, under its locks.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

fn proc(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = proc(pid, file);
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

/// A line's number.
fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|n| n.parse().ok())
        .with_context(|| format!("there is no {name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_has_some_of_each() {
        let held = Held::by(std::process::id()).unwrap();
        assert!(held.pss > 0 && held.tables > 0 && held.mappings > 0);
        assert!(held.descriptors > 2 && held.threads > 0);
        let before = cpu_time(std::process::id()).unwrap();
        while cpu_time(std::process::id()).unwrap() == before {}
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        assert_eq!(field("Pss:    12 kB\n", "Pss:").unwrap(), 12);
        let error = field("Pss: 12 kB", "VmPTE:").unwrap_err();
        assert!(error.to_string().contains("VmPTE:"));
    }
}
