//! Ephemeral containers, which are added to pods that run, and the rules of them.
//!
//! Must not know: how `lifecycle` starts them.

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use lifecycle::{Action, What};

use crate::chance::Chance;
use crate::machine::Machine;
use crate::rules::{Broken, Shown, broken};
use crate::scenario::{Fault, Trouble};

/// In some histories somebody debugs.
pub(crate) fn faults(seed: u64, length: u32, pods: u32, faults: &mut Vec<Fault>) {
    let mut chance = Chance::of(seed, "debugging");
    if !chance.percent(20) {
        return;
    }
    for _ in 0..=chance.below(2) {
        faults.push(Fault {
            after: chance.below(length),
            what: Trouble::Debug(chance.below(pods)),
        });
    }
}

/// `kubectl debug`: one more, of a name that no other has.
pub(crate) fn add(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let all = spec.ephemeral_containers.get_or_insert_default();
    all.push(EphemeralContainer {
        name: format!("e{}", all.len()),
        image: Some("registry.example/tools:1".to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        ..EphemeralContainer::default()
    });
}

/// Whether it is one of the pod's.
pub(crate) fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.iter();
    let mut all = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    all.any(|one| one.name == name)
}

/// It runs once, and is neither probed nor resized nor ended while its pod is to live.
pub(crate) fn asked(
    machine: &Machine,
    shown: &Shown<'_>,
    name: &str,
    action: &Action,
) -> Result<(), Broken> {
    match &action.what {
        What::Pull { .. } | What::Start { .. } => {
            let truth = machine.truth.get(&(shown.id, name.to_owned()));
            match truth.is_some_and(|truth| truth.started) {
                true => broken("an ephemeral container runs once", name),
                false => Ok(()),
            }
        }
        What::Stop { .. } if shown.memory.terminating.is_none() => {
            broken("only what must stop is stopped", name)
        }
        What::Stop { .. } | What::Mount { .. } | What::Unmount => Ok(()),
        other => broken(
            "an ephemeral container has nothing else",
            format!("{other:?}"),
        ),
    }
}
