//! `coracle play`: pods, ConfigMaps, Secrets and Deployments from files, and a folder that is followed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::place::Place;
use common::{Ended, Running, built};
use guests::Guest;
use rustix::process::Signal;

fn image(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// A Pod of one container that is run once.
fn pod(name: &str, guest: &Path, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: '{}'\n{more}",
        image(guest)
    )
}

/// The lines of one container, without its prefix, sorted as they came.
fn lines<'e>(ended: &'e Ended, container: &str) -> Vec<&'e str> {
    let prefix = format!("{container} | ");
    ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: test, greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: top}
";

const USES: &str = "    args: [/etc/settings, /etc/settings/greeting, /etc/one, /run/all/password, /run/all/labels]
    env:
    - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: keys, key: none, optional: true}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    envFrom: [{prefix: S_, configMapRef: {name: settings}}]
    resources: {limits: {memory: 64Mi}}
    volumeMounts:
    - {name: settings, mountPath: /etc/settings}
    - {name: settings, mountPath: /etc/one, subPath: mode}
    - {name: all, mountPath: /run/all}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - name: all
    projected:
      sources:
      - secret: {name: keys}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
";

#[test]
fn a_pod_has_its_config_maps_and_secrets_as_variables_and_as_files() {
    let Some(inspect) = built(Guest::RustInspect) else {
        return;
    };
    let place = Place::new();
    let web = pod("web", &inspect, USES).replace("{name: web}", "{name: web, labels: {app: web}}");
    place.write("web.yaml", &web);
    place.write("objects.yaml", OBJECTS);
    let ended = place.coracle(&["play", "-q", "web.yaml", "objects.yaml"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{ended:#?}"
    );
    let said = lines(&ended, "web/main").join("\n");
    for line in [
        "\"MODE=test\"",
        "\"PASSWORD=top\"",
        "\"LIMIT=64\"",
        "\"S_greeting=hello\"",
        "/etc/settings/greeting: link to \"..data/greeting\", \"hello\"",
        "/etc/one: \"test\"",
        "/run/all/password: link to \"..data/password\", \"top\"",
        "/run/all/labels: link to \"..data/labels\", \"app=\\\"web\\\"\"",
    ] {
        assert!(said.contains(line), "{line} is not said: {ended:#?}");
    }
    assert!(!said.contains("NONE="), "{ended:#?}");
    // It is kept until it is removed: its name is taken.
    let again = place.coracle(&["play", "-q", "web.yaml", "objects.yaml"]);
    assert_eq!(again.code, Some(125), "{again:#?}");
    assert!(again.stderr.contains("web"), "{again:#?}");
    let replaced = place.coracle(&["play", "-q", "--replace", "web.yaml", "objects.yaml"]);
    assert_eq!(replaced.code, Some(0), "{replaced:#?}");
    let down = place.coracle(&["play", "--down", "web.yaml", "objects.yaml"]);
    down.is(0, "web\n", "");
    assert_eq!(place.coracle(&["ps", "-a", "-o", "name"]).stdout, "");
}

#[test]
fn a_component_of_preview3_runs_by_the_pods_annotation() {
    let Some(guest) = built(Guest::RustConcurrent) else {
        return;
    };
    let place = Place::new();
    let annotated = |value: &str| {
        let metadata =
            format!("{{name: of-{value}, annotations: {{coracle.dev/wasi: '{value}'}}}}");
        pod("new", &guest, "    args: [exit, '6']\n").replace("{name: new}", &metadata)
    };
    place.write("pod.yaml", &annotated("p3"));
    assert_eq!(place.coracle(&["play", "pod.yaml"]).code, Some(6));
    for (value, said) in [
        ("p2", "annotation `coracle.dev/wasi: p3`"),
        ("p4", "metadata.annotations[coracle.dev/wasi] is \"p4\""),
    ] {
        place.write("pod.yaml", &annotated(value));
        let refused = place.coracle(&["play", "pod.yaml"]);
        assert_ne!(refused.code, Some(0), "{refused:#?}");
        assert!(refused.stderr.contains(said), "{refused:#?}");
    }
}

#[test]
fn a_deployment_is_its_replicas_and_the_first_code_that_is_not_0_is_plays() {
    let (Some(exit), Some(sleeper)) = (built(Guest::RustExit), built(Guest::RustSleeper)) else {
        return;
    };
    let place = Place::new();
    let both = format!(
        "{}---\n{}",
        pod("good", &exit, ""),
        pod("bad", &exit, "    args: ['3']\n")
    );
    let ended = Running::spawn(
        place
            .command(&["play", "-q", "-"])
            .stdin(stdin(&place, &both)),
    )
    .end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_eq!(lines(&ended, "good/main"), ["exiting with 0"]);
    assert_eq!(lines(&ended, "bad/main"), ["exiting with 3"]);
    let front = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: front}}\nspec:\n  replicas: 2\n  selector: {{}}\n  \
         template:\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{{name: c, image: '{}'}}]\n",
        image(&sleeper)
    );
    place.write("front.yaml", &front);
    let mut running = place.start(&["play", "-q", "front.yaml"]);
    let mut begun = [running.line(), running.line()];
    begun.sort();
    assert_eq!(begun, ["front-0/c | sleeping", "front-1/c | sleeping"]);
    running.signal(Signal::INT);
    assert_eq!(running.end().code, Some(130));
}

