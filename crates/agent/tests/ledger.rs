//! The ledger alone: what the simulator drives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use agent::{Effects, Guest, Ledger, News, Ticket};
use common::{begin, deleted, guest, pod};
use jiff::{SignedDuration, Timestamp};
use lifecycle::{
    Action, Allocation, Costs, Exit, ExitKind, Failure, Image, Kind, Output, Progress, Retry,
    Sizing, Verdict, What,
};

fn at(seconds: i64) -> Timestamp {
    begin() + SignedDuration::from_secs(seconds)
}

fn turn(ledger: &mut Ledger, seconds: i64) -> Effects {
    let turn = ledger.turn(at(seconds));
    ledger.commit(turn, at(seconds))
}

fn output(action: &Action) -> Output {
    match &action.what {
        What::Pull { image, .. } => Output::Pulled(Image {
            id: image.clone(),
            size: 1,
            present: true,
            took_ms: 0,
        }),
        What::Address => Output::Addresses(vec![[10, 0, 0, 1].into()]),
        What::Start { .. } => Output::Started {
            at: at(1),
            container_id: "coracle://x".to_owned(),
        },
        _ => Output::Nothing,
    }
}

/// Takes turns and answers all but what `keep` picks, until that comes up.
fn drive(ledger: &mut Ledger, keep: Kind) -> (Ticket, Action) {
    for _ in 0..20 {
        for (ticket, action) in turn(ledger, 1).actions {
            if action.key.kind == keep {
                return (ticket, action);
            }
            assert!(ledger.answer(&action.key, ticket, Ok(output(&action)), at(1)));
        }
    }
    panic!("no {keep:?}: {:?}", ledger.memory());
}

/// What is remembered of the container.
fn web(ledger: &Ledger) -> &lifecycle::memory::Container {
    ledger.memory().containers.get("web").unwrap()
}

fn admitted(policy: &str) -> Ledger {
    let mut ledger = Ledger::new(pod("a", policy), Costs::default());
    ledger.guests(1, &[], at(0));
    assert!(ledger.judged(Verdict::Admitted));
    assert!(!ledger.judged(Verdict::Admitted));
    ledger
}

fn running() -> Ledger {
    let mut ledger = admitted("Always");
    let (ticket, start) = drive(&mut ledger, Kind::Start);
    assert!(ledger.answer(&start.key, ticket, Ok(output(&start)), at(1)));
    turn(&mut ledger, 2);
    ledger
}

fn failure() -> Failure {
    Failure {
        reason: "RunContainerError".to_owned(),
        message: String::new(),
        retry: Retry::Backoff,
    }
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        kind: ExitKind::Exited,
        message: String::new(),
        started_at: at(1),
        finished_at: at(5),
    }
}

#[test]
fn a_turn_changes_nothing_until_it_is_committed() {
    let ledger = admitted("Always");
    let (memory, observed) = (ledger.memory().clone(), ledger.observed().clone());
    let one = ledger.turn(at(1));
    let two = ledger.turn(at(1));
    assert_eq!(one.checkpoint(), two.checkpoint());
    assert!(one.checkpoint().is_some());
    assert_eq!((ledger.memory(), ledger.observed()), (&memory, &observed));
}

#[test]
fn only_the_first_answer_to_what_is_in_flight_counts() {
    let mut ledger = admitted("Always");
    let (ticket, start) = drive(&mut ledger, Kind::Start);
    assert!(ledger.answer(&start.key, ticket, Ok(output(&start)), at(1)));
    let once = ledger.observed().clone();
    assert!(
        !ledger.answer(&start.key, ticket, Err(failure()), at(2)),
        "twice"
    );
    let mut unknown = start.key.clone();
    unknown.attempt = 77;
    assert!(
        !ledger.answer(&unknown, ticket, Err(failure()), at(2)),
        "never asked"
    );
    assert_eq!(ledger.observed(), &once);
}

#[test]
fn an_answer_to_what_was_asked_anew_is_late() {
    let mut ledger = running();
    ledger.replace(deleted(pod("a", "Always"), 30));
    let (first, stop) = turn(&mut ledger, 3).actions.remove(0);
    ledger.replace(deleted(pod("a", "Always"), 3));
    let (second, shorter) = turn(&mut ledger, 4).actions.remove(0);
    assert_eq!(stop.key, shorter.key);
    assert!(!ledger.answer(&stop.key, first, Err(failure()), at(4)));
    assert!(matches!(
        ledger.observed().actions.get(&stop.key).unwrap(),
        Progress::InFlight { .. }
    ));
    assert!(ledger.answer(&stop.key, second, Ok(Output::Nothing), at(4)));
}

