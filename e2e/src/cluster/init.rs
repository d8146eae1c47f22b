//! The first process of a host's own namespaces: makes them look like a machine, and reaps.
//!
//! Nothing of this machine's /var/lib, /var/log, /run or /opt is seen or touched. Must not know: Kubernetes, but for
//! the folders and kernel settings that a kubelet wants.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

/// Where Debian has the CNI plugins.
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// The kubelet writes these machine-wide settings unless they read as it wants them: it is shown what it wants.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Sets the host `name` up, whose state is in `dir`, and reaps until it is ended.
///
/// # Errors
/// What could not be mounted.
pub fn main(name: &str, dir: &Path) -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .context("making / private")?;
    rustix::system::sethostname(name.as_bytes())?;
    put("proc", "/proc", "")?;
    put("sysfs", "/sys", "")?;
    cgroups()?;
    state(dir)?;
    plugins()?;
    settings()?;
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .context("making / shared")?;
    fs::write(dir.join("ready"), "")?;
    reap()
}

fn put(kind: &str, place: &str, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data)?;
    mount(
        kind,
        place,
        kind,
        MountFlags::empty(),
        Some(data.as_c_str()),
    )
    .with_context(|| format!("mounting {kind} {data:?} on {place}"))
}

/// The hierarchies once more, so that the host's own cgroup is their root.
fn cgroups() -> Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let named: Vec<&str> = own
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .collect();
    if named.is_empty() {
        return put("cgroup2", "/sys/fs/cgroup", "");
    }
    put("tmpfs", "/sys/fs/cgroup", "mode=755")?;
    for controllers in named {
        let short = controllers.trim_start_matches("name=");
        let place = format!("/sys/fs/cgroup/{short}");
        fs::create_dir_all(&place)?;
        let data = match short == controllers {
            true => controllers.to_owned(),
            false => format!("none,{controllers}"),
        };
        put("cgroup", &place, &data)?;
    }
    fs::create_dir_all("/sys/fs/cgroup/unified")?;
    put("cgroup2", "/sys/fs/cgroup/unified", "")
}

/// Folders that programs write to: empty ones in memory, but for what may be large, which is on the disk.
fn state(dir: &Path) -> Result<()> {
    for place in ["/var/lib", "/var/log", "/run", "/opt"] {
        put("tmpfs", place, "mode=755")?;
    }
    if Path::new("/etc/cni").is_dir() {
        put("tmpfs", "/etc/cni", "mode=755")?;
    }
    for (name, place) in [
        ("kubelet", "/var/lib/kubelet"),
        ("containerd", "/var/lib/containerd"),
        ("pods", "/var/log/pods"),
    ] {
        let kept = dir.join(name);
        fs::create_dir_all(&kept)?;
        fs::create_dir_all(place)?;
        mount_bind(&kept, place).with_context(|| format!("mounting {place}"))?;
    }
    for place in [
        "/run/lock",
        "/run/cni-net.d",
        "/var/lib/cni",
        "/var/log/containers",
    ] {
        fs::create_dir_all(place)?;
    }
    Ok(())
}

fn plugins() -> Result<()> {
    fs::create_dir_all("/opt/cni/bin")?;
    for name in ["bridge", "host-local", "portmap", "loopback"] {
        let plugin = Path::new(CNI_PLUGINS).join(name);
        fs::copy(&plugin, Path::new("/opt/cni/bin").join(name))
            .with_context(|| format!("copying {}", plugin.display()))?;
    }
    Ok(())
}

fn settings() -> Result<()> {
    let folder = Path::new("/run/sysctl");
    fs::create_dir_all(folder)?;
    for (name, value) in SETTINGS {
        let file = folder.join(name.replace('/', "_"));
        fs::write(&file, format!("{value}\n"))?;
        let place = Path::new("/proc/sys").join(name);
        mount_bind(&file, &place).with_context(|| format!("covering {}", place.display()))?;
    }
    Ok(())
}

/// Takes leave of every process that nobody else waits for, until it is killed.
fn reap() -> Result<()> {
    use rustix::io::Errno;
    use rustix::process::{WaitOptions, wait};
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::child())?;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => {
                    ended.recv().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    })
}
