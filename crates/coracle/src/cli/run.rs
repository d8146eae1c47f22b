//! `coracle run`: one container from an image or a module, by the same way as any pod.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueHint;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostPathVolumeSource, Pod, PodSpec, ResourceRequirements, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::quantity;
use super::stdio::Attach;
use crate::hands::WASI;
use crate::local::names;
use crate::publish::PortMapping;

/// What `coracle run` takes.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "coracle run [OPTIONS] <IMAGE|FILE> [ARG]...",
    after_help = "\
Examples:
  coracle run hello.wasm                            a module from a file
  coracle run -e MODE=test -v .:/data app.wasm ls   variables, a folder, arguments
  coracle run -it oci-archive:python.tar            an image from an archive, with a terminal
  coracle run --wasi p3 async.wasm                  a component of WASI 0.3, which is experimental
  coracle run -p 8080:80 server.wasm                port 8080 of this machine leads to the guest's 80
  coracle run --memory 64Mi --cpus 0.5 localhost:5000/app:1
  coracle run -d --name web --restart always server.wasm      in the background
  coracle ps; coracle logs -f web; coracle rm -f web           what became of it, and its end

The guest's exit code is coracle's own. Ctrl-C stops the guest gracefully, a second one at once.
Without -d nothing is kept when the guest has ended, and its output goes to the terminal alone; with
-d, ps, logs and inspect tell of the pod until coracle rm, unless --rm is given."
)]
pub(crate) struct Args {
    /// Keep standard input open and give it to the guest
    #[arg(short, long)]
    interactive: bool,
    /// Give the guest a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run in the background, and print the pod's name once it has begun
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub(crate) detach: bool,
    /// The pod's name; made of the image's and a few random letters if left out
    #[arg(long, value_name = "NAME", value_parser = pod_name_of)]
    name: Option<String>,
    /// Keep nothing of the pod once it has ended, as without -d
    #[arg(long)]
    pub(crate) rm: bool,
    /// When to start the guest again once it has ended
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: Restart,
    /// Seconds that the guest may take to end when it is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..))]
    stop_timeout: u32,
    /// Set a variable; without a value, take coracle's own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Mount a file or folder of this machine
    #[arg(short, long, value_name = "HOST:GUEST[:ro]")]
    volume: Vec<String>,
    /// Publish a port of the container; a HOSTPORT that is 0 or left out is the system's choice
    #[arg(short, long, value_name = "[[IP:]HOSTPORT:]PORT[/tcp|/udp]")]
    pub(crate) publish: Vec<PortMapping>,
    /// The most memory that the container may use, such as 64Mi or 1Gi
    #[arg(short, long, value_name = "SIZE", value_parser = quantity::memory)]
    memory: Option<Quantity>,
    /// The most CPU time that it may use, such as 0.5 or 2
    #[arg(long, value_name = "NUMBER", value_parser = quantity::cpus)]
    cpus: Option<Quantity>,
    /// The working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "MODULE")]
    entrypoint: Option<String>,
    /// The newest WASI that a component may be of; p3 (WASI 0.3) is experimental. -S is wasmtime's word
    #[arg(short = 'S', long, value_name = "PREVIEW", default_value = "p2")]
    wasi: Wasi,
    /// When to ask the registry
    #[arg(long, value_name = "POLICY", default_value = "missing")]
    pull: Pull,
    /// Where images and compiled code are kept
    #[arg(long, value_name = "DIR", env = "CORACLE_ROOT", value_hint = ValueHint::DirPath)]
    pub(crate) root_dir: Option<PathBuf>,
    /// No progress of pulls and compiles
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// An image reference, oci:FOLDER, oci-archive:FILE, docker-archive:FILE, or a .wasm or .wat file;
    /// what follows it are arguments for the guest, dashes and all
    // One list, so that from the image on no word is taken for an option of coracle's.
    #[arg(trailing_var_arg = true, required = true, value_name = "IMAGE|FILE")]
    words: Vec<String>,
}

