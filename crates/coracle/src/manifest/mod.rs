//! From files of YAML or JSON to the pods that `play` runs and the objects that they refer to.
//!
//! Reads Pod, ConfigMap, Secret, Deployment (its template, `replicas` times) and List. What can't
//! be had is refused here, with its file, line, column and field, before anything runs. Must not
//! know: what runs a pod, and which of them run.

mod check;
pub(crate) mod configuration;
mod defaults;
mod images;
pub(crate) mod names;
mod nearest;
mod node;
mod objects;
mod pods;
mod probes;
mod problem;
mod spec;
mod statics;
mod typed;
mod volumes;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::{Deserialize, Serialize};

pub(crate) use problem::{Position, Problem, Problems};

use node::Node;
use typed::Wrong;

/// Namespace and name.
pub(crate) type Named = (String, String);

/// What files say, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// The pods, after the API's defaults, without UIDs.
    pub(crate) pods: BTreeMap<Named, Pod>,
    /// The ConfigMaps.
    pub(crate) config_maps: BTreeMap<Named, ConfigMap>,
    /// The Secrets, `stringData` merged into `data`.
    pub(crate) secrets: BTreeMap<Named, Secret>,
}

/// A file's text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    /// As it was named; `-` for standard input.
    pub(crate) name: String,
    /// What relative paths in it are relative to; absolute.
    pub(crate) folder: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl Source {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// When it can't be read, is too large or is no text.
    pub(crate) fn read(path: &Path) -> Result<Source, Problem> {
        let name = path.display().to_string();
        let wrong = |message: String| Problem {
            file: name.clone(),
            at: None,
            object: String::new(),
            field: String::new(),
            message,
        };
        let is_stdin = path == Path::new("-");
        let bytes = match is_stdin {
            true => bounded(std::io::stdin().lock()),
            false => file(path).and_then(bounded),
        };
        let bytes = bytes.map_err(|error| wrong(format!("can't be read: {error}")))?;
        if bytes.len() > node::FILE_MAX {
            let most = node::FILE_MAX >> 20;
            return Err(wrong(format!(
                "has more than {most} MiB; split it into several files"
            )));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| wrong(format!("is no UTF-8 text: {}", error.utf8_error())))?;
        let folder = match (is_stdin, path.parent()) {
            (false, Some(parent)) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = std::path::absolute(folder)
            .map_err(|error| wrong(format!("its folder is not known: {error}")))?;
        Ok(Source { name, folder, text })
    }
}

/// Opens what has an end: a terminal's worth of patience is not asked for a FIFO.
fn file(path: &Path) -> std::io::Result<std::fs::File> {
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(std::io::Error::other(
            "it is a folder; name its files, or give it to --watch",
        ));
    }
    std::fs::File::open(path)
}

/// At most one byte more than is allowed.
fn bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(node::FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads files together: a name is there once in all of them.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn read(sources: &[Source]) -> Result<Manifest, Problems> {
    Reading::default().all(sources)
}

/// Reads files of static pods together: Pods that refer to nothing that an API server has.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn read_static(sources: &[Source]) -> Result<Manifest, Problems> {
    let reading = Reading {
        statics: true,
        ..Reading::default()
    };
    reading.all(sources)
}

/// Files being read.
#[derive(Default)]
struct Reading {
    manifest: Manifest,
    problems: Vec<Problem>,
    /// Where each object stands, by kind, namespace and name.
    seen: BTreeMap<(&'static str, Named), String>,
    /// Only static pods are taken.
    statics: bool,
}

/// An object of a file, by kind.
struct Object<'s> {
    source: &'s Source,
    kind: &'static str,
    node: Node,
    wrongs: Vec<Wrong>,
}

/// The kinds, each with its apiVersion.
const KINDS: [(&str, &str); 5] = [
    ("Pod", "v1"),
    ("ConfigMap", "v1"),
    ("Secret", "v1"),
    ("Deployment", "apps/v1"),
    ("List", "v1"),
];

impl Reading {
    fn all(mut self, sources: &[Source]) -> Result<Manifest, Problems> {
        for source in sources {
            self.source(source);
        }
        if self.problems.is_empty() {
            return Ok(self.manifest);
        }
        let mut problems = self.problems;
        let order: BTreeMap<&str, usize> = (0..)
            .zip(sources)
            .map(|(place, source)| (source.name.as_str(), place))
            .collect();
        problems.sort_by_key(|problem| (order.get(problem.file.as_str()).copied(), problem.at));
        Err(Problems(problems))
    }

    fn source(&mut self, source: &Source) {
        match node::parse(&source.text) {
            Ok(documents) => {
                for document in documents {
                    self.document(source, document, 0);
                }
            }
            Err((at, message)) => self.problems.push(Problem {
                file: source.name.clone(),
                at,
                object: String::new(),
                field: String::new(),
                message,
            }),
        }
    }

