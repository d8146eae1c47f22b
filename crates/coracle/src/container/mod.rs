//! From a container of a Pod and its image to the process that a guest is: arguments,
//! environment, working directory. Pure; must not know the store, the guest host or the cluster.

mod downward;
mod env;
mod expand;
mod files;
mod given;
mod links;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};

pub(crate) use env::environment;
pub(crate) use expand::expand;
pub(crate) use files::{Files, files, is_written};
pub(crate) use given::{Given, Needs};

/// PATH where neither the image nor the pod sets one: containerd's default
/// (`pkg/oci/spec.go`, `defaultUnixEnv`).
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the image's configuration says of the process (OCI image spec, `config.md`).
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageProcess {
    /// Entrypoint; a CNCF artifact has none, its module is the entrypoint.
    pub(crate) entrypoint: Vec<String>,
    /// Cmd
    pub(crate) cmd: Vec<String>,
    /// Env, in order.
    pub(crate) env: Vec<(String, String)>,
    /// WorkingDir; empty for `/`.
    pub(crate) working_dir: String,
}

/// What is known of the pod where its variables may refer to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodFacts {
    /// The pod's addresses, the primary one first.
    pub(crate) ips: Vec<IpAddr>,
    /// The node's addresses, the primary one first.
    pub(crate) host_ips: Vec<IpAddr>,
    /// What HOSTNAME says.
    pub(crate) hostname: String,
    /// What the node has to give: the limit of a container that has none.
    pub(crate) allocatable: lifecycle::Resources,
}

/// A container's process, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// argv; the first word names the module.
    pub(crate) args: Vec<String>,
    /// The environment, in order.
    pub(crate) env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub(crate) cwd: String,
}

/// Why a container has no process.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProcessError {
    /// Nothing says what to run.
    #[error(
        "container {0:?}: neither the image has an entrypoint nor the pod a command; set spec.containers[].command to the module's path"
    )]
    NoCommand(String),
    /// A variable refers to a field that is none.
    #[error(
        "env {name}: fieldRef {path:?} is not a field that a variable may show; use metadata.{{name,namespace,uid,labels['…'],annotations['…']}}, spec.{{nodeName,serviceAccountName}} or status.{{hostIP,hostIPs,podIP,podIPs}}"
    )]
    Field {
        /// The variable.
        name: String,
        /// The fieldPath.
        path: String,
    },
    /// A variable takes its value from where this version does not look.
    #[error("env {name}: valueFrom.{from} is not supported; set value instead")]
    Source {
        /// The variable.
        name: String,
        /// The member of `valueFrom`.
        from: &'static str,
    },
    /// An object that is not there. The kubelet's words.
    #[error("{0} {1:?} not found")]
    NotFound(&'static str, String),
    /// A key that an object does not have. The kubelet's words.
    #[error("couldn't find key {key} in {kind} {namespace}/{object}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        object: String,
    },
    /// A key that a volume's object does not have. The kubelet's words.
    #[error("{0}: {1}")]
    VolumeKey(&'static str, String),
    /// A variable can't hold it.
    #[error(
        "the key {key} of Secret {object} is no text, which a variable has to be; mount it as a volume"
    )]
    NotText {
        /// The Secret.
        object: String,
        /// The key.
        key: String,
    },
    /// No resource of a container.
    #[error(
        "unsupported container resource: {0:?}; use limits or requests of cpu, memory or ephemeral-storage, as in limits.memory"
    )]
    Resource(String),
    /// A reference to a container that is none of the pod's.
    #[error(
        "resourceFieldRef: the pod has no container {0:?}; set containerName to one of its own"
    )]
    NoContainer(String),
    /// A field that a file can't show.
    #[error(
        "downwardAPI: fieldRef {path:?} is not a field that a file may show; use metadata.{{name,namespace,uid,labels,annotations,labels['…'],annotations['…']}}"
    )]
    FileField {
        /// The fieldPath.
        path: String,
    },
    /// A working directory that is none.
    #[error("container {container:?}: workingDir {cwd:?} is not absolute")]
    WorkingDir {
        /// The container.
        container: String,
        /// Its workingDir.
        cwd: String,
    },
}

impl ProcessError {
    /// Whether it may heal with nothing changed in the pod: the object, or its key, may come.
    pub(crate) fn retryable(&self) -> bool {
        matches!(
            self,
            ProcessError::NotFound(..)
                | ProcessError::NoKey { .. }
                | ProcessError::VolumeKey(..)
                | ProcessError::NotText { .. }
        )
    }
}