/// Standard input that says this.
fn stdin(place: &Place, text: &str) -> Stdio {
    std::fs::File::open(place.write("stdin", text))
        .unwrap()
        .into()
}

#[test]
fn what_is_wrong_is_told_with_its_place_before_anything_runs() {
    let place = Place::new();
    let module = "(module (memory (export \"memory\") 1) (func (export \"_start\")))";
    let guest = place.write("a.wat", module);
    let text = pod("web", &guest, "    tty: often\n    colour: red\n");
    let two = format!("{}---\n{}", pod("one", &guest, ""), pod("one", &guest, ""));
    for (name, text, told) in [
        (
            "wrong.yaml",
            text,
            &[
                "wrong.yaml:10:10: Pod web: spec.containers[0].tty: expected true or false, found \"often\"",
                "wrong.yaml:11:5: Pod web: spec.containers[0].colour: unknown field",
            ][..],
        ),
        (
            "two.yaml",
            two,
            &["two.yaml:13:18: Pod one: metadata.name: a second Pod of the name \"one\""],
        ),
        (
            "none.yaml",
            OBJECTS.to_owned(),
            &["none.yaml: no Pod and no Deployment to play"],
        ),
    ] {
        place.write(name, &text);
        let ended = place.coracle(&["play", name]);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(125), ""),
            "{ended:#?}"
        );
        for line in told {
            assert!(
                ended.stderr.contains(line),
                "{line} is not told: {ended:#?}"
            );
        }
        let detached = place.coracle(&["play", "-d", name]);
        assert_eq!(detached.stderr, ended.stderr);
    }
    let absent = place.coracle(&["play", "absent.yaml"]);
    absent.refuses(&["absent.yaml: can't be read: No such file or directory"]);
    // What is missing of a pod is the kubelet's to say, and nothing will come that heals it.
    place.write(
        "missing.yaml",
        &pod(
            "web",
            &guest,
            "    envFrom: [{configMapRef: {name: absent}}]\n",
        ),
    );
    let missing = place.coracle(&["play", "-q", "missing.yaml"]);
    assert_eq!(missing.code, Some(125), "{missing:#?}");
    assert!(
        missing.stderr.contains("configmap \"absent\" not found"),
        "{missing:#?}"
    );
}

#[test]
fn a_folder_is_followed_added_changed_broken_and_removed() {
    let (Some(sleeper), Some(inspect)) = (built(Guest::RustSleeper), built(Guest::RustInspect))
    else {
        return;
    };
    let place = Place::new();
    place.write("pods/a.yaml", &pod("a", &sleeper, ""));
    let mut running = place.start(&["play", "-q", "--watch", "pods"]);
    assert_eq!(running.line(), "a/main | sleeping");
    // Added, as an editor does it.
    let temp = place.write("pods/.b.yaml.tmp", &pod("b", &sleeper, ""));
    std::fs::rename(temp, place.path("pods/b.yaml")).unwrap();
    assert_eq!(running.line(), "b/main | sleeping");
    // A broken file stays what it was; another one is added all the same.
    place.write("pods/a.yaml", "kind: [");
    place.write("pods/c.yaml", &pod("c", &sleeper, ""));
    assert_eq!(running.line(), "c/main | sleeping");
    // Changed: another pod of the same name.
    place.write("pods/a.yaml", &pod("a", &inspect, "    args: [x]\n"));
    let mut line = running.line();
    while !line.starts_with("a/main | args: ") {
        assert!(line.starts_with("a/main"), "{line}");
        line = running.line();
    }
    assert!(line.ends_with("\"x\"]"), "{line}");
    // Removed.
    std::fs::remove_file(place.path("pods/b.yaml")).unwrap();
    std::fs::remove_file(place.path("pods/c.yaml")).unwrap();
    let names = || place.coracle(&["ps", "-a", "-o", "name"]).stdout;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while names().lines().count() != 1 {
        assert!(std::time::Instant::now() < deadline, "{}", names());
    }
    running.signal(Signal::TERM);
    let ended = running.end();
    assert!(ended.stderr.contains("pods/a.yaml:1:"), "{ended:#?}");
}

