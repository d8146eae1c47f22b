//! The machine under the agent: folders, roots, addresses and a guest host with its guests. It
//! outlives the agent, and objects to what no kubelet may ask of it.
//!
//! Must not know: what the agent remembers or intends.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use lifecycle::node::Signal;
use lifecycle::{
    Exit, ExitKind, Failure, Image, Key, Kind, Outcome, Output, ProbeKind, Retry, What,
};

use crate::chance::Chance;
use crate::rules::{Broken, broken};

/// One run of one container: the pod's number, the container, the attempt.
pub(crate) type RunId = (u32, String, u32);

/// A guest that runs.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) started_at: Timestamp,
    pub(crate) container_id: String,
    /// Its termination message.
    words: String,
    /// When it ends as things stand, and how. `None`: it runs until it is stopped.
    pub(crate) end: Option<(Timestamp, i32, ExitKind)>,
    /// Stops that wait for its end.
    pub(crate) waiters: Vec<u64>,
    /// The limits that it has had, the latest last.
    pub(crate) limits: Vec<Limits>,
}

/// Limits of a guest: thousandths of a core, and bytes.
pub(crate) type Limits = (Option<u64>, Option<u64>);

/// What is true of a container, whoever knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// It ran at least once.
    pub(crate) started: bool,
    /// A run ended with 0.
    pub(crate) succeeded: bool,
    /// How each of its runs ended.
    pub(crate) codes: BTreeMap<u32, i32>,
    /// What was said of the end of each of its runs.
    pub(crate) said: BTreeMap<u32, String>,
    /// What probes found: by kind and run, the latest result and how often it came in a row.
    pub(crate) found: BTreeMap<(ProbeKind, u32), (bool, u32)>,
    /// Probes of these kinds and runs succeeded at least once.
    pub(crate) passed: BTreeSet<(ProbeKind, u32)>,
}

/// How an effect went.
pub(crate) enum Effect {
    /// It is done.
    Now(Result<Output, Failure>),
    /// It will be when the guest has ended.
    AtEnd,
}

/// What stands on the machine.
#[derive(Default)]
pub(crate) struct Machine {
    /// What is short, and how many percent of it are available.
    pub(crate) levels: BTreeMap<Signal, u8>,
    pub(crate) guests: BTreeMap<RunId, Guest>,
    /// Exits that are kept until the agent has absorbed them.
    pub(crate) exits: BTreeMap<RunId, Exit>,
    pub(crate) roots: BTreeSet<RunId>,
    pub(crate) folders: BTreeSet<(u32, u32)>,
    pub(crate) addresses: BTreeSet<(u32, u32)>,
    pub(crate) truth: BTreeMap<(u32, String), Truth>,
    /// Which guest host is there now.
    pub(crate) guest_host: u64,
    /// Every run that there was. None of them may be started a second time, by no guest host.
    ran: BTreeSet<RunId>,
}

