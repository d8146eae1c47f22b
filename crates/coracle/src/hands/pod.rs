//! A pod's own folders: its volumes, and what is left when it goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount};
use lifecycle::{Failure, Output, quantity};
use volume::{HostPathType, MountKind, Mounted};

use super::objects::config_failure;
use super::{Hands, blocking, failure, remove};
use crate::container::{self, Files, Needs, Process, files, is_written};
use crate::dirs::Dirs;
use crate::program::sentence;

fn volume_failure(error: &volume::Error) -> Failure {
    failure(
        "CreateContainerConfigError",
        sentence(error),
        error.retryable(),
    )
}

fn wrong(message: String) -> Failure {
    failure("CreateContainerConfigError", message, false)
}

fn volumes(pod: &Pod) -> &[Volume] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Makes and opens one of a pod's volumes. The files of a written one are written by [`Hands::mount_pod`].
fn open_volume(dirs: &Dirs, pod: &Pod, volume: &Volume, local: bool) -> Result<Mounted, Failure> {
    let path = dirs.volume(uid(pod), &volume.name);
    let folder = |fd| Mounted {
        fd,
        kind: MountKind::Folder,
    };
    if let Some(empty) = &volume.empty_dir {
        let opened = match empty.medium.as_deref() {
            Some("Memory") => volume::memory_dir(&path, memory_limit(pod, volume)),
            _ => volume::empty_dir(&path),
        };
        return opened.map(folder).map_err(|error| volume_failure(&error));
    }
    if is_written(volume) {
        let opened = volume::empty_dir(&path);
        return opened.map(folder).map_err(|error| volume_failure(&error));
    }
    if let Some(host) = &volume.host_path {
        // On one machine a folder that is not there is a typing error, not one to be made.
        let kind = match (local, host.type_.as_deref()) {
            (true, None) => HostPathType::Existing,
            (_, word) => HostPathType::from_str(word.unwrap_or_default()).map_err(wrong)?,
        };
        return volume::host_path(Path::new(&host.path), kind)
            .map_err(|error| volume_failure(&error));
    }
    Err(wrong(format!(
        "volume {:?} is of a kind that this version can't mount; use emptyDir, hostPath, configMap, \
         secret, downwardAPI or projected",
        volume.name
    )))
}

/// The most that a folder in memory holds: its own limit, else what the pod's containers may use
/// together (`calculateEmptyDirMemorySize` of `pkg/volume/emptydir`); `None` without limits.
fn memory_limit(pod: &Pod, volume: &Volume) -> Option<u64> {
    let own = volume.empty_dir.as_ref()?.size_limit.as_ref();
    let own = own.and_then(quantity::bytes).filter(|bytes| *bytes > 0);
    own.or_else(|| {
        let containers = pod.spec.as_ref()?.containers.iter();
        let limits = containers.map(|one| {
            let limits = one.resources.as_ref()?.limits.as_ref()?;
            quantity::bytes(limits.get("memory")?)
        });
        limits.sum::<Option<u64>>().filter(|bytes| *bytes > 0)
    })
}

/// What a container mounts, in the order of its mounts.
pub(super) fn mounts(
    dirs: &Dirs,
    pod: &Pod,
    container: &str,
    process: &Process,
    local: bool,
) -> Result<Vec<(runtime::MountSpec, Mounted)>, Failure> {
    let found = super::container(pod, container);
    let wanted = found.as_ref().and_then(|c| c.volume_mounts.as_deref());
    let mut mounts = Vec::new();
    for mount in wanted.unwrap_or_default() {
        let Some(volume) = volumes(pod).iter().find(|volume| volume.name == mount.name) else {
            return Err(wrong(format!(
                "container {container:?}: volumeMounts names volume {:?}, which the pod does not have",
                mount.name
            )));
        };
        let spec = runtime::MountSpec {
            guest_path: mount.mount_path.clone(),
            read_only: mount.read_only.unwrap_or_default() || is_written(volume),
        };
        let whole = open_volume(dirs, pod, volume, local)?;
        mounts.push((spec, part(whole, volume, mount, process)?));
    }
    Ok(mounts)
}

/// The part of a volume that a mount asks for (`makeMounts` of `pkg/kubelet/kubelet_pods.go`).
fn part(
    whole: Mounted,
    volume: &Volume,
    mount: &VolumeMount,
    process: &Process,
) -> Result<Mounted, Failure> {
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    let path = match expression {
        "" => mount.sub_path.clone().unwrap_or_default(),
        expression => expanded(expression, process)?,
    };
    if path.is_empty() {
        return Ok(whole);
    }
    if whole.kind != MountKind::Folder {
        return Err(wrong(format!(
            "volume {:?} is a file, which has no subPath {path:?}; mount the file itself",
            volume.name
        )));
    }
    // What is not there becomes a folder, but not where the agent alone writes.
    volume::sub_path(&whole.fd, &path, !is_written(volume)).map_err(|error| {
        let message = format!("volume {:?}: {}", volume.name, sentence(&error));
        failure("CreateContainerConfigError", message, error.retryable())
    })
}

