//! Starting a guest: from a container's fields to the guest host's values and descriptors.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::{Failure, Output};
use runtime::{GuestFds, GuestId, GuestSpec, Limits, LogSpec, StartError};
use rustix::fs::{Mode, OFlags};

use super::prepare::Prepared;
use super::{Hands, Streams, container_id, failure, locked, serve};
use crate::container::Process;

/// Set to `drain` on a Pod, it lets its guests use their grace instead of ending at once.
const TERMINATION: &str = "coracle.dev/termination";

/// A log's size at which it is rotated, and how many there may be: `containerLogMaxSize` and
/// `containerLogMaxFiles` of the kubelet's configuration, by default.
const LOG_BYTES: u64 = 10 << 20;
const LOG_FILES: u32 = 5;

fn system(what: &str, error: impl std::fmt::Display) -> Failure {
    failure("RunContainerError", format!("can't {what}: {error}"), true)
}

pub(super) fn limits(container: &Container) -> Limits {
    let limit = |name: &str| container.resources.as_ref()?.limits.as_ref()?.get(name);
    Limits {
        memory_bytes: limit("memory").and_then(lifecycle::quantity::bytes),
        cpu_milli: limit("cpu")
            .and_then(lifecycle::quantity::milli)
            .map(|milli| u32::try_from(milli).unwrap_or(u32::MAX)),
        ..Limits::default()
    }
}

fn has_read_only_root(container: &Container) -> bool {
    let context = container.security_context.as_ref();
    context.and_then(|context| context.read_only_root_filesystem) == Some(true)
}

fn drains(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(TERMINATION))
        .is_some_and(|value| value == "drain")
}

impl Hands {
    /// Starts a guest; done once it runs.
    pub(super) async fn start(
        &self,
        pod: &Pod,
        id: &GuestId,
        image_id: &str,
        ips: &[IpAddr],
    ) -> Result<Output, Failure> {
        let image = self.resolved(pod, &id.container, image_id).await?;
        let process = self.process(pod, &id.container, &image, ips).await?;
        let prepared = locked(&self.prepared).remove(id);
        let mut prepared = match prepared {
            Some(prepared) => prepared,
            None => {
                // An earlier agent may have started it: then its root is in use, and is not made anew.
                if let Ok(runs) = self.host().stats(id).await {
                    let container_id = container_id(id);
                    return Ok(Output::Started {
                        at: runs.started_at,
                        container_id,
                    });
                }
                self.prepare(pod, id, image_id).await?
            }
        };
        let listeners = self.listeners(pod, &id.container, prepared.info.accepts)?;
        let mut spec = self.spec(pod, id, &process, &prepared)?;
        listeners.tell(&mut spec.env);
        let fds = |prepared: &Prepared| {
            let listeners = listeners
                .copies()
                .map_err(|e| system("copy a listener", e))?;
            let mut fds = self.fds(pod, id, prepared)?;
            fds.listeners.extend(listeners);
            Ok(fds)
        };
        let mut started = self.host().start(spec.clone(), fds(&prepared)?).await;
        if let Err(StartError::Code { message }) = &started {
            tracing::warn!(%id, message, "compiled code did not load; it is compiled again");
            prepared.code = self.compile_again(&prepared.module, &process).await?.file;
            started = self.host().start(spec, fds(&prepared)?).await;
        }
        match started {
            Ok(started) => Ok(Output::Started {
                at: started.at,
                container_id: container_id(id),
            }),
            Err(error) => {
                let name = process.args.first().map(String::as_str).unwrap_or_default();
                let message = format!("{name}: {error}");
                Err(failure(error.reason(), message, error.retryable()))
            }
        }
    }

    fn spec(
        &self,
        pod: &Pod,
        id: &GuestId,
        process: &Process,
        prepared: &Prepared,
    ) -> Result<GuestSpec, Failure> {
        let container = super::container(pod, &id.container).ok_or_else(|| {
            let message = format!("the pod has no container {:?}", id.container);
            failure("CreateContainerConfigError", message, false)
        })?;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let mut env = process.env.clone();
        let http = match prepared.serves() {
            false => None,
            true => {
                serve::tell(serve::port(&container), &mut env);
                Some(serve::bounds(pod)?)
            }
        };
        Ok(GuestSpec {
            id: id.clone(),
            name: format!(
                "{}/{}/{}",
                part(&pod.metadata.namespace),
                part(&pod.metadata.name),
                id.container
            ),
            export: prepared.export.clone(),
            args: process.args.clone(),
            env,
            cwd: process.cwd.clone(),
            tty: container.tty.unwrap_or_default(),
            mounts: prepared
                .mounts
                .iter()
                .map(|(spec, _)| spec.clone())
                .collect(),
            read_only_root: has_read_only_root(&container),
            limits: limits(&container),
            drain: drains(pod),
            log: matches!(self.place.streams, Streams::Logs).then(|| LogSpec {
                stem: id.attempt.to_string(),
                max_size: LOG_BYTES,
                max_files: LOG_FILES,
            }),
            network: self.network(pod),
            http,
            outgoing: serve::outgoing(pod)?,
        })
    }

    fn fds(&self, pod: &Pod, id: &GuestId, prepared: &Prepared) -> Result<GuestFds, Failure> {
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|error| system("copy a descriptor", error))
        };
        let own = |fd: std::os::fd::BorrowedFd<'_>| {
            fd.try_clone_to_owned()
                .map_err(|error| system("copy a standard stream", error))
        };
        let mut fds = GuestFds {
            code: copy(&prepared.code)?,
            root: copy(&prepared.root)?,
            mounts: prepared
                .mounts
                .iter()
                .map(|(_, fd)| copy(fd))
                .collect::<Result<_, _>>()?,
            log_dir: None,
            stdin: None,
            stdout: None,
            stderr: None,
            listeners: match super::container(pod, &id.container) {
                Some(container) if prepared.serves() => serve::listen(&container, &self.ips(pod))?,
                _ => Vec::new(),
            },
        };
        match self.place.streams {
            Streams::Logs => fds.log_dir = Some(self.log_dir(pod, &id.container)?),
            Streams::Attached(attach) => {
                if attach.stdin {
                    fds.stdin = Some(own(std::io::stdin().as_fd())?);
                }
                fds.stdout = Some(own(std::io::stdout().as_fd())?);
                // A terminal has one stream for both, as docker and the kubelet have it.
                fds.stderr = Some(match attach.tty {
                    true => own(std::io::stdout().as_fd())?,
                    false => own(std::io::stderr().as_fd())?,
                });
            }
        }
        Ok(fds)
    }

    fn log_dir(&self, pod: &Pod, container: &str) -> Result<OwnedFd, Failure> {
        let folder = self.dirs.logs(pod, container);
        crate::dirs::make(&folder).map_err(|error| system("keep a log", format!("{error:#}")))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&folder, flags, Mode::empty())
            .map_err(|error| system(&format!("open {}", folder.display()), error))
    }
}
