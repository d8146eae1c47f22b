//! What a guest needs before it can start: its root, its mounts and its code.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::{Failure, Output};
use runtime::{
    Code, CompileError, GuestId, ModuleContent, ModuleInfo, ModuleSource, MountSpec, World,
};
use volume::{Etc, HostAlias, Method, MountPoint, RootSpec};

use super::hostname::HostName;
use super::images::Resolved;
use super::objects::config_failure;
use super::serve::{annotation, wrong};
use super::{Hands, Streams, blocking, failure, locked, message, pod as pods, remove, start};
use crate::container::{self, Needs, PodFacts, Process};
use crate::dns;
use crate::program::sentence;

/// Ready to be started.
pub(super) struct Prepared {
    pub(super) root: OwnedFd,
    pub(super) mounts: Vec<(MountSpec, OwnedFd)>,
    pub(super) code: OwnedFd,
    pub(super) info: ModuleInfo,
    pub(super) module: ModuleSource,
    pub(super) export: Option<String>,
}

impl Prepared {
    /// Whether it is not run, but asked.
    pub(super) fn serves(&self) -> bool {
        self.info.world == World::Proxy && self.export.is_none()
    }
}

/// On a Pod, `p3` lets its containers run components of preview3, which is experimental.
pub(crate) const WASI: &str = "coracle.dev/wasi";

/// Whether a pod's containers may run components of preview3.
///
/// # Errors
/// The annotation says something else.
pub(super) fn allows_preview3(pod: &Pod) -> Result<bool, Failure> {
    match annotation(pod, WASI) {
        None | Some("p2") => Ok(false),
        Some("p3") => Ok(true),
        Some(other) => Err(wrong(
            WASI,
            other,
            "write p3 to allow WASI 0.3, which is experimental; p2 is what holds without it",
        )),
    }
}

/// `module` is the process's first word, which names it to whoever wrote it.
pub(super) fn compile_failure(module: &str, error: &CompileError) -> Failure {
    let message = format!("{module}: {}", sentence(error));
    failure(error.reason(), message, error.retryable())
}

impl Hands {
    /// What the pod is called.
    ///
    /// # Errors
    /// It can't be called so: its sandbox fails.
    pub(super) fn hostname(&self, pod: &Pod) -> Result<HostName, Failure> {
        HostName::of(pod, &self.place.dns.domain)
    }

    pub(super) fn facts(&self, pod: &Pod, ips: &[IpAddr]) -> Result<PodFacts, Failure> {
        Ok(PodFacts {
            ips: ips.to_vec(),
            host_ips: self.place.host_ips.clone(),
            hostname: self.hostname(pod)?.own,
            allocatable: self.place.allocatable,
        })
    }

    /// A container's process.
    pub(super) async fn process(
        &self,
        pod: &Pod,
        name: &str,
        image: &Resolved,
        ips: &[IpAddr],
    ) -> Result<Process, Failure> {
        let wrong = |message: String| failure("CreateContainerConfigError", message, false);
        let found = super::container(pod, name)
            .ok_or_else(|| wrong(format!("the pod has no container {name:?}")))?;
        let given = self.given(pod, &Needs::of(&found)).await?;
        let facts = self.facts(pod, ips)?;
        container::process(pod, &found, &image.process(), &facts, &given)
            .map_err(|error| config_failure(&error))
    }

    fn etc(&self, pod: &Pod) -> Result<Etc, Failure> {
        let spec = pod.spec.clone().unwrap_or_default();
        let aliases: Vec<HostAlias> = spec
            .host_aliases
            .iter()
            .flatten()
            .map(|alias| HostAlias {
                ip: alias.ip.clone(),
                hostnames: alias.hostnames.clone().unwrap_or_default(),
            })
            .collect();
        let HostName { short, domain, own } = self.hostname(pod)?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let dns = dns::resolv_conf(&self.place.dns, namespace, &spec)
            .map_err(|error| failure("CreateContainerConfigError", error, false))?;
        Ok(Etc {
            hosts: Some(volume::managed_hosts(
                &self.ips(pod),
                &short,
                &domain,
                &aliases,
            )),
            hostname: Some(format!("{own}\n")),
            resolv_conf: Some(dns),
        })
    }

    /// Makes a container's root and compiles its module, if that was not done before.
    pub(super) async fn mount(
        &self,
        pod: &Pod,
        id: &GuestId,
        image_id: &str,
    ) -> Result<(), Failure> {
        match self.prepare(pod, id, image_id).await {
            Ok(prepared) => {
                locked(&self.prepared).insert(id.clone(), prepared);
                Ok(())
            }
            Err(failure) => {
                self.clear(id).await;
                Err(failure)
            }
        }
    }

    /// See [`Hands::mount`]; also for a start whose Mount was done by an earlier agent.
    pub(super) async fn prepare(
        &self,
        pod: &Pod,
        id: &GuestId,
        image_id: &str,
    ) -> Result<Prepared, Failure> {
        let image = self.resolved(pod, &id.container, image_id).await?;
        let process = self
            .process(pod, &id.container, &image, &self.ips(pod))
            .await?;
        let preview3 = allows_preview3(pod)?;
        let (module, export) = self.module(&image, &process, preview3).await?;
        let code = self.code(&module, &process).await?;
        let (root, mounts) = self.root(pod, id, &image, &process).await?;
        Ok(Prepared {
            root,
            mounts,
            code: code.file,
            info: code.info,
            module,
            export,
        })
    }

    /// A Mount that failed leaves nothing, since nobody will ask for its undoing.
    async fn clear(&self, id: &GuestId) {
        let folder = self.dirs.run(&id.pod_uid, &id.container, id.attempt);
        let removed = blocking(move || remove(&folder));
        if let Err(left) = removed.await {
            tracing::warn!(%id, left.message, "what a failed mount made stays until the pod goes");
        }
    }

