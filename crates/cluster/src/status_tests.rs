#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, HostIP,
    PodIP, PodReadinessGate, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn condition(kind: &str, status: &str, since: Option<i64>) -> PodCondition {
    let last_transition_time = since.map(|since| Time(at(since)));
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        last_transition_time,
        ..Default::default()
    }
}

fn pod(status: PodStatus) -> Pod {
    let metadata = ObjectMeta {
        uid: Some("u1".into()),
        ..Default::default()
    };
    let spec = PodSpec {
        readiness_gates: Some(vec![PodReadinessGate {
            condition_type: "example.com/gate".into(),
        }]),
        ..Default::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        status: Some(status),
    }
}

#[test]
fn a_patch_carries_the_uid_and_only_what_changed() {
    let pod = pod(PodStatus {
        phase: Some("Pending".into()),
        host_ip: Some("10.0.0.1".into()),
        ..Default::default()
    });
    let wanted = PodStatus {
        phase: Some("Running".into()),
        host_ip: Some("10.0.0.1".into()),
        ..Default::default()
    };
    let patch = patch(&pod, &wanted).unwrap();
    assert_eq!(
        patch,
        json!({ "metadata": { "uid": "u1" }, "status": { "phase": "Running" } })
    );
}

#[test]
fn nothing_is_patched_when_nothing_changed() {
    let status = PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![condition("Ready", "True", Some(5))]),
        start_time: Some(Time(at(3))),
        ..Default::default()
    };
    let mut wanted = status.clone();
    // Finer than the API keeps, and later: neither is a change.
    wanted.start_time = Some(Time(Timestamp::from_millisecond(3_999).unwrap()));
    wanted.conditions = Some(vec![condition("Ready", "True", Some(9))]);
    assert_eq!(patch(&pod(status), &wanted), None);
}

#[test]
fn others_conditions_and_fields_stay() {
    let status = PodStatus {
        conditions: Some(vec![
            condition("example.com/gate", "True", Some(1)),
            condition("DisruptionTarget", "True", Some(1)),
            condition("Ready", "False", Some(1)),
        ]),
        qos_class: Some("BestEffort".into()),
        nominated_node_name: Some("elsewhere".into()),
        ..Default::default()
    };
    let wanted = PodStatus {
        conditions: Some(vec![condition("Ready", "True", Some(7))]),
        qos_class: Some("Guaranteed".into()),
        ..Default::default()
    };
    let patch = patch(&pod(status), &wanted).unwrap();
    let ready =
        json!({ "type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z" });
    assert_eq!(patch["status"], json!({ "conditions": [ready] }));
}

#[test]
fn a_condition_that_stays_keeps_its_time_and_loses_old_words() {
    let mut old = condition("Ready", "False", Some(1));
    old.reason = Some("ContainersNotReady".into());
    old.message = Some("[web]".into());
    let mut new = condition("Ready", "False", None);
    new.reason = Some("PodFailed".into());
    let status = PodStatus {
        conditions: Some(vec![old]),
        ..Default::default()
    };
    let wanted = PodStatus {
        conditions: Some(vec![new]),
        ..Default::default()
    };
    let patch = patch(&pod(status), &wanted).unwrap();
    let expected = json!({ "type": "Ready", "status": "False", "reason": "PodFailed", "message": null,
        "lastTransitionTime": "1970-01-01T00:00:01Z" });
    assert_eq!(patch["status"]["conditions"], json!([expected]));
}

#[test]
fn a_condition_without_a_time_has_held_since_it_was_first_wanted() {
    let status = |kind: &str| PodStatus {
        conditions: Some(vec![condition("Ready", kind, None)]),
        ..Default::default()
    };
    let since = |status: &PodStatus| {
        status.conditions.as_ref().unwrap()[0]
            .last_transition_time
            .clone()
            .unwrap()
            .0
    };
    let (mut first, mut same, mut turned) = (status("False"), status("False"), status("True"));
    stamp(None, &mut first, at(1));
    stamp(Some(&first), &mut same, at(2));
    stamp(Some(&same), &mut turned, at(3));
    assert_eq!(
        [since(&first), since(&same), since(&turned)],
        [at(1), at(1), at(3)]
    );
}

#[test]
fn a_resize_that_is_done_takes_its_condition_back() {
    let pending = condition("PodResizePending", "True", Some(1));
    let status = PodStatus {
        conditions: Some(vec![pending]),
        ..Default::default()
    };
    let patch = patch(&pod(status), &PodStatus::default()).unwrap();
    assert_eq!(
        patch["status"]["conditions"],
        json!([{ "$patch": "delete", "type": "PodResizePending" }])
    );
}

