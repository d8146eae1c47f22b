//! What each crate must not know, as ARCHITECTURE.md says it, held against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::context::Context;
use crate::process;

/// One crate's boundary.
struct Rule {
    name: &'static str,
    /// The crates of the workspace that it may depend on.
    may_know: &'static [&'static str],
    /// Crates of others that it must not reach, not through any other either.
    must_not_reach: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

const KUBERNETES: [&str; 3] = ["kube", "kube-client", "k8s-openapi"];
const ENGINE: &str = "wasmtime";

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule {
        name: "lifecycle",
        may_know: &[],
        must_not_reach: &["tokio", "async-trait", "futures", "tracing", "rustix", "rand", "hyper", "kube", "kube-client", ENGINE],
        reason: "it decides purely: no clock, no I/O, no tasks; its vocabulary is k8s-openapi's Pod and PodStatus",
    },
    Rule {
        name: "simulator",
        // The agent's Ledger, which production runs too: a copy of it would prove nothing. That no
        // clock and no task is used of what comes with it is held by the crate's clippy.toml.
        may_know: &["agent", "lifecycle"],
        must_not_reach: &["hyper", "kube", "kube-client", "reqwest", ENGINE],
        reason: "its time is virtual and its hands are fake, so that a seed replays to the bit",
    },
    Rule {
        name: "agent",
        may_know: &["lifecycle"],
        must_not_reach: &["kube", "kube-client", "hyper", "reqwest", ENGINE],
        reason: "it observes and executes through ports; adapters to the hands live in coracle",
    },
    Rule {
        name: "events",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "tokio", "tracing", "rustix", "rand", "hyper", ENGINE],
        reason: "it counts what is said, for a cluster and for a terminal alike: what about and where to is others' affair",
    },
    Rule {
        name: "cluster",
        // The rule by which a node tells less is one, with a cluster or without.
        may_know: &["events"],
        must_not_reach: &["reqwest", ENGINE],
        reason: "it speaks to the API server, and knows neither what runs pods nor the disk's layout",
    },
    Rule {
        name: "api",
        may_know: &["logs"],
        must_not_reach: &["kube", "kube-client", "reqwest", ENGINE],
        reason: "it answers for a node over a backend: who runs pods and who reaches the API server is others' affair",
    },
    Rule {
        name: "image",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], ENGINE],
        reason: "it stores bytes by digest, whoever asks for them",
    },
    Rule {
        name: "volume",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "reqwest", ENGINE],
        reason: "it makes folders, and knows neither where they come from nor who sees them",
    },
    Rule {
        name: "logs",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "tokio", ENGINE],
        reason: "one writer and one reader of files: both work where no runtime is",
    },
    Rule {
        name: "probe",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "reqwest", ENGINE],
        reason: "it asks one server once; pods, periods and thresholds are others' affair",
    },
    Rule {
        name: "wasi-host",
        may_know: &[],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "reqwest"],
        reason: "it is a world for one guest; pods, images and logs are others' words",
    },
    Rule {
        name: "runtime",
        may_know: &["logs", "wasi-host"],
        // It serves guests' HTTP, so it reaches hyper; what it is given is still no more than this.
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], "reqwest"],
        reason: "a guest host gets bytes and descriptors; the node's credentials and objects are in another process",
    },
    Rule {
        name: "guests",
        may_know: &[],
        must_not_reach: &["tokio", ENGINE],
        reason: "it is a list of files, for tests",
    },
    Rule {
        name: "coracle",
        may_know: &["agent", "api", "cluster", "events", "image", "lifecycle", "logs", "probe", "runtime", "volume"],
        must_not_reach: &[],
        reason: "it wires; the WASI host is the runtime's affair",
    },
    Rule {
        name: "bench",
        // The agent over ports of its own: what a worker takes can't be told from the rest of a node.
        may_know: &["agent", "guests", "image", "lifecycle", "measure", "probe", "runtime", "simulator", "wasi-host"],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1]],
        reason: "it measures engines, pulls, pure functions and the agent alone; whole nodes are measured through the binary",
    },
    Rule {
        name: "measure",
        may_know: &[],
        must_not_reach: &["tokio", KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], ENGINE],
        reason: "it takes and shows figures, whatever is measured",
    },
    Rule {
        name: "e2e",
        may_know: &["measure"],
        must_not_reach: &[ENGINE],
        reason: "it sees a node from outside, as a cluster does",
    },
    Rule {
        name: "xtask",
        may_know: &["guests"],
        must_not_reach: &[KUBERNETES[0], KUBERNETES[1], KUBERNETES[2], ENGINE],
        reason: "it must build in seconds, before anything else does",
    },
];

/// What tests may use wherever they stand.
const IN_TESTS: &[(&str, &str)] = &[("*", "guests"), ("e2e", "cluster"), ("e2e", "simulator")];