    async fn module(
        &self,
        image: &Resolved,
        process: &Process,
        preview3: bool,
    ) -> Result<(ModuleSource, Option<String>), Failure> {
        let image = image.clone();
        let word = process.args.first().cloned().unwrap_or_default();
        let cwd = process.cwd.clone();
        let path = process
            .env
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, v)| v.clone());
        self.brief(move || {
            let path = path.as_deref().unwrap_or(container::PATH);
            let module = image.module(&word, &cwd, path).map_err(|error| {
                failure("CreateContainerError", sentence(&error), error.retryable())
            })?;
            let source = ModuleSource {
                digest: *module.digest.as_bytes(),
                content: ModuleContent::Path(module.path),
                preview3,
            };
            Ok((source, module.export))
        })
        .await
    }

    async fn code(&self, module: &ModuleSource, process: &Process) -> Result<Code, Failure> {
        let name = process.args.first().map(String::as_str).unwrap_or_default();
        let progress = self.reporter.compile(name);
        let code = self.compiler.code(module, |stage| progress.at(stage)).await;
        code.map_err(|error| compile_failure(name, &error))
    }

    /// Code that did not load is thrown away and compiled again.
    pub(super) async fn compile_again(
        &self,
        module: &ModuleSource,
        process: &Process,
    ) -> Result<Code, Failure> {
        let name = process.args.first().map(String::as_str).unwrap_or_default();
        self.compiler
            .discard(&module.digest)
            .await
            .map_err(|error| compile_failure(name, &error))?;
        self.code(module, process).await
    }

    async fn root(
        &self,
        pod: &Pod,
        id: &GuestId,
        image: &Resolved,
        process: &Process,
    ) -> Result<(OwnedFd, Vec<(MountSpec, OwnedFd)>), Failure> {
        let dirs = self.dirs.clone();
        let dir = dirs.run(&id.pod_uid, &id.container, id.attempt);
        let copied = dir.clone();
        let (layers, etc) = (image.layers(), self.etc(pod)?);
        let (pod, name, local) = (pod.clone(), id.container.clone(), self.place.local_images);
        // Layers may have to be copied.
        let is_brief = layers.is_empty();
        let method = self.method(&pod, &name);
        let process = process.clone();
        let logged = matches!(self.place.streams, Streams::Logs);
        let assemble = move || {
            let mut mounts = pods::mounts(&dirs, &pod, &name, &process, local)?;
            // With `run` there is nobody to be told.
            if let Some(container) = super::container(&pod, &name).filter(|_| logged) {
                mounts.extend(message::mount(&dir, &container)?);
            }
            let points = mounts.iter().map(|(spec, mounted)| MountPoint {
                path: spec.guest_path.clone(),
                kind: mounted.kind,
            });
            let spec = RootSpec {
                layers,
                dir,
                etc,
                mount_points: points.collect(),
                method,
            };
            let root = volume::assemble(&spec).map_err(|error| {
                failure("CreateContainerError", sentence(&error), error.retryable())
            })?;
            tell_cost(&name, &root);
            if root.method == Method::Copy {
                // What is newer than this, the guest wrote: nothing else tells it from the image's.
                let mark = copied.join(crate::machine::COPIED);
                if let Err(error) = std::fs::write(&mark, "") {
                    tracing::debug!(%error, "what the guest writes is not counted");
                }
            }
            let mounts = mounts
                .into_iter()
                .map(|(spec, mounted)| (spec, mounted.fd))
                .collect();
            Ok((root.fd, mounts))
        };
        match is_brief {
            true => self.brief(assemble).await,
            false => blocking(assemble).await,
        }
    }

    /// With `run` what a module from a file writes is gone with it, and needs no disk: making and
    /// removing a few files can take longer than all the rest. It may hold what the container may.
    fn method(&self, pod: &Pod, name: &str) -> Method {
        match self.place.streams {
            Streams::Logs => Method::Auto,
            Streams::Attached(_) => Method::Memory {
                bytes: super::container(pod, name)
                    .and_then(|container| start::limits(&container).memory_bytes)
                    .filter(|bytes| *bytes > 0),
            },
        }
    }

    /// Lets go of a run's root and of what it wrote, and of the logs of the runs before it.
    pub(super) async fn unmount(&self, pod: &Pod, id: &GuestId) -> Result<Output, Failure> {
        locked(&self.prepared).remove(id);
        let folder = self.dirs.run(&id.pod_uid, &id.container, id.attempt);
        let logs = self.dirs.logs(pod, &id.container);
        let attempt = id.attempt;
        self.brief(move || {
            remove(&folder)?;
            remove_older_logs(&logs, attempt);
            Ok(Output::Nothing)
        })
        .await
    }
}

/// Copying a root is what an overlay saves: whoever pays for it should know.
fn tell_cost(container: &str, root: &volume::Root) {
    if root.method == Method::Copy && root.cost.copied > 0 {
        let why = root
            .fallback
            .as_deref()
            .unwrap_or("no overlay was asked for");
        tracing::info!(
            container,
            files = root.cost.files,
            copied_bytes = root.cost.copied,
            shared_bytes = root.cost.shared,
            why,
            "the root is a copy of the image"
        );
    }
}

/// Keeps this run's log, for `--previous`, and removes those of the runs before it
/// (MaxPerPodContainerCount 1 of `pkg/kubelet/container/container_gc.go`).
fn remove_older_logs(folder: &Path, attempt: u32) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let run = name
            .to_str()
            .and_then(|n| n.split('.').next())
            .and_then(|n| n.parse::<u32>().ok());
        if run.is_some_and(|run| run < attempt)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(file = %entry.path().display(), %error, "an old log stays");
        }
    }
}
