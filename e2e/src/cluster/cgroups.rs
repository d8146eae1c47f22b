//! A host's cgroups: one below this process's own in each hierarchy. They are all of a cluster that has a name on the
//! machine, so a shell removes them even if this process is killed.

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// See the module.
pub(super) struct Cgroups {
    paths: Vec<PathBuf>,
    keeper: Child,
    line: Option<ChildStdin>,
}

impl Cgroups {
    /// Makes one of this name in each hierarchy of the machine, of version 1 or 2.
    pub(super) fn new(name: &str) -> Result<Cgroups> {
        let own = std::fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let mut paths = Vec::new();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let Some(root) = hierarchy(controllers) else {
                continue;
            };
            let parent = root.join(path.trim_start_matches('/'));
            let group = parent.join(name);
            std::fs::create_dir_all(&group)
                .with_context(|| format!("making {}", group.display()))?;
            if controllers == "cpuset" {
                // A new cpuset has neither cores nor memory, and takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    std::fs::write(group.join(file), std::fs::read(parent.join(file))?)?;
                }
                std::fs::write(group.join("cgroup.clone_children"), "1")?;
            }
            paths.push(group);
        }
        let (keeper, line) = keeper(&paths)?;
        Ok(Cgroups {
            paths,
            keeper,
            line: Some(line),
        })
    }

    /// A shell's words that move the shell into them.
    pub(super) fn enter(&self) -> String {
        let lines = self
            .paths
            .iter()
            .map(|path| format!("echo $$ > '{}/cgroup.procs'; ", path.display()));
        lines.collect()
    }
}

/// Where a hierarchy is mounted.
fn hierarchy(controllers: &str) -> Option<PathBuf> {
    let base = PathBuf::from("/sys/fs/cgroup");
    let place = match controllers {
        "" if base.join("unified").is_dir() => base.join("unified"),
        "" => base,
        named => base.join(named.trim_start_matches("name=")),
    };
    place.join("cgroup.procs").exists().then_some(place)
}

/// Removes the groups when this process has ended, as soon as they are empty.
fn keeper(paths: &[PathBuf]) -> Result<(Child, ChildStdin)> {
    let script = r#"read -r _; for i in 1 2 3 4 5 6 7 8 9 10; do
        for g; do [ -d "$g" ] && find "$g" -depth -type d -exec rmdir {} + 2>/dev/null; done
        left=; for g; do [ -d "$g" ] && left=1; done; [ -z "$left" ] && exit; sleep 0.3; done"#;
    let mut keeper = Command::new("sh");
    keeper
        .args(["-c", script, "e2e-cgroups"])
        .args(paths)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
    let mut keeper = keeper.spawn().context("starting sh")?;
    let line = keeper.stdin.take().context("sh has no input")?;
    Ok((keeper, line))
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        drop(self.line.take());
        let _reaped = self.keeper.wait();
    }
}
