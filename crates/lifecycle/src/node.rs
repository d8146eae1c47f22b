//! What no pod can decide alone: who is admitted, and the node's shutdown.
//!
//! A verdict that was given stands. Pods that were never judged are judged in the order of their
//! creation (then of their UIDs), each against what those admitted before it hold. Must not know:
//! anything of a pod that is not in its [`PodView`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::observed::Verdict;
use crate::resources::{Costs, Resources};
use crate::unsupported;

/// The node and its pods, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// What pods may use together.
    pub allocatable: Resources,
    /// Every pod that is here, in any order.
    pub pods: Vec<PodView>,
    /// The node shuts down: each pod that is not over gets this many seconds.
    pub shutdown: Option<u32>,
}

/// A pod, as `node_step` needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodView {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// What it asks for.
    pub requests: Resources,
    /// What was decided of it before, from [`crate::Memory::verdict`]: it stands.
    pub verdict: Option<Verdict>,
    /// It is over: nothing of it runs or will. It holds nothing of the node.
    pub terminal: bool,
    /// It asks for what can't be had here, whatever is free: reason and message.
    pub unfit: Option<(String, String)>,
}

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStep {
    /// By UID, for each pod of the view.
    pub verdicts: BTreeMap<String, Verdict>,
    /// When to ask again with nothing changed.
    pub wake_at: Option<Timestamp>,
}

impl PodView {
    /// Of a Pod: `verdict` as memory has it; `terminal` if nothing of it runs or will.
    pub fn of(pod: &Pod, costs: &Costs, verdict: Option<Verdict>, terminal: bool) -> PodView {
        let meta = &pod.metadata;
        let created = meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        PodView {
            uid: meta.uid.clone().unwrap_or_default(),
            created,
            requests: Resources::requested(pod, costs),
            unfit: if verdict.is_none() {
                unsupported::refusal(pod)
            } else {
                None
            },
            verdict,
            terminal,
        }
    }
}

/// Decides for each pod of the view. Pure: the same arguments give the same answer.
pub fn node_step(view: &NodeView, _now: Timestamp) -> NodeStep {
    let mut verdicts = BTreeMap::new();
    let mut used = Resources::default();
    let mut new = Vec::new();
    for pod in &view.pods {
        match &pod.verdict {
            None if !pod.terminal => new.push(pod),
            None => {
                verdicts.insert(pod.uid.clone(), Verdict::Admitted);
            }
            Some(verdict) => {
                if !pod.terminal && !matches!(verdict, Verdict::Refused { .. }) {
                    used = used.plus(pod.requests);
                }
                verdicts.insert(pod.uid.clone(), standing(pod, verdict, view.shutdown));
            }
        }
    }
    new.sort_by(|one, other| (one.created, &one.uid).cmp(&(other.created, &other.uid)));
    for pod in new {
        let refusal = match (&pod.unfit, view.shutdown) {
            (_, Some(_)) => Some(SHUTDOWN.map(str::to_owned)),
            (Some((reason, message)), None) => Some([reason.clone(), message.clone()]),
            (None, None) => lack(&pod.requests, &used, &view.allocatable),
        };
        let verdict = match refusal {
            Some([reason, message]) => Verdict::Refused { reason, message },
            None => {
                used = used.plus(pod.requests);
                Verdict::Admitted
            }
        };
        verdicts.insert(pod.uid.clone(), verdict);
    }
    NodeStep {
        verdicts,
        wake_at: None,
    }
}

/// `pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`
const SHUTDOWN: [&str; 2] = [
    "NodeShutdown",
    "Pod was rejected as the node is shutting down.",
];

/// A verdict that was given, or the shutdown of a pod that lives.
fn standing(pod: &PodView, verdict: &Verdict, shutdown: Option<u32>) -> Verdict {
    match (verdict, shutdown) {
        (Verdict::Admitted, Some(grace_seconds)) if !pod.terminal => {
            Verdict::Shutdown { grace_seconds }
        }
        _ => verdict.clone(),
    }
}

