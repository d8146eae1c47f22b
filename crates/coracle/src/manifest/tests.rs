#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;

use super::*;

fn source(text: &str) -> Source {
    Source {
        name: "f.yaml".to_owned(),
        folder: std::env::temp_dir(),
        text: text.to_owned(),
    }
}

fn one(text: &str) -> Manifest {
    read(&[source(text)]).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// What is wrong, a line each.
fn wrong(text: &str) -> Vec<String> {
    let problems = read(&[source(text)]).expect_err(text);
    problems.0.iter().map(ToString::to_string).collect()
}

/// A Pod with these lines in its only container.
fn container(lines: &str) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: c\n    image: app:1\n",
    );
    for line in lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// A Pod with these lines in its spec.
fn pod(lines: &str) -> String {
    let mut text = container("");
    for line in lines.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn named(name: &str) -> Named {
    ("default".to_owned(), name.to_owned())
}

#[test]
fn a_pod_gets_the_apis_defaults() {
    let manifest = one(&container(
        "ports: [{containerPort: 80}]\nresources: {limits: {cpu: 1, memory: 64Mi}}",
    ));
    let pod = &manifest.pods[&named("web")];
    let spec = pod.spec.as_ref().unwrap();
    let container = &spec.containers[0];
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(
        container.termination_message_path.as_deref(),
        Some("/dev/termination-log")
    );
    assert_eq!(
        container.ports.as_ref().unwrap()[0].protocol.as_deref(),
        Some("TCP")
    );
    let resources = container.resources.as_ref().unwrap();
    assert_eq!(resources.requests, resources.limits);
    assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "1");
}

#[test]
fn a_number_of_a_probe_that_is_0_is_one_left_out() {
    let text = container(
        "livenessProbe: {periodSeconds: 0, timeoutSeconds: 0, successThreshold: 0, failureThreshold: 5, httpGet: {port: 80}}",
    );
    let pod = &one(&text).pods[&named("web")];
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let probe = container.liveness_probe.as_ref().unwrap();
    assert_eq!(
        (probe.period_seconds, probe.timeout_seconds),
        (Some(10), Some(1))
    );
    let thresholds = (probe.success_threshold, probe.failure_threshold);
    assert_eq!(thresholds, (Some(1), Some(5)));
}

#[test]
fn a_hooks_get_is_of_the_root_unless_it_says_otherwise() {
    let text = container("lifecycle: {preStop: {httpGet: {port: 80}}}");
    let pod = &one(&text).pods[&named("web")];
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let hook = container.lifecycle.as_ref().unwrap().pre_stop.as_ref();
    let get = hook.unwrap().http_get.as_ref().unwrap();
    assert_eq!(
        (get.path.as_deref(), get.scheme.as_deref()),
        (Some("/"), Some("HTTP"))
    );
}

#[test]
fn two_handlers_are_told_once() {
    let two = container("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 80}}");
    let told = wrong(&two);
    let expected = "f.yaml:8:20: Pod web: spec.containers[0].livenessProbe: 2 handlers: name one handler: exec, httpGet, tcpSocket or grpc";
    assert_eq!(told, [expected]);
}

#[test]
fn the_pull_policy_is_by_the_tag() {
    for (image, policy) in [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("app:1", "IfNotPresent"),
        ("localhost:5000/app", "Always"),
    ] {
        let text = container("").replace("app:1", image);
        let pod = &one(&text).pods[&named("web")];
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(
            container.image_pull_policy.as_deref(),
            Some(policy),
            "{image}"
        );
    }
}

#[test]
fn documents_lists_json_and_deployments_are_read() {
    let text = "\
# a comment
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: prod}
data: {mode: 'on'}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {a: MQ==, b: Mg==}
stringData: {b: two}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      containers: [{name: c, image: 'app:1'}]
---
{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [
\t{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"one\", \"uid\": \"x\", \"resourceVersion\": \"7\"},
\t \"spec\": {\"containers\": [{\"name\": \"c\", \"image\": \"app:1\"}]}, \"status\": {\"phase\": \"Failed\"}}
]}
---
";
    let manifest = one(text);
    let names: Vec<&str> = manifest
        .pods
        .keys()
        .map(|(_, name)| name.as_str())
        .collect();
    assert_eq!(names, ["front-0", "front-1", "one"]);
    let front = &manifest.pods[&named("front-1")];
    assert_eq!(front.metadata.labels.as_ref().unwrap()["app"], "front");
    let one = &manifest.pods[&named("one")];
    assert_eq!((&one.metadata.uid, &one.status), (&None, &None));
    let key = ("prod".to_owned(), "settings".to_owned());
    assert_eq!(
        manifest.config_maps[&key].data.as_ref().unwrap()["mode"],
        "on"
    );
    let secret = manifest.secrets[&named("s")].data.as_ref().unwrap();
    assert_eq!(
        (secret["a"].0.as_slice(), secret["b"].0.as_slice()),
        (&b"1"[..], &b"two"[..])
    );
}