#[test]
fn a_config_map_that_changes_is_seen_in_the_volume_and_one_that_comes_heals() {
    let Some(inspect) = built(Guest::RustInspect) else {
        return;
    };
    let place = Place::new();
    let map = |text: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {text}}}\n")
    };
    // It is restarted whenever it has ended, and reads the file each time.
    let reader = pod(
        "reader",
        &inspect,
        "    args: [/m/k]\n    volumeMounts: [{name: m, mountPath: /m}]\n  volumes: [{name: m, configMap: {name: m}}]\n",
    );
    let reader = reader.replace("restartPolicy: Never", "restartPolicy: Always");
    place.write("pods/reader.yaml", &reader);
    let mut running = place.start(&["play", "-q", "--watch", "pods"]);
    let mut until = |end: &str| {
        while !running.line().ends_with(end) {}
    };
    // There is no such ConfigMap yet: it is tried again.
    place.write("pods/map.yaml", &map("first"));
    until("/m/k: link to \"..data/k\", \"first\"");
    place.write("pods/map.yaml", &map("second"));
    until("/m/k: link to \"..data/k\", \"second\"");
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    running.end();
}

/// A guest of 4 MiB that waits for a file and then takes 16 MiB more.
const GROWS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 16) "waits\ngrown\n")
  (data (i32.const 32) "m/go")
  ;; A subscription to the monotonic clock, in 10 ms.
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\80\96\98\00\00\00\00\00")
  (func $say (param $at i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $say (i32.const 16))
    (loop $wait
      (drop (call $poll (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 240)))
      (br_if $wait (call $open (i32.const 3) (i32.const 1) (i32.const 32) (i32.const 4)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))))
    (drop (memory.grow (i32.const 256)))
    (call $say (i32.const 22))))"#;

#[test]
fn resources_change_while_a_guest_runs() {
    let place = Place::new();
    let guest = place.write("grows.wat", GROWS);
    let resources = |cpu: &str, memory: &str| {
        let more = format!(
            "    resources: {{limits: {{cpu: {cpu}, memory: {memory}}}, requests: {{cpu: 10m, memory: 1Mi}}}}\n    \
             resizePolicy: [{{resourceName: cpu, restartPolicy: RestartContainer}}]\n    \
             volumeMounts: [{{name: m, mountPath: /m}}]\n  volumes: [{{name: m, configMap: {{name: m, optional: true}}}}]\n"
        );
        place.write("pods/web.yaml", &pod("web", &guest, &more));
    };
    resources("1", "8Mi");
    let mut running = place.start(&["play", "-q", "--watch", "pods"]);
    assert_eq!(running.line(), "web/main | waits");
    let mut events = place.start(&["events", "-f", "web"]);
    let mut told = |words: &str| {
        loop {
            let line = events.line();
            if line.contains(words) {
                return line;
            }
        }
    };
    // Less than it uses is not given, and what it had stays.
    resources("1", "2Mi");
    let line = told("ResizeError");
    let why =
        "attempting to set container \\\"main\\\" memory limit (2097152) below current usage (";
    assert!(line.contains(why), "{line}");
    // More than it had is, while it runs.
    resources("1", "64Mi");
    told("ResizeCompleted");
    // Its CPU takes a restart, which the policy of the pod does not.
    resources("2", "64Mi");
    told("Container main resize requires restart");
    assert_eq!(running.line(), "web/main | waits");
    // A change after that holds for the run that is there now.
    told("ResizeCompleted");
    resources("2", "1Gi");
    told("ResizeCompleted");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {go: now}\n";
    place.write("pods/map.yaml", map);
    assert_eq!(running.line(), "web/main | grown");
    running.signal(Signal::INT);
    running.end();
}

#[test]
fn a_container_is_added_to_a_pod_that_runs() {
    let Some(sleeper) = built(Guest::RustSleeper) else {
        return;
    };
    let place = Place::new();
    let hello = place.write("hello.wat", &common::images::says("hello\n"));
    let web = pod("web", &sleeper, "");
    place.write("pods/web.yaml", &web);
    let mut running = place.start(&["play", "-q", "--watch", "pods"]);
    assert_eq!(running.line(), "web/main | sleeping");
    let uid = || place.coracle(&["ps", "-o", "json"]).stdout;
    let before = uid();
    let debugger = format!(
        "  ephemeralContainers: [{{name: debugger, image: '{}', targetContainerName: main}}]\n",
        image(&hello)
    );
    place.write("pods/web.yaml", &(web + &debugger));
    assert_eq!(running.line(), "web/debugger | hello");
    let first = |text: &str| {
        let text: serde_json::Value = serde_json::from_str(text).unwrap();
        text["items"][0].clone()
    };
    // It is the same pod, which goes on; the one that was added has ended and stays so.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let after = loop {
        let after = first(&uid());
        let status = &after["status"]["ephemeralContainerStatuses"][0];
        if !status["state"]["terminated"].is_null() {
            break after;
        }
        assert!(std::time::Instant::now() < deadline, "{after}");
    };
    assert_eq!(after["metadata"]["uid"], first(&before)["metadata"]["uid"]);
    assert_eq!(after["status"]["phase"], "Running");
    let status = &after["status"]["ephemeralContainerStatuses"][0];
    assert_eq!(status["state"]["terminated"]["exitCode"], 0);
    place
        .coracle(&["logs", "web", "-c", "debugger"])
        .is(0, "hello\n", "");
    running.signal(Signal::INT);
    running.end();
}

