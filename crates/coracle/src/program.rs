//! What every command needs of the program itself: its log, its children, a name for a new pod.

use std::ffi::OsString;

use anyhow::Context;
use runtime::{CompileLimits, Compiler};
use tracing_subscriber::EnvFilter;

use crate::dirs::Dirs;

/// Logs to standard error, at `level` unless `CORACLE_LOG` says otherwise
/// (`CORACLE_LOG=debug`, or `coracle=debug,cluster=trace`).
pub(crate) fn log(level: &str) {
    let filter = EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A second call would be a mistake of ours that costs a log line, not a pod.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

/// How coracle starts itself again as one of its own children.
pub(crate) fn child(subcommand: &str) -> (std::path::PathBuf, Vec<OsString>) {
    // Not current_exe(): an upgrade in place would have unlinked what that names.
    let exe = std::path::PathBuf::from("/proc/self/exe");
    let exe = std::fs::read_link(&exe)
        .ok()
        .filter(|path| path.exists())
        .unwrap_or(exe);
    (exe, vec!["internal".into(), subcommand.into()])
}

/// The compiler, with its cache below the root folder.
pub(crate) fn compiler(dirs: &Dirs) -> anyhow::Result<Compiler> {
    let (exe, args) = child("compile");
    Compiler::new(&dirs.code(), &exe, &args, CompileLimits::default())
        .context("no compiler can be had")
}

/// An error with what caused it, in one line. Some errors tell their cause in their own words: it
/// is not told twice.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

/// What this machine has, where no cluster shares it out: for what pods are told, not for admission.
/// `root` is on the disk that they use.
pub(crate) fn machine(root: &std::path::Path) -> lifecycle::Resources {
    let cpus = runtime::cores();
    let info = rustix::system::sysinfo();
    let memory: u64 = info.totalram;
    lifecycle::Resources {
        cpu_milli: u64::try_from(cpus).unwrap_or(1).saturating_mul(1000),
        memory: memory.saturating_mul(info.mem_unit.max(1).into()),
        ephemeral_storage: rustix::fs::statvfs(root)
            .map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        ..lifecycle::Resources::default()
    }
}

/// A new UID: a random UUID (RFC 9562, version 4).
pub(crate) fn uid() -> String {
    let mut bytes = [0_u8; 16];
    // The kernel's own source does not fail once the machine is up.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let number = u128::from_be_bytes(bytes);
    let version = (number & !(0xf << 76)) | (0x4 << 76);
    let number = (version & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ]
    .join("-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("no such file");
        let own = anyhow::Error::new(cause()).context("can't read a: no such file; name it");
        assert_eq!(
            super::sentence(own.as_ref()),
            "can't read a: no such file; name it"
        );
        let plain = anyhow::Error::new(cause()).context("can't read a");
        assert_eq!(
            super::sentence(plain.as_ref()),
            "can't read a: no such file"
        );
    }

    #[test]
    fn a_uid_is_a_uuid_of_version_4_and_new_each_time() {
        let uid = super::uid();
        let parts: Vec<&str> = uid.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert!(parts.get(2).unwrap().starts_with('4'));
        assert!("89ab".contains(parts.get(3).unwrap().chars().next().unwrap()));
        assert_ne!(uid, super::uid());
    }
}