#[test]
fn anchors_and_merges_are_kubectls() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - &base
    name: a
    image: app:1
    env: &env [{name: X, value: 'y'}]
  - <<: *base
    name: b
";
    let pod = &one(text).pods[&named("web")];
    let containers = &pod.spec.as_ref().unwrap().containers;
    assert_eq!(containers[1].name, "b");
    assert_eq!(containers[1].env, containers[0].env);
}

#[test]
fn files_share_their_names() {
    let mut other = source(&container(""));
    other.name = "g.yaml".to_owned();
    let problems = read(&[source(&container("")), other]).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "g.yaml:3:18: Pod web: metadata.name: a second Pod of the name \"web\" in namespace \"default\"; \
         the first one is at f.yaml:3:18; give each a name of its own"
    );
    // The pods of a Deployment are pods.
    let text = format!(
        "{}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{}}\n  template:\n    spec:\n      containers: [{{name: c, image: 'app:1'}}]\n",
        container("").replace("name: web", "name: web-0")
    );
    assert!(wrong(&text)[0].contains("a second Pod of the name \"web-0\""));
}

/// What is wrong, and where and in which words it is told.
#[test]
fn each_mistake_has_its_place_and_says_what_helps() {
    let mut others = Vec::new();
    for (text, expected) in [
        (
            container("imagePulPolicy: Always"),
            "f.yaml:8:5: Pod web: spec.containers[0].imagePulPolicy: unknown field; did you mean imagePullPolicy?",
        ),
        (
            container("colour: red"),
            "f.yaml:8:5: Pod web: spec.containers[0].colour: unknown field; remove it",
        ),
        (
            container("nothing: null"),
            "f.yaml:8:5: Pod web: spec.containers[0].nothing: unknown field; remove it",
        ),
        (
            container("ports: [{containerPort: '80'}]"),
            "f.yaml:8:29: Pod web: spec.containers[0].ports[0].containerPort: expected a whole number from -2147483648 to 2147483647, found \"80\"",
        ),
        (
            container("env: [{name: PORT, value: 80}]"),
            "f.yaml:8:31: Pod web: spec.containers[0].env[0].value: expected a text, found the number 80; put it in quotes",
        ),
        (
            container("env: [{name: DEBUG, value: yes}]"),
            "f.yaml:8:32: Pod web: spec.containers[0].env[0].value: expected a text, found true, which is also what yes, on and y are without quotes; put it in quotes",
        ),
        (
            container("args: serve"),
            "f.yaml:8:11: Pod web: spec.containers[0].args: expected a list, found \"serve\"",
        ),
        (
            container("tty: 'yes'"),
            "f.yaml:8:10: Pod web: spec.containers[0].tty: expected true or false, found \"yes\"",
        ),
        (
            container("resources: 1"),
            "f.yaml:8:16: Pod web: spec.containers[0].resources: expected a mapping (ResourceRequirements), found the number 1",
        ),
        (
            container("resources: {limits: {memory: lots}}"),
            "f.yaml:8:34: Pod web: spec.containers[0].resources.limits[memory]: \"lots\": write an amount such as 500m, 1.5 or 64Mi",
        ),
        (
            container("resources: {limits: {cpu: 1}, requests: {cpu: 2}}"),
            "f.yaml:8:51: Pod web: spec.containers[0].resources.requests[cpu]: 2 is more than the limit of 1; lower it",
        ),
        (
            container("livenessProbe: {periodSeconds: 3}"),
            "f.yaml:8:20: Pod web: spec.containers[0].livenessProbe: has to have exactly one of exec, httpGet, tcpSocket and grpc",
        ),
        (
            container("livenessProbe: {periodSeconds: -1, exec: {command: [a]}}"),
            "f.yaml:8:36: Pod web: spec.containers[0].livenessProbe.periodSeconds: -1: a number of at least 0",
        ),
        (
            container("readinessProbe: {httpGet: {port: web}}"),
            "Pod web: spec.containers[0].readinessProbe.port: \"web\": name one of the container's ports, or give its number",
        ),
        (
            container("ports: [{containerPort: 70000}]"),
            "f.yaml:8:29: Pod web: spec.containers[0].ports[0].containerPort: 70000 is out of bounds; use 1 to 65535",
        ),
        (
            container("volumeMounts: [{name: v, mountPath: /v}]"),
            "f.yaml:8:27: Pod web: spec.containers[0].volumeMounts[0].name: \"v\": name one of spec.volumes",
        ),
        (
            container("env: [{value: x}]"),
            "f.yaml:8:11: Pod web: spec.containers[0].env[0].name: missing; give the variable a name",
        ),
        (
            container("env: [{name: X, valueFrom: {}}]"),
            "f.yaml:8:32: Pod web: spec.containers[0].env[0].valueFrom: has to have exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
        ),
        (
            container("").replace("app:1", "App:1"),
            "f.yaml:7:12: Pod web: spec.containers[0].image: image name \"App:1\": the repository \"library/App\" must be lower case",
        ),
        (
            container("").replace("app:1", "./app.wasm"),
            "for a module in a file write file:PATH",
        ),
        (
            container("").replace("app:1", "file:absent.wasm"),
            "No such file or directory",
        ),
        (
            container("").replace("    image: app:1\n", ""),
            "f.yaml:6:5: Pod web: spec.containers[0].image: missing; name an image, or file:PATH for a module in a file",
        ),
        (
            container("").replace("name: c\n", "name: C_1\n"),
            "f.yaml:6:11: Pod web: spec.containers[0].name: \"C_1\" is not a name",
        ),
        (
            container("").replace("name: web", "name: Web"),
            "f.yaml:3:18: Pod Web: metadata.name: \"Web\" is not a name",
        ),
        (
            container("").replace("{name: web}", "{}"),
            "f.yaml:3:11: Pod (no name): metadata.name: missing; give it a name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: []}\n".to_owned(),
            "f.yaml:4:20: Pod web: spec.containers: empty: give the pod a container",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n".to_owned(),
            "f.yaml:1:1: Pod web: spec: null: give the pod a spec with a container",
        ),
        (
            pod("restartPolicy: Sometimes"),
            "f.yaml:8:18: Pod web: spec.restartPolicy: \"Sometimes\": use Always, OnFailure or Never",
        ),
        (
            pod("dnsPolicy: Mine"),
            "f.yaml:8:14: Pod web: spec.dnsPolicy: \"Mine\" is none of ClusterFirst, ClusterFirstWithHostNet, Default, None",
        ),
        (
            pod("volumes: [{name: v, configMap: {name: m, items: [{key: k, path: ../p}]}}]"),
            "f.yaml:8:67: Pod web: spec.volumes[0].configMap.items[0].path: \"../p\" is not a path in a volume; write it without '..'",
        ),
        (
            pod("volumes: [{name: v, emptyDir: {}, hostPath: {path: /x}}]"),
            "f.yaml:8:13: Pod web: spec.volumes[0]: is of several kinds, emptyDir and hostPath; keep one of them",
        ),
        (
            pod("volumes: [{name: v, configMap: {name: m, defaultMode: 1000}}]"),
            "f.yaml:8:57: Pod web: spec.volumes[0].configMap.defaultMode: 1000 is no file mode; use 0 to 0777 (511 in JSON)",
        ),
        (
            "kind: Pod\nmetadata: {name: web}\n".to_owned(),
            "f.yaml:1:1: apiVersion: missing; write v1",
        ),
        (
            "apiVersion: v2\nkind: Pod\n".to_owned(),
            "f.yaml:1:13: apiVersion: \"v2\" has no Pod here; write v1",
        ),
        (
            "apiVersion: v1\nkind: Service\n".to_owned(),
            "f.yaml:2:7: kind: \"Service\" is nothing that play runs; it takes Pod, ConfigMap, Secret, Deployment, List",
        ),
        (
            "apiVersion: v1\n".to_owned(),
            "f.yaml:1:1: kind: missing; give one of Pod, ConfigMap, Secret, Deployment, List",
        ),
        (
            "hello\n".to_owned(),
            "f.yaml:1:1: expected an object with apiVersion and kind, found a text",
        ),
        (
            "apiVersion: v1\nkind: List\nitems: {}\n".to_owned(),
            "f.yaml:3:8: List: items: expected a list of objects",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a/b: x}\n".to_owned(),
            "f.yaml:4:",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'top secret'}\n".to_owned(),
            "f.yaml:4:11: Secret s: data.a: ",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: -1\n  selector: {}\n  template: {spec: {containers: [{name: c, image: a}]}}\n".to_owned(),
            "f.yaml:5:13: Deployment d: spec.replicas: -1 is out of bounds; use 0 to 1000",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {a: b}}\n  template: {spec: {restartPolicy: Never, containers: [{name: c, image: a, livenessProbe: {}}]}}\n".to_owned(),
            "f.yaml:5:31: Deployment d: spec.selector.matchLabels[a]: the template's pods don't have the label a: b; add it to spec.template.metadata.labels",
        ),
    ] {
        let told = wrong(&text);
        if !told.iter().any(|line| line.contains(expected)) {
            others.push(format!("expected {expected}\n   found {}", told.join("\n         ")));
        }
    }
    assert!(others.is_empty(), "\n{}", others.join("\n"));
}

