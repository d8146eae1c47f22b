//! Whether a pod is for this Node: labels, taints, os, ports.

use super::*;

fn labelled() -> NodeObject {
    let labels = [
        ("disk", "ssd"),
        ("cores", "8"),
        ("kubernetes.io/os", "wasm32-wasi"),
    ];
    NodeObject {
        name: "wasm-1".to_owned(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        taints: serde_json::from_str(
            r#"[{"key":"kubernetes.io/arch","value":"wasm32-wasi","effect":"NoSchedule"},
                {"key":"out","value":"yes","effect":"NoExecute"}]"#,
        )
        .unwrap(),
        seen: Timestamp::from_second(100).unwrap(),
    }
}

/// What becomes of a pod of this spec, which tolerates all, on that Node.
fn placed(object: NodeObject, spec: &str) -> NodeStep {
    let spec = spec.strip_prefix('{').unwrap();
    let tail = if spec == "}" {
        "}"
    } else {
        &format!(",{spec}")
    };
    let json = format!(r#"{{"spec":{{"tolerations":[{{"operator":"Exists"}}]{tail}}}"#);
    on(object, &json)
}

fn on(object: NodeObject, json: &str) -> NodeStep {
    let view = NodeView {
        allocatable: node(),
        object: Some(object),
        pods: shared(vec![with("a", 1, json)]),
        ..NodeView::default()
    };
    step(&view, Timestamp::from_second(50).unwrap())
}

fn required(terms: &str) -> String {
    format!(
        r#"{{"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":
            {{"nodeSelectorTerms":[{terms}]}}}}}}}}"#
    )
}

fn expression(key: &str, operator: &str, values: &str) -> String {
    required(&format!(
        r#"{{"matchExpressions":[{{"key":"{key}","operator":"{operator}","values":[{values}]}}]}}"#
    ))
}

