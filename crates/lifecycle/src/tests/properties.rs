//! Random histories: facts in any order, failures, deletions, lost agents.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;

/// What may happen between two steps.
#[derive(Clone, Debug)]
enum Happening {
    /// An action that is in flight succeeds.
    Succeed(usize),
    /// An action that is in flight fails.
    Fail(usize, bool),
    /// A guest that runs exits.
    Exit(usize, i32),
    Pass(i64),
    Delete(i64),
    Gone,
    Evict(u32),
    /// The agent dies: actions in flight are forgotten, and finished ones but for the guests.
    Restart,
    /// The guest host dies with all its guests.
    LoseGuests,
    /// The first container gets another limit of CPU, and the node has that or not.
    Resize(u32, bool),
    /// The first container gets another image.
    Image(u32),
    /// `kubectl debug`
    Debug,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => any::<usize>().prop_map(Happening::Succeed),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(n, never)| Happening::Fail(n, never)),
        3 => (any::<usize>(), 0..3i32).prop_map(|(n, code)| Happening::Exit(n, code)),
        4 => (0..400i64).prop_map(Happening::Pass),
        1 => (0..40i64).prop_map(Happening::Delete),
        1 => Just(Happening::Gone),
        1 => (0..20u32).prop_map(Happening::Evict),
        1 => Just(Happening::Restart),
        1 => Just(Happening::LoseGuests),
        2 => (1..4u32, any::<bool>()).prop_map(|(cpu, given)| Happening::Resize(cpu, given)),
        1 => (2..4u32).prop_map(Happening::Image),
        1 => Just(Happening::Debug),
    ]
}