    fn document(&mut self, source: &Source, node: Node, depth: usize) {
        let kind = match kind(&node) {
            Ok(kind) => kind,
            Err((field, at, message)) => {
                return self.problems.push(Problem {
                    file: source.name.clone(),
                    at: Some(at),
                    object: String::new(),
                    field,
                    message,
                });
            }
        };
        if kind == "List" {
            return self.list(source, node, depth);
        }
        let mut object = Object {
            source,
            kind,
            node,
            wrongs: Vec::new(),
        };
        match kind {
            "Pod" => pods::pod(self, &mut object),
            _ if self.statics => statics::refuse(&mut object),
            "Deployment" => pods::deployment(self, &mut object),
            "ConfigMap" => objects::config_map(self, &mut object),
            _ => objects::secret(self, &mut object),
        }
        let name = object.node.get("metadata").and_then(|m| m.get("name"));
        let name = name.and_then(Node::text).unwrap_or("(no name)");
        let named = format!("{kind} {name}");
        let told = object.wrongs.into_iter().map(|wrong| Problem {
            file: source.name.clone(),
            at: Some(wrong.at),
            object: named.clone(),
            field: wrong.field,
            message: wrong.message,
        });
        self.problems.extend(told);
    }

    /// A List is its items; one in another is nobody's wish.
    fn list(&mut self, source: &Source, node: Node, depth: usize) {
        let at = node.at;
        let mut tell = |field: &str, at, message: &str| {
            self.problems.push(Problem {
                file: source.name.clone(),
                at: Some(at),
                object: "List".to_owned(),
                field: field.to_owned(),
                message: message.to_owned(),
            });
        };
        if depth > 0 {
            return tell("", at, "a List in a List; put the items into one");
        }
        let node::Value::Map(entries) = node.value else {
            return;
        };
        let mut items = None;
        for (key, value) in entries {
            match key.text.as_str() {
                "apiVersion" | "kind" | "metadata" => {}
                "items" => items = Some(value),
                _ => tell(&key.text, key.at, "unknown field; a List has items"),
            }
        }
        match items.map(|items| (items.at, items.value)) {
            Some((_, node::Value::List(items))) => {
                for item in items {
                    self.document(source, item, depth + 1);
                }
            }
            Some((at, _)) => tell("items", at, "expected a list of objects"),
            None => tell("items", at, "missing; a List has its objects there"),
        }
    }

    /// Keeps the first of a name; a second one is a problem.
    fn take(&mut self, object: &mut Object<'_>, named: &Named, as_field: &str) -> bool {
        let at = object.node.locate(as_field);
        let place = format!("{}:{}:{}", object.source.name, at.line, at.column);
        // A Deployment's pods and the others share their names.
        let kind = match object.kind {
            "Deployment" => "Pod",
            kind => kind,
        };
        match self.seen.entry((kind, named.clone())) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(place);
                true
            }
            std::collections::btree_map::Entry::Occupied(first) => {
                let (namespace, name) = named;
                let message = format!(
                    "a second {kind} of the name {name:?} in namespace {namespace:?}; the first one is \
                     at {}; give each a name of its own",
                    first.get()
                );
                object.wrongs.push(Wrong {
                    at,
                    field: as_field.to_owned(),
                    message,
                });
                false
            }
        }
    }
}

/// What a document is.
fn kind(node: &Node) -> Result<&'static str, (String, Position, String)> {
    let all = KINDS.map(|(kind, _)| kind).join(", ");
    let wrong = |field: &str, at, message| Err((field.to_owned(), at, message));
    let node::Value::Map(_) = &node.value else {
        let found = node.described(true);
        return wrong(
            "",
            node.at,
            format!("expected an object with apiVersion and kind, found {found}"),
        );
    };
    let Some(kind) = node.get("kind") else {
        return wrong("kind", node.at, format!("missing; give one of {all}"));
    };
    let text = kind.text().unwrap_or_default();
    let Some((name, version)) = KINDS.into_iter().find(|(known, _)| *known == text) else {
        let found = kind.described(false);
        return wrong(
            "kind",
            kind.at,
            format!("{found} is nothing that play runs; it takes {all}"),
        );
    };
    match node.get("apiVersion") {
        Some(found) if found.text() == Some(version) => Ok(name),
        Some(found) => {
            let said = found.described(false);
            wrong(
                "apiVersion",
                found.at,
                format!("{said} has no {name} here; write {version}"),
            )
        }
        None => wrong("apiVersion", node.at, format!("missing; write {version}")),
    }
}

#[cfg(test)]
mod tests;