/// The first resource that is short, in the kubelet's order and words
/// (`InsufficientResourceError` in `pkg/kubelet/lifecycle/predicate.go`).
fn lack(asked: &Resources, used: &Resources, all: &Resources) -> Option<[String; 2]> {
    const MAPPINGS: &str = "; each container takes memory mappings of the guest host, which \
        vm.max_map_count bounds: raise it with sysctl, or run fewer containers on this node";
    const DESCRIPTORS: &str = "; each container takes descriptors of the guest host, which \
        RLIMIT_NOFILE bounds: raise it for this service, or run fewer containers on this node";
    let rows = [
        ("pods", asked.pods, used.pods, all.pods, ""),
        ("cpu", asked.cpu_milli, used.cpu_milli, all.cpu_milli, ""),
        ("memory", asked.memory, used.memory, all.memory, ""),
        (
            "ephemeral-storage",
            asked.ephemeral_storage,
            used.ephemeral_storage,
            all.ephemeral_storage,
            "",
        ),
        (
            "mappings",
            asked.mappings,
            used.mappings,
            all.mappings,
            MAPPINGS,
        ),
        (
            "descriptors",
            asked.descriptors,
            used.descriptors,
            all.descriptors,
            DESCRIPTORS,
        ),
    ];
    let short = rows
        .into_iter()
        .find(|(_, asked, used, all, _)| *asked > 0 && *asked > all.saturating_sub(*used));
    short.map(|(name, asked, used, all, help)| {
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, \
             capacity: {all}{help}"
        );
        [format!("OutOf{name}"), message]
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    fn pod(uid: &str, created: i64, cpu_milli: u64) -> PodView {
        PodView {
            uid: uid.to_owned(),
            created: Timestamp::from_second(created).unwrap(),
            requests: Resources {
                cpu_milli,
                pods: 1,
                mappings: 2,
                descriptors: 3,
                ..Resources::default()
            },
            verdict: None,
            terminal: false,
            unfit: None,
        }
    }

    fn node() -> Resources {
        Resources {
            cpu_milli: 800,
            memory: 1 << 30,
            pods: 10,
            mappings: 100,
            descriptors: 100,
            ephemeral_storage: 0,
        }
    }

    fn decide(allocatable: Resources, pods: Vec<PodView>) -> BTreeMap<String, Verdict> {
        let view = NodeView {
            allocatable,
            pods,
            shutdown: None,
        };
        let decided = node_step(&view, Timestamp::UNIX_EPOCH);
        let mut reversed = view.clone();
        reversed.pods.reverse();
        assert_eq!(
            node_step(&reversed, Timestamp::UNIX_EPOCH),
            decided,
            "the order given counts"
        );
        decided.verdicts
    }

    #[test]
    fn the_older_pod_wins_and_the_message_is_the_kubelets() {
        let verdicts = decide(node(), vec![pod("b", 2, 500), pod("a", 1, 400)]);
        assert_eq!(verdicts["a"], Verdict::Admitted);
        let Verdict::Refused { reason, message } = &verdicts["b"] else {
            panic!("{verdicts:?}")
        };
        assert_eq!(reason, "OutOfcpu");
        assert_eq!(
            message,
            "Node didn't have enough resource: cpu, requested: 500, used: 400, capacity: 800"
        );
    }

    #[test]
    fn of_one_age_the_uid_decides() {
        let verdicts = decide(node(), vec![pod("b", 1, 500), pod("a", 1, 500)]);
        assert_eq!(verdicts["a"], Verdict::Admitted);
        assert!(matches!(verdicts["b"], Verdict::Refused { .. }));
    }

    #[test]
    fn what_was_admitted_stays_whoever_is_older() {
        let held = PodView {
            verdict: Some(Verdict::Admitted),
            ..pod("b", 2, 500)
        };
        let verdicts = decide(node(), vec![held, pod("a", 1, 500)]);
        assert_eq!(verdicts["b"], Verdict::Admitted);
        assert!(matches!(verdicts["a"], Verdict::Refused { .. }));
    }

    #[test]
    fn pods_that_are_over_or_refused_hold_nothing() {
        let over = PodView {
            verdict: Some(Verdict::Admitted),
            terminal: true,
            ..pod("a", 1, 800)
        };
        let refusal = Verdict::Refused {
            reason: "OutOfcpu".into(),
            message: "no".into(),
        };
        let refused = PodView {
            verdict: Some(refusal.clone()),
            ..pod("b", 2, 900)
        };
        let verdicts = decide(node(), vec![over, refused, pod("c", 3, 800)]);
        assert_eq!(verdicts["c"], Verdict::Admitted);
        assert_eq!(verdicts["b"], refusal);
    }

    #[test]
    fn each_kind_has_its_reason() {
        for (allocatable, reason, help) in [
            (
                Resources { pods: 0, ..node() },
                "OutOfpods",
                "requested: 1, used: 0, capacity: 0",
            ),
            (
                Resources {
                    mappings: 1,
                    ..node()
                },
                "OutOfmappings",
                "vm.max_map_count",
            ),
            (
                Resources {
                    descriptors: 2,
                    ..node()
                },
                "OutOfdescriptors",
                "RLIMIT_NOFILE",
            ),
        ] {
            let verdicts = decide(allocatable, vec![pod("a", 1, 1)]);
            let Verdict::Refused {
                reason: given,
                message,
            } = &verdicts["a"]
            else {
                panic!()
            };
            assert_eq!(given, reason);
            assert!(message.contains(help), "{message}");
        }
    }

    #[test]
    fn a_shutdown_ends_who_lives_and_lets_nobody_in() {
        let held = PodView {
            verdict: Some(Verdict::Admitted),
            ..pod("a", 1, 1)
        };
        let over = PodView {
            terminal: true,
            ..held.clone()
        };
        let over = PodView {
            uid: "o".to_owned(),
            ..over
        };
        let view = NodeView {
            allocatable: node(),
            pods: vec![held, over, pod("n", 1, 1)],
            shutdown: Some(7),
        };
        let verdicts = node_step(&view, Timestamp::UNIX_EPOCH).verdicts;
        assert_eq!(verdicts["a"], Verdict::Shutdown { grace_seconds: 7 });
        assert_eq!(verdicts["o"], Verdict::Admitted);
        assert!(
            matches!(&verdicts["n"], Verdict::Refused { reason, .. } if reason == "NodeShutdown")
        );
    }

    #[test]
    fn a_huge_request_does_not_wrap() {
        let verdicts = decide(node(), vec![pod("a", 1, 100), pod("b", 2, u64::MAX)]);
        assert_eq!(verdicts["a"], Verdict::Admitted);
        assert!(matches!(verdicts["b"], Verdict::Refused { .. }));
    }
}
