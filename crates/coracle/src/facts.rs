//! Between the guest host's facts and the core's: the same things, in crates that are strangers.

use agent::Guest;
use lifecycle::{Exit, ExitKind};
use runtime::{Exited, GuestState, Phase};

use crate::hands::{Hands, container_id};

/// How a guest ended, as the core takes it.
pub(crate) fn exit(exited: &Exited) -> Exit {
    Exit {
        code: i32::from(exited.code),
        kind: match exited.kind {
            runtime::ExitKind::Exited => ExitKind::Exited,
            runtime::ExitKind::Trapped => ExitKind::Trapped,
            runtime::ExitKind::OomKilled => ExitKind::OomKilled,
            runtime::ExitKind::Stopped => ExitKind::Stopped,
            runtime::ExitKind::Lost => ExitKind::Lost,
        },
        message: exited.message.clone(),
        started_at: exited.started_at,
        finished_at: exited.finished_at,
    }
}

/// Tells the agent how a guest ended, with the container's own words.
pub(crate) async fn tell(agent: &agent::Agent, hands: &Hands, exited: &Exited) {
    let id = &exited.id;
    let exit = match agent.pod(&id.pod_uid) {
        Some(pod) => hands.with_message(&pod, id, exit(exited)).await,
        None => exit(exited),
    };
    agent.guest_exited(&id.pod_uid, &id.container, id.attempt, exit);
}

/// A guest that runs, as the agent takes it; `None` for one that has ended.
pub(crate) fn running(state: &GuestState) -> Option<Guest> {
    match state.phase {
        Phase::Exited(_) => None,
        Phase::Running | Phase::Stopping => Some(Guest {
            uid: state.id.pod_uid.clone(),
            container: state.id.container.clone(),
            attempt: state.id.attempt,
            started_at: state.started_at,
            container_id: container_id(&state.id),
        }),
    }
}