/// A guest that ends with 42 the first time, and with 0 once it finds the file that it left.
const TWICE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "m/seen")
  (func (export "_start")
    ;; O_CREAT and O_EXCL, with the right to write.
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 6)
        (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))
      (then (call $exit (i32.const 0))))
    (call $exit (i32.const 42))))"#;

#[test]
fn a_rule_restarts_what_the_policy_does_not() {
    let rules = |place: &Place, list: &str, code: i32| {
        let guest = place.write("twice.wat", TWICE);
        let hello = place.write("hello.wat", &common::images::says("hello\n"));
        let volume =
            "    volumeMounts: [{name: m, mountPath: /m}]\n  volumes: [{name: m, emptyDir: {}}]\n";
        let more = format!(
            "    restartPolicy: Never\n    restartPolicyRules:\n    - {{action: Restart, exitCodes: {{operator: In, values: [{code}]}}}}\n{volume}"
        );
        let text = pod("web", &guest, &more).replace("  containers:", &format!("  {list}:"));
        let mains = format!(
            "  containers: [{{name: last, image: '{}'}}]\n",
            image(&hello)
        );
        match list {
            "containers" => text,
            _ => text + &mains,
        }
    };
    for (list, code, ends) in [
        ("containers", 42, 0),
        ("containers", 43, 42),
        ("initContainers", 42, 0),
        ("initContainers", 43, 42),
    ] {
        let place = Place::new();
        place.write("web.yaml", &rules(&place, list, code));
        let ended = place.coracle(&["play", "-q", "web.yaml"]);
        assert_eq!(ended.code, Some(ends), "{list} {code}: {ended:#?}");
    }
}

#[test]
fn a_rule_restarts_all_containers_init_containers_first() {
    let place = Place::new();
    let guest = place.write("twice.wat", TWICE);
    let hello = place.write("hello.wat", &common::images::says("hello\n"));
    let more = format!(
        "    restartPolicy: Never\n    restartPolicyRules:\n    - action: RestartAllContainers\n      \
         exitCodes: {{operator: In, values: [42]}}\n    volumeMounts: [{{name: m, mountPath: /m}}]\n  \
         volumes: [{{name: m, emptyDir: {{}}}}]\n  initContainers: [{{name: first, image: '{}'}}]\n",
        image(&hello)
    );
    place.write("web.yaml", &pod("web", &guest, &more));
    let ended = place.coracle(&["play", "-q", "web.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    // The pod keeps what it wrote, so that the second round ends well.
    assert_eq!(lines(&ended, "web/first"), ["hello", "hello"]);
}

#[test]
fn in_the_background_it_is_found_by_other_commands() {
    let Some(sleeper) = built(Guest::RustSleeper) else {
        return;
    };
    let place = Place::new();
    place.write("web.yaml", &pod("web", &sleeper, ""));
    place
        .coracle(&["play", "-q", "-d", "web.yaml"])
        .is(0, "web\n", "");
    assert!(place.coracle(&["ps", "-o", "name"]).stdout.contains("web"));
    place
        .coracle(&["play", "--down", "web.yaml"])
        .is(0, "web\n", "");
    assert_eq!(place.coracle(&["ps", "-a", "-o", "name"]).stdout, "");
}

/// The fenced blocks of a page: the words behind the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => open = Some((info.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_examples_of_the_page_do_what_it_says() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/play.md"));
    let place = Place::new();
    let blocks = blocks(page);
    for (info, text) in &blocks {
        if let Some((_, name)) = info.split_once("file=") {
            place.write(name, text);
        }
    }
    let consoles: Vec<&str> = blocks
        .iter()
        .filter(|(info, _)| info == "console")
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(consoles.len(), 3);
    for console in consoles {
        for example in console.split("$ coracle ").skip(1) {
            let (command, expected) = example.split_once('\n').unwrap();
            let args: Vec<&str> = command.split(' ').chain(["-q"]).collect();
            let ended = place.coracle(&args);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(said, expected, "{command}: {ended:#?}");
        }
    }
}