#[test]
fn the_nodes_labels_decide() {
    for (spec, fits) in [
        ("{}".to_owned(), true),
        (r#"{"nodeSelector":{"disk":"ssd"}}"#.to_owned(), true),
        (r#"{"nodeSelector":{"disk":"hdd"}}"#.to_owned(), false),
        (r#"{"nodeSelector":{"gpu":""}}"#.to_owned(), false),
        (expression("disk", "In", r#""hdd","ssd""#), true),
        (expression("disk", "In", r#""hdd""#), false),
        (expression("gpu", "In", r#""a""#), false),
        (expression("disk", "NotIn", r#""hdd""#), true),
        (expression("gpu", "NotIn", r#""a""#), true),
        (expression("disk", "NotIn", r#""ssd""#), false),
        (expression("disk", "Exists", ""), true),
        (expression("gpu", "Exists", ""), false),
        (expression("gpu", "DoesNotExist", ""), true),
        (expression("disk", "DoesNotExist", ""), false),
        (expression("cores", "Gt", r#""7""#), true),
        (expression("cores", "Gt", r#""8""#), false),
        (expression("cores", "Lt", r#""9""#), true),
        (expression("cores", "Lt", r#""8""#), false),
        (expression("disk", "Lt", r#""9""#), false),
        (expression("disk", "Like", r#""ssd""#), false),
        (required(""), false),
        (required("{}"), false),
        (
            required(r#"{},{"matchExpressions":[{"key":"disk","operator":"Exists"}]}"#),
            true,
        ),
        (
            required(
                r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["wasm-1"]}]}"#,
            ),
            true,
        ),
        (
            required(
                r#"{"matchFields":[{"key":"metadata.name","operator":"NotIn","values":["wasm-1"]}]}"#,
            ),
            false,
        ),
        (
            required(
                r#"{"matchFields":[{"key":"metadata.uid","operator":"NotIn","values":["x"]}]}"#,
            ),
            false,
        ),
    ] {
        let verdict = placed(labelled(), &spec).verdicts["a"].clone();
        if fits {
            assert_eq!(verdict, Verdict::Admitted, "{spec}");
        } else {
            let said = (
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            );
            assert_eq!(refusal(&verdict), said, "{spec}");
        }
    }
}

#[test]
fn labels_that_are_older_than_the_pod_are_not_the_last_word() {
    let old = NodeObject {
        seen: Timestamp::from_second(49).unwrap(),
        ..labelled()
    };
    let mut view = NodeView {
        allocatable: node(),
        object: Some(old),
        pods: shared(vec![with(
            "a",
            1,
            r#"{"spec":{"nodeSelector":{"new":"yes"},
            "tolerations":[{"operator":"Exists"}]}}"#,
        )]),
        ..NodeView::default()
    };
    let now = Timestamp::from_second(50).unwrap();
    let first = step(&view, now);
    assert!(first.verdicts.is_empty(), "{first:?}");
    view.memory = first.memory.clone();
    let late = first.wake_at.unwrap();
    assert_eq!(
        refusal(&step(&view, late).verdicts["a"]).0,
        "NodeAffinity",
        "nobody tells"
    );
    let fresh = view.object.as_mut().unwrap();
    fresh.seen = Timestamp::from_second(51).unwrap();
    let told = step(&view, Timestamp::from_second(52).unwrap());
    assert_eq!(refusal(&told.verdicts["a"]).0, "NodeAffinity");
    assert!(told.memory.unfit_since.is_empty());
    let fresh = view.object.as_mut().unwrap();
    fresh.labels.insert("new".to_owned(), "yes".to_owned());
    assert_eq!(step(&view, now).verdicts["a"], Verdict::Admitted);
}

#[test]
fn a_node_that_is_no_object_keeps_nobody_away() {
    let pods = vec![with("a", 1, r#"{"spec":{"nodeSelector":{"gpu":"yes"}}}"#)];
    assert_eq!(decide(node(), pods)["a"], Verdict::Admitted);
}

#[test]
fn only_a_taint_noexecute_keeps_away_and_no_static_pod() {
    let tolerates = |list: &str| format!(r#"{{"spec":{{"tolerations":[{list}]}}}}"#);
    for (json, fits) in [
        (tolerates(""), false),
        (tolerates(r#"{"operator":"Exists"}"#), true),
        (tolerates(r#"{"key":"out","operator":"Exists"}"#), true),
        (tolerates(r#"{"key":"out","value":"yes"}"#), true),
        (tolerates(r#"{"key":"out","value":"no"}"#), false),
        (
            tolerates(r#"{"key":"out","operator":"Exists","effect":"NoSchedule"}"#),
            false,
        ),
        (tolerates(r#"{"operator":"Equal","value":"yes"}"#), false),
        (
            r#"{"metadata":{"annotations":{"kubernetes.io/config.source":"file"}}}"#.to_owned(),
            true,
        ),
    ] {
        let verdict = on(labelled(), &json).verdicts["a"].clone();
        if fits {
            assert_eq!(verdict, Verdict::Admitted, "{json}");
        } else {
            let said = (
                "TaintToleration",
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
            );
            assert_eq!(refusal(&verdict), said, "{json}");
        }
    }
}

#[test]
fn a_pod_labelled_for_another_os_is_refused() {
    let json = r#"{"metadata":{"labels":{"kubernetes.io/os":"linux"}},
        "spec":{"tolerations":[{"operator":"Exists"}]}}"#;
    let verdicts = on(labelled(), json).verdicts;
    let said = (
        "PodOSSelectorNodeLabelDoesNotMatch",
        "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
    );
    assert_eq!(refusal(&verdicts["a"]), said);
    let own = json.replace("linux", "wasm32-wasi");
    assert_eq!(on(labelled(), &own).verdicts["a"], Verdict::Admitted);
}

/// Two pods with those ports: whether both fit.
fn together(one: &str, other: &str) -> bool {
    let json = |ports: &str| {
        let (host, ports) = ports
            .strip_prefix("host ")
            .map_or((false, ports), |rest| (true, rest));
        format!(
            r#"{{"spec":{{"hostNetwork":{host},"containers":[{{"name":"c","ports":[{ports}]}}]}}}}"#
        )
    };
    let pods = vec![with("a", 1, &json(one)), with("b", 2, &json(other))];
    let verdicts = decide(node(), pods);
    assert_eq!(verdicts["a"], Verdict::Admitted);
    if verdicts["b"] == Verdict::Admitted {
        return true;
    }
    let said = (
        "NodePorts",
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    );
    assert_eq!(refusal(&verdicts["b"]), said);
    false
}

#[test]
fn a_port_of_the_node_is_one_pods() {
    let plain = r#"{"containerPort":80,"hostPort":8080}"#;
    for (other, both) in [
        (plain, false),
        (
            r#"{"containerPort":81,"hostPort":8080,"protocol":"TCP"}"#,
            false,
        ),
        (
            r#"{"containerPort":80,"hostPort":8080,"protocol":"UDP"}"#,
            true,
        ),
        (r#"{"containerPort":80,"hostPort":8081}"#, true),
        (r#"{"containerPort":8080}"#, true),
        (
            r#"{"containerPort":80,"hostPort":8080,"hostIP":"127.0.0.1"}"#,
            false,
        ),
        (r#"host {"containerPort":8080}"#, false),
        (r#"host {"containerPort":80}"#, true),
    ] {
        assert_eq!(together(plain, other), both, "{other}");
    }
    let none = r#"{"containerPort":80,"hostPort":0}"#;
    assert!(together(none, none));
    let (one, other) = (
        r#"{"containerPort":80,"hostPort":8080,"hostIP":"127.0.0.1"}"#,
        r#"{"containerPort":80,"hostPort":8080,"hostIP":"127.0.0.2"}"#,
    );
    assert!(together(one, other));
    assert!(!together(one, plain));
}

#[test]
fn a_sidecars_ports_count_and_those_of_the_dead_do_not() {
    let sidecar = r#"{"spec":{"initContainers":[{"name":"s","restartPolicy":"Always",
        "ports":[{"containerPort":1,"hostPort":9}]}]}}"#;
    let init = &sidecar.replace(r#""restartPolicy":"Always","#, "");
    let main =
        r#"{"spec":{"containers":[{"name":"c","ports":[{"containerPort":1,"hostPort":9}]}]}}"#;
    let both = |one: &str| decide(node(), vec![with("a", 1, one), with("b", 2, main)]);
    assert_eq!(refusal(&both(sidecar)["b"]).0, "NodePorts");
    assert_eq!(both(init)["b"], Verdict::Admitted);
    let over = PodView {
        terminal: true,
        ..admitted(with("a", 1, sidecar))
    };
    let verdicts = decide(node(), vec![over, with("b", 2, main)]);
    assert_eq!(verdicts["b"], Verdict::Admitted);
}

#[test]
fn a_static_pod_is_one_whose_source_is_not_the_api() {
    let of = |source: &str| {
        let json = format!(
            r#"{{"metadata":{{"annotations":{{"kubernetes.io/config.source":"{source}"}}}}}}"#
        );
        with("a", 1, &json).is_static()
    };
    assert!(of("file"));
    assert!(!of("api"));
    assert!(!with("a", 1, "{}").is_static());
}

#[test]
fn a_pod_is_critical_for_any_of_three_reasons() {
    let of = |metadata: &str, priority: i32| {
        let json = format!(
            r#"{{"metadata":{{"annotations":{{{metadata}}}}},"spec":{{"priority":{priority}}}}}"#
        );
        rank::is_critical(&object(&json))
    };
    assert!(!of("", 1_999_999_999));
    assert!(of("", 2_000_000_000));
    assert!(of(r#""kubernetes.io/config.source":"file""#, 0));
    assert!(!of(r#""kubernetes.io/config.source":"api""#, 0));
    assert!(of(r#""kubernetes.io/config.mirror":"x""#, 0));
}
