//! The rules of the order in which the containers of a pod start and are stopped.

use lifecycle::Cause;

use crate::machine::Machine;
use crate::rules::{Broken, Shown, broken, inits, mains, member};
use crate::{probing, validation};

/// Init containers in order, each done before the next; sidecars started before what follows them;
/// no init container again once a main one has run.
pub(crate) fn start(machine: &Machine, shown: &Shown<'_>, name: &str) -> Result<(), Broken> {
    let truth = |name: &str| machine.truth.get(&(shown.id, name.to_owned()));
    for one in inits(shown.pod).iter().take_while(|one| one.name != name) {
        let sidecar = one.restart_policy.as_deref() == Some("Always");
        let passed = truth(&one.name).is_some_and(|truth| {
            if sidecar {
                truth.started
            } else {
                truth.succeeded
            }
        });
        if !passed {
            let detail = format!("{name} is started before {} is done", one.name);
            return broken("init containers go in order", detail);
        }
    }
    let (container, first) = member(shown.pod, name)?;
    let sidecar = container.restart_policy.as_deref() == Some("Always");
    let mut mains = mains(shown.pod).iter();
    let begun = mains.any(|one| truth(&one.name).is_some_and(|truth| truth.started));
    let spec = shown.pod.spec.as_ref();
    let anew = spec.is_some_and(validation::all_could_restart);
    if first && !sidecar && begun && !anew {
        return broken(
            "init containers run once",
            format!("{name} after a main container"),
        );
    }
    Ok(())
}

/// Sidecars end after the others and in reverse order, unless the grace is over; nobody gets more
/// than the grace, and nobody is stopped without a reason.
pub(crate) fn stop(
    machine: &Machine,
    shown: &Shown<'_>,
    name: &str,
    ((cause, attempt), grace): ((Cause, u32), u32),
) -> Result<(), Broken> {
    let Some(ending) = &shown.memory.terminating else {
        let why = (cause, attempt);
        return probing::alone(machine, shown, name, why);
    };
    // Rounded up, and a moment passed while the checkpoint was written.
    let left = ending.until.duration_since(shown.now).as_secs() + 2;
    if i64::from(grace) > left.max(2) {
        let detail = format!("{name} is given {grace} s, {left} s are left");
        return broken("nobody gets more than the grace", detail);
    }
    let (container, first) = member(shown.pod, name)?;
    let sidecar = first && container.restart_policy.as_deref() == Some("Always");
    if !sidecar || shown.now >= ending.until {
        return Ok(());
    }
    let inits = inits(shown.pod);
    let later = inits.iter().skip_while(|one| one.name != name).skip(1);
    let others = inits
        .iter()
        .filter(|one| one.restart_policy.as_deref() != Some("Always"));
    let mut before = later.chain(others).chain(mains(shown.pod));
    match before.find(|one| machine.runs(shown.id, &one.name)) {
        None => Ok(()),
        Some(one) => {
            let detail = format!("{name} is stopped while {} runs", one.name);
            broken("sidecars end last, in reverse", detail)
        }
    }
}
