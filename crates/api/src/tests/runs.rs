#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn pod(state: &Value, last: &Value) -> Pod {
    let status = json!({"name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 1,
        "containerID": "now", "state": state, "lastState": last});
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "main"}]},
        "status": {"initContainerStatuses": [status]}});
    serde_json::from_value(pod).unwrap()
}

#[test]
fn the_run_is_the_one_that_the_kubelet_would_take() {
    let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let (running, none) = (json!({"running": {}}), json!({}));
    let told = |what: &str| Err(format!("container \"main\" in pod \"web\" {what}"));
    let ok = |id: &str| Ok(id.to_owned());
    for (state, last, expected) in [
        (&running, &ended("before"), ok("now")),
        (&ended("over"), &ended("before"), ok("over")),
        (&ended(""), &ended("before"), ok("before")),
        (&ended(""), &none, told("is terminated")),
        (&waiting("CrashLoopBackOff"), &ended("before"), ok("before")),
        (
            &waiting("CrashLoopBackOff"),
            &ended(""),
            told("is terminated"),
        ),
        (
            &waiting("ContainerCreating"),
            &none,
            told("is waiting to start: ContainerCreating"),
        ),
        (
            &waiting("ErrImagePull"),
            &none,
            told("is waiting to start: image can't be pulled"),
        ),
        (
            &waiting("ImagePullBackOff"),
            &none,
            told("is waiting to start: trying and failing to pull image"),
        ),
        (&none, &none, told("is waiting to start - no logs yet")),
    ] {
        assert_eq!(
            run_of(&pod(state, last), "main", false),
            expected,
            "{state} {last}"
        );
    }
    assert_eq!(
        run_of(&pod(&running, &ended("before")), "main", true),
        ok("before")
    );
    let first = run_of(&pod(&running, &none), "main", true);
    assert_eq!(
        first,
        Err("previous terminated container \"main\" in pod \"web\" not found".into())
    );
    assert_eq!(
        run_of(&pod(&running, &none), "other", false),
        Err("container \"other\" in pod \"web\" is not available".into())
    );
}

#[test]
fn every_kind_of_container_is_one() {
    let spec = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "b"}],
        "ephemeralContainers": [{"name": "c"}]}});
    let pod: Pod = serde_json::from_value(spec).unwrap();
    for name in ["a", "b", "c"] {
        assert!(has_container(&pod, name), "{name}");
    }
    assert!(!has_container(&pod, "d"));
    assert!(!has_container(&Pod::default(), "a"));
}