#[test]
fn cleared_fields_are_null_and_addresses_are_replaced() {
    let status = PodStatus {
        message: Some("waiting".into()),
        pod_ips: Some(vec![PodIP {
            ip: "10.0.0.1".into(),
        }]),
        host_ips: Some(vec![HostIP {
            ip: "10.0.0.9".into(),
        }]),
        ..Default::default()
    };
    let wanted = PodStatus {
        pod_ips: Some(vec![PodIP {
            ip: "10.0.0.2".into(),
        }]),
        host_ips: Some(vec![HostIP {
            ip: "10.0.0.9".into(),
        }]),
        ..Default::default()
    };
    let patch = patch(&pod(status), &wanted).unwrap();
    let ips = json!([{ "$patch": "replace" }, { "ip": "10.0.0.2" }]);
    assert_eq!(patch["status"], json!({ "message": null, "podIPs": ips }));
}

#[test]
fn messages_share_twelve_kibibytes_and_are_cut_at_a_character() {
    let terminated = ContainerStateTerminated {
        message: Some("é".repeat(20_000)),
        ..Default::default()
    };
    let state = Some(ContainerState {
        terminated: Some(terminated),
        ..Default::default()
    });
    let container = |name: &str| ContainerStatus {
        name: name.into(),
        state: state.clone(),
        ..Default::default()
    };
    let wanted = PodStatus {
        container_statuses: Some(vec![container("a"), container("b")]),
        init_container_statuses: Some(vec![container("c")]),
        ..Default::default()
    };
    let patch = patch(&pod(PodStatus::default()), &wanted).unwrap();
    let message = patch["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        .as_str()
        .unwrap();
    assert_eq!(message.len(), 4096);
}

#[test]
fn resources_that_are_gone_are_said_to_be() {
    let old = json!({ "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "1" } });
    let new = json!({ "limits": { "cpu": "2" } });
    let expected = json!({ "limits": { "cpu": "2", "memory": null }, "requests": null });
    assert_eq!(merged(Some(&old), &new), expected);
}

fn waiting(phase: &str, reason: &str) -> PodStatus {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.into()),
        ..Default::default()
    };
    let container = ContainerStatus {
        state: Some(ContainerState {
            waiting: Some(waiting),
            ..Default::default()
        }),
        ..Default::default()
    };
    PodStatus {
        phase: Some(phase.into()),
        container_statuses: Some(vec![container]),
        ..Default::default()
    }
}

#[test]
fn a_pod_that_is_being_made_is_of_passing_interest_and_one_that_cannot_be_is_not() {
    let bound = pod(PodStatus::default());
    assert!(is_passing(&bound, &waiting("Pending", "ContainerCreating")));
    assert!(!is_passing(&bound, &waiting("Pending", "ErrImagePull")));
    assert!(!is_passing(
        &bound,
        &waiting("Running", "ContainerCreating")
    ));
    let mut again = waiting("Pending", "ContainerCreating");
    again.container_statuses.as_mut().unwrap()[0].restart_count = 1;
    assert!(!is_passing(&bound, &again));
    let refused = PodStatus {
        phase: Some("Failed".into()),
        ..Default::default()
    };
    assert!(!is_passing(&bound, &refused));
}

#[test]
fn a_deleted_pod_of_which_nothing_runs_is_all_but_over() {
    let mut deleted = pod(PodStatus::default());
    let crashing = waiting("Running", "CrashLoopBackOff");
    assert!(!is_all_but_over(&deleted, &crashing));
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert!(is_all_but_over(&deleted, &crashing));
    let mut running = crashing.clone();
    running.container_statuses.as_mut().unwrap()[0].state = Some(ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..Default::default()
    });
    assert!(!is_all_but_over(&deleted, &running));
    let failed = PodStatus {
        phase: Some("Failed".into()),
        ..crashing
    };
    assert!(is_all_but_over(&deleted, &failed));
    let nothing_known = PodStatus::default();
    assert!(!is_all_but_over(&deleted, &nothing_known));
}

#[test]
fn a_generation_alone_is_of_passing_interest() {
    let with = |generation, ready: &str| {
        let mut ready = condition("Ready", ready, Some(1));
        ready.observed_generation = Some(generation);
        PodStatus {
            phase: Some("Running".into()),
            observed_generation: Some(generation),
            conditions: Some(vec![ready]),
            ..Default::default()
        }
    };
    let told = pod(with(1, "True"));
    assert!(is_passing(&told, &with(2, "True")));
    assert!(!is_passing(&told, &with(2, "False")));
}