impl Machine {
    /// Does what an action is about. `seed` decides how guests behave.
    pub(crate) fn effect(
        &mut self,
        seed: u64,
        (pod, exec): (u32, u64),
        (key, what): (&Key, &What),
        (limits, now): (Limits, Timestamp),
    ) -> Result<Effect, Broken> {
        let container = key.container.clone().unwrap_or_default();
        let run = (pod, container, key.attempt);
        let output = match what {
            What::Pull { .. } => Output::Pulled(Image {
                id: "registry.example/app@sha256:00".to_owned(),
                size: 1 << 20,
                present: false,
                took_ms: 7,
            }),
            What::Address => {
                self.addresses.insert((pod, key.attempt));
                let last = u8::try_from(pod + 2).unwrap_or(u8::MAX);
                Output::Addresses(vec![[192, 0, 2, last].into()])
            }
            What::MountPod { .. } => {
                if !self.has_address(pod) {
                    return broken("order of setup", "folders were made before the address");
                }
                self.folders.insert((pod, key.attempt));
                Output::Nothing
            }
            What::Mount { .. } => {
                if !self.has_folders(pod) {
                    return broken("order of setup", "a root was made before the pod's folders");
                }
                self.roots.insert(run);
                Output::Nothing
            }
            What::Start { .. } => self.start(seed, run, limits, now)?,
            What::Resize {
                run: of,
                cpu_milli,
                memory_bytes,
                shrinks,
            } => {
                let run = (pod, run.1, *of);
                let limits = (*cpu_milli, *memory_bytes);
                return Ok(Effect::Now(self.resize(seed, &run, limits, *shrinks)));
            }
            What::Stop { grace_seconds, .. } => {
                return Ok(self.stop(seed, exec, &run, *grace_seconds, now));
            }
            What::Unmount => {
                if self.guests.contains_key(&run) {
                    return broken(
                        "roots in use",
                        format!("{run:?} lost its root while it ran"),
                    );
                }
                self.roots.remove(&run);
                Output::Nothing
            }
            What::UnmountPod => {
                if self.has_roots(pod) || self.has_guests(pod) {
                    return broken("order of the end", "folders went before roots or guests");
                }
                self.folders.remove(&(pod, key.attempt));
                Output::Nothing
            }
            What::Release => {
                if self.has_folders(pod) || self.has_guests(pod) {
                    return broken("order of the end", "the address went before the folders");
                }
                self.addresses.remove(&(pod, key.attempt));
                Output::Nothing
            }
            What::Probe { run: of, .. } => self.probe(seed, pod, key, *of),
            // One that asks a guest that has gone finds nobody, and fails.
            What::Exec { .. } if !self.guests.contains_key(&run) => {
                let failure = failure(key, &mut Chance::of(seed, ("exec", key)));
                return Ok(Effect::Now(Err(failure)));
            }
            What::Exec { .. } => answered(seed, &run),
        };
        Ok(Effect::Now(Ok(output)))
    }

    /// Some guests are never well, and the others not always; one that has gone is not.
    fn probe(&mut self, seed: u64, pod: u32, key: &Key, run: u32) -> Output {
        let container = key.container.clone().unwrap_or_default();
        let guest = (pod, container, run);
        let sick = Chance::of(seed, ("health", &guest)).percent(15);
        let well = self.guests.contains_key(&guest)
            && !sick
            && !Chance::of(seed, ("probe", pod, key)).percent(8);
        if let (Kind::Probe(kind), Some(truth)) =
            (key.kind, self.truth.get_mut(&(pod, guest.1.clone())))
        {
            let found = truth.found.entry((kind, run)).or_insert((well, 0));
            *found = (well, if found.0 == well { found.1 + 1 } else { 1 });
            if well {
                truth.passed.insert((kind, run));
            }
        }
        Output::Probed {
            outcome: if well {
                Outcome::Success
            } else {
                Outcome::Failure
            },
            message: String::new(),
        }
    }

    /// An action that is to fail does; what fails to be made leaves nothing, nor what an earlier
    /// agent made by the same key. False if it can't fail: the guest runs already.
    pub(crate) fn fail(&mut self, pod: u32, key: &Key) -> bool {
        let run = (pod, key.container.clone().unwrap_or_default(), key.attempt);
        match (key.kind, &key.container) {
            (Kind::Start, _) => {
                return !self.guests.contains_key(&run) && !self.exits.contains_key(&run);
            }
            (Kind::Mount, Some(_)) => drop(self.roots.remove(&run)),
            (Kind::Mount, None) => drop(self.folders.remove(&(pod, key.attempt))),
            (Kind::Address, _) => drop(self.addresses.remove(&(pod, key.attempt))),
            _ => {}
        }
        true
    }

    /// Some guests use more than the limits that they are to have.
    fn resize(
        &mut self,
        seed: u64,
        run: &RunId,
        limits: Limits,
        shrinks: bool,
    ) -> Result<Output, Failure> {
        if shrinks && Chance::of(seed, ("uses", run)).percent(25) {
            return Err(Failure {
                reason: "ResizeError".to_owned(),
                message: "cannot decrease memory limits".to_owned(),
                retry: Retry::Backoff,
            });
        }
        if let Some(guest) = self.guests.get_mut(run) {
            guest.limits.push(limits);
        }
        Ok(Output::Nothing)
    }

