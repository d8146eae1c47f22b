//! A pod's own folders: its volumes, and what is left when it goes.

use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use lifecycle::{Failure, Output};
use volume::{HostPathType, MountKind, Mounted};

use super::{Hands, blocking, failure, remove};
use crate::dirs::Dirs;
use crate::program::sentence;

fn volume_failure(error: &volume::Error) -> Failure {
    failure(
        "CreateContainerConfigError",
        sentence(error),
        error.retryable(),
    )
}

/// Makes and opens one of a pod's volumes.
fn open_volume(dirs: &Dirs, uid: &str, volume: &Volume, local: bool) -> Result<Mounted, Failure> {
    if volume.empty_dir.is_some() {
        let fd: OwnedFd = volume::empty_dir(&dirs.volume(uid, &volume.name))
            .map_err(|error| volume_failure(&error))?;
        return Ok(Mounted {
            fd,
            kind: MountKind::Folder,
        });
    }
    if let Some(host) = &volume.host_path {
        // With `run -v` a folder that is not there is a typing error, not one to be made.
        let kind = match (local, host.type_.as_deref()) {
            (true, None) => HostPathType::Existing,
            (_, word) => HostPathType::from_str(word.unwrap_or_default())
                .map_err(|message| failure("CreateContainerConfigError", message, false))?,
        };
        return volume::host_path(std::path::Path::new(&host.path), kind)
            .map_err(|error| volume_failure(&error));
    }
    let message = format!(
        "volume {:?} is of a kind that this version can't mount; use emptyDir or hostPath",
        volume.name
    );
    Err(failure("CreateContainerConfigError", message, false))
}

/// What a container mounts, in the order of its mounts.
pub(super) fn mounts(
    dirs: &Dirs,
    pod: &Pod,
    container: &str,
    local: bool,
) -> Result<Vec<(runtime::MountSpec, Mounted)>, Failure> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    let wanted = super::container(pod, container).and_then(|c| c.volume_mounts.as_deref());
    let mut mounts = Vec::new();
    for mount in wanted.unwrap_or_default() {
        let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) else {
            let message = format!(
                "container {container:?}: volumeMounts names volume {:?}, which the pod does not have",
                mount.name
            );
            return Err(failure("CreateContainerConfigError", message, false));
        };
        let spec = runtime::MountSpec {
            guest_path: mount.mount_path.clone(),
            read_only: mount.read_only.unwrap_or_default(),
        };
        mounts.push((spec, open_volume(dirs, uid, volume, local)?));
    }
    Ok(mounts)
}

impl Hands {
    /// Makes the pod's volumes.
    pub(super) async fn mount_pod(&self, pod: &Arc<Pod>) -> Result<Output, Failure> {
        let volumes = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.volumes.clone())
            .unwrap_or_default();
        if volumes.is_empty() {
            return Ok(Output::Nothing);
        }
        let (dirs, pod, local) = (self.dirs.clone(), pod.clone(), self.place.local_images);
        blocking(move || {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let made = volumes
                .iter()
                .try_for_each(|volume| open_volume(&dirs, uid, volume, local).map(drop));
            if made.is_err()
                && let Err(error) = volume::remove(&dirs.pod(uid))
            {
                tracing::warn!(uid, %error, "what a failed mount made stays until the pod goes");
            }
            made.map(|()| Output::Nothing)
        })
        .await
    }

    /// Removes all that the pod had on disk, but its logs.
    pub(super) async fn unmount_pod(&self, pod: &Pod) -> Result<Output, Failure> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.forget_images(&uid);
        let folder = self.dirs.pod(&uid);
        self.brief(move || {
            remove(&folder)?;
            Ok(Output::Nothing)
        })
        .await
    }
}
