#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, HostIP,
    PodCondition, PodIP, PodStatus,
};

use super::*;

#[test]
fn the_same_seed_gives_the_same_history_to_the_bit() {
    for seed in [3, 70, 324] {
        let once = traced(&Scenario::of(seed));
        let again = traced(&Scenario::of(seed));
        assert!(!once.lines.is_empty());
        assert_eq!(once.lines, again.lines);
        assert_eq!(once.statuses, again.statuses);
    }
}

#[test]
fn no_rule_is_broken_and_what_matters_is_reached() {
    let mut coverage = Coverage::default();
    for seed in 0..150 {
        let outcome = run(&Scenario::of(seed), &mut coverage);
        assert_eq!(outcome.violation, None);
    }
    let reached = |chart, (from, to): (&'static str, &'static str)| {
        coverage.transitions.contains_key(&(chart, from, to))
    };
    for phases in [
        ("Pending", "Running"),
        ("Running", "Succeeded"),
        ("Running", "Failed"),
        ("Pending", "Failed"),
    ] {
        assert!(reached(Chart::Phase, phases), "{phases:?}");
    }
    for (chart, moves) in [
        (Chart::Living, ("Running", "Waiting")),
        (Chart::Ending, ("Running, to be stopped", "Over")),
        (
            Chart::Ending,
            ("Starting, to be stopped", "Running, to be stopped"),
        ),
        (Chart::Living, ("Starting", "Failed")),
        (Chart::Living, ("Mounting", "Failed")),
    ] {
        assert!(reached(chart, moves), "{moves:?}");
    }
}

#[test]
fn a_history_shrinks_to_what_matters() {
    let crashes = |scenario: &Scenario| {
        scenario
            .faults
            .iter()
            .any(|fault| matches!(fault.what, Trouble::Crash(_)))
    };
    let restarts = |scenario: &Scenario| {
        crashes(scenario)
            && traced(scenario).statuses.values().flatten().any(|status| {
                let all = status.container_statuses.iter().flatten();
                all.into_iter().any(|one| one.restart_count > 0)
            })
    };
    let rich = |scenario: &Scenario| scenario.pods.len() > 2 && scenario.faults.len() > 3;
    let found = (0..500)
        .map(Scenario::of)
        .find(|one| rich(one) && restarts(one));
    let small = shrink::smallest(&found.unwrap(), restarts);
    assert_eq!((small.pods.len(), small.faults.len()), (1, 1));
    assert_eq!(small.pods[0].pod.spec.as_ref().unwrap().containers.len(), 1);
    assert!(restarts(&small));
}

fn ended(code: i32) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some("Error".to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn running() -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..ContainerState::default()
    }
}

