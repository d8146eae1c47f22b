//! The disks with pods' folders and images, and what each pod takes of them.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use lifecycle::node::{Disk, Level, Signal, Usage};

use crate::dirs::Dirs;

/// What tells, by its own change, when a copied root was as the image has it: what is newer, the
/// guest wrote.
pub(crate) const COPIED: &str = "copied";
/// The termination message of a run, in its folder.
pub(crate) const SAID: &str = "termination-log";

/// How full the disks are.
pub(super) fn levels(dirs: &Dirs, usage: &mut Usage) {
    let disks = [
        (
            dirs.root().to_owned(),
            Signal::NodeFsAvailable,
            Signal::NodeFsInodesFree,
        ),
        (
            dirs.images(),
            Signal::ImageFsAvailable,
            Signal::ImageFsInodesFree,
        ),
    ];
    let mut devices = Vec::new();
    for (path, bytes, inodes) in disks {
        let Ok(disk) = rustix::fs::statvfs(&path) else {
            tracing::debug!(path = %path.display(), "the disk can't be measured");
            continue;
        };
        let size = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let level = Level {
            capacity: size(disk.f_blocks),
            available: size(disk.f_bavail),
        };
        usage.levels.insert(bytes, level);
        // A file system that makes inodes as it needs them tells of none.
        if disk.f_files > 0 {
            let level = Level {
                capacity: disk.f_files,
                available: disk.f_favail,
            };
            usage.levels.insert(inodes, level);
        }
        devices.extend(rustix::fs::stat(&path).ok().map(|stat| stat.st_dev));
    }
    usage.images_apart = matches!(devices.as_slice(), [one, other] if one != other);
}

/// What a pod's roots, logs and volumes take.
pub(super) fn of_pod(dirs: &Dirs, pod: &Pod, usage: &mut Usage) {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let own = usage.pods.entry(uid.clone()).or_default();
    own.looked = true;
    let spec = pod.spec.as_ref();
    let volumes = spec
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    for volume in volumes.iter().filter(|volume| is_on_disk(volume)) {
        let taken = measured(&dirs.volume(&uid, &volume.name), None);
        own.volumes.insert(volume.name.clone(), taken);
    }
    let containers = spec.into_iter().flat_map(|spec| {
        let inits = spec.init_containers.iter().flatten();
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        let lasting = inits.chain(&spec.containers).map(|one| one.name.clone());
        lasting.chain(ephemeral.map(|one| one.name.clone()))
    });
    for name in containers {
        let logs = measured(&dirs.logs(pod, &name), None);
        let root = written(&dirs.runs_of(&uid, &name));
        let container = own.containers.entry(name).or_default();
        (container.root, container.logs) = (root, logs);
    }
}

/// A folder in memory takes no disk, and a hostPath is not the pod's.
fn is_on_disk(volume: &Volume) -> bool {
    let in_memory = |medium: Option<&str>| medium == Some("Memory");
    match &volume.empty_dir {
        Some(empty) => !in_memory(empty.medium.as_deref()),
        None => volume.host_path.is_none(),
    }
}

/// What the runs of a container have written: of an overlay its upper folder, of a copy what is
/// newer than the copy.
fn written(runs: &Path) -> Disk {
    let Ok(entries) = std::fs::read_dir(runs) else {
        return Disk::default();
    };
    entries.flatten().fold(Disk::default(), |sum, run| {
        let folder = run.path();
        let upper = measured(&folder.join("upper"), None);
        let copied = std::fs::metadata(folder.join(COPIED)).and_then(|meta| meta.modified());
        let since = copied.ok().and_then(|at| Timestamp::try_from(at).ok());
        let newer = since.map(|since| measured(&folder.join("root"), Some(since)));
        let said = said(&folder.join(SAID));
        sum.plus(upper).plus(newer.unwrap_or_default()).plus(said)
    })
}

/// A file of the guest's that lies in neither.
fn said(file: &Path) -> Disk {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::symlink_metadata(file).ok();
    found.map_or_else(Disk::default, |meta| Disk {
        bytes: meta.blocks().saturating_mul(512),
        inodes: 1,
    })
}

fn measured(path: &Path, since: Option<Timestamp>) -> Disk {
    match volume::used(path, since) {
        Ok(used) => Disk {
            bytes: used.bytes,
            inodes: used.inodes,
        },
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "what it takes is not known");
            Disk::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_pods_volumes_roots_and_logs_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(dir.path()).unwrap();
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"uid":"u","name":"p","namespace":"n"},"spec":{
                "containers":[{"name":"over"},{"name":"copy"}],
                "volumes":[{"name":"v","emptyDir":{}},{"name":"m","emptyDir":{"medium":"Memory"}},
                    {"name":"h","hostPath":{"path":"/"}}]}}"#,
        )
        .unwrap();
        let put = |folder: &Path, name: &str, size: usize| {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(name), vec![1; size]).unwrap();
        };
        put(&dirs.volume("u", "v"), "file", 1 << 20);
        put(&dirs.volume("u", "m"), "file", 1 << 20);
        put(&dirs.logs(&pod, "over"), "0.log", 2 << 20);
        put(&dirs.run("u", "over", 0).join("upper"), "file", 3 << 20);
        let copy = dirs.run("u", "copy", 2);
        put(&copy.join("root"), "of-the-image", 4 << 20);
        put(&copy, COPIED, 0);
        put(&dirs.run("u", "over", 1), SAID, 5 << 20);
        let mut usage = Usage::default();
        of_pod(&dirs, &pod, &mut usage);
        let own = &usage.pods["u"];
        assert!(own.looked);
        let mib = |disk: Disk| disk.bytes >> 20;
        assert_eq!(own.volumes.keys().collect::<Vec<_>>(), ["v"]);
        assert_eq!(mib(own.volumes["v"]), 1);
        let over = own.containers["over"];
        assert_eq!((mib(over.root), mib(over.logs)), (8, 2));
        assert_eq!(own.containers["copy"].root, Disk::default());
        levels(&dirs, &mut usage);
        assert!(usage.levels[&Signal::NodeFsAvailable].capacity > 0);
        assert!(!usage.images_apart);
    }
}
