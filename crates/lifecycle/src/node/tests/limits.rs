//! Pods that pass their own limits of local storage.

use std::sync::Arc;

use super::*;
use crate::observed::Eviction;

const SPEC: &str = r#"{"spec":{
    "containers":[{"name":"a","resources":{"limits":{"ephemeral-storage":"1Mi"}}},
        {"name":"b","resources":{"limits":{"ephemeral-storage":"1Mi"}}}],
    "volumes":[{"name":"v","emptyDir":{"sizeLimit":"512Ki"}},{"name":"w","emptyDir":{}}]}}"#;

fn disk(kib: u64) -> Disk {
    Disk {
        bytes: kib << 10,
        inodes: 1,
    }
}

/// What is said of a pod that uses so many KiB: of `a`'s root, of `a`'s logs, of `v`, of `w`.
fn said(json: &str, [root, logs, v, w]: [u64; 4], looked: bool) -> Option<String> {
    let container = ContainerUsage {
        memory: 0,
        root: disk(root),
        logs: disk(logs),
    };
    let own = PodUsage {
        containers: [("a".to_owned(), container)].into(),
        volumes: [("v".to_owned(), disk(v)), ("w".to_owned(), disk(w))].into(),
        looked,
    };
    let view = NodeView {
        pods: shared(vec![admitted(with("p", 1, json))]),
        usage: Some(Arc::new(Usage {
            pods: [("p".to_owned(), own)].into(),
            ..Usage::default()
        })),
        ..NodeView::default()
    };
    let step = step(&view, Timestamp::UNIX_EPOCH);
    assert!(step.measure.is_some_and(|it| it.disk.contains("p")));
    match &step.verdicts["p"] {
        Verdict::Admitted => None,
        Verdict::Evicted {
            eviction,
            message,
            grace_seconds,
        } => {
            assert_eq!((*eviction, *grace_seconds), (Eviction::StorageLimit, 1));
            Some(message.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_limit_has_its_words() {
    let said = |uses| said(SPEC, uses, true);
    assert_eq!(said([1024, 0, 0, 0]), None, "what is reached is not passed");
    assert_eq!(said([0, 0, 512, 1024]), None);
    assert_eq!(said([1024, 0, 0, 1024]), None);
    let container = "Container a exceeded its local ephemeral storage limit \"1Mi\". ";
    assert_eq!(said([1000, 25, 0, 0]).as_deref(), Some(container));
    let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"512Ki\". ";
    assert_eq!(said([0, 0, 513, 0]).as_deref(), Some(volume));
    let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
    assert_eq!(said([1024, 0, 0, 1025]).as_deref(), Some(pod));
}

#[test]
fn a_container_whose_limit_is_nothing_has_none() {
    let none = SPEC.replacen("1Mi", "0", 1);
    assert_eq!(said(&none, [1000, 0, 0, 0], true), None);
}

#[test]
fn nobody_goes_for_what_nobody_looked_at_nor_a_critical_pod() {
    assert_eq!(said(SPEC, [9999, 0, 0, 0], false), None);
    let critical = SPEC.replace(r#"{"spec":{"#, r#"{"spec":{"priority":2000000000,"#);
    assert_eq!(said(&critical, [9999, 0, 0, 0], true), None);
}

#[test]
fn a_pod_without_limits_is_not_measured() {
    let plain = r#"{"spec":{"volumes":[{"name":"v","emptyDir":{}},
        {"name":"z","emptyDir":{"sizeLimit":"0"}},
        {"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}}]}}"#;
    let view = NodeView {
        pods: shared(vec![admitted(with("p", 1, plain))]),
        ..NodeView::default()
    };
    assert_eq!(step(&view, Timestamp::UNIX_EPOCH).measure, None);
}

#[test]
fn a_pod_is_measured_for_either_limit() {
    let container = r#"{"spec":{"containers":[
        {"name":"a","resources":{"limits":{"ephemeral-storage":"1Mi"}}}]}}"#;
    let volume = r#"{"spec":{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"512Ki"}}]}}"#;
    // As `said` looks at whether it is measured.
    assert_eq!(said(container, [1024, 0, 0, 0], true), None);
    let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    assert_eq!(said(container, [1025, 0, 0, 0], true).as_deref(), Some(pod));
    // One limit is told as it was written.
    let written = container.replace("1Mi", "1024k");
    let pod = pod.replace("1Mi", "1024k");
    assert_eq!(said(&written, [1001, 0, 0, 0], true), Some(pod));
    assert_eq!(said(volume, [9999, 0, 512, 0], true), None);
    assert!(said(volume, [0, 0, 513, 0], true).is_some());
}

#[test]
fn the_limit_of_a_pod_is_the_largest_moment_of_its_containers() {
    let of = |init: &str, sidecar: &str, main: &str| {
        let one = |name: &str, limit: &str, more: &str| {
            format!(
                r#"{{"name":"{name}"{more},"resources":{{"limits":{{"ephemeral-storage":"{limit}"}}}}}}"#
            )
        };
        let always = r#","restartPolicy":"Always""#;
        let json = format!(
            r#"{{"spec":{{"initContainers":[{},{}],"containers":[{}]}}}}"#,
            one("s", sidecar, always),
            one("i", init, ""),
            one("m", main, "")
        );
        let within = |kib| said(&json, [0, 0, 0, kib], true).is_none();
        (0..10).filter(|mib| within(mib << 10)).max().unwrap()
    };
    assert_eq!(of("1Mi", "2Mi", "3Mi"), 5, "sidecar and main");
    assert_eq!(of("4Mi", "2Mi", "1Mi"), 6, "sidecar and init");
}
