//! The API server and the node's publisher: objects, status patches that fail, are lost or come
//! late, deletions. Each status that is written is held to [`crate::validation`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::chance::Chance;
use crate::rules::{Broken, broken};
use crate::telling::counts;
use crate::validation;
use crate::world::{Happening, World};

/// The server's objects, and what the node wants to write to them.
#[derive(Default)]
pub(crate) struct Api {
    pub(crate) objects: BTreeMap<u32, Arc<Pod>>,
    pub(crate) wanted: BTreeMap<u32, Wanted>,
    /// It answers nobody until then.
    pub(crate) down_until: Option<Timestamp>,
}

/// What the publisher of the agent that lives knows of a pod.
pub(crate) struct Wanted {
    status: Arc<PodStatus>,
    released: bool,
    busy: bool,
    /// The object has it: nobody else writes what the kubelet owns.
    known: bool,
}

impl World<'_> {
    /// A pod is made.
    pub(crate) fn create(&mut self, id: u32, pod: Pod) {
        self.note(|| format!("api: pod {id} is made"));
        self.coverage.pods += 1;
        self.api.objects.insert(id, Arc::new(pod));
        self.changed(id);
    }

    /// Tells the node's watch, in a while.
    pub(crate) fn changed(&mut self, id: u32) {
        let delay = Chance::of(self.scenario.seed, ("watch", self.seq)).between(0, 400);
        self.at(
            delay,
            Happening::Watch {
                life: self.node.life,
                id,
            },
        );
    }

    /// Changes a pod's object as others do, and raises its generation if its spec changed.
    pub(crate) fn edit(&mut self, id: u32, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.api.objects.get_mut(&id) else {
            return;
        };
        let before = Arc::clone(pod);
        let pod = Arc::make_mut(pod);
        change(pod);
        if pod.spec != before.spec {
            pod.metadata.generation = pod.metadata.generation.map(|one| one + 1);
        }
        bump(pod);
        self.changed(id);
    }

    /// `kubectl delete`: strategy.go, CheckGracefulDelete. The grace of a second one only shrinks.
    pub(crate) fn delete(&mut self, id: u32, grace: i64) {
        let Some(pod) = self.api.objects.get(&id) else {
            return;
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        let over = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
        let known = pod.metadata.deletion_grace_period_seconds;
        self.note(|| format!("api: pod {id} ({phase:?}) is deleted, grace {grace} s"));
        if over || grace == 0 {
            return self.vanish(id);
        }
        let now = self.now;
        if known.is_some_and(|known| known <= grace) {
            return;
        }
        let stamp = now
            .saturating_add(SignedDuration::from_secs(grace))
            .unwrap_or(now);
        let stamp = Timestamp::from_second(stamp.as_second()).unwrap_or(stamp);
        self.edit(id, |pod| {
            pod.metadata.deletion_timestamp = Some(Time(stamp));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            pod.metadata.generation = pod.metadata.generation.map(|one| one + 1);
        });
    }

    /// The object is no more.
    pub(crate) fn vanish(&mut self, id: u32) {
        if self.api.objects.remove(&id).is_some() {
            self.note(|| format!("api: pod {id} is no more"));
            self.changed(id);
        }
    }

    /// Somebody else writes a condition that is theirs.
    pub(crate) fn foreign(&mut self, id: u32) {
        self.edit(id, |pod| {
            let status = pod.status.get_or_insert_default();
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|one| one.type_ != "example.com/gate");
            conditions.push(PodCondition {
                type_: "example.com/gate".to_owned(),
                status: "True".to_owned(),
                ..PodCondition::default()
            });
        });
    }

    /// The agent publishes a status.
    pub(crate) fn publish(&mut self, id: u32, status: Arc<PodStatus>, released: bool) {
        let wanted = self.api.wanted.entry(id).or_insert_with(|| Wanted {
            status: Arc::clone(&status),
            released: false,
            busy: false,
            known: false,
        });
        wanted.known = false;
        wanted.status = status;
        wanted.released |= released;
        self.push(id);
    }

    /// Sends what the server does not know yet, if nothing is under way.
    pub(crate) fn push(&mut self, id: u32) {
        let Some(wanted) = self.api.wanted.get_mut(&id).filter(|wanted| !wanted.busy) else {
            return;
        };
        let Some(object) = self.api.objects.get(&id) else {
            return;
        };
        wanted.known =
            wanted.known || object.status.as_ref() == Some(&merged(object, &wanted.status));
        if !wanted.known || deletable(object, wanted.released) {
            wanted.busy = true;
            let delay = Chance::of(self.scenario.seed, ("patch", self.seq)).between(1, 300);
            self.at(
                delay,
                Happening::Patch {
                    life: self.node.life,
                    id,
                },
            );
        }
    }

    /// A patch, or the last deletion, reaches the server.
    pub(crate) fn patch(&mut self, id: u32) -> Result<(), Broken> {
        let mut chance = Chance::of(self.scenario.seed, ("call", self.seq));
        let down = self.api.down_until.filter(|until| *until > self.now);
        let lost = self.troubled() && chance.percent(self.scenario.percent);
        if down.is_some() || (lost && chance.percent(50)) {
            self.at(
                1000,
                Happening::Patch {
                    life: self.node.life,
                    id,
                },
            );
            return Ok(());
        }
        self.apply(id)?;
        if lost {
            // The server did it, and its answer was lost: the publisher asks again.
            self.at(
                1000,
                Happening::Patch {
                    life: self.node.life,
                    id,
                },
            );
            return Ok(());
        }
        if let Some(wanted) = self.api.wanted.get_mut(&id) {
            wanted.busy = false;
        }
        self.push(id);
        Ok(())
    }

    /// What the server does with what the publisher wants now.
    pub(crate) fn apply(&mut self, id: u32) -> Result<(), Broken> {
        let Some(wanted) = self.api.wanted.get(&id) else {
            return Ok(());
        };
        let Some(object) = self.api.objects.get(&id) else {
            return Ok(());
        };
        let new = merged(object, &wanted.status);
        if object.status.as_ref() == Some(&new) {
            if deletable(object, wanted.released) {
                self.vanish(id);
            }
            return Ok(());
        }
        let new = match validation::update(object, &new) {
            Ok(new) => new,
            Err(refused) => return broken("the API server's validation", refused.join("; ")),
        };
        let old = object.status.as_ref();
        if let Some(phase) = old.and_then(|old| old.phase.as_deref())
            && matches!(phase, "Succeeded" | "Failed")
            && new.phase.as_deref() != Some(phase)
        {
            return broken(
                "terminal phases absorb",
                format!("{phase} became {:?}", new.phase),
            );
        }
        counts(old, &new)?;
        self.note(|| {
            format!(
                "api: pod {id} is {:?}",
                new.phase.as_deref().unwrap_or_default()
            )
        });
        if let Some(pod) = self.api.objects.get_mut(&id).map(Arc::make_mut) {
            pod.status = Some(new);
            bump(pod);
        }
        self.changed(id);
        Ok(())
    }
}