    fn start(
        &mut self,
        seed: u64,
        run: RunId,
        limits: Limits,
        now: Timestamp,
    ) -> Result<Output, Broken> {
        let id = |run: &RunId| format!("coracle://{}-{}-{}", run.0, run.1, run.2);
        let known = self.guests.get(&run).map(|guest| guest.started_at);
        if let Some(at) = known.or_else(|| self.exits.get(&run).map(|exit| exit.started_at)) {
            let container_id = id(&run);
            return Ok(Output::Started { at, container_id });
        }
        let twin = self
            .guests
            .keys()
            .find(|other| (other.0, &other.1) == (run.0, &run.1));
        if let Some(twin) = twin {
            return broken(
                "no container twice at once",
                format!("{run:?} beside {twin:?}"),
            );
        }
        if !self.ran.insert(run.clone()) {
            return broken(
                "no run twice",
                format!("{run:?} was over and was started again"),
            );
        }
        if !self.roots.contains(&run) || !self.has_address(run.0) {
            return broken(
                "order of setup",
                format!("{run:?} has no root or no address"),
            );
        }
        let container_id = id(&run);
        let guest = Guest {
            started_at: now,
            container_id: container_id.clone(),
            words: last_words(seed, &run),
            end: program(seed, &run, now),
            waiters: Vec::new(),
            limits: vec![limits],
        };
        let truth = self.truth.entry((run.0, run.1.clone())).or_default();
        truth.started = true;
        self.guests.insert(run, guest);
        Ok(Output::Started {
            at: now,
            container_id,
        })
    }

    /// Begins to end a guest. Some end at once, some drain, some only when their grace is over.
    fn stop(&mut self, seed: u64, exec: u64, run: &RunId, grace: u32, now: Timestamp) -> Effect {
        let Some(guest) = self.guests.get_mut(run) else {
            return Effect::Now(Ok(Output::Nothing));
        };
        let mut chance = Chance::of(seed, ("stop", run));
        let deadline = later(now, i64::from(grace) * 1000);
        let (at, code) = match chance.below(10) {
            0..=5 => (now, 143),
            6..=7 => {
                let drained = later(now, chance.between(100, 40_000));
                if drained < deadline {
                    (drained, 0)
                } else {
                    (deadline, 137)
                }
            }
            _ => (deadline, 137),
        };
        if guest.end.is_none_or(|(end, ..)| at < end) {
            guest.end = Some((at, code, ExitKind::Stopped));
        }
        guest.waiters.push(exec);
        Effect::AtEnd
    }

    /// Ends a guest whose time has come; gives the Stops that waited for it.
    pub(crate) fn end(&mut self, run: &RunId, now: Timestamp) -> Option<Vec<u64>> {
        let (at, code, kind) = self.guests.get(run)?.end?;
        if at > now {
            return None;
        }
        let guest = self.guests.remove(run)?;
        let message = match kind {
            ExitKind::Trapped => "unreachable",
            _ => "",
        };
        let message = lifecycle::message::joined(message, &guest.words);
        let exit = Exit {
            code,
            kind,
            message: message.clone(),
            started_at: guest.started_at,
            finished_at: now,
        };
        self.exits.insert(run.clone(), exit);
        let truth = self.truth.entry((run.0, run.1.clone())).or_default();
        truth.succeeded |= code == 0;
        truth.codes.insert(run.2, code);
        truth.said.insert(run.2, message);
        Some(guest.waiters)
    }

    /// The guest host dies with its guests and with the exits that it kept; gives the Stops that waited.
    pub(crate) fn die(&mut self) -> Vec<u64> {
        self.guest_host += 1;
        self.exits.clear();
        let guests = std::mem::take(&mut self.guests);
        guests
            .into_values()
            .flat_map(|guest| guest.waiters)
            .collect()
    }

    fn has_address(&self, pod: u32) -> bool {
        self.addresses.iter().any(|one| one.0 == pod)
    }

