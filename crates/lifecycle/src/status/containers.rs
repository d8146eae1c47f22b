//! The containers' statuses: `convertToAPIContainerStatuses` in `pkg/kubelet/kubelet_pods.go`, and
//! `UpdatePodStatus` in `pkg/kubelet/prober`.

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod, ResourceRequirements, VolumeMountStatus,
};

use crate::allocation::Amounts;
use crate::memory::{Container, Ended, Memory, Run};
use crate::plan::Plan;
use crate::probe;
use crate::spec::{self, Member, Role};
use crate::time::whole;
use crate::words;

/// All termination messages of a pod together, bytes (`MaxPodTerminationMessageLogLength`).
const MESSAGES: usize = 12 * 1024;

/// A container as the status is to show it.
pub(super) struct Shown<'a> {
    pub(super) member: Member<'a>,
    pub(super) state: State,
    /// How the run before the one in `state` ended.
    last: Option<Box<Ended>>,
    /// Another run follows the one that ended, while the pod lives.
    pub(super) restarts: bool,
    count: u32,
    image_id: Option<String>,
    /// What its guest has, if it runs.
    applied: Option<Amounts>,
    probed: Probed,
}

/// What the probes and the postStart hook say of a container.
#[derive(Clone, Copy, Default)]
struct Probed {
    started: bool,
    ready: bool,
}

/// Its state.
pub(super) enum State {
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: jiff::Timestamp,
        container_id: String,
    },
    Terminated {
        ended: Box<Ended>,
        unknown: bool,
    },
}

impl Shown<'_> {
    /// The exit code that counts: of the state, or of the last one if it waits.
    pub(super) fn exit(&self) -> Option<i32> {
        match &self.state {
            State::Running { .. } => None,
            State::Waiting { .. } => self.last.as_ref().map(|ended| ended.exit_code),
            State::Terminated { ended, .. } => Some(ended.exit_code),
        }
    }

    /// `started`.
    pub(super) fn started(&self) -> bool {
        self.probed.started
    }

    /// `ready`.
    pub(super) fn ready(&self) -> bool {
        match (self.member.role, &self.state) {
            (_, State::Running { .. }) => self.member.role != Role::Init && self.probed.ready,
            (Role::Init, State::Terminated { ended, .. }) => ended.exit_code == 0,
            _ => false,
        }
    }
}

/// Every container, init containers first. `over`: the pod is, so that none is shown waiting that
/// should have run.
pub(super) fn show<'a>(plan: &Plan<'a>, memory: &Memory, over: bool) -> Vec<Shown<'a>> {
    let initializing = spec::inits(plan.pod).next().is_some();
    let mut shown: Vec<Shown<'a>> = spec::members(plan.pod)
        .map(|member| {
            let known = memory.containers.get(member.name()).map(Box::as_ref);
            let restarts = |code| member.restarts(plan.pod, code);
            show_one(member, known, initializing, restarts)
        })
        .collect();
    if over {
        account(&mut shown, memory.initialized || !initializing);
    }
    shown
}

fn show_one<'a>(
    member: Member<'a>,
    known: Option<&Container>,
    initializing: bool,
    restarts: impl Fn(i32) -> bool,
) -> Shown<'a> {
    let reason = if initializing {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut state = State::Waiting {
        reason: reason.to_owned(),
        message: String::new(),
    };
    let Some(known) = known else {
        return Shown {
            member,
            state,
            last: None,
            restarts: true,
            count: 0,
            image_id: None,
            applied: None,
            probed: Probed::default(),
        };
    };
    if let Some(waiting) = &known.waiting {
        state = State::Waiting {
            reason: waiting.reason.clone(),
            message: waiting.message.clone(),
        };
    }
    let mut last = known.ended.clone();
    match (&known.run, &known.ended) {
        (
            Run::Running {
                started_at,
                container_id,
                ..
            },
            _,
        ) if known.post_start.is_over() => {
            state = State::Running {
                since: *started_at,
                container_id: container_id.clone(),
            };
        }
        // One that its policy does not restart, and a changed spec does, is never shown as ended:
        // the API server would refuse that it runs again.
        (run, Some(ended))
            if *run == Run::Over
                || (known.waiting.is_none()
                    && !matches!(run, Run::Running { .. })
                    && restarts(ended.exit_code)) =>
        {
            state = State::Terminated {
                ended: ended.clone(),
                unknown: false,
            };
            last.clone_from(&known.last);
        }
        _ => {}
    }
    let ran = known.ended.is_some() || matches!(known.run, Run::Running { .. });
    let image_id = known
        .image
        .as_ref()
        .filter(|_| ran)
        .map(|image| image.id.clone());
    let applied = match state {
        State::Running { .. } => Some(known.applied.as_deref().cloned().unwrap_or_default()),
        _ => None,
    };
    let restarts = known
        .ended
        .as_ref()
        .is_none_or(|ended| restarts(ended.exit_code));
    Shown {
        member,
        state,
        last,
        restarts,
        count: known.restart_count,
        image_id,
        applied,
        probed: Probed {
            started: probe::started(&member, known),
            ready: probe::ready(&member, known),
        },
    }
}

