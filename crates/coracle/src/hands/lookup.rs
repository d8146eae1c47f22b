//! Which module a command means in a container.
//!
//! The command's first word is looked for in the image, as the container's own command is: a path,
//! or a word on PATH, with `.wasm` added where it is not there as it stands, `#export` included.
//! What is not there goes to the entrypoint's module, if that is one of many tools ([`MULTICALL`]):
//! it gets the whole command as its arguments.
//!
//! It must not know who asks, nor how a module is run.

use image::Module;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::exec::{ExecFailure, MISSING, UNFIT, failed};
use super::images::Resolved;
use crate::container::{self, ImageProcess};
use crate::program::sentence;

/// On a Pod (`"true"`), the entrypoints of its containers are multi-call: an exec of what is not in
/// the image is theirs to understand.
const MULTICALL: &str = "coracle.dev/multicall";

/// The same, as a label of an image's configuration.
const MULTICALL_LABEL: &str = "dev.coracle.multicall";

/// How many of an image's modules a message names.
const NAMED: usize = 10;

/// Where a command is looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    cwd: String,
    path: String,
    /// The word of the entrypoint, where that takes what is not in the image.
    multicall: Option<String>,
}

impl Lookup {
    pub(super) fn of(
        pod: &Pod,
        container: &Container,
        image: &ImageProcess,
        labelled: bool,
    ) -> Lookup {
        let own = |name: &str| {
            let mut vars = container.env.iter().flatten().rev();
            vars.find(|var| var.name == name)
                .and_then(|var| var.value.clone())
        };
        let images = |name: &str| {
            let mut vars = image.env.iter().rev();
            vars.find(|(n, _)| n == name).map(|(_, v)| v.clone())
        };
        let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let annotations = pod.metadata.annotations.as_ref();
        let annotated = annotations
            .and_then(|all| all.get(MULTICALL))
            .map(|value| value == "true");
        let command = container.command.as_deref().filter(|c| !c.is_empty());
        let entry = command.unwrap_or(&image.entrypoint).first().cloned();
        Lookup {
            cwd: set(&container.working_dir).unwrap_or_else(|| image.working_dir.clone()),
            path: own("PATH")
                .or_else(|| images("PATH"))
                .unwrap_or_else(|| container::PATH.to_owned()),
            // Who wrote the Pod has the last word.
            multicall: entry.filter(|_| annotated.unwrap_or(labelled)),
        }
    }

    /// The module that `word` means. May wait for a disk.
    pub(super) fn find(&self, image: &Resolved, word: &str) -> Result<Module, ExecFailure> {
        match image.tool(word, &self.cwd, &self.path) {
            Ok(module) => Ok(module),
            Err(error @ image::Error::NoFile { .. }) => match &self.multicall {
                Some(entry) => image
                    .module(entry, &self.cwd, &self.path)
                    .map_err(|error| failed(UNFIT, sentence(&error))),
                None => Err(failed(MISSING, missing(image, &error))),
            },
            Err(error) => Err(failed(UNFIT, sentence(&error))),
        }
    }
}

/// That there is no such command, and which there are.
fn missing(image: &Resolved, error: &image::Error) -> String {
    let modules = image.modules(NAMED + 1);
    let mut names: Vec<String> = modules
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string())
        .collect();
    if modules.len() > NAMED {
        names.push("more".to_owned());
    }
    match names.is_empty() {
        true => sentence(error),
        false => format!("{}; its modules are {}", sentence(error), names.join(", ")),
    }
}

impl Resolved {
    /// As [`Resolved::module`], for a command that somebody asks for by its name.
    fn tool(&self, word: &str, cwd: &str, path: &str) -> Result<Module, image::Error> {
        match self {
            Resolved::Image(image) => image.tool_in(word, cwd, path),
            Resolved::Module(module) => {
                let file = word.split_once('#').map_or(word, |(file, _)| file);
                let base = file.rsplit('/').next().unwrap_or(file);
                let name = module.guest_path.to_string_lossy();
                let stem = module.guest_path.file_stem().map(|s| s.to_string_lossy());
                if base != name && stem.is_none_or(|stem| base != stem) {
                    return Err(image::Error::NoFile {
                        image: name.into_owned(),
                        reason: format!(
                            "there is no {file:?} beside it: it is a module, not an image of several"
                        ),
                    });
                }
                let export = word.split_once('#').map(|(_, export)| export.to_owned());
                Ok(Module {
                    export: export.filter(|export| !export.is_empty()),
                    ..module.clone()
                })
            }
        }
    }