    fn has_folders(&self, pod: u32) -> bool {
        self.folders.iter().any(|one| one.0 == pod)
    }

    fn has_roots(&self, pod: u32) -> bool {
        self.roots.iter().any(|one| one.0 == pod)
    }

    /// True while a guest of the pod runs.
    pub(crate) fn has_guests(&self, pod: u32) -> bool {
        self.guests.keys().any(|one| one.0 == pod)
    }

    /// True while a container's guest runs.
    pub(crate) fn runs(&self, pod: u32, container: &str) -> bool {
        self.guests
            .keys()
            .any(|one| one.0 == pod && one.1 == container)
    }

    /// What stands of a pod, in words; `None` if nothing does.
    pub(crate) fn left(&self, pod: u32) -> Option<String> {
        let mut left = Vec::new();
        let mut say = |what: &str, stands: bool| {
            if stands {
                left.push(what.to_owned());
            }
        };
        say("a guest", self.has_guests(pod));
        say("a root", self.has_roots(pod));
        say("folders", self.has_folders(pod));
        say("an address", self.has_address(pod));
        (!left.is_empty()).then(|| left.join(", "))
    }
}

/// What a guest leaves in its termination message: nothing, a word, or more than its share.
fn last_words(seed: u64, run: &RunId) -> String {
    let mut chance = Chance::of(seed, ("words", run));
    let length = match chance.below(10) {
        0..=5 => return String::new(),
        6..=7 => 3,
        _ => chance.pick([1_000, 4_000], 4_000),
    };
    format!("{} of {}: {}", run.2, run.1, "x".repeat(length))
}

/// What a hook has to tell: some servers speak in the clear.
fn answered(seed: u64, run: &RunId) -> Output {
    match Chance::of(seed, ("in the clear", run)).percent(10) {
        true => Output::FellBack {
            host: "192.0.2.2:443".to_owned(),
        },
        false => Output::Nothing,
    }
}

/// How a guest would end by itself.
fn program(seed: u64, run: &RunId, now: Timestamp) -> Option<(Timestamp, i32, ExitKind)> {
    let mut chance = Chance::of(seed, ("guest", run));
    let first = run.1.starts_with('i');
    let (forever, well) = if first { (2, 85) } else { (40, 40) };
    if chance.percent(forever) {
        return None;
    }
    let most = chance.pick([3, 2_000, 20_000, 900_000], 2_000);
    let at = later(
        now,
        chance.between(0, if first { most.min(20_000) } else { most }),
    );
    let (code, kind) = if chance.percent(well) {
        (0, ExitKind::Exited)
    } else {
        chance.pick(
            [
                (1, ExitKind::Exited),
                (255, ExitKind::Exited),
                (134, ExitKind::Trapped),
                (137, ExitKind::OomKilled),
            ],
            (1, ExitKind::Exited),
        )
    };
    Some((at, code, kind))
}

/// How an action fails, if it does.
pub(crate) fn failure(key: &Key, chance: &mut Chance) -> Failure {
    let reason = match key.kind {
        Kind::Pull => chance.pick(
            [
                "ErrImagePull",
                "ErrImagePull",
                "RegistryUnavailable",
                "InvalidImageName",
                "ErrImageNeverPull",
            ],
            "ErrImagePull",
        ),
        Kind::Start => chance.pick(
            [
                "RunContainerError",
                "CreateContainerConfigError",
                "CreateContainerError",
            ],
            "RunContainerError",
        ),
        _ => "CreateContainerError",
    };
    let ends = matches!(
        key.kind,
        Kind::Stop | Kind::Unmount | Kind::Release | Kind::Probe(_) | Kind::Exec(_) | Kind::Resize
    );
    let never = !ends && chance.percent(25);
    Failure {
        reason: reason.to_owned(),
        message: "it broke".to_owned(),
        retry: if never { Retry::Never } else { Retry::Backoff },
    }
}

/// So many milliseconds later.
pub(crate) fn later(at: Timestamp, milliseconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_millis(milliseconds))
        .unwrap_or(at)
}
