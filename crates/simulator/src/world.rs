//! A history as it happens: virtual time, a queue of happenings, and what goes wrong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodStatus;
use lifecycle::node::{Measure, Period, Usage};
use lifecycle::{Eviction, Verdict};

use crate::api::Api;
use crate::coverage::Coverage;
use crate::machine::{Machine, RunId, later};
use crate::node::{Exec, Node};
use crate::rules::{Broken, Violation, Witness, broken};
use crate::scenario::{BEGIN, Scenario, Trouble};
use crate::{debugging, resizing};

/// No history has more happenings: what has goes round in circles.
const MOST: u32 = 30_000;
/// Seconds beyond the longest grace within which all must have ended once nothing goes wrong:
/// an agent that is away (60), an action that is slow (20) twice, a failure's retry (10), the API.
const PATIENCE: i64 = 180;
/// So many of the last lines are told of a history that fails.
const LINES: usize = 80;

/// What is due at some time. What is of a life of the agent goes with it.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Turn {
        life: u64,
        id: u32,
        stamp: u64,
    },
    Written {
        life: u64,
        id: u32,
    },
    Commit {
        life: u64,
        id: u32,
    },
    Effect(u64),
    Answer(u64),
    GuestEnds(RunId),
    ExitTold {
        life: u64,
        run: RunId,
    },
    AgentUp,
    HostListed {
        life: u64,
    },
    GuestsTold {
        life: u64,
        guest_host: u64,
        list: Vec<agent::Guest>,
        as_of: Timestamp,
    },
    SourcesListed {
        life: u64,
    },
    Watch {
        life: u64,
        id: u32,
    },
    Patch {
        life: u64,
        id: u32,
    },
    Judge {
        life: u64,
    },
    Collected {
        life: u64,
    },
    Measure {
        life: u64,
        measure: Measure,
    },
    Measured {
        life: u64,
        usage: Usage,
    },
}

/// Everything there is.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Timestamp,
    pub(crate) seq: u64,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    count: u32,
    calm: bool,
    pub(crate) machine: Machine,
    pub(crate) node: Node,
    pub(crate) api: Api,
    pub(crate) execs: BTreeMap<u64, Exec>,
    pub(crate) witnesses: BTreeMap<u32, Witness>,
    pub(crate) coverage: &'a mut Coverage,
    lines: Option<VecDeque<String>>,
    /// The pod that the happening at hand is about.
    pub(crate) about: Option<u32>,
}

/// How a history went.
pub struct Outcome {
    /// The rule that did not hold, if one did not.
    pub violation: Option<Violation>,
    /// The last lines of what happened, if they were asked for.
    pub lines: Vec<String>,
    /// By pod: every status that it was given, in order.
    pub(crate) statuses: BTreeMap<u32, Vec<Arc<PodStatus>>>,
}

/// Runs a history.
pub fn run(scenario: &Scenario, coverage: &mut Coverage) -> Outcome {
    World::new(scenario, coverage, None).whole()
}

/// Runs a history and tells its last steps.
pub fn traced(scenario: &Scenario) -> Outcome {
    let mut coverage = Coverage::default();
    World::new(scenario, &mut coverage, Some(VecDeque::new())).whole()
}