#[test]
fn the_first_exit_counts_and_is_absorbed_once_remembered() {
    let mut ledger = running();
    assert!(ledger.exited("web", 0, exit(3)));
    assert!(!ledger.exited("web", 0, exit(4)));
    let effects = turn(&mut ledger, 6);
    assert_eq!(effects.absorbed, [("web".to_owned(), 0)]);
    assert_eq!(web(&ledger).ended.as_ref().unwrap().exit_code, 3);
    assert!(ledger.observed().exits.is_empty());
    // Told again after that, it is dropped again.
    ledger.exited("web", 0, exit(3));
    assert_eq!(turn(&mut ledger, 6).absorbed, [("web".to_owned(), 0)]);
}

#[test]
fn a_checkpoint_is_made_for_what_has_to_be_remembered_alone() {
    let mut ledger = running();
    assert!(ledger.turn(at(3)).checkpoint().is_none());
    let mut other = pod("a", "Always");
    other.metadata.resource_version = Some("7".to_owned());
    other.status = Some(Default::default());
    let patched = ledger.replace(other.clone());
    assert!(patched.any && !patched.view);
    assert_eq!(ledger.replace(other.clone()), News::default());
    assert!(
        ledger.turn(at(3)).checkpoint().is_none(),
        "our own patch came back"
    );
    other.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
    let labelled = ledger.replace(other.clone());
    assert!(labelled.any && labelled.view);
    let made = ledger.turn(at(3));
    assert_eq!(made.checkpoint().unwrap().pod.as_ref(), &other);
    // A change while that one is being written is not taken for saved.
    other.metadata.labels = None;
    ledger.replace(other);
    ledger.commit(made, at(3));
    assert!(ledger.turn(at(3)).checkpoint().is_some());
}

#[test]
fn facts_that_come_between_turn_and_commit_count_in_the_next() {
    let mut ledger = running();
    ledger.replace(deleted(pod("a", "Always"), 30));
    let turn_ = ledger.turn(at(3));
    ledger.exited("web", 0, exit(0));
    ledger.commit(turn_, at(3));
    assert!(ledger.observed().exits.contains_key(&("web".to_owned(), 0)));
    assert!(!turn(&mut ledger, 4).absorbed.is_empty());
}

#[test]
fn a_restored_ledger_adopts_and_loses() {
    let checkpoint = || {
        let mut ledger = running();
        ledger.unsaved();
        ledger.turn(at(3)).checkpoint().unwrap()
    };
    let mut adopted = Ledger::restore(checkpoint(), Costs::default());
    adopted.guests(1, &[guest("a", 0)], at(3));
    assert!(turn(&mut adopted, 4).actions.is_empty());
    assert_eq!(web(&adopted).restart_count, 0);
    let mut lost = Ledger::restore(checkpoint(), Costs::default());
    lost.guests(1, &[], at(3));
    turn(&mut lost, 4);
    assert_eq!(web(&lost).ended.as_ref().unwrap().exit_code, 137);
}

#[test]
fn a_list_of_guests_ends_no_run_that_began_after_it() {
    let mut ledger = running();
    ledger.guests(1, &[], at(0));
    assert!(turn(&mut ledger, 3).absorbed.is_empty());
    assert!(web(&ledger).ended.is_none());
    let listed = Guest {
        started_at: at(1),
        ..guest("a", 0)
    };
    ledger.guests(1, &[listed], at(9));
    turn(&mut ledger, 9);
    assert!(web(&ledger).ended.is_none());
    ledger.guests(1, &[], at(10));
    turn(&mut ledger, 10);
    assert!(web(&ledger).ended.is_some());
}

#[test]
fn a_pod_that_comes_back_is_not_over() {
    let mut ledger = Ledger::new(pod("a", "Always"), Costs::default());
    ledger.judged(Verdict::Refused {
        reason: "OutOfpods".to_owned(),
        message: String::new(),
    });
    assert!(turn(&mut ledger, 0).released);
    ledger.gone();
    assert!(ledger.over());
    assert!(ledger.replace(pod("a", "Always")).any);
    assert!(!ledger.over());
}

