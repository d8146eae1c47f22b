//! The rules of probes and hooks: whom they may ask, what they may bring about, and who waits for them.
//!
//! Must not know: how `lifecycle` counts.

use k8s_openapi::api::core::v1::{Pod, PodStatus, Probe};
use lifecycle::memory::{HookState, Run};
use lifecycle::{Action, Cause, Hook, Kind, ProbeKind};

use crate::machine::Machine;
use crate::rules::{Broken, Shown, broken, member};
use crate::validation;

fn spec_of(pod: &Pod, name: &str, kind: ProbeKind) -> Result<Option<Probe>, Broken> {
    let (container, _) = member(pod, name)?;
    Ok(kind.probe(container).cloned())
}

/// A run that is known to run is probed, by a probe that the Pod has, not before its time, and none but
/// startup before that one has succeeded.
pub(crate) fn probe(
    machine: &Machine,
    shown: &Shown<'_>,
    action: &Action,
    run: u32,
) -> Result<(), Broken> {
    let name = action.key.container.as_deref().unwrap_or_default();
    let Kind::Probe(kind) = action.key.kind else {
        return broken("vocabulary", format!("{:?} is no probe", action.key));
    };
    let Some(container) = shown.memory.containers.get(name) else {
        return broken("only what runs is probed", name);
    };
    let Run::Running {
        started_at, stop, ..
    } = &container.run
    else {
        return broken("only what runs is probed", format!("{name}: {kind:?}"));
    };
    if container.attempt != run {
        return broken("only what runs is probed", format!("{name}: run {run}"));
    }
    if stop.is_some() && kind != ProbeKind::Readiness {
        return broken("what ends is not judged", format!("{name}: {kind:?}"));
    }
    let Some(probe) = spec_of(shown.pod, name, kind)? else {
        return broken("only what the Pod asks for is probed", format!("{kind:?}"));
    };
    let passed = shown.now.duration_since(*started_at).as_secs();
    if passed < i64::from(probe.initial_delay_seconds.unwrap_or_default()) {
        return broken("probes wait for their delay", format!("{name}: {passed} s"));
    }
    let gate = spec_of(shown.pod, name, ProbeKind::Startup)?.is_some();
    let open = machine
        .truth
        .get(&(shown.id, name.to_owned()))
        .is_some_and(|truth| truth.passed.contains(&(ProbeKind::Startup, run)));
    match (gate, kind) {
        (true, ProbeKind::Startup) | (false, _) => Ok(()),
        (true, _) if open => Ok(()),
        _ => broken("startup comes first", format!("{name}: {kind:?}")),
    }
}

/// A hook is the Pod's, and a preStop hook has a bound.
pub(crate) fn hook(shown: &Shown<'_>, action: &Action, grace: Option<u32>) -> Result<(), Broken> {
    let name = action.key.container.as_deref().unwrap_or_default();
    let (container, _) = member(shown.pod, name)?;
    let known = match action.key.kind {
        Kind::Exec(hook) => {
            let bounded = hook == Hook::PostStart || grace.is_some_and(|seconds| seconds > 0);
            bounded && hook.handler(container).is_some()
        }
        _ => false,
    };
    if !known {
        return broken("only the Pod's hooks are run", format!("{action:?}"));
    }
    let runs = shown.memory.containers.get(name).is_some_and(|container| {
        container.attempt == action.key.attempt && matches!(container.run, Run::Running { .. })
    });
    match runs {
        true => Ok(()),
        false => broken("hooks are run in what runs", format!("{action:?}")),
    }
}

/// A guest is stopped after its preStop hook was asked for, unless there is no time for one.
pub(crate) fn after_pre_stop(shown: &Shown<'_>, name: &str, asked: bool) -> Result<(), Broken> {
    let (container, _) = member(shown.pod, name)?;
    let hooked = Hook::PreStop.handler(container).is_some();
    let no_time = shown
        .memory
        .terminating
        .as_ref()
        .is_some_and(|end| end.at_once || end.until <= shown.now);
    // A guest whose start is under way has nothing that a hook could be run in.
    let starts = shown.memory.containers.get(name).is_some_and(|container| {
        matches!(container.run, Run::Starting { .. })
            || matches!(&container.run, Run::Running { stop: Some(stop), .. }
                if stop.pre_stop == HookState::Over && stop.retry_at.is_none())
    });
    match hooked && !asked && !no_time && !starts {
        false => Ok(()),
        true => broken("preStop comes before the end", name),
    }
}

/// While its pod is to live, a container is stopped for a changed spec, for a failed postStart hook that it
/// has, or for a probe that has failed as often as the Pod bears.
pub(crate) fn alone(
    machine: &Machine,
    shown: &Shown<'_>,
    name: &str,
    (cause, attempt): (Cause, u32),
) -> Result<(), Broken> {
    let (container, _) = member(shown.pod, name)?;
    let allowed = match cause {
        Cause::SpecChange => true,
        Cause::RestartAll => shown
            .pod
            .spec
            .as_ref()
            .is_some_and(validation::all_could_restart),
        Cause::Resize => crate::resizing::restarts(container),
        Cause::PostStart => Hook::PostStart.handler(container).is_some(),
        Cause::Probe(kind) => {
            let most = spec_of(shown.pod, name, kind)?.and_then(|probe| probe.failure_threshold);
            let found = machine
                .truth
                .get(&(shown.id, name.to_owned()))
                .and_then(|truth| truth.found.get(&(kind, attempt)));
            found
                .is_some_and(|(well, row)| !well && i64::from(*row) >= i64::from(most.unwrap_or(3)))
        }
        _ => false,
    };
    match allowed {
        true => Ok(()),
        false => broken(
            "only what must stop is stopped",
            format!("{name}: {cause:?}"),
        ),
    }
}

/// What is told to be ready or started was found so by its probes.
pub(crate) fn ready(
    machine: &Machine,
    (id, pod): (u32, &Pod),
    status: &PodStatus,
) -> Result<(), Broken> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    for one in lists.into_iter().flatten().flatten() {
        let Ok((_, _)) = member(pod, &one.name) else {
            continue;
        };
        let running = one
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some());
        for (kind, told) in [
            (ProbeKind::Startup, one.started == Some(true)),
            (ProbeKind::Readiness, one.ready),
        ] {
            let Some(_) = spec_of(pod, &one.name, kind)? else {
                continue;
            };
            let found = machine
                .truth
                .get(&(id, one.name.clone()))
                .is_some_and(|truth| truth.passed.iter().any(|(of, _)| *of == kind));
            if told && running && !found {
                return broken("readiness is found", format!("{}: {kind:?}", one.name));
            }
        }
    }
    Ok(())
}
