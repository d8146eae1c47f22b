//! What a history is made of: pods, and what goes wrong when. A value, so that it can be shrunk.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerRestartRule, ContainerRestartRuleOnExitCodes, ExecAction,
    Lifecycle, LifecycleHandler, Pod, PodCondition, PodSpec, PodStatus, Probe,
    ResourceRequirements, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lifecycle::Resources;
use lifecycle::node::{Policy, Signal};

use crate::chance::Chance;
use crate::{debugging, pressure, resizing};

/// When histories begin: 2026-01-01T00:00:00Z, in Unix seconds.
pub(crate) const BEGIN: i64 = 1_767_225_600;

/// A history before it happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that is drawn while it runs.
    pub seed: u64,
    /// The pods.
    pub pods: Vec<Planned>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// In so many of a hundred cases an action fails, an answer comes twice, a call is lost.
    pub percent: u32,
    /// After so many happenings nothing goes wrong any more.
    pub length: u32,
    /// Seconds of calm before what is left is deleted.
    pub calm: i64,
    /// What the node has.
    pub allocatable: Resources,
    /// When pods have to go.
    pub policy: Policy,
}

/// A pod and its birth.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its number: `metadata.name` is `p<id>`, `metadata.uid` is `uid-<id>`.
    pub id: u32,
    /// It is made after so many happenings.
    pub after: u32,
    /// The object, as it is made.
    pub pod: Pod,
}

/// Something goes wrong, or somebody wants something.
#[derive(Clone, Debug)]
pub struct Fault {
    /// After so many happenings, so that it meets the moments between two of them.
    pub after: u32,
    /// What.
    pub what: Trouble,
}

/// What may come over a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The agent dies, and the next one comes after so many milliseconds.
    Crash(i64),
    /// The guest host dies with all its guests; the next one is there at once.
    HostDeath,
    /// So many checkpoints that are due next can't be written.
    DiskFull(u32),
    /// The API server answers nobody for so many milliseconds.
    Outage(i64),
    /// The node shuts down; pods get so many seconds.
    Shutdown(u32),
    /// The pod is evicted; it gets so many seconds.
    Evict(u32, u32),
    /// The pod is deleted, or again, with so many seconds of grace.
    Delete(u32, i64),
    /// The object vanishes at once.
    Force(u32),
    /// The nth container (init containers first) gets another image.
    Image(u32, u32),
    /// The nth container that has resources gets so many thousandths of a core and so many MiB.
    Resize(u32, u32, i64, i64),
    /// The pod gets an ephemeral container.
    Debug(u32),
    /// The pod gets activeDeadlineSeconds, or fewer.
    Deadline(u32, i64),
    /// Somebody else writes a condition of their own.
    Foreign(u32),
    /// So many percent of something are available from now on.
    Low(Signal, u8),
}

impl Scenario {
    /// The history of a seed.
    pub fn of(seed: u64) -> Scenario {
        let mut chance = Chance::of(seed, "scenario");
        let length = chance.pick([60, 150, 300, 500], 150);
        let count = chance.pick([1, 1, 2, 3, 4], 1);
        let pods = (0..count)
            .map(|id| {
                let late = if chance.percent(50) { length / 2 } else { 1 };
                let after = chance.below(late);
                Planned {
                    id,
                    after,
                    pod: pod(seed, id, &mut chance),
                }
            })
            .collect();
        let percent = chance.pick([0, 3, 10, 30], 10);
        let most = chance.pick([0, 2, 4, 8], 4);
        let faults: Vec<Fault> = (0..chance.below(most + 1))
            .map(|_| Fault {
                after: chance.below(length),
                what: trouble(count, &mut chance),
            })
            .collect();
        let calm = chance.pick([0, 0, 30, 400], 0);
        let tight = chance.percent(25);
        let allocatable = Resources {
            cpu_milli: if tight { 700 } else { 100_000 },
            memory: 1 << 40,
            pods: if chance.percent(10) { 2 } else { 100 },
            mappings: 1000,
            descriptors: 1000,
            ephemeral_storage: 1 << 40,
        };
        let mut faults = faults;
        let policy = pressure::policy(seed, length, &mut faults);
        resizing::faults(seed, length, count, &mut faults);
        debugging::faults(seed, length, count, &mut faults);
        Scenario {
            seed,
            pods,
            faults,
            policy,
            percent,
            length,
            calm,
            allocatable,
        }
    }
}

fn trouble(pods: u32, chance: &mut Chance) -> Trouble {
    let pod = chance.below(pods);
    match chance.below(24) {
        0..=6 => Trouble::Crash(chance.pick([5, 500, 3_000, 60_000], 500)),
        7..=8 => Trouble::HostDeath,
        9 => Trouble::DiskFull(1 + chance.below(3)),
        10 => Trouble::Outage(chance.between(100, 30_000)),
        11 => Trouble::Shutdown(chance.below(20)),
        12 => Trouble::Evict(pod, chance.below(10)),
        13..=16 => Trouble::Delete(pod, chance.pick([1, 2, 5, 10, 30, 60], 30)),
        17 => Trouble::Force(pod),
        18..=20 => Trouble::Image(pod, chance.below(4)),
        21..=22 => Trouble::Deadline(pod, chance.between(1, 120)),
        _ => Trouble::Foreign(pod),
    }
}