#[test]
fn the_node_is_told_of_what_changed() {
    let mut ledger = admitted("Always");
    assert!(turn(&mut ledger, 0).view_changed, "its verdict stands now");
    assert!(!turn(&mut ledger, 0).view_changed);
    assert_eq!(ledger.view().verdict, Some(Verdict::Admitted));
}

#[test]
fn an_admission_counts_before_its_checkpoint_is_written() {
    let mut ledger = Ledger::new(pod("a", "Always"), Costs::default());
    ledger.judged(Verdict::Admitted);
    let decided = ledger.turn(at(0));
    // The node decides again while that is being written, and may not take it for undecided.
    assert_eq!(ledger.view().verdict, Some(Verdict::Admitted));
    ledger.replace(deleted(pod("a", "Always"), 30));
    assert_eq!(ledger.view().verdict, Some(Verdict::Admitted));
    assert!(ledger.commit(decided, at(0)).view_changed);
}

/// A pod that asks for so many thousandths of a core.
fn asking(cpu_milli: u32) -> k8s_openapi::api::core::v1::Pod {
    let mut pod = pod("a", "Always");
    let spec = pod.spec.as_mut().unwrap();
    let text = format!(r#"{{"requests":{{"cpu":"{cpu_milli}m"}}}}"#);
    spec.containers[0].resources = Some(serde_json::from_str(&text).unwrap());
    pod
}

#[test]
fn what_is_granted_counts_until_it_is_taken_and_then_in_the_place_of_what_was_held() {
    let mut ledger = Ledger::new(asking(300), Costs::default());
    ledger.guests(1, &[], at(0));
    ledger.judged(Verdict::Admitted);
    turn(&mut ledger, 0);
    assert!(ledger.replace(asking(100)).any);
    let wants = ledger.view().wants.clone().unwrap();
    assert_eq!(
        (ledger.view().requests.cpu_milli, wants.requests.cpu_milli),
        (300, 100)
    );
    // Nothing was granted: actions go by what it has.
    let effects = turn(&mut ledger, 1);
    assert_eq!(
        Allocation::of(&effects.allocated),
        Allocation::of(&asking(300))
    );
    let granted = Sizing::Granted {
        allocation: wants.allocation,
        generation: wants.generation,
    };
    assert!(ledger.sized(granted.clone()) && !ledger.sized(granted));
    let decided = ledger.turn(at(2));
    // It asks for more meanwhile, which has to wait.
    ledger.replace(asking(500));
    let view = ledger.view();
    assert_eq!((view.requests.cpu_milli, &view.wants), (300, &None));
    let effects = ledger.commit(decided, at(2));
    assert!(effects.view_changed);
    assert_eq!(
        Allocation::of(&effects.allocated),
        Allocation::of(&asking(100))
    );
    let view = ledger.view();
    assert_eq!(view.requests.cpu_milli, 100);
    assert_eq!(view.wants.as_ref().unwrap().requests.cpu_milli, 500);
}

#[test]
fn a_run_that_is_lost_before_it_is_remembered_is_not_started_again() {
    let mut ledger = admitted("Never");
    let (ticket, start) = drive(&mut ledger, Kind::Start);
    assert!(ledger.answer(&start.key, ticket, Ok(output(&start)), at(1)));
    ledger.guests(1, &[], at(2)); // The guest host died and another took its place.
    assert!(
        turn(&mut ledger, 2)
            .actions
            .iter()
            .all(|(_, action)| action.key.kind != Kind::Start)
    );
    let (status, _) = ledger.published().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_restored_pod_that_is_over_holds_nothing_of_the_node() {
    let mut ledger = admitted("Never");
    drive(&mut ledger, Kind::Start);
    assert!(!ledger.view().terminal);
    let (mut memory, pod) = (ledger.memory().clone(), ledger.pod().as_ref().clone());
    memory.phase = Some(lifecycle::Phase::Succeeded);
    let back = Ledger::restore(lifecycle::Checkpoint::new(pod, memory), Costs::default());
    assert!(
        back.view().terminal,
        "the node may decide before its first turn"
    );
}
