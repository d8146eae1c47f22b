//! The hands: executes the actions that `lifecycle` decides, through the store, the volumes, the
//! compiler and the guest host. Decides nothing: a failure is told, never retried here.

mod capture;
mod class;
mod exec;
mod hook;
mod hostname;
mod images;
mod listeners;
mod lookup;
mod message;
mod net;
mod objects;
mod pod;
mod prepare;
mod probe;
mod resize;
mod serve;
mod start;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::{Guest, Hands as Port};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::{Action, Failure, Key, Kind, Output, Retry, What};
use runtime::{GuestId, HostError};

use crate::cli::stdio::Attach;
use crate::dirs::Dirs;
use crate::objects::Objects;
use crate::program::sentence;
use crate::progress::Reporter;
pub(crate) use exec::ExecStreams;
use images::Resolved;
pub(crate) use net::PodNet;
pub(crate) use pod::remove_pod;
use prepare::Prepared;
pub(crate) use prepare::WASI;

/// What guests get as standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Streams {
    /// A log on disk.
    Logs,
    /// Coracle's own.
    Attached(Attach),
}

/// What the hands know of where they are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where pods have their addresses from.
    pub(crate) pod_net: PodNet,
    /// The node's addresses.
    pub(crate) host_ips: Vec<IpAddr>,
    /// What guests get as standard streams.
    pub(crate) streams: Streams,
    /// Whether an image may be a file of this machine: with `run` it may, in a cluster it is a name.
    pub(crate) local_images: bool,
    /// Who asks registries for images.
    pub(crate) auth: image::Auth,
    /// Where ConfigMaps and Secrets come from.
    pub(crate) objects: Arc<dyn Objects>,
    /// What pods are told that the node has.
    pub(crate) allocatable: lifecycle::Resources,
    /// Where pods' names are looked up.
    pub(crate) dns: crate::dns::Dns,
}

/// Executes actions.
pub(crate) struct Hands {
    pub(crate) dirs: Dirs,
    pub(crate) store: image::Store,
    pub(crate) compiler: runtime::Compiler,
    host: Mutex<Arc<runtime::Host>>,
    pub(crate) place: Place,
    pub(crate) reporter: Reporter,
    resolved: Mutex<HashMap<(String, String), Resolved>>,
    prepared: Mutex<HashMap<GuestId, Prepared>>,
}

/// A container of a Pod: its name serves regular, init and ephemeral containers alike.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let spec = pod.spec.as_ref()?;
    let inits = spec.init_containers.iter().flatten();
    let mut lasting = spec.containers.iter().chain(inits);
    if let Some(found) = lasting.find(|c| c.name == name) {
        return Some(Cow::Borrowed(found));
    }
    let mut ephemerals = spec.ephemeral_containers.iter().flatten();
    let found = ephemerals.find(|c| c.name == name)?;
    Some(Cow::Owned(lifecycle::ephemeral(found)))
}

/// A failure in Kubernetes' words.
fn failure(reason: &str, message: impl ToString, retry: bool) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message: message.to_string(),
        retry: if retry { Retry::Backoff } else { Retry::Never },
    }
}

/// Removes a folder of a pod's, whatever is in it.
fn remove(folder: &Path) -> Result<(), Failure> {
    volume::remove(folder).map_err(|error| failure("FailedKillPod", sentence(&error), true))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does on a thread that may block what may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(failure("RunContainerError", error, true)))
}