    fn modules(&self, most: usize) -> Vec<std::path::PathBuf> {
        match self {
            // A list that can't be had takes nothing from the message that it would have helped.
            Resolved::Image(image) => image.modules(most).unwrap_or_default(),
            Resolved::Module(module) => vec![module.guest_path.clone()],
        }
    }

    pub(super) fn is_multicall(&self) -> bool {
        match self {
            Resolved::Image(image) => {
                let label = image.config.labels.get(MULTICALL_LABEL);
                label.is_some_and(|value| value == "true")
            }
            Resolved::Module(_) => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use k8s_openapi::api::core::v1::EnvVar;

    use super::*;

    fn image() -> ImageProcess {
        ImageProcess {
            entrypoint: vec!["/app.wasm".to_owned(), "serve".to_owned()],
            env: vec![("PATH".to_owned(), "/image".to_owned())],
            working_dir: "/work".to_owned(),
            ..ImageProcess::default()
        }
    }

    fn annotated(value: &str) -> Pod {
        let mut pod = Pod::default();
        let one = BTreeMap::from([(MULTICALL.to_owned(), value.to_owned())]);
        pod.metadata.annotations = Some(one);
        pod
    }

    #[test]
    fn the_containers_own_path_and_folder_come_before_the_images() {
        let plain = Lookup::of(&Pod::default(), &Container::default(), &image(), false);
        let expected = |cwd: &str, path: &str, multicall: Option<&str>| Lookup {
            cwd: cwd.to_owned(),
            path: path.to_owned(),
            multicall: multicall.map(str::to_owned),
        };
        assert_eq!(plain, expected("/work", "/image", None));
        let own = Container {
            working_dir: Some("/own".to_owned()),
            env: Some(vec![EnvVar {
                name: "PATH".to_owned(),
                value: Some("/own/bin".to_owned()),
                ..EnvVar::default()
            }]),
            ..Container::default()
        };
        let own = Lookup::of(&Pod::default(), &own, &image(), false);
        assert_eq!(own, expected("/own", "/own/bin", None));
        let bare = ImageProcess::default();
        let bare = Lookup::of(&Pod::default(), &Container::default(), &bare, true);
        assert_eq!(bare, expected("", container::PATH, None));
    }

    #[test]
    fn a_label_or_the_pod_makes_an_entrypoint_multicall_and_the_pod_has_the_last_word() {
        let of = |pod: &Pod, labelled, command: &[&str]| {
            let container = Container {
                command: Some(command.iter().map(|w| (*w).to_owned()).collect()),
                ..Container::default()
            };
            Lookup::of(pod, &container, &image(), labelled).multicall
        };
        let entry = Some("/app.wasm".to_owned());
        assert_eq!(of(&Pod::default(), true, &[]), entry);
        assert_eq!(of(&annotated("true"), false, &[]), entry);
        assert_eq!(of(&annotated("false"), true, &[]), None);
        let own = Some("/box.wasm".to_owned());
        assert_eq!(of(&annotated("true"), false, &["/box.wasm", "sh"]), own);
    }

    fn module() -> Resolved {
        Resolved::Module(Module {
            digest: image::Digest::of(b""),
            path: PathBuf::from("/host/app.wasm"),
            guest_path: PathBuf::from("app.wasm"),
            export: Some("other".to_owned()),
            size: 0,
        })
    }

    #[test]
    fn a_module_without_an_image_is_meant_by_its_name_alone() {
        let lookup = Lookup::of(&Pod::default(), &Container::default(), &image(), false);
        for word in ["app.wasm", "app", "/app.wasm", "./app"] {
            assert_eq!(lookup.find(&module(), word).unwrap().export, None, "{word}");
        }
        let export = lookup.find(&module(), "app.wasm#init").unwrap().export;
        assert_eq!(export.as_deref(), Some("init"));
        let failure = lookup.find(&module(), "sh").unwrap_err();
        assert_eq!(failure.exit_code, MISSING);
        assert!(
            failure.message.contains("\"sh\"")
                && failure.message.ends_with("its modules are app.wasm"),
            "{failure}"
        );
        let lookup = Lookup::of(&annotated("true"), &Container::default(), &image(), false);
        assert!(lookup.find(&module(), "sh").is_ok());
    }
}