#[test]
fn a_file_that_is_no_yaml_says_where() {
    let twice = container("tty: true\ntty: false");
    for (text, line) in [
        (twice.as_str(), "f.yaml:9:"),
        ("apiVersion: v1\nkind: [Pod\n", "f.yaml:"),
        (
            "a: b\n\tc: d\n",
            "f.yaml:1:4: while scanning a plain scalar, found a tab",
        ),
    ] {
        let told = wrong(text);
        assert!(told[0].starts_with(line), "{told:?}");
    }
}

#[test]
fn many_mistakes_are_told_together_in_the_files_order() {
    let text = container(
        "args: [1, two, 3]\ntty: maybe\nenvv: []\nimagePullPolicy: Perhaps\nports: [{containerPort: http}]",
    );
    let told = wrong(&text);
    let fields: Vec<&str> = told
        .iter()
        .map(|line| line.split(": ").nth(2).unwrap())
        .collect();
    let c = "spec.containers[0]";
    assert_eq!(
        fields,
        [
            format!("{c}.args[0]"),
            format!("{c}.args[2]"),
            format!("{c}.tty"),
            format!("{c}.envv"),
            format!("{c}.ports[0].containerPort"),
        ]
    );
}

#[test]
fn a_long_list_of_mistakes_is_cut() {
    let documents = "apiVersion: v1\nkind: Nothing\n---\n".repeat(30);
    let problems = read(&[source(&documents)]).unwrap_err();
    let text = problems.to_string();
    assert_eq!(text.lines().count(), 21);
    assert!(text.ends_with("and 10 more problems"), "{text}");
}