fn pod(seed: u64, id: u32, chance: &mut Chance) -> Pod {
    let policy = chance.pick(["Always", "OnFailure", "Never"], "Always");
    let containers: Vec<Container> = (0..chance.pick([1, 1, 1, 2, 3], 1))
        .map(|n| container(format!("c{n}"), chance))
        .collect();
    let inits: Vec<Container> = (0..chance.pick([0, 0, 0, 1, 2, 3], 0))
        .map(|n| {
            let sidecar = chance.percent(45);
            let mut one = container(format!("{}{n}", if sidecar { "s" } else { "i" }), chance);
            if !sidecar {
                // The API server accepts neither of what runs to its end.
                one.startup_probe = None;
                one.liveness_probe = None;
                one.readiness_probe = None;
                one.lifecycle = None;
            }
            if sidecar {
                one.restart_policy = Some("Always".to_owned());
            } else if one.restart_policy.as_deref() == Some("Always") {
                one.restart_policy = None;
            }
            one
        })
        .collect();
    let burstable = [&containers, &inits]
        .into_iter()
        .flatten()
        .any(|one| one.resources.is_some());
    let mut containers = containers;
    let mut inits = inits;
    restart_rules(seed, id, inits.iter_mut().chain(&mut containers));
    resizing::outfit(seed, id, &mut containers, policy != "Never");
    // Drawn apart: what the pod is else does not change with it.
    let mut apart = Chance::of(seed, ("node", id));
    if apart.percent(35)
        && let Some(one) = containers.first_mut()
    {
        one.ports = Some(vec![ContainerPort {
            container_port: 80,
            host_port: Some(apart.pick([8080, 8081], 8080)),
            ..ContainerPort::default()
        }]);
    }
    let priority = apart.percent(25).then_some(2_000_000_000);
    let second = BEGIN + i64::from(chance.below(3));
    let created = Time(Timestamp::from_second(second).unwrap_or_default());
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("p{id}")),
            namespace: Some("default".to_owned()),
            uid: Some(format!("uid-{id}")),
            generation: Some(1),
            resource_version: Some("1".to_owned()),
            creation_timestamp: Some(created.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers,
            init_containers: (!inits.is_empty()).then_some(inits),
            restart_policy: Some(policy.to_owned()),
            termination_grace_period_seconds: Some(chance.pick([0, 1, 2, 5, 10, 30], 30)),
            active_deadline_seconds: chance.percent(10).then(|| chance.between(1, 90)),
            node_name: Some("node".to_owned()),
            priority,
            // The API server takes a priority from its class alone; this is that class's.
            priority_class_name: priority.map(|_| "system-cluster-critical".to_owned()),
            ..PodSpec::default()
        }),
        // As the API server and the scheduler leave it.
        status: Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(if burstable { "Burstable" } else { "BestEffort" }.to_owned()),
            conditions: Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(created),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        }),
    }
}

fn container(name: String, chance: &mut Chance) -> Container {
    let asks = chance.percent(60);
    let cpu = format!("{}m", chance.between(1, 6) * 100);
    let resources = asks.then(|| ResourceRequirements {
        requests: Some(BTreeMap::from([("cpu".to_owned(), Quantity(cpu))])),
        ..ResourceRequirements::default()
    });
    let own = chance.pick(["Always", "OnFailure", "Never"], "Never");
    Container {
        name,
        image: Some("registry.example/app:1".to_owned()),
        image_pull_policy: Some(
            chance
                .pick(
                    ["Always", "IfNotPresent", "IfNotPresent", "Never"],
                    "Always",
                )
                .to_owned(),
        ),
        restart_policy: chance.percent(12).then(|| own.to_owned()),
        resources,
        startup_probe: chance.percent(12).then(|| probe(chance, false)),
        liveness_probe: chance.percent(15).then(|| probe(chance, false)),
        readiness_probe: chance.percent(15).then(|| probe(chance, true)),
        lifecycle: chance.percent(20).then(|| lifecycle(chance)),
        ..Container::default()
    }
}

/// Gives some containers rules by exit code, beside a policy of their own. Drawn apart, as ports are.
fn restart_rules<'c>(seed: u64, id: u32, containers: impl Iterator<Item = &'c mut Container>) {
    let mut chance = Chance::of(seed, ("rules", id));
    for one in containers {
        if !chance.percent(20) {
            continue;
        }
        let (operator, values) = chance.pick(
            [("In", [1, 0]), ("In", [134, 137]), ("NotIn", [0, 255])],
            ("In", [1, 0]),
        );
        one.restart_policy
            .get_or_insert_with(|| chance.pick(["OnFailure", "Never"], "Never").to_owned());
        one.restart_policy_rules = Some(vec![ContainerRestartRule {
            action: if chance.percent(25) {
                "RestartAllContainers"
            } else {
                "Restart"
            }
            .to_owned(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes {
                operator: operator.to_owned(),
                values: Some(values.to_vec()),
            }),
        }]);
    }
}

/// `counts`: it may ask for more than one success in a row, which only readiness may.
fn probe(chance: &mut Chance, counts: bool) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(80),
            ..TCPSocketAction::default()
        }),
        initial_delay_seconds: Some(chance.pick([0, 0, 1, 20], 0)),
        period_seconds: Some(chance.pick([2, 10, 10, 60], 10)),
        timeout_seconds: Some(1),
        failure_threshold: Some(chance.pick([1, 2, 3], 3)),
        success_threshold: Some(if counts { chance.pick([1, 1, 2], 1) } else { 1 }),
        termination_grace_period_seconds: (!counts && chance.percent(30))
            .then(|| chance.pick([1, 5, 40], 5)),
        ..Probe::default()
    }
}

fn lifecycle(chance: &mut Chance) -> Lifecycle {
    let handler = || LifecycleHandler {
        exec: Some(ExecAction {
            command: Some(vec!["true".to_owned()]),
        }),
        ..LifecycleHandler::default()
    };
    let which = chance.below(3);
    Lifecycle {
        post_start: (which != 0).then(handler),
        pre_stop: (which != 1).then(handler),
        ..Lifecycle::default()
    }
}