/// Once a pod is over, a container that should have run and has no end to show has failed:
/// `TerminatePod` in `pkg/kubelet/status/status_manager.go`.
fn account(shown: &mut [Shown<'_>], initialized: bool) {
    let last = shown
        .iter()
        .rposition(|one| one.member.role != Role::Main && (one.exit().is_some() || one.started()));
    for (place, one) in shown.iter_mut().enumerate() {
        let due = match one.member.role {
            Role::Main => initialized,
            _ => last.is_some_and(|last| place <= last),
        };
        if due && !matches!(one.state, State::Terminated { .. }) {
            let ended = Ended {
                exit_code: 137,
                reason: "ContainerStatusUnknown".to_owned(),
                message: "The container could not be located when the pod was terminated"
                    .to_owned(),
                started_at: None,
                finished_at: jiff::Timestamp::UNIX_EPOCH,
                container_id: String::new(),
            };
            one.state = State::Terminated {
                ended: Box::new(ended),
                unknown: true,
            };
        }
    }
}

/// `ephemeralContainerStatuses`, by name: they are neither ready nor started, since nothing probes
/// them.
pub(super) fn ephemerals(plan: &Plan<'_>, memory: &Memory) -> Vec<ContainerStatus> {
    let share = share(plan.pod);
    let initializing = spec::inits(plan.pod).next().is_some();
    let all = spec::beside(plan.ephemerals).map(|member| {
        let known = memory.containers.get(member.name()).map(Box::as_ref);
        ContainerStatus {
            ready: false,
            started: None,
            ..status(&show_one(member, known, initializing, |_| false), share)
        }
    });
    let mut all: Vec<ContainerStatus> = all.collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// So many bytes of messages a container may have.
fn share(pod: &Pod) -> usize {
    MESSAGES / spec::container_count(pod.spec.as_ref()).max(1)
}

/// `initContainerStatuses` in the Pod's order and `containerStatuses` by name.
pub(super) fn statuses(
    pod: &Pod,
    shown: &[Shown<'_>],
) -> (Vec<ContainerStatus>, Vec<ContainerStatus>) {
    let share = share(pod);
    let of = |main: bool| {
        let chosen = shown
            .iter()
            .filter(move |one| (one.member.role == Role::Main) == main);
        let mut all: Vec<ContainerStatus> = chosen.map(|one| status(one, share)).collect();
        // Of a pod at rest it is kept, and room for four is more than all the rest of it.
        all.shrink_to_fit();
        all
    };
    let mut mains = of(true);
    mains.sort_by(|one, other| one.name.cmp(&other.name));
    (of(false), mains)
}

fn status(shown: &Shown<'_>, share: usize) -> ContainerStatus {
    let spec = shown.member.spec;
    let created = shown.image_id.is_some();
    ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        image_id: shown.image_id.clone().unwrap_or_default(),
        container_id: container_id(shown),
        ready: shown.ready(),
        started: Some(shown.started()),
        restart_count: i32::try_from(shown.count).unwrap_or(i32::MAX),
        state: Some(state(&shown.state, share)),
        last_state: Some(
            shown
                .last
                .as_ref()
                .map_or_else(ContainerState::default, |ended| ContainerState {
                    terminated: Some(terminated(ended, share)),
                    ..Default::default()
                }),
        ),
        resources: created.then(|| resources(shown)),
        allocated_resources: created
            .then(|| spec.resources.as_ref()?.requests.clone())
            .flatten(),
        volume_mounts: volume_mounts(spec),
        ..ContainerStatus::default()
    }
}

fn container_id(shown: &Shown<'_>) -> Option<String> {
    let id = match &shown.state {
        State::Running { container_id, .. } => container_id,
        State::Terminated { ended, .. } => &ended.container_id,
        State::Waiting { .. } => &shown.last.as_ref()?.container_id,
    };
    (!id.is_empty()).then(|| id.clone())
}

fn state(state: &State, share: usize) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: (!message.is_empty()).then(|| message.clone()),
            }),
            ..ContainerState::default()
        },
        State::Running { since, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(whole(*since)),
            }),
            ..ContainerState::default()
        },
        State::Terminated { ended, unknown } => {
            let mut over = terminated(ended, share);
            if *unknown {
                over.finished_at = None;
            }
            ContainerState {
                terminated: Some(over),
                ..ContainerState::default()
            }
        }
    }
}

fn terminated(ended: &Ended, share: usize) -> ContainerStateTerminated {
    let message = words::cut(&ended.message, share);
    ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message: (!message.is_empty()).then(|| message.to_owned()),
        started_at: ended.started_at.map(whole),
        finished_at: Some(whole(ended.finished_at)),
        container_id: (!ended.container_id.is_empty()).then(|| ended.container_id.clone()),
        signal: None,
    }
}

/// What the guest has; of one that does not run, what it will have.
fn resources(shown: &Shown<'_>) -> ResourceRequirements {
    if let Some(applied) = &shown.applied {
        return applied.requirements();
    }
    // Claims are refused, so it has none.
    shown.member.spec.resources.clone().unwrap_or_default()
}

fn volume_mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec
        .volume_mounts
        .as_deref()
        .filter(|mounts| !mounts.is_empty())?;
    let status = mounts.iter().map(|mount| {
        let read_only = mount.read_only == Some(true);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        }
    });
    Some(status.collect())
}
