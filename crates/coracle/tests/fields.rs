//! What single fields of a Pod do to a real guest, under `coracle play`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::built;
use common::place::Place;
use guests::Guest;
use serde_json::Value;

impl Place {
    /// Runs a pod of one container to its end, with these lines in its spec and its container; gives
    /// what it said, and the container's status.
    fn run(&self, guest: Guest, spec: &str, container: &str) -> Option<(String, Value)> {
        let guest = built(guest)?;
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  restartPolicy: Never\n  {spec}\n  \
             containers:\n  - name: main\n    image: 'file:{}'\n    {container}\n",
            guest.display()
        );
        self.write("pod.yaml", &text);
        self.coracle(&["play", "-q", "-d", "pod.yaml"])
            .is(0, "web\n", "");
        self.coracle(&["wait", "--timeout", "300s", "web"]);
        let logs = self.coracle(&["logs", "web"]);
        let said = logs.stdout + &logs.stderr;
        let inspected = self.coracle(&["inspect", "-o", "json", "web"]).stdout;
        let pod: Value = serde_json::from_str(&inspected).unwrap();
        self.coracle(&["play", "--down", "pod.yaml"])
            .is(0, "web\n", "");
        Some((said, pod["status"]["containerStatuses"][0].clone()))
    }
}

fn ended(status: &Value) -> (i64, String) {
    let over = &status["state"]["terminated"];
    let message = over["message"].as_str().unwrap_or_default();
    (over["exitCode"].as_i64().unwrap(), message.to_owned())
}

#[test]
fn a_container_is_told_of_with_its_last_words() {
    let place = Place::new();
    let run = |container: &str| {
        let (_, status) = place.run(Guest::RustTool, "", container)?;
        Some(ended(&status))
    };
    let words = "args: [write, /dev/termination-log, '3', good, bye]";
    let Some(told) = run(words) else { return };
    assert_eq!(told, (3, "good bye\n".to_owned()));
    let elsewhere = "args: [write, /var/end, '0', done]\n    terminationMessagePath: /var/end";
    assert_eq!(run(elsewhere).unwrap(), (0, "done\n".to_owned()));
    let (_, status) = place
        .run(
            Guest::RustTool,
            "volumes: [{name: v, emptyDir: {}}]",
            "args: [write, /v/end, '1', in, a, volume]\n    terminationMessagePath: /v/end\n    \
             volumeMounts: [{name: v, mountPath: /v}]",
        )
        .unwrap();
    assert_eq!(ended(&status), (1, "in a volume\n".to_owned()));
    // The log speaks for who says nothing and fails, where it was asked for.
    let silent = "args: [cat, /none]";
    assert_eq!(run(silent).unwrap(), (1, String::new()));
    let logged = format!("{silent}\n    terminationMessagePolicy: FallbackToLogsOnError");
    let (code, message) = run(&logged).unwrap();
    assert!(
        code == 1 && message.starts_with("tool: /none: "),
        "{message}"
    );
    let well = "args: ['true']\n    terminationMessagePolicy: FallbackToLogsOnError";
    assert_eq!(run(well).unwrap(), (0, String::new()));
}

#[test]
fn a_trap_is_told_where_the_container_says_nothing() {
    let Some((_, status)) = Place::new().run(Guest::RustTrap, "", "args: [unreachable]") else {
        return;
    };
    let (code, message) = ended(&status);
    assert!(code == 134 && message.contains("unreachable"), "{message}");
}

#[test]
fn a_pod_of_a_subdomain_has_a_domain() {
    let place = Place::new();
    let files = "args: [cat, /etc/hostname, /etc/hosts]";
    let spec = "hostname: db\n  subdomain: data";
    let Some((said, _)) = place.run(Guest::RustTool, spec, files) else {
        return;
    };
    assert!(said.starts_with("db\n"), "{said}");
    let domain = "data.default.svc.cluster.local";
    assert!(said.ends_with(&format!("\tdb.{domain}\tdb\n")), "{said}");
    let whole = format!("{spec}\n  setHostnameAsFQDN: true");
    let (said, _) = place.run(Guest::RustTool, &whole, files).unwrap();
    assert!(said.starts_with(&format!("db.{domain}\n")), "{said}");
    let (said, _) = place.run(Guest::RustTool, &whole, "args: [env]").unwrap();
    assert!(said.contains(&format!("HOSTNAME=db.{domain}\n")), "{said}");
}

#[test]
fn a_read_only_root_can_be_written_in_mounts_alone() {
    let place = Place::new();
    let run = |path: &str| {
        let container = format!(
            "args: [write, {path}, '0', x]\n    securityContext: {{readOnlyRootFilesystem: true}}\n    \
             volumeMounts: [{{name: v, mountPath: /v}}]"
        );
        let volumes = "volumes: [{name: v, emptyDir: {}}]";
        place.run(Guest::RustTool, volumes, &container)
    };
    let Some((said, status)) = run("/tmp/x") else {
        return;
    };
    assert_eq!(ended(&status).0, 1);
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(ended(&run("/etc/hosts").unwrap().1).0, 1);
    assert_eq!(ended(&run("/v/x").unwrap().1), (0, String::new()));
    let told = run("/dev/termination-log").unwrap().1;
    assert_eq!(ended(&told), (0, "x\n".to_owned()));
}

#[test]
fn a_runtime_class_is_called_as_its_handler() {
    let place = Place::new();
    let class = "runtimeClassName: coracle";
    let Some((_, status)) = place.run(Guest::RustTool, class, "args: ['true']") else {
        return;
    };
    assert_eq!(ended(&status).0, 0);
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  runtimeClassName: kata\n  \
                containers: [{name: main, image: 'a:1'}]\n";
    place.write("kata.yaml", text);
    place.coracle(&["play", "kata.yaml"]).refuses(&[
        "kata.yaml:5:21: Pod web: spec.runtimeClassName: \"kata\" is no RuntimeClass",
        "use \"coracle\"",
    ]);
}