/// docker's and podman's words for imagePullPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// Always ask the registry
    Always,
    /// Ask for what the store lacks
    Missing,
    /// Never ask
    Never,
}

/// WASI's previews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wasi {
    /// Preview 1 and 2
    P2,
    /// Also preview 3
    P3,
}

/// docker's and podman's words for restartPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    /// Never
    No,
    /// When it failed
    OnFailure,
    /// Whenever it has ended
    Always,
}

/// Checks a pod's name.
fn pod_name_of(text: &str) -> Result<String, String> {
    match names::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(names::help(text)),
    }
}

/// The annotation-free container's name in a Pod that `run` makes.
pub(crate) const CONTAINER: &str = "main";

impl Args {
    /// What of coracle's stdio the guest gets.
    pub(crate) fn attach(&self) -> Attach {
        Attach {
            stdin: self.interactive,
            tty: self.tty,
        }
    }

    /// The Pod that these arguments describe, without the ports that are to be published for it.
    ///
    /// # Errors
    /// When an argument is no variable, no volume, or names a file that is not there.
    pub(crate) fn pod(&self, uid: &str) -> anyhow::Result<Pod> {
        let (word, args) = match self.words.split_first() {
            Some((word, args)) => (word.as_str(), args),
            None => bail!("no image; write coracle run IMAGE"),
        };
        let image = image_of(word)?;
        if let Some(entrypoint) = &self.entrypoint
            && image.starts_with("file:")
        {
            bail!(
                "--entrypoint {entrypoint}: {word} is a module and holds no other; run that module, or an image"
            );
        }
        let name = self.name.clone().unwrap_or_else(|| pod_name(word, uid));
        let (volumes, mounts) = volumes(&self.volume)?;
        let limits = [("memory", &self.memory), ("cpu", &self.cpus)]
            .into_iter()
            .filter_map(|(name, limit)| Some((name.to_owned(), limit.clone()?)))
            .collect::<std::collections::BTreeMap<_, _>>();
        let container = Container {
            name: CONTAINER.to_owned(),
            image: Some(image),
            image_pull_policy: Some(
                match self.pull {
                    Pull::Always => "Always",
                    Pull::Missing => "IfNotPresent",
                    Pull::Never => "Never",
                }
                .to_owned(),
            ),
            command: self.entrypoint.clone().map(|module| vec![module]),
            args: (!args.is_empty()).then(|| args.to_vec()),
            env: Some(
                self.env
                    .iter()
                    .map(|e| variable(e))
                    .collect::<anyhow::Result<_>>()?,
            ),
            working_dir: self.workdir.clone(),
            resources: Some(ResourceRequirements {
                limits: (!limits.is_empty()).then_some(limits),
                // What a limit is must not be reserved: nothing else shares this node.
                requests: Some(
                    ["cpu", "memory"]
                        .map(|n| (n.to_owned(), Quantity("0".to_owned())))
                        .into(),
                ),
                ..ResourceRequirements::default()
            }),
            stdin: Some(self.interactive),
            tty: Some(self.tty),
            volume_mounts: (!mounts.is_empty()).then_some(mounts),
            ..Container::default()
        };
        Ok(Pod {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some("default".to_owned()),
                uid: Some(uid.to_owned()),
                annotations: (self.wasi == Wasi::P3)
                    .then(|| [(WASI.to_owned(), "p3".to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                restart_policy: Some(
                    match self.restart {
                        Restart::No => "Never",
                        Restart::OnFailure => "OnFailure",
                        Restart::Always => "Always",
                    }
                    .to_owned(),
                ),
                termination_grace_period_seconds: Some(self.stop_timeout.into()),
                automount_service_account_token: Some(false),
                volumes: (!volumes.is_empty()).then_some(volumes),
                ..PodSpec::default()
            }),
            status: None,
        })
    }
}

/// The container's image: a file becomes `file:` and its absolute path; what names an image in
/// a registry or an archive stays as it was typed.
fn image_of(text: &str) -> anyhow::Result<String> {
    let archive = ["oci:", "oci-archive:", "docker-archive:"]
        .iter()
        .find_map(|transport| Some((*transport, text.strip_prefix(transport)?)));
    if let Some((transport, path)) = archive {
        return Ok(format!("{transport}{}", existing(path)?.display()));
    }
    let path = Path::new(text);
    let is_module = path.extension().is_some_and(|e| e == "wasm" || e == "wat");
    let looks_like_path = text.starts_with(['/', '.']);
    if is_module || looks_like_path || path.is_file() {
        return Ok(format!("file:{}", existing(text)?.display()));
    }
    Ok(text.to_owned())
}

fn existing(path: &str) -> anyhow::Result<PathBuf> {
    // The export of module.wasm#export is no part of the file's name.
    let (file, export) = match path.split_once('#') {
        Some((file, export)) if !Path::new(path).exists() => (file, Some(export)),
        _ => (path, None),
    };
    let absolute = std::fs::canonicalize(file).with_context(|| format!("{file:?}"))?;
    Ok(match export {
        Some(export) => format!("{}#{export}", absolute.display()).into(),
        None => absolute,
    })
}

/// A DNS label from the image's last word, and a little of the UID so that names differ.
fn pod_name(image: &str, uid: &str) -> String {
    let word = image.rsplit('/').next().unwrap_or_default();
    let word = word
        .split(['.', ':', '@', '#'])
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let label: String = word
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let label = label.trim_matches('-');
    let label = if label.is_empty() { "run" } else { label };
    let tail: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect();
    format!("{label}-{tail}")
}

fn variable(text: &str) -> anyhow::Result<EnvVar> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => match std::env::var(text) {
            Ok(value) => (text, value),
            Err(std::env::VarError::NotPresent) => bail!(
                "-e {text}: coracle's environment has no {text} to pass on; write -e {text}=VALUE"
            ),
            Err(std::env::VarError::NotUnicode(_)) => bail!("-e {text}: its value is not UTF-8"),
        },
    };
    if name.is_empty() {
        bail!("-e {text}: a variable needs a name; write -e NAME=VALUE");
    }
    // $ is doubled, so that what a shell has settled is not expanded again.
    Ok(EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        value_from: None,
    })
}