fn with(state: ContainerState) -> PodStatus {
    PodStatus {
        container_statuses: Some(vec![ContainerStatus {
            name: "c0".to_owned(),
            state: Some(state),
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    }
}

/// What the server refuses of a pod with this policy, from a status to another.
fn refused(policy: &str, old: PodStatus, new: &PodStatus) -> Vec<String> {
    let mut pod = Scenario::of(1).pods.remove(0).pod;
    let spec = pod.spec.as_mut().unwrap();
    spec.restart_policy = Some(policy.to_owned());
    spec.containers.truncate(1);
    spec.containers[0].restart_policy = None;
    pod.status = Some(old);
    validation::update(&pod, new).err().unwrap_or_default()
}

#[test]
fn what_ended_runs_again_only_by_its_policy() {
    for (policy, code, allowed) in [
        ("Always", 0, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let errors = refused(policy, with(ended(code)), &with(running()));
        assert_eq!(errors.is_empty(), allowed, "{policy} {code}: {errors:?}");
    }
    assert_eq!(refused("Never", with(running()), &with(ended(1))), [""; 0]);
}

#[test]
fn the_other_rules_refuse_by_field() {
    let qos = |class: &str| PodStatus {
        qos_class: Some(class.to_owned()),
        ..PodStatus::default()
    };
    assert!(refused("Never", qos("Burstable"), &qos("BestEffort"))[0].contains("qosClass"));
    assert_eq!(refused("Never", qos("Burstable"), &qos("")), [""; 0]);
    let ips = |all: &[&str]| PodStatus {
        pod_ips: Some(
            all.iter()
                .map(|ip| PodIP {
                    ip: (*ip).to_owned(),
                })
                .collect(),
        ),
        ..PodStatus::default()
    };
    let none = PodStatus::default;
    assert_eq!(
        refused("Never", none(), &ips(&["10.0.0.1", "fd00::1"])),
        [""; 0]
    );
    for bad in [&["10.0.0.1", "10.0.0.2"][..], &["here"]] {
        assert!(
            refused("Never", none(), &ips(bad))[0].contains("podIPs"),
            "{bad:?}"
        );
    }
    let host = PodStatus {
        host_ip: Some("10.0.0.1".to_owned()),
        host_ips: Some(vec![HostIP {
            ip: "10.0.0.2".to_owned(),
        }]),
        ..PodStatus::default()
    };
    assert!(refused("Never", none(), &host)[0].contains("must be equal to `hostIP`"));
    for (condition, generation) in [("no name!", 1), ("Ready", -1)] {
        let status = PodStatus {
            conditions: Some(vec![PodCondition {
                type_: condition.to_owned(),
                observed_generation: Some(generation),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        };
        assert!(refused("Never", none(), &status)[0].contains("conditions"));
    }
}

#[test]
fn histories_reach_what_changes_while_a_pod_runs() {
    let mut reached = std::collections::BTreeSet::new();
    let mut coverage = Coverage::default();
    let all = [
        "Deferred",
        "Error",
        "Infeasible",
        "applied",
        "debugged",
        "room is made",
    ];
    for seed in 0..3000 {
        if reached.len() == all.len() {
            break;
        }
        let scenario = Scenario::of(seed);
        let outcome = run(&scenario, &mut coverage);
        assert_eq!(outcome.violation, None);
        for (id, statuses) in &outcome.statuses {
            let spec = scenario.pods.iter().find(|one| one.id == *id);
            let priority = spec.and_then(|one| one.pod.spec.as_ref()?.priority);
            let critical = priority >= Some(pressure::CRITICAL);
            let mut under_way = false;
            for status in statuses {
                let conditions = status.conditions.iter().flatten();
                let reasons = conditions.filter(|one| one.type_.starts_with("PodResize"));
                // A critical pod that others can't help is told so in other words.
                let lacks =
                    |message: &String| message.starts_with("Node didn't have enough resource");
                let mut messages = reasons.clone().filter_map(|one| one.message.as_ref());
                if critical && messages.any(lacks) {
                    reached.insert("room is made".to_owned());
                }
                reached.extend(reasons.clone().filter_map(|one| one.reason.clone()));
                let before = std::mem::replace(
                    &mut under_way,
                    reasons
                        .clone()
                        .any(|one| one.type_ == "PodResizeInProgress"),
                );
                if before && !under_way && status.phase.as_deref() == Some("Running") {
                    reached.insert("applied".to_owned());
                }
                let debuggers = status.ephemeral_container_statuses.iter().flatten();
                let mut states = debuggers.filter_map(|one| one.state.as_ref());
                if states.any(|state| state.terminated.is_some()) {
                    reached.insert("debugged".to_owned());
                }
            }
        }
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn histories_reach_what_the_node_decides() {
    let mut reached = std::collections::BTreeSet::new();
    let mut coverage = Coverage::default();
    let all = [
        "disk",
        "memory",
        "not taken in",
        "ports",
        "preempted",
        "shutdown",
    ];
    // Some take a rare meeting of pods and faults: as many histories as it takes.
    for seed in 0..3000 {
        if reached.len() == all.len() {
            break;
        }
        let scenario = Scenario::of(seed);
        let outcome = run(&scenario, &mut coverage);
        assert_eq!(outcome.violation, None);
        let statuses = outcome.statuses.values().flatten();
        for status in statuses.filter(|status| status.phase.as_deref() == Some("Failed")) {
            let message = status.message.clone().unwrap_or_default();
            let what = match status.reason.as_deref() {
                Some("Evicted") if message.contains("resource: memory. Threshold") => "memory",
                Some("Evicted") if message.contains("resource: ephemeral") => "disk",
                Some("Evicted") if message.contains("had condition") => "not taken in",
                Some("Preempting") => "preempted",
                Some("NodePorts") => "ports",
                Some("Terminated") => "shutdown",
                _ => continue,
            };
            reached.insert(what);
        }
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), all);
}