#[test]
fn a_secret_is_never_shown() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'hunter2!', b: 7, c: [hunter2]}\n";
    let told = wrong(text).join("\n");
    assert!(told.contains("data.a") && told.contains("data.c"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn too_much_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.yaml");
    std::fs::write(&large, vec![b'#'; node::FILE_MAX + 1]).unwrap();
    let problem = Source::read(&large).unwrap_err();
    assert!(problem.message.contains("16 MiB"), "{problem}");
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    assert!(Source::read(&binary).unwrap_err().message.contains("UTF-8"));
    let absent = Source::read(&folder.path().join("absent")).unwrap_err();
    assert!(
        absent
            .to_string()
            .contains("absent: can't be read: No such file"),
        "{absent}"
    );
    assert!(
        Source::read(folder.path())
            .unwrap_err()
            .message
            .contains("--watch")
    );
    let values = "x".repeat((1 << 20) + 1);
    let text =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{a: {values}}}\n");
    assert!(wrong(&text)[0].contains("1048576"));
}

#[test]
fn a_module_beside_the_file_is_found_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.wasm"), "").unwrap();
    let path = std::fs::canonicalize(folder.path()).unwrap();
    for (image, expected) in [
        ("file:app.wasm", "app.wasm"),
        ("file:./app.wasm#run", "app.wasm#run"),
        ("oci-archive:app.wasm:name", "app.wasm:name"),
    ] {
        let mut source = source(&container("").replace("app:1", image));
        source.folder = folder.path().to_owned();
        let manifest = read(&[source]).unwrap();
        let spec = manifest.pods[&named("web")].spec.clone().unwrap();
        let transport = image.split(':').next().unwrap();
        let expected = format!("{transport}:{}/{expected}", path.display());
        assert_eq!(spec.containers[0].image.as_deref(), Some(expected.as_str()));
        assert_eq!(
            spec.containers[0].image_pull_policy.as_deref(),
            Some("IfNotPresent")
        );
    }
}

/// What was read, written as YAML, is read as the same.
#[test]
fn what_is_read_is_what_was_written() {
    let text = container(
        "command: [a, '$(X)']\nenv:\n- {name: X, value: 'true'}\n- {name: N_1, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n\
         envFrom: [{prefix: P_, configMapRef: {name: m, optional: true}}]\nports: [{name: http, containerPort: 8080}]\n\
         resources: {limits: {cpu: 500m, memory: 1.5Gi}}\nvolumeMounts: [{name: v, mountPath: /v, subPath: a/b, readOnly: true}]",
    ) + "  volumes:\n  - name: v\n    projected: {defaultMode: 0440, sources: [{secret: {name: s, items: [{key: a, path: b}]}}]}\n";
    let first = one(&text);
    let pod = &first.pods[&named("web")];
    let again = serde_saphyr::to_string(pod).unwrap();
    assert_eq!(one(&again), first, "{again}");
    let json = serde_json::to_string_pretty(pod).unwrap();
    assert_eq!(one(&json), first, "{json}");
    let mode = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    assert_eq!(mode.projected.as_ref().unwrap().default_mode, Some(0o440));
}