fn volumes(texts: &[String]) -> anyhow::Result<(Vec<Volume>, Vec<VolumeMount>)> {
    let mut volumes = Vec::new();
    let mut mounts: Vec<VolumeMount> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let help = "write -v HOST:GUEST or -v HOST:GUEST:ro";
        let mut parts = text.split(':');
        let (host, guest) = match (parts.next(), parts.next()) {
            (Some(host), Some(guest)) if !host.is_empty() => (host, guest),
            _ => bail!("-v {text}: no path in the container; {help}"),
        };
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(option) => bail!("-v {text}: option {option:?} is not supported; {help}"),
        };
        if !guest.starts_with('/') {
            bail!(
                "-v {text}: the path in the container must be absolute, {guest:?} is not; {help}"
            );
        }
        if mounts.iter().any(|m| m.mount_path == guest) {
            bail!("-v {text}: something is mounted at {guest} already");
        }
        let host = std::fs::canonicalize(host)
            .with_context(|| format!("-v {text}: {host:?} on this machine"))?;
        let name = format!("v{index}");
        volumes.push(Volume {
            name: name.clone(),
            host_path: Some(HostPathVolumeSource {
                path: host
                    .to_str()
                    .with_context(|| format!("-v {text}: the path is not UTF-8"))?
                    .to_owned(),
                type_: None,
            }),
            ..Volume::default()
        });
        mounts.push(VolumeMount {
            name,
            mount_path: guest.to_owned(),
            read_only: Some(read_only),
            ..VolumeMount::default()
        });
    }
    Ok((volumes, mounts))
}
