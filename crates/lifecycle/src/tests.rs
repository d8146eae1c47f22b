//! Histories driven through `step` by hand, and properties over random ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod endings;
mod ephemeral;
mod hooks;
mod images;
mod probes;
mod properties;
mod resize;
mod restart;
mod scenarios;
mod seeds;
mod statuses;
mod words;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::*;

/// A pod, its memory and what is observed of it, under a clock of its own.
pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) memory: Memory,
    pub(super) observed: Observed,
    pub(super) now: Timestamp,
    /// Everything that was told.
    pub(super) events: Vec<Event>,
    pub(super) last: Step,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn key(container: Option<&str>, attempt: u32, kind: Kind) -> Key {
    Key {
        container: container.map(str::to_owned),
        attempt,
        kind,
    }
}

impl World {
    /// An admitted pod of this spec, on a node whose guests are known.
    pub(super) fn new(spec: &str) -> World {
        let pod = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","generation":3}},"spec":{spec}}}"#
        );
        World {
            pod: serde_json::from_str(&pod).unwrap(),
            memory: Memory::default(),
            observed: Observed {
                guest_host: Some(1),
                verdict: Some(Verdict::Admitted),
                host_ips: vec!["192.0.2.1".parse().unwrap()],
                ..Observed::default()
            },
            now: at(1_000),
            events: Vec::new(),
            last: Step::default(),
        }
    }

    /// A pod of this spec that runs, its init container `i` done.
    pub(super) fn running(spec: &str) -> World {
        let mut world = World::new(spec);
        world.settle();
        world.exit("i", 0, 0);
        world.settle();
        assert_eq!(world.phase(), "Running");
        world
    }

    /// One step: what it asks for is marked in flight, what it forgets is dropped.
    pub(super) fn step(&mut self) -> Vec<Action> {
        let step = step(&self.pod, &self.memory, &self.observed, self.now);
        for action in &step.actions {
            let known = self.observed.actions.contains_key(&action.key);
            assert!(
                !known || action.key.kind == Kind::Stop,
                "asked twice: {action:?}"
            );
            let since = self.now;
            self.observed
                .actions
                .insert(action.key.clone(), Progress::InFlight { since });
        }
        for key in &step.forget {
            self.observed.actions.remove(key);
            if key.kind == Kind::Start {
                let run = (key.container.clone().unwrap(), key.attempt);
                self.observed.exits.remove(&run);
            }
        }
        self.memory = step.memory.clone();
        self.events.extend(step.events.clone());
        self.last = step.clone();
        step.actions
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now = at(self.now.as_second() + seconds);
    }

    pub(super) fn succeed(&mut self, key: Key) {
        let output = match key.kind {
            Kind::Pull => Output::Pulled(Image {
                id: "sha256:aa".to_owned(),
                size: 7,
                present: true,
                took_ms: 1,
            }),
            Kind::Address => Output::Addresses(vec!["192.0.2.1".parse().unwrap()]),
            Kind::Start => Output::Started {
                at: self.now,
                container_id: format!(
                    "coracle://{}-{}",
                    key.container.as_deref().unwrap(),
                    key.attempt
                ),
            },
            Kind::Probe(_) => Output::Probed {
                outcome: Outcome::Success,
                message: String::new(),
            },
            _ => Output::Nothing,
        };
        self.observed.actions.insert(
            key,
            Progress::Done {
                at: self.now,
                output,
            },
        );
    }

    pub(super) fn fail(&mut self, key: Key, reason: &str, retry: Retry) {
        let failure = Failure {
            reason: reason.to_owned(),
            message: "it broke".to_owned(),
            retry,
        };
        self.observed.actions.insert(
            key,
            Progress::Failed {
                at: self.now,
                failure,
            },
        );
    }

    /// A probe's failure, now.
    pub(super) fn unhealthy(&mut self, key: Key) {
        let output = Output::Probed {
            outcome: Outcome::Failure,
            message: "no answer".to_owned(),
        };
        let at = self.now;
        self.observed
            .actions
            .insert(key, Progress::Done { at, output });
    }

    /// A guest's exit, now.
    pub(super) fn exit(&mut self, container: &str, attempt: u32, code: i32) {
        let exit = Exit {
            code,
            kind: ExitKind::Exited,
            message: String::new(),
            started_at: self.now,
            finished_at: self.now,
        };
        self.observed
            .exits
            .insert((container.to_owned(), attempt), exit);
    }

    /// Steps and lets everything succeed, until nothing is asked for. Stops exit with 143.
    pub(super) fn settle(&mut self) {
        let held = self.settle_but(|_| false);
        assert_eq!(held, []);
    }

    /// As [`World::settle`], but that these are not answered. Gives those under way then.
    pub(super) fn settle_but(&mut self, held: impl Fn(Kind) -> bool) -> Vec<Key> {
        for _ in 0..50 {
            let flying = self
                .observed
                .actions
                .iter()
                .filter(|(_, progress)| matches!(progress, Progress::InFlight { .. }))
                .map(|(key, _)| key.clone());
            let (held, flying): (Vec<Key>, Vec<Key>) = flying.partition(|key| held(key.kind));
            for key in &flying {
                let run = (key.container.clone().unwrap_or_default(), key.attempt);
                if key.kind == Kind::Stop && !self.observed.exits.contains_key(&run) {
                    self.exit(&run.0, run.1, 143);
                }
                self.succeed(key.clone());
            }
            if self.step().is_empty() && flying.is_empty() {
                return held;
            }
        }
        panic!("does not settle: {:?}", self.last.actions);
    }

    /// What is remembered of a container.
    pub(super) fn remembered(&self, name: &str) -> &memory::Container {
        self.memory.containers.get(name).unwrap()
    }

    pub(super) fn phase(&self) -> &str {
        self.last.status.phase.as_deref().unwrap()
    }

    pub(super) fn container(&self, name: &str) -> &ContainerStatus {
        let status = &self.last.status;
        let all = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .chain(&status.ephemeral_container_statuses);
        all.flatten().find(|one| one.name == name).unwrap()
    }

    /// `running`, `waiting REASON` or `terminated CODE REASON`.
    pub(super) fn state(&self, name: &str) -> String {
        let state = self.container(name).state.clone().unwrap();
        if let Some(waiting) = state.waiting {
            format!("waiting {}", waiting.reason.unwrap())
        } else if let Some(over) = state.terminated {
            format!("terminated {} {}", over.exit_code, over.reason.unwrap())
        } else {
            "running".to_owned()
        }
    }

    pub(super) fn condition(&self, name: &str) -> (String, Option<String>) {
        let all = self.last.status.conditions.as_ref().unwrap();
        let one = all.iter().find(|one| one.type_ == name).unwrap();
        assert_eq!(one.observed_generation, Some(3));
        (one.status.clone(), one.reason.clone())
    }

    pub(super) fn told(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.reason.as_str())
            .collect()
    }
}
