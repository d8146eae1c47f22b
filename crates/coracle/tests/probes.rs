//! Probes and lifecycle hooks of real guests, under `coracle play`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::process::{Command, Stdio};

use common::images::{Layout, Tar};
use common::{CORACLE, Ended, Running, built};
use guests::Guest;
use rustix::process::Signal;
use serde_json::json;

/// A pod of `play` that runs until this is dropped.
struct Played {
    dir: tempfile::TempDir,
    name: String,
    play: Option<Running>,
}

impl Played {
    /// A pod of this name with one container, of this image.
    fn start(name: &str, image: &str, container: &str) -> Played {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 30\n  \
             containers:\n  - name: main\n    image: '{image}'\n{container}"
        );
        let file = dir.path().join("pod.yaml");
        std::fs::write(&file, text).unwrap();
        let mut played = Played {
            dir,
            name: name.to_owned(),
            play: None,
        };
        let play = Running::spawn(&mut played.command(&["play", file.to_str().unwrap()]));
        played.play = Some(play);
        // The session is there once it can be asked.
        let mut begun = played.coracle(&["inspect", name]);
        while begun.code != Some(0) {
            begun = played.coracle(&["inspect", name]);
        }
        played
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CORACLE);
        command
            .args(args)
            .env_clear()
            .env("CORACLE_ROOT", self.dir.path().join("root"))
            .stdin(Stdio::null());
        command
    }

    fn coracle(&self, args: &[&str]) -> Ended {
        Running::spawn(&mut self.command(args)).end()
    }

    /// Waits until the pod's Ready condition has this value.
    fn ready(&self, value: &str) {
        let what = format!("--for=condition=Ready={value}");
        let ended = self.coracle(&["wait", &what, "--timeout", "300s", &self.name]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }

    /// Waits for an event that has these words.
    fn told(&self, words: &str) {
        let mut events = Running::spawn(&mut self.command(&["events", "-f", &self.name]));
        while !events.line().contains(words) {}
        events.signal(Signal::TERM);
        events.end();
    }

    /// Ends it as Ctrl-C does, and gives what it wrote.
    fn end(mut self) -> Ended {
        let play = self.play.take().unwrap();
        play.signal(Signal::INT);
        play.end()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        if let Some(play) = self.play.take() {
            play.signal(Signal::KILL);
            play.end();
        }
    }
}

/// An image that sleeps, with a tool of many names.
fn tools() -> Option<(tempfile::TempDir, String)> {
    let sleeper = std::fs::read(built(Guest::RustSleeper)?).unwrap();
    let tool = std::fs::read(built(Guest::RustTool)?).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .file("app.wasm", &sleeper)
        .dir("bin/")
        .file("bin/tool.wasm", &tool);
    let config = json!({"Entrypoint": ["/app.wasm"], "Cmd": ["600000"], "Env": ["PATH=/bin"]});
    let written = Layout::new([tar]).config(config).write(folder.path());
    Some((folder, written))
}

#[test]
fn a_web_server_is_ready_when_its_readiness_probe_says_so() {
    let Some(server) = built(Guest::RustServer) else {
        return;
    };
    let image = format!("file:{}", server.display());
    let container = "    ports: [{name: http, containerPort: 8080}]\n    \
                     startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 300}\n    \
                     livenessProbe: {httpGet: {path: /echo, port: http}, periodSeconds: 1}\n    \
                     readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}\n";
    let pod = Played::start("ready", &image, container);
    pod.ready("true");
    pod.end();

    let container = "    readinessProbe: {httpGet: {path: /trap, port: 8080}, periodSeconds: 1}\n";
    let pod = Played::start("unready", &image, container);
    pod.told("Readiness probe failed: HTTP probe failed with statuscode: 5");
    pod.ready("false");
    pod.end();
}

#[test]
fn commands_are_probes_and_one_that_lingers_has_failed() {
    let Some((_folder, image)) = tools() else {
        return;
    };
    let container = "    readinessProbe: {exec: {command: [tool, cat, /etc/hostname]}, periodSeconds: 1, timeoutSeconds: 60}\n";
    let pod = Played::start("exec-ready", &image, container);
    pod.ready("true");
    pod.end();

    let container = "    livenessProbe: {exec: {command: [tool, sleep, '600000']}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 1}\n";
    let pod = Played::start("exec-lingers", &image, container);
    pod.told("Container main failed liveness probe, will be restarted");
    let said = pod.coracle(&["events", &pod.name]).stdout;
    assert!(
        said.contains("Liveness probe failed: command timed out"),
        "{said}"
    );
    pod.end();

    let container = "    livenessProbe: {exec: {command: [tool, exit, '3']}, periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 1}\n";
    let pod = Played::start("exec-fails", &image, container);
    pod.told("Container main failed liveness probe, will be restarted");
    pod.end();
}

#[test]
fn hooks_are_run_before_the_container_counts_and_before_it_ends() {
    let Some((_folder, image)) = tools() else {
        return;
    };
    let hooks = "    lifecycle:\n      postStart: {exec: {command: [tool, cat, /etc/hostname]}}\n      \
                 preStop: {exec: {command: [tool, exit, '4']}}\n";
    let pod = Played::start("hooked", &image, hooks);
    pod.ready("true");
    let ended = pod.end();
    assert!(
        ended.stderr.contains("PreStopHook failed") || ended.stdout.contains("PreStopHook failed"),
        "{ended:#?}"
    );

    let hooks = "    lifecycle: {postStart: {exec: {command: [tool, exit, '4']}}}\n";
    let pod = Played::start("hook-fails", &image, hooks);
    pod.told("PostStartHook failed");
    pod.end();
}