fn spec() -> impl Strategy<Value = String> {
    let policy = prop::sample::select(vec!["Always", "OnFailure", "Never"]);
    let more = prop::sample::select(vec![
        "",
        r#","resizePolicy":[{"resourceName":"cpu","restartPolicy":"RestartContainer"}]"#,
        r#","restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}]"#,
        r#","restartPolicy":"Never","restartPolicyRules":[{"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[1]}}]"#,
    ]);
    let counts = (0..3usize, 1..3usize, any::<bool>());
    (policy, more, counts).prop_map(|(policy, more, (inits, mains, sidecar))| {
        let list = |prefix: &str, count: usize, more: &str| {
            let one = |n| format!(r#"{{"name":"{prefix}{n}","image":"i:1"{more}}}"#);
            (0..count).map(one).collect::<Vec<_>>()
        };
        let mut first = list("i", inits, "");
        if sidecar {
            first.extend(list("s", 1, r#","restartPolicy":"Always""#));
        }
        format!(
            r#"{{"initContainers":[{}],"containers":[{}],"restartPolicy":"{policy}"}}"#,
            first.join(","),
            list("c", mains, more).join(",")
        )
    })
}

fn nth(keys: Vec<Key>, n: usize) -> Option<Key> {
    let len = keys.len();
    (len > 0).then(|| keys[n % len].clone())
}

fn in_flight(world: &World) -> Vec<Key> {
    let all = world.observed.actions.iter();
    all.filter(|(_, p)| matches!(p, Progress::InFlight { .. }))
        .map(|(k, _)| k.clone())
        .collect()
}

fn guests(world: &World) -> Vec<Key> {
    let all = world.observed.actions.iter();
    all.filter(|(key, progress)| {
        let run = (key.container.clone().unwrap_or_default(), key.attempt);
        key.kind == Kind::Start
            && matches!(progress, Progress::Done { .. })
            && !world.observed.exits.contains_key(&run)
    })
    .map(|(key, _)| key.clone())
    .collect()
}

fn apply(world: &mut World, happening: &Happening) {
    match happening {
        Happening::Succeed(n) => {
            let Some(key) = nth(in_flight(world), *n) else {
                return;
            };
            if key.kind == Kind::Stop {
                let start = Key {
                    kind: Kind::Start,
                    ..key.clone()
                };
                if guests(world).contains(&start) {
                    world.exit(&key.container.clone().unwrap(), key.attempt, 143);
                }
            }
            world.succeed(key);
        }
        Happening::Fail(n, never) => {
            let Some(key) = nth(in_flight(world), *n) else {
                return;
            };
            let reason = match key.kind {
                Kind::Pull => "ErrImagePull",
                Kind::Start => "RunContainerError",
                _ => "CreateContainerError",
            };
            let retry = if *never { Retry::Never } else { Retry::Backoff };
            world.fail(key, reason, retry);
        }
        Happening::Exit(n, code) => {
            let Some(key) = nth(guests(world), *n) else {
                return;
            };
            world.exit(&key.container.unwrap(), key.attempt, *code);
        }
        Happening::Pass(seconds) => world.pass(*seconds),
        Happening::Delete(grace) => {
            let meta = &mut world.pod.metadata;
            meta.deletion_timestamp.get_or_insert(Time(world.now));
            meta.deletion_grace_period_seconds = Some(*grace);
        }
        Happening::Gone => world.observed.gone = true,
        Happening::Evict(grace_seconds) => {
            let message = "low on memory".to_owned();
            let verdict = Verdict::Evicted {
                eviction: Eviction::Pressure,
                message,
                grace_seconds: *grace_seconds,
            };
            world.observed.verdict = Some(verdict);
        }
        Happening::Restart => {
            let bytes = Checkpoint::new(world.pod.clone(), world.memory.clone())
                .encode()
                .unwrap();
            let back = Checkpoint::decode(&bytes).unwrap();
            assert_eq!((&*back.pod, &back.memory), (&world.pod, &world.memory));
            let running = guests(world);
            world
                .observed
                .actions
                .retain(|key, _| running.contains(key));
            world.observed.sizing = None;
        }
        Happening::Resize(cpu, given) => {
            let spec = world.pod.spec.as_mut().unwrap();
            let resources = format!(r#"{{"limits":{{"cpu":"{cpu}"}}}}"#);
            spec.containers[0].resources = serde_json::from_str(&resources).unwrap();
            let generation = Some(i64::from(*cpu));
            world.observed.sizing = Some(match given {
                true => Sizing::Granted {
                    allocation: Allocation::of(&world.pod),
                    generation,
                },
                false => Sizing::Deferred {
                    reason: "OutOfcpu".to_owned(),
                    message: "no room".to_owned(),
                    generation,
                },
            });
        }
        Happening::Image(tag) => {
            let spec = world.pod.spec.as_mut().unwrap();
            spec.containers[0].image = Some(format!("i:{tag}"));
        }
        Happening::Debug => {
            let spec = world.pod.spec.as_mut().unwrap();
            let all = spec.ephemeral_containers.get_or_insert_default();
            let one = format!(r#"{{"name":"e{}","image":"i:1"}}"#, all.len());
            all.push(serde_json::from_str(&one).unwrap());
        }
        Happening::LoseGuests => {
            let running = guests(world);
            world
                .observed
                .actions
                .retain(|key, _| !running.contains(key));
        }
    }
}

/// A pod that asks to be woken at once is on its way somewhere, and does not ask for ever.
fn comes_to_rest(world: &World) {
    let mut observed = world.observed.clone();
    let mut last = world.last.clone();
    for _ in 0..8 {
        if last.wake_at.is_none_or(|at| at > world.now) {
            return;
        }
        last = step(&world.pod, &last.memory, &observed, world.now);
        for action in &last.actions {
            let since = world.now;
            let flying = Progress::InFlight { since };
            observed.actions.insert(action.key.clone(), flying);
        }
        observed.actions.retain(|key, _| !last.forget.contains(key));
    }
    panic!("wakes itself for ever: {:?}", last.memory);
}

/// One step, with everything that must hold of any.
fn checked(world: &mut World) {
    let before = world.memory.clone();
    let once = step(&world.pod, &world.memory, &world.observed, world.now);
    let twice = step(&world.pod, &world.memory, &world.observed, world.now);
    assert_eq!(once, twice, "the same arguments give the same answer");
    world.step();
    comes_to_rest(world);
    let again = step(&world.pod, &world.memory, &world.observed, world.now);
    let rushed = again.wake_at == Some(world.now) || world.last.wake_at == Some(world.now);
    if !rushed {
        assert_eq!(again.actions, [], "nothing new is asked for");
        assert_eq!(again.events, [], "nothing is told twice");
        assert_eq!(again.memory, world.memory, "nothing changes");
        assert_eq!(again.status, world.last.status);
    }
    let started = once
        .actions
        .iter()
        .any(|action| action.key.kind == Kind::Start);
    assert!(
        !(started && once.memory.terminating.is_some()),
        "started after it must end"
    );
    if let Some(old) = &before.terminating {
        let new = once
            .memory
            .terminating
            .as_ref()
            .expect("terminating is sticky");
        assert!(new.until <= old.until, "the grace grew");
        assert_eq!(new.cause, old.cause);
    }
    if let Some(phase) = before.phase.filter(|phase| phase.is_terminal()) {
        assert_eq!(once.memory.phase, Some(phase), "a terminal phase absorbs");
    }
    if once.memory.phase.is_some_and(memory::Phase::is_terminal) {
        let over = once
            .memory
            .containers
            .values()
            .all(|one| one.run == memory::Run::Over);
        assert!(over, "a terminal phase while a container may run");
    }
    if once.released {
        assert_eq!(once.actions, []);
    }
}

proptest! {

    #[test]
    fn any_history_keeps_the_rules_and_its_end_comes(
        spec in spec(),
        history in prop::collection::vec(happening(), 0..80),
    ) {
        let mut world = World::new(&spec);
        let mut asked = BTreeSet::new();
        checked(&mut world);
        for happening in &history {
            apply(&mut world, happening);
            checked(&mut world);
            for action in &world.last.actions {
                let anew = matches!(action.key.kind, Kind::Stop | Kind::Unmount | Kind::Release);
                let first = asked.insert(action.key.clone());
                let restarted = matches!(happening, Happening::Restart);
                prop_assert!(first || anew || restarted, "an attempt was used twice: {:?}", action);
            }
        }
        // From here on everything succeeds: the pod ends and holds nothing.
        world.observed.gone = true;
        for _ in 0..200 {
            if world.last.released {
                break;
            }
            checked(&mut world);
            for _ in 0..in_flight(&world).len() {
                apply(&mut world, &Happening::Succeed(0));
            }
            world.pass(11);
        }
        prop_assert!(world.last.released, "it never ends: {:?}", world.memory);
        world.step();
        prop_assert_eq!(in_flight(&world).len(), world.observed.actions.len(), "facts are left");
    }
}

#[test]
fn an_unknown_version_is_a_clear_error() {
    let pod = World::new(r#"{"containers":[]}"#).pod;
    let mut checkpoint = Checkpoint::new(pod, Memory::default());
    checkpoint.version = 99;
    let bytes = checkpoint.encode().unwrap();
    let error = Checkpoint::decode(&bytes).unwrap_err();
    assert!(matches!(error, CheckpointError::Version { found: 99 }));
    assert!(error.to_string().contains("99"), "{error}");
    for broken in [
        &b""[..],
        b"{",
        b"[]",
        b"{\"version\":1}",
        &bytes[..bytes.len() - 2],
    ] {
        let error = Checkpoint::decode(broken).unwrap_err();
        assert!(matches!(error, CheckpointError::Malformed(_)), "{error:?}");
    }
}