impl<'a> World<'a> {
    fn new(
        scenario: &'a Scenario,
        coverage: &'a mut Coverage,
        lines: Option<VecDeque<String>>,
    ) -> World<'a> {
        World {
            scenario,
            now: Timestamp::from_second(BEGIN + 10).unwrap_or_default(),
            seq: 0,
            queue: BTreeMap::new(),
            count: 0,
            calm: false,
            machine: Machine::default(),
            node: Node::default(),
            api: Api::default(),
            execs: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            coverage,
            lines,
            about: None,
        }
    }

    fn whole(mut self) -> Outcome {
        let result = self.history();
        self.coverage.happenings += u64::from(self.count);
        let (seed, at, pod) = (self.scenario.seed, self.now, self.about);
        let violation = result.err().map(|Broken { rule, detail }| Violation {
            seed,
            rule,
            detail,
            pod,
            at,
        });
        let told = self
            .witnesses
            .into_iter()
            .map(|(id, one)| (id, one.statuses));
        Outcome {
            violation,
            lines: self.lines.unwrap_or_default().into(),
            statuses: told.collect(),
        }
    }

    fn history(&mut self) -> Result<(), Broken> {
        self.at(0, Happening::AgentUp);
        self.trouble()?;
        self.about = None;
        self.note(|| "nothing goes wrong any more".to_owned());
        self.calm = true;
        self.machine.levels.clear();
        self.node.save_failures = 0;
        self.api.down_until = None;
        let end = later(self.now, self.scenario.calm * 1000);
        while self.next(end)? {}
        if self.scenario.calm >= 30 {
            self.stuck()?;
        }
        self.finish()
    }

    /// Until its length is reached, or nothing more would come.
    fn trouble(&mut self) -> Result<(), Broken> {
        let mut births: Vec<_> = self.scenario.pods.iter().collect();
        births.sort_by_key(|one| std::cmp::Reverse(one.after));
        let mut faults: Vec<_> = self.scenario.faults.iter().collect();
        faults.sort_by_key(|one| std::cmp::Reverse(one.after));
        let mut rush = 0;
        while self.count < self.scenario.length {
            let due = self.count + rush;
            while let Some(one) = births.pop_if(|one| one.after <= due) {
                self.create(one.id, one.pod.clone());
            }
            while let Some(one) = faults.pop_if(|one| one.after <= due) {
                self.fault(&one.what)?;
            }
            if !self.next(later(self.now, 900_000))? {
                if births.is_empty() && faults.is_empty() {
                    return Ok(());
                }
                rush += 1;
            }
        }
        Ok(())
    }

    /// Deletes what is left and waits for the end of everything.
    fn finish(&mut self) -> Result<(), Broken> {
        let mut longest = 0;
        for (id, pod) in self.api.objects.clone() {
            let spec = pod.spec.as_ref();
            let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
            let grace = pod
                .metadata
                .deletion_grace_period_seconds
                .or(own)
                .unwrap_or(30);
            longest = longest.max(grace);
            self.delete(id, grace);
        }
        let deadline = later(self.now, (longest + 60 + PATIENCE) * 1000);
        while self.next(deadline)? {
            if self.api.objects.is_empty() && self.node.idle() && self.node.disk.is_empty() {
                break;
            }
        }
        for id in self.scenario.pods.iter().map(|one| one.id) {
            self.about = Some(id);
            let held = self.node.describe(id);
            if self.api.objects.contains_key(&id) || held.is_some() {
                let known = held.unwrap_or_else(|| "nothing of it is here".to_owned());
                return broken("an end comes within the grace", known);
            }
            if let Some(left) = self.machine.left(id) {
                return broken(
                    "nothing leaks",
                    format!("{left} of a pod that is forgotten"),
                );
            }
        }
        Ok(())
    }

    /// Lets the next happening happen, if it comes before `end`.
    fn next(&mut self, end: Timestamp) -> Result<bool, Broken> {
        let Some(first) = self.queue.first_entry() else {
            return Ok(false);
        };
        let at = first.key().0;
        if at > end {
            self.now = self.now.max(end);
            return Ok(false);
        }
        let happening = first.remove();
        self.now = self.now.max(at);
        self.count += 1;
        self.about = None;
        if self.count > MOST {
            return broken("nothing goes round in circles", format!("{happening:?}"));
        }
        self.happen(happening)?;
        Ok(true)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        let life = self.node.life;
        match happening {
            Happening::Turn {
                life: of,
                id,
                stamp,
            } if of == life => self.turn(id, stamp),
            Happening::Written { life: of, id } if of == life => self.written(id),
            Happening::Commit { life: of, id } if of == life => self.commit(id),
            Happening::Effect(exec) => self.effect(exec),
            Happening::Answer(exec) => self.answer(exec),
            Happening::GuestEnds(run) => self.guest_ends(&run),
            Happening::ExitTold { life: of, run } if of == life => self.exit_told(&run),
            Happening::AgentUp => self.agent_up(),
            Happening::HostListed { life: of } if of == life => self.host_listed(),
            Happening::GuestsTold {
                life: of,
                guest_host,
                list,
                as_of,
            } if of == life => self.guests_told(guest_host, &list, as_of),
            Happening::SourcesListed { life: of } if of == life => self.sources_listed(),
            Happening::Watch { life: of, id } if of == life => self.watch(id),
            Happening::Patch { life: of, id } if of == life => {
                self.about = Some(id);
                self.patch(id)
            }
            Happening::Judge { life: of } if of == life => self.judge(),
            Happening::Collected { life: of } if of == life => {
                self.collected();
                Ok(())
            }
            Happening::Measure { life: of, measure } if of == life => {
                self.measure(&measure);
                Ok(())
            }
            Happening::Measured { life: of, usage } if of == life => self.measured(usage),
            // Of an agent that is dead.
            _ => Ok(()),
        }
    }

    fn fault(&mut self, what: &Trouble) -> Result<(), Broken> {
        self.note(|| format!("fault: {what:?}"));
        match *what {
            Trouble::Crash(away) => self.crash(away)?,
            Trouble::HostDeath => self.host_death()?,
            Trouble::DiskFull(times) => self.node.save_failures += times,
            Trouble::Outage(long) => self.api.down_until = Some(later(self.now, long)),
            Trouble::Shutdown(grace) => {
                let period = |priority, seconds| Period { priority, seconds };
                let periods = vec![period(0, grace), period(2_000_000_000, grace / 2 + 1)];
                self.node.shutdown.get_or_insert(periods);
                self.judge_soon();
            }
            Trouble::Low(signal, percent) => {
                self.machine.levels.insert(signal, percent);
            }
            Trouble::Evict(id, grace_seconds) => self.evict(
                id,
                Verdict::Evicted {
                    eviction: Eviction::Pressure,
                    message: "The node was low on resource: memory.".to_owned(),
                    grace_seconds,
                },
            ),
            Trouble::Delete(id, grace) => self.delete(id, grace),
            Trouble::Force(id) => self.vanish(id),
            Trouble::Image(id, nth) => {
                let image = format!("registry.example/app:{}", self.seq + 2);
                self.edit(id, |pod| {
                    let spec = pod.spec.iter_mut();
                    let mut all: Vec<_> = spec
                        .flat_map(|spec| {
                            spec.init_containers
                                .iter_mut()
                                .flatten()
                                .chain(&mut spec.containers)
                        })
                        .collect();
                    let place = usize::try_from(nth).unwrap_or_default() % all.len().max(1);
                    if let Some(one) = all.get_mut(place) {
                        one.image = Some(image);
                    }
                });
            }
            Trouble::Resize(id, nth, cpu, memory) => {
                self.edit(id, |pod| resizing::resize(pod, nth, (cpu, memory)));
            }
            Trouble::Debug(id) => self.edit(id, debugging::add),
            Trouble::Deadline(id, seconds) => self.edit(id, |pod| {
                if let Some(spec) = &mut pod.spec {
                    let known = spec.active_deadline_seconds.unwrap_or(i64::MAX);
                    spec.active_deadline_seconds = Some(known.min(seconds));
                }
            }),
            Trouble::Foreign(id) => self.foreign(id),
        }
        Ok(())
    }

    /// A pod that is to live either runs, or waits for something that will come.
    fn stuck(&mut self) -> Result<(), Broken> {
        for (id, worker) in &self.node.workers {
            let released = worker
                .ledger
                .published()
                .is_some_and(|(_, released)| released);
            let hopeless = self.witnesses.get(id).is_some_and(|one| one.hopeless);
            // A critical pod waits for those that make room for it.
            let room =
                worker.ledger.memory().verdict.is_none() && !self.node.memory.sentences.is_empty();
            let waits = room || worker.waits() || self.tells_soon(*id);
            resizing::settled(&self.machine, *id, worker)
                .inspect_err(|_| self.about = Some(*id))?;
            if !released && !hopeless && !waits && !self.machine.has_guests(*id) {
                self.about = Some(*id);
                return broken("nothing waits for nothing", worker.describe());
            }
        }
        Ok(())
    }

    /// Puts a happening in the queue, in so many milliseconds.
    pub(crate) fn at(&mut self, milliseconds: i64, happening: Happening) {
        self.at_time(later(self.now, milliseconds), happening);
    }

    /// Puts a happening in the queue. No two have the same time: a real clock is as fine.
    pub(crate) fn at_time(&mut self, at: Timestamp, happening: Happening) {
        self.seq += 1;
        let fine = SignedDuration::from_nanos(i64::try_from(self.seq % 1000).unwrap_or_default());
        let at = at.max(self.now).saturating_add(fine).unwrap_or(at);
        self.queue.insert((at, self.seq), happening);
    }

    /// True while something may go wrong.
    pub(crate) fn troubled(&self) -> bool {
        !self.calm
    }

    /// Notes a line, if lines are asked for.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let since = self.now.as_millisecond() - BEGIN * 1000;
            let (seconds, millis) = (since / 1000, since % 1000);
            lines.push_back(format!(
                "{:>5} {seconds:>5}.{millis:03}  {}",
                self.count,
                line()
            ));
            if lines.len() > LINES {
                lines.pop_front();
            }
        }
    }
}