/// Holds the workspace to the rules.
///
/// # Errors
/// When a crate reaches what it must not, with the way there and the reason; when it has no rule.
pub(crate) fn check(context: &Context) -> Result<()> {
    let json = process::text(&mut context.cargo(&["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cargo metadata gave other JSON")?;
    let wrongs = wrongs(&Graph::of(&metadata));
    if !wrongs.is_empty() {
        bail!(
            "a boundary of ARCHITECTURE.md is crossed:\n  {}",
            wrongs.join("\n  ")
        );
    }
    Ok(())
}

fn wrongs(graph: &Graph) -> Vec<String> {
    let mut wrongs = Vec::new();
    for member in &graph.members {
        let Some(rule) = RULES.iter().find(|rule| rule.name == member) else {
            wrongs.push(format!(
                "{member} has no rule: add one in xtask/src/boundaries.rs, and to ARCHITECTURE.md"
            ));
            continue;
        };
        let known = |edges: &Edges| -> Vec<String> {
            let direct = edges.get(member).into_iter().flatten();
            direct
                .filter(|other| graph.members.contains(*other))
                .cloned()
                .collect()
        };
        for other in known(&graph.normal) {
            if !rule.may_know.contains(&other.as_str()) {
                wrongs.push(format!("{member} depends on {other}: {}", rule.reason));
            }
        }
        for other in known(&graph.tests) {
            let test = |(by, what): &&(&str, &str)| *what == other && (*by == "*" || *by == member);
            if !rule.may_know.contains(&other.as_str()) && !IN_TESTS.iter().any(|t| test(&t)) {
                wrongs.push(format!(
                    "{member}'s tests depend on {other}: {}",
                    rule.reason
                ));
            }
        }
        for foreign in rule.must_not_reach {
            if let Some(way) = graph.way(member, foreign) {
                wrongs.push(format!("{}: {}", way.join(" → "), rule.reason));
            }
        }
    }
    wrongs
}

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Which package depends on which, by name.
struct Graph {
    members: BTreeSet<String>,
    /// What is built into it.
    normal: Edges,
    /// What only its tests use.
    tests: Edges,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, &p.name)).collect();
        let name = |id: &String| {
            names
                .get(id)
                .map_or_else(|| id.clone(), |name| (*name).clone())
        };
        let members = metadata.workspace_members.iter().map(name).collect();
        let (mut normal, mut tests) = (Edges::new(), Edges::new());
        for node in &metadata.resolve.nodes {
            for dependency in &node.deps {
                let is_test = dependency
                    .dep_kinds
                    .iter()
                    .all(|kind| kind.kind.as_deref() == Some("dev"));
                let edges = if is_test { &mut tests } else { &mut normal };
                edges
                    .entry(name(&node.id))
                    .or_default()
                    .insert(name(&dependency.pkg));
            }
        }
        Self {
            members,
            normal,
            tests,
        }
    }

    /// A shortest way from one package to another, both included.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut todo = std::collections::VecDeque::from([from]);
        while let Some(package) = todo.pop_front() {
            if package == to {
                let mut way = vec![to.to_owned()];
                let mut at = to;
                while let Some(previous) = before.get(at) {
                    way.push((*previous).to_owned());
                    at = previous;
                }
                way.reverse();
                return Some(way);
            }
            for next in self.normal.get(package).into_iter().flatten() {
                if next != from && !before.contains_key(next.as_str()) {
                    before.insert(next, package);
                    todo.push_back(next);
                }
            }
        }
        None
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn graph(members: &[&str], normal: &[(&str, &str)], tests: &[(&str, &str)]) -> Graph {
        let edges = |pairs: &[(&str, &str)]| {
            let mut edges = Edges::new();
            for (from, to) in pairs {
                edges
                    .entry((*from).to_owned())
                    .or_default()
                    .insert((*to).to_owned());
            }
            edges
        };
        Graph {
            members: members.iter().map(|m| (*m).to_owned()).collect(),
            normal: edges(normal),
            tests: edges(tests),
        }
    }

    #[test]
    fn the_workspace_keeps_its_boundaries() {
        check(&Context::of_environment().unwrap()).unwrap();
    }

    #[test]
    fn a_stranger_is_named_with_the_way_to_it() {
        let graph = graph(
            &["lifecycle"],
            &[("lifecycle", "helper"), ("helper", "tokio")],
            &[],
        );
        let wrongs = wrongs(&graph);
        assert_eq!(wrongs.len(), 1, "{wrongs:?}");
        assert!(
            wrongs[0].starts_with("lifecycle → helper → tokio: it decides purely"),
            "{wrongs:?}"
        );
    }

    #[test]
    fn hands_are_strangers_to_each_other() {
        let graph = graph(&["image", "volume"], &[("image", "volume")], &[]);
        assert!(wrongs(&graph)[0].starts_with("image depends on volume: "));
    }

    #[test]
    fn tests_may_use_guests_but_not_another_hand() {
        let members = ["image", "volume", "guests"];
        assert_eq!(
            wrongs(&graph(&members, &[], &[("image", "guests")])),
            [""; 0]
        );
        let wrong = wrongs(&graph(&members, &[], &[("image", "volume")]));
        assert!(
            wrong[0].starts_with("image's tests depend on volume: "),
            "{wrong:?}"
        );
    }

    #[test]
    fn what_tests_use_is_not_built_in() {
        assert_eq!(
            wrongs(&graph(&["lifecycle"], &[], &[("lifecycle", "tokio")])),
            [""; 0]
        );
    }

    #[test]
    fn a_crate_without_a_rule_is_wrong() {
        assert!(wrongs(&graph(&["newcomer"], &[], &[]))[0].starts_with("newcomer has no rule"));
    }

    #[test]
    fn circles_end() {
        let circle = graph(
            &["lifecycle"],
            &[("lifecycle", "a"), ("a", "b"), ("b", "a")],
            &[],
        );
        assert_eq!(wrongs(&circle), [""; 0]);
    }
}
