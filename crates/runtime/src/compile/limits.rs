//! What one compilation may use, and how many may go on at once.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// What one compilation may use. A hostile module can make the compiler slow or hungry, and the
/// engine bounds neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLimits {
    /// CPU time of all its threads, whole seconds.
    pub cpu_seconds: u64,
    /// Time on the clock, from the child's start.
    pub wall: Duration,
    /// Memory that it writes to, bytes (`RLIMIT_DATA`).
    pub memory_bytes: u64,
    /// The largest module that is looked at, bytes.
    pub module_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            cpu_seconds: 120,
            wall: Duration::from_secs(300),
            memory_bytes: 2 << 30,
            module_bytes: 512 << 20,
        }
    }
}

impl CompileLimits {
    /// Puts the calling process under these limits, for good.
    pub(super) fn impose(&self) -> std::io::Result<()> {
        // A core dump of a compiler helps nobody; it opens nothing beyond what it is given.
        limit(Resource::Core, 0, 0)?;
        limit(Resource::Nofile, 64, 64)?;
        // SIGXCPU at the soft limit ends it; the hard one is for who would ignore that.
        limit(Resource::Cpu, self.cpu_seconds, self.cpu_seconds + 1)?;
        limit(Resource::Data, self.memory_bytes, self.memory_bytes)?;
        // Address space that is reserved and never written costs nothing, but is not endless.
        let space = self.memory_bytes.saturating_mul(4);
        limit(Resource::As, space, space)?;
        rustix::process::nice(10)?;
        Ok(())
    }
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, soft: u64, hard: u64) -> std::io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let at_most = |wanted: u64, now: Option<u64>| Some(now.map_or(wanted, |now| now.min(wanted)));
    setrlimit(
        resource,
        Rlimit {
            current: at_most(soft, now.current),
            maximum: at_most(hard, now.maximum),
        },
    )?;
    Ok(())
}

/// How all compilations together keep to half the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// How many children at once. At most three: each may take its whole memory limit.
    pub(super) children: usize,
    /// How many threads each has.
    pub(super) threads: usize,
}

impl Share {
    /// The share on a machine with `cores`: a lone compilation gets half of what there is for all,
    /// so that a slow one never holds up every other.
    pub(super) fn of(cores: usize) -> Share {
        let all = (cores / 2).max(1);
        let threads = (all / 2).max(1);
        Share {
            children: all / threads,
            threads,
        }
    }
}