/// `subPathExpr`, of which every variable has to have a value (`ExpandContainerVolumeMounts`).
fn expanded(expression: &str, process: &Process) -> Result<String, Failure> {
    let missing = std::cell::RefCell::new(Vec::new());
    let path = container::expand(expression, |name| {
        let known = process.env.iter().find(|(known, _)| known == name);
        let value = known.map(|(_, value)| value.clone()).unwrap_or_default();
        if value.is_empty() {
            missing.borrow_mut().push(name.to_owned());
        }
        Some(value)
    });
    match missing.into_inner() {
        missing if missing.is_empty() => Ok(path),
        missing => Err(wrong(format!(
            "subPathExpr {expression:?}: missing value for {}; give the container these variables",
            missing.join(", ")
        ))),
    }
}

/// As `MountVolume.SetUp failed` of the kubelet's FailedMount.
fn set_up(volume: &str, failure: Failure) -> Failure {
    let message = failure.message;
    Failure {
        message: format!("MountVolume.SetUp failed for volume {volume:?} : {message}"),
        ..failure
    }
}

/// Removes a pod's folder with all that is mounted in it.
pub(crate) fn remove_pod(dirs: &Dirs, uid: &str) -> Result<(), volume::Error> {
    volume::unmount_below(&dirs.volumes(uid))?;
    volume::remove(&dirs.pod(uid))
}

impl Hands {
    /// The files of a pod's written volumes, by volume.
    async fn written(&self, pod: &Pod) -> Result<BTreeMap<String, Files>, Failure> {
        let facts = self.facts(pod, &[])?;
        let mut all = BTreeMap::new();
        for volume in volumes(pod).iter().filter(|volume| is_written(volume)) {
            let mut needs = Needs::default();
            needs.add_volume(volume);
            let given = self.given(pod, &needs).await;
            let made = given.and_then(|given| {
                files(pod, volume, &given, &facts).map_err(|error| config_failure(&error))
            });
            let made = made.map_err(|failure| set_up(&volume.name, failure))?;
            all.insert(volume.name.clone(), made);
        }
        Ok(all)
    }

    /// Makes the pod's volumes.
    pub(super) async fn mount_pod(&self, pod: &Arc<Pod>) -> Result<Output, Failure> {
        if volumes(pod).is_empty() {
            return Ok(Output::Nothing);
        }
        let written = self.written(pod).await?;
        let (dirs, pod, local) = (self.dirs.clone(), pod.clone(), self.place.local_images);
        blocking(move || {
            let made = volumes(&pod).iter().try_for_each(|volume| {
                drop(open_volume(&dirs, &pod, volume, local)?);
                if let Some(files) = written.get(&volume.name) {
                    let path = dirs.volume(uid(&pod), &volume.name);
                    volume::project(&path, files)
                        .map_err(|error| set_up(&volume.name, volume_failure(&error)))?;
                }
                Ok(())
            });
            if made.is_err()
                && let Err(error) = remove_pod(&dirs, uid(&pod))
            {
                let uid = uid(&pod);
                tracing::warn!(uid, %error, "what a failed mount made stays until the pod goes");
            }
            made.map(|()| Output::Nothing)
        })
        .await
    }

    /// Writes anew what has changed of the pod's written volumes since they were made; for who
    /// mounted them it changes at once. Volumes that are not made yet are left alone.
    pub(crate) async fn refresh(&self, pod: &Pod) -> Result<(), Failure> {
        if !volumes(pod).iter().any(is_written) {
            return Ok(());
        }
        let written = self.written(pod).await?;
        let (dirs, uid) = (self.dirs.clone(), uid(pod).to_owned());
        blocking(move || {
            for (name, files) in written {
                let path = dirs.volume(&uid, &name);
                // Without its link it is being made, or unmade.
                if std::fs::symlink_metadata(path.join("..data")).is_ok() {
                    volume::project(&path, &files)
                        .map_err(|error| set_up(&name, volume_failure(&error)))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes all that the pod had on disk, but its logs.
    pub(super) async fn unmount_pod(&self, pod: &Pod) -> Result<Output, Failure> {
        let uid = uid(pod).to_owned();
        self.forget_images(&uid);
        let (dirs, folder) = (self.dirs.clone(), self.dirs.pod(&uid));
        self.brief(move || {
            volume::unmount_below(&dirs.volumes(&uid))
                .map_err(|error| failure("FailedKillPod", sentence(&error), true))?;
            remove(&folder)?;
            Ok(Output::Nothing)
        })
        .await
    }
}