impl Hands {
    /// Does what takes as long as a few calls of the system do, unless the disk is slow: on a thread
    /// that may block where others' pods would wait, and at once where there is one pod alone.
    async fn brief<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        match self.place.streams {
            Streams::Attached(_) => work(),
            Streams::Logs => blocking(work).await,
        }
    }

    /// Hands with nothing in them.
    pub(crate) fn new(
        dirs: Dirs,
        store: image::Store,
        compiler: runtime::Compiler,
        host: Arc<runtime::Host>,
        place: Place,
        reporter: Reporter,
    ) -> Hands {
        Hands {
            dirs,
            store,
            compiler,
            host: Mutex::new(host),
            place,
            reporter,
            resolved: Mutex::default(),
            prepared: Mutex::default(),
        }
    }

    /// The guest host.
    pub(crate) fn host(&self) -> Arc<runtime::Host> {
        locked(&self.host).clone()
    }

    /// Another guest host takes the place of one that died.
    pub(crate) fn replace_host(&self, host: Arc<runtime::Host>) {
        *locked(&self.host) = host;
    }

    async fn stop(&self, id: &GuestId, grace: Duration) -> Result<Output, Failure> {
        match self.host().stop(id, grace).await {
            // A guest that is unknown does not run: that is what was asked for.
            Ok(()) | Err(HostError::Unknown(_)) => Ok(Output::Nothing),
            Err(error) => Err(failure("FailedKillPod", error, true)),
        }
    }

    async fn in_container(
        &self,
        pod: Arc<Pod>,
        name: String,
        (attempt, kind): (u32, Kind),
        what: What,
    ) -> Result<Output, Failure> {
        let id = guest_id(&pod, &name, attempt);
        match what {
            What::Pull { image, policy } => self
                .pull(&pod, &name, &image, policy)
                .await
                .map(Output::Pulled),
            What::Mount { image_id } => self
                .mount(&pod, &id, &image_id)
                .await
                .map(|()| Output::Nothing),
            What::Start { image_id, ips } => self.start(&pod, &id, &image_id, &ips).await,
            What::Stop { grace_seconds, .. } => {
                self.stop(&id, Duration::from_secs(grace_seconds.into()))
                    .await
            }
            What::Resize {
                run,
                cpu_milli,
                memory_bytes,
                shrinks,
            } => {
                let change = resize::Change {
                    cpu_milli,
                    memory_bytes,
                    shrinks,
                };
                self.resize(&guest_id(&pod, &name, run), change).await
            }
            What::Unmount => self.unmount(&pod, &id).await,
            What::Probe { run, ips } => match kind {
                Kind::Probe(kind) => self.probe(&pod, &name, (kind, run), &ips).await,
                _ => Err(unsupported(&What::Probe { run, ips })),
            },
            What::Exec { ips, grace_seconds } => match kind {
                Kind::Exec(hook) => {
                    let bound = (ips.as_slice(), grace_seconds);
                    self.hook(&pod, (&name, attempt), hook, bound).await
                }
                _ => Err(unsupported(&What::Exec { ips, grace_seconds })),
            },
            other => Err(unsupported(&other)),
        }
    }

    async fn in_pod(&self, pod: Arc<Pod>, what: What) -> Result<Output, Failure> {
        match what {
            What::MountPod { .. } => self.mount_pod(&pod).await,
            What::UnmountPod => self.unmount_pod(&pod).await,
            What::Address => self.address(&pod).await,
            What::Release => self.release(&pod).await,
            other => Err(unsupported(&other)),
        }
    }
}

/// Admission refuses a Pod that would need this; it is an error all the same, never a silence.
fn unsupported(what: &What) -> Failure {
    failure(
        "RunContainerError",
        format!("this version has no hands for {what:?}"),
        false,
    )
}

/// The guest host's name for a run.
pub(crate) fn guest_id(pod: &Pod, container: &str, attempt: u32) -> GuestId {
    GuestId {
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        container: container.to_owned(),
        attempt,
    }
}

/// `containerID` of a run.
pub(crate) fn container_id(id: &GuestId) -> String {
    format!("coracle://{}_{}_{}", id.pod_uid, id.container, id.attempt)
}

#[async_trait]
impl Port for Hands {
    async fn execute(&self, pod: Arc<Pod>, action: Action) -> Result<Output, Failure> {
        let Action {
            key:
                Key {
                    container,
                    attempt,
                    kind,
                },
            what,
        } = action;
        match container {
            Some(name) => self.in_container(pod, name, (attempt, kind), what).await,
            None => self.in_pod(pod, what).await,
        }
    }

    async fn reap(&self, guest: &Guest) -> Result<(), Failure> {
        let id = GuestId {
            pod_uid: guest.uid.clone(),
            container: guest.container.clone(),
            attempt: guest.attempt,
        };
        self.stop(&id, Duration::ZERO).await?;
        match self.host().forget(&id).await {
            Ok(()) | Err(HostError::Unknown(_)) => Ok(()),
            Err(error) => Err(failure("FailedKillPod", error, true)),
        }
    }

    fn absorbed(&self, uid: &str, container: &str, attempt: u32) {
        let id = GuestId {
            pod_uid: uid.to_owned(),
            container: container.to_owned(),
            attempt,
        };
        let host = self.host();
        tokio::spawn(async move {
            match host.forget(&id).await {
                Ok(()) | Err(HostError::Unknown(_)) => {}
                // It is told again after the next start of the agent, and absorbed then.
                Err(error) => tracing::debug!(%id, %error, "the guest host keeps an exit"),
            }
        });
    }
}