/// Resolves a container's process: `command` replaces the entrypoint and drops Cmd, `args`
/// replaces Cmd, and `$(NAME)` is expanded in both and in values
/// (`pkg/kubelet/container/helpers.go`, `ExpandContainerCommandAndArgs`;
/// containerd's `internal/cri/opts/spec_opts.go`, `WithProcessArgs`).
///
/// # Errors
/// When nothing says what to run, or a variable can't be resolved.
pub(crate) fn process(
    pod: &Pod,
    container: &Container,
    image: &ImageProcess,
    facts: &PodFacts,
    given: &Given,
) -> Result<Process, ProcessError> {
    let env = environment(pod, container, image, facts, given)?;
    let declared = |name: &str| env.value(name);
    let expand = |words: &[String]| -> Vec<String> {
        words
            .iter()
            .map(|word| expand::expand(word, declared))
            .collect()
    };
    let command = expand(container.command.as_deref().unwrap_or_default());
    let args = expand(container.args.as_deref().unwrap_or_default());
    let (mut argv, tail) = match (command.is_empty(), args.is_empty()) {
        (false, _) => (command, args),
        (true, false) => (image.entrypoint.clone(), args),
        (true, true) => (image.entrypoint.clone(), image.cmd.clone()),
    };
    argv.extend(tail);
    if argv.is_empty() {
        return Err(ProcessError::NoCommand(container.name.clone()));
    }
    let cwd = working_dir(container, image)?;
    Ok(Process {
        args: argv,
        env: env.all(&cwd),
        cwd,
    })
}

fn working_dir(container: &Container, image: &ImageProcess) -> Result<String, ProcessError> {
    let cwd = container
        .working_dir
        .clone()
        .filter(|dir| !dir.is_empty())
        .unwrap_or_else(|| image.working_dir.clone());
    if cwd.is_empty() {
        return Ok("/".to_owned());
    }
    if !cwd.starts_with('/') {
        return Err(ProcessError::WorkingDir {
            container: container.name.clone(),
            cwd,
        });
    }
    Ok(cwd)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn image() -> ImageProcess {
        ImageProcess {
            entrypoint: words(&["app.wasm"]),
            cmd: words(&["serve"]),
            env: vec![("MODE".into(), "image".into()), ("KEEP".into(), "1".into())],
            working_dir: String::new(),
        }
    }

    fn args_of(command: &[&str], args: &[&str]) -> Result<Vec<String>, ProcessError> {
        let container = Container {
            name: "c".into(),
            command: Some(words(command)),
            args: Some(words(args)),
            ..Container::default()
        };
        process(
            &Pod::default(),
            &container,
            &image(),
            &PodFacts::default(),
            &Given::default(),
        )
        .map(|p| p.args)
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd_as_kubernetes_says() {
        assert_eq!(args_of(&[], &[]).unwrap(), words(&["app.wasm", "serve"]));
        assert_eq!(args_of(&[], &["a"]).unwrap(), words(&["app.wasm", "a"]));
        assert_eq!(args_of(&["x.wasm"], &[]).unwrap(), words(&["x.wasm"]));
        assert_eq!(
            args_of(&["x.wasm"], &["a"]).unwrap(),
            words(&["x.wasm", "a"])
        );
    }

    #[test]
    fn nothing_to_run_is_an_error_that_names_the_container() {
        let error = process(
            &Pod::default(),
            &Container {
                name: "web".into(),
                ..Container::default()
            },
            &ImageProcess::default(),
            &PodFacts::default(),
            &Given::default(),
        )
        .unwrap_err();
        assert_eq!(error, ProcessError::NoCommand("web".into()));
    }

    #[test]
    fn a_working_directory_is_absolute_and_go_is_told_of_it() {
        let container = |dir: &str| Container {
            name: "c".into(),
            working_dir: Some(dir.into()),
            ..Container::default()
        };
        let facts = PodFacts::default();
        let found = process(
            &Pod::default(),
            &container("/srv"),
            &image(),
            &facts,
            &Given::default(),
        )
        .unwrap();
        assert_eq!(found.cwd, "/srv");
        assert!(found.env.contains(&("PWD".into(), "/srv".into())));
        let error = process(
            &Pod::default(),
            &container("srv"),
            &image(),
            &facts,
            &Given::default(),
        )
        .unwrap_err();
        assert!(matches!(error, ProcessError::WorkingDir { .. }));
    }
}