fn bump(pod: &mut Pod) {
    let version = pod.metadata.resource_version.as_deref();
    let version: u64 = version.and_then(|one| one.parse().ok()).unwrap_or_default();
    pod.metadata.resource_version = Some((version + 1).to_string());
}

/// The kubelet's rule: under deletion, nothing held, and the terminal phase seen at the server.
fn deletable(object: &Pod, released: bool) -> bool {
    let phase = object
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    released
        && object.metadata.deletion_timestamp.is_some()
        && matches!(phase, Some("Succeeded" | "Failed"))
}

/// What a strategic merge patch of what the kubelet owns makes of the object's status.
fn merged(object: &Pod, wanted: &PodStatus) -> PodStatus {
    let empty = PodStatus::default();
    let old = object.status.as_ref().unwrap_or(&empty);
    let mut new = wanted.clone();
    new.qos_class.clone_from(&old.qos_class);
    if old.start_time.is_some() {
        new.start_time.clone_from(&old.start_time);
    }
    let mut conditions = old.conditions.clone().unwrap_or_default();
    // Those of a resize are taken back once they are no longer true.
    conditions.retain(|one| {
        let resize = one.type_.starts_with("PodResize");
        let mut wanted = wanted.conditions.iter().flatten();
        !resize || wanted.any(|other| other.type_ == one.type_)
    });
    for condition in wanted.conditions.iter().flatten() {
        match conditions
            .iter_mut()
            .find(|one| one.type_ == condition.type_)
        {
            Some(known) => known.clone_from(condition),
            None => conditions.push(condition.clone()),
        }
    }
    new.conditions = (!conditions.is_empty()).then_some(conditions);
    new
}
