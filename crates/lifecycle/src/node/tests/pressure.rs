//! What the node is short of: thresholds, conditions, who has to go, in whose words.

use std::sync::Arc;

use super::*;
use crate::observed::Eviction;
use jiff::SignedDuration;

/// Seconds after the beginning.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1000 + seconds).unwrap()
}

fn uses(memory: u64) -> PodUsage {
    let container = ContainerUsage {
        memory,
        ..ContainerUsage::default()
    };
    PodUsage {
        containers: [("c".to_owned(), container)].into(),
        ..PodUsage::default()
    }
}

fn asks(uid: &str, memory: &str, priority: i32) -> PodView {
    let requests = match memory {
        "" => "{}".to_owned(),
        memory => format!(r#"{{"requests":{{"memory":"{memory}"}}}}"#),
    };
    let json = format!(
        r#"{{"metadata":{{"name":"{uid}"}},"spec":{{"priority":{priority},
            "terminationGracePeriodSeconds":20,
            "containers":[{{"name":"c","resources":{requests}}}]}}}}"#
    );
    admitted(with(uid, 1, &json))
}

/// A node that is followed over its measurements.
struct Node(NodeView);

impl Node {
    fn new(thresholds: Vec<Threshold>, pods: Vec<(PodView, PodUsage)>) -> Node {
        let usage = Usage {
            pods: pods
                .iter()
                .map(|(pod, own)| (pod.uid.clone(), own.clone()))
                .collect(),
            ..Usage::default()
        };
        Node(NodeView {
            allocatable: node(),
            pods: pods.into_iter().map(|(pod, _)| Arc::new(pod)).collect(),
            policy: Policy {
                thresholds,
                ..Policy::default()
            },
            usage: Some(Arc::new(usage)),
            ..NodeView::default()
        })
    }

    /// A measurement: of each signal what is available of 1000.
    fn measured(&mut self, seconds: i64, levels: &[(Signal, u64)]) -> NodeStep {
        let usage = Arc::make_mut(self.0.usage.as_mut().unwrap());
        usage.at = at(seconds);
        let level = |available| Level {
            capacity: 1000,
            available,
        };
        usage.levels = levels
            .iter()
            .map(|(signal, free)| (*signal, level(*free)))
            .collect();
        self.step(seconds)
    }

    fn step(&mut self, seconds: i64) -> NodeStep {
        let step = step(&self.0, at(seconds));
        self.0.memory = step.memory.clone();
        step
    }

    fn memory(&mut self, seconds: i64, available: u64) -> NodeStep {
        self.measured(seconds, &[(Signal::MemoryAvailable, available)])
    }

    /// What was asked for is done.
    fn collected(&mut self, seconds: i64) {
        self.0.collected = Some(at(seconds));
    }

    /// Short of that, and still so once all that nobody uses was collected: the pass after it.
    fn stays_short(&mut self, levels: &[(Signal, u64)]) -> NodeStep {
        let usage = Arc::make_mut(self.0.usage.as_mut().unwrap());
        usage.images.get_or_insert_default();
        self.measured(0, levels);
        self.collected(1);
        self.measured(2, levels)
    }

    /// What is said of a pod that has to go.
    fn why(&self, uid: &str) -> &str {
        match &self.0.memory.sentences[uid] {
            Verdict::Evicted { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    fn over(&mut self, uid: &str) {
        let pod = self.0.pods.iter_mut().find(|pod| pod.uid == uid).unwrap();
        Arc::make_mut(pod).terminal = true;
    }
}

/// Who has to go, with what grace.
fn going(step: &NodeStep) -> Vec<(&str, u32)> {
    let ends = step
        .verdicts
        .iter()
        .filter_map(|(uid, verdict)| match verdict {
            Verdict::Evicted { grace_seconds, .. } => Some((uid.as_str(), *grace_seconds)),
            _ => None,
        });
    ends.collect()
}

fn hard() -> Threshold {
    Threshold::hard(Signal::MemoryAvailable, Amount::Quantity(100))
}

#[test]
fn one_pod_a_pass_goes_those_above_their_request_first_then_by_priority_then_by_use() {
    let pods = vec![
        (asks("within", "900", 0), uses(800)),
        (asks("important", "", 10), uses(700)),
        (asks("little", "100", 0), uses(200)),
        (asks("much", "100", 0), uses(500)),
        (asks("system", "", 2_000_000_000), uses(900)),
    ];
    let mut node = Node::new(vec![hard()], pods);
    let mut gone = Vec::new();
    for pass in 0..5 {
        let step = node.memory(pass * 10, 50);
        let all = going(&step);
        assert!(all.len() <= 1, "one a pass: {all:?}");
        for (uid, grace) in all {
            assert_eq!(grace, 1);
            gone.push(uid.to_owned());
            node.over(uid);
        }
    }
    assert_eq!(
        gone,
        ["much", "little", "important", "within"],
        "and never a critical one"
    );
}

#[test]
fn the_next_pass_waits_for_who_goes_but_not_for_ever() {
    let pods = vec![(asks("a", "", 0), uses(500)), (asks("b", "", 0), uses(400))];
    let mut node = Node::new(vec![hard()], pods);
    let first = node.memory(0, 50);
    assert_eq!(going(&first), [("a", 1)]);
    assert_eq!(first.wake_at, Some(at(30)));
    assert_eq!(going(&node.memory(10, 50)), [("a", 1)]);
    assert_eq!(going(&node.memory(30, 50)), [("a", 1), ("b", 1)]);
    node.over("a");
    node.over("b");
    let told = node.step(31);
    assert_eq!(told.measure.unwrap().at, at(31), "at once");
    assert!(told.memory.sentences.is_empty());
}

#[test]
fn the_words_are_the_kubelets() {
    let pods = vec![
        (asks("a", "64Mi", 0), uses(96 << 20)),
        (asks("b", "1Gi", 0), uses(1 << 20)),
    ];
    let threshold = Threshold::hard(Signal::MemoryAvailable, Amount::Quantity(100 << 20));
    let mut node = Node::new(vec![threshold], pods);
    let step = node.memory(0, 81 << 20);
    let said = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 81Mi. \
        Container c was using 96Mi, request is 64Mi, has larger consumption of memory. ";
    let expected = Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: said.to_owned(),
        grace_seconds: 1,
    };
    assert_eq!(step.verdicts["a"], expected);
    assert_eq!(step.events[0].reason, "EvictionThresholdMet");
    assert_eq!(step.events[0].message, "Attempting to reclaim memory");
}

#[test]
fn a_soft_threshold_has_its_time_and_gives_the_grace_that_is_allowed() {
    let soft = Threshold {
        grace: SignedDuration::from_secs(60),
        ..hard()
    };
    for (allowed, given) in [(0, 0), (5, 5), (90, 20)] {
        let mut node = Node::new(vec![soft.clone()], vec![(asks("a", "", 0), uses(500))]);
        node.0.policy.max_pod_grace = allowed;
        assert!(going(&node.memory(0, 50)).is_empty());
        assert!(going(&node.memory(50, 50)).is_empty());
        assert_eq!(going(&node.memory(60, 50)), [("a", given)]);
    }
    let mut node = Node::new(vec![soft], vec![(asks("a", "", 0), uses(500))]);
    node.memory(0, 50);
    node.memory(50, 100);
    assert!(
        going(&node.memory(60, 50)).is_empty(),
        "its time began anew"
    );
}

#[test]
fn conditions_stay_for_a_while_and_what_is_to_be_reclaimed_counts() {
    let mut node = Node::new(vec![hard()], Vec::new());
    node.0.policy.thresholds[0].reclaim = Some(Amount::Part(100_000));
    assert!(node.memory(0, 100).pressures.is_empty(), "not below");
    let short = BTreeSet::from([Pressure::Memory]);
    assert_eq!(node.memory(10, 99).pressures, short);
    assert_eq!(
        node.memory(20, 199).pressures,
        short,
        "a tenth more is wanted"
    );
    assert_eq!(node.memory(319, 200).pressures, short);
    assert!(
        node.memory(320, 200).pressures.is_empty(),
        "five minutes after"
    );
}

#[test]
fn what_is_measured_is_looked_at_once() {
    let mut node = Node::new(vec![hard()], vec![(asks("a", "", 0), uses(500))]);
    let soon = node.memory(0, 500).measure.unwrap();
    assert_eq!((soon.at, soon.disk.len(), soon.images), (at(10), 0, false));
    Arc::make_mut(node.0.usage.as_mut().unwrap()).levels.clear();
    assert!(going(&node.memory(10, 99)) == [("a", 1)]);
    let before = node.0.memory.clone();
    node.step(12);
    assert_eq!(node.0.memory, before);
    node.0.policy.thresholds.clear();
    assert_eq!(node.step(13).measure, None, "nothing would come of it");
}

#[test]
fn who_is_taken_in_depends_on_what_is_short() {
    let tolerant = r#"{"spec":{"tolerations":[{"key":"node.kubernetes.io/memory-pressure",
        "operator":"Exists"}]}}"#;
    let critical = r#"{"spec":{"priority":2000000000}}"#;
    let new = || {
        let burstable = PodView {
            verdict: None,
            ..asks("burstable", "1", 0)
        };
        let only = |effect: &str| {
            let effect = format!(r#""operator":"Exists","effect":"{effect}""#);
            tolerant.replace(r#""operator":"Exists""#, &effect)
        };
        vec![
            with("best-effort", 2, "{}"),
            with("tolerant", 2, tolerant),
            with("tolerates-what-it-is", 2, &only("NoSchedule")),
            with("tolerates-another", 2, &only("NoExecute")),
            with("critical", 2, critical),
            burstable,
        ]
    };
    let of_disk = Threshold::hard(Signal::NodeFsInodesFree, Amount::Part(50_000));
    let refused = |levels: &[(Signal, u64)]| {
        let mut node = Node::new(vec![hard(), of_disk.clone()], Vec::new());
        node.0.pods = shared(new());
        let step = node.measured(0, levels);
        let refused = step
            .verdicts
            .iter()
            .filter(|(_, it)| **it != Verdict::Admitted);
        let told = refused.map(|(uid, it)| {
            let (reason, message) = refusal(it);
            assert_eq!(reason, "Evicted");
            (uid.clone(), message.to_owned())
        });
        told.collect::<Vec<_>>()
    };
    assert!(refused(&[(Signal::MemoryAvailable, 100)]).is_empty());
    let memory = refused(&[(Signal::MemoryAvailable, 99)]);
    let said = "The node had condition: [MemoryPressure]. ".to_owned();
    let refused_for_it = |uid: &str| (uid.to_owned(), said.clone());
    assert_eq!(
        memory,
        [
            refused_for_it("best-effort"),
            refused_for_it("tolerates-another")
        ]
    );
    let disk = refused(&[(Signal::NodeFsInodesFree, 49)]);
    let uids: Vec<&str> = disk.iter().map(|(uid, _)| uid.as_str()).collect();
    assert_eq!(
        uids,
        [
            "best-effort",
            "burstable",
            "tolerant",
            "tolerates-another",
            "tolerates-what-it-is"
        ]
    );
    let both = refused(&[(Signal::NodeFsInodesFree, 49), (Signal::MemoryAvailable, 0)]);
    assert_eq!(
        both[0].1,
        "The node had condition: [DiskPressure MemoryPressure]. "
    );
}

fn disk_of(bytes: u64) -> PodUsage {
    let disk = Disk { bytes, inodes: 1 };
    PodUsage {
        volumes: [("v".to_owned(), disk)].into(),
        looked: true,
        ..PodUsage::default()
    }
}

fn image(id: &str, used: bool) -> ImageView {
    ImageView {
        id: id.to_owned(),
        size: 100,
        used,
    }
}

#[test]
fn for_a_disk_what_nobody_uses_goes_before_a_pod_does() {
    let of_disk = Threshold::hard(Signal::NodeFsAvailable, Amount::Part(100_000));
    let pods = vec![
        (asks("a", "", 0), disk_of(10)),
        (asks("b", "", 0), disk_of(20)),
    ];
    let mut node = Node::new(vec![of_disk], pods);
    let full = [(Signal::NodeFsAvailable, 99)];
    let first = node.measured(0, &full);
    let wanted = first.measure.unwrap();
    assert_eq!(
        (wanted.at, wanted.disk.len(), wanted.images),
        (at(0), 2, true)
    );
    assert!(first.calls.is_empty() && first.events.is_empty());
    Arc::make_mut(node.0.usage.as_mut().unwrap()).images =
        Some(vec![image("had", true), image("free", false)]);
    node.measured(1, &full);
    assert_eq!(node.0.memory.sentences.len(), 0);
    // Both were seen just now: nothing may go but what is left of containers.
    let step = node.measured(2, &full);
    assert!(step.calls.is_empty(), "it was asked for: {:?}", step.calls);
    assert!(going(&step).is_empty(), "it is not done");
    node.collected(3);
    node.measured(4, &full);
    let said =
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 99. ";
    assert_eq!(node.why("b"), said);
    node.over("b");
    let later = node.measured(200, &full);
    let calls = [
        Call::RemoveImages(vec!["free".to_owned()]),
        Call::CollectContainers,
    ];
    assert_eq!(later.calls, calls);
    node.collected(201);
    let step = node.measured(202, &[(Signal::NodeFsAvailable, 100)]);
    assert!(going(&step).is_empty(), "that was enough");
}

#[test]
fn where_images_are_apart_that_goes_which_is_on_the_disk_that_is_short() {
    let containers = vec![Call::CollectContainers];
    let images = vec![Call::RemoveImages(vec!["free".to_owned()])];
    for (signal, calls) in [
        (Signal::NodeFsAvailable, containers),
        (Signal::ImageFsAvailable, images),
    ] {
        let threshold = Threshold::hard(signal, Amount::Quantity(100));
        let mut node = Node::new(vec![threshold], vec![(asks("a", "", 0), disk_of(10))]);
        let usage = Arc::make_mut(node.0.usage.as_mut().unwrap());
        usage.images_apart = true;
        usage.images = Some(vec![image("free", false)]);
        node.measured(0, &[(signal, 500)]);
        let first = node.measured(200, &[(signal, 99)]);
        assert_eq!(first.calls, calls);
        assert!(going(&first).is_empty());
        node.collected(201);
        assert_eq!(going(&node.measured(202, &[(signal, 99)])), [("a", 1)]);
    }
}

#[test]
fn nobody_goes_before_what_was_to_be_collected_is_and_was_measured() {
    let threshold = Threshold::hard(Signal::NodeFsAvailable, Amount::Quantity(100));
    let full = [(Signal::NodeFsAvailable, 99)];
    let asked = || {
        let mut node = Node::new(
            vec![threshold.clone()],
            vec![(asks("a", "", 0), disk_of(10))],
        );
        Arc::make_mut(node.0.usage.as_mut().unwrap()).images = Some(Vec::new());
        // Of an earlier time.
        node.collected(5);
        assert_eq!(node.measured(10, &full).calls, [Call::CollectContainers]);
        node
    };
    let mut node = asked();
    assert!(going(&node.measured(20, &full)).is_empty());
    node.collected(25);
    assert!(going(&node.step(26)).is_empty(), "measured before");
    assert_eq!(going(&node.measured(30, &full)), [("a", 1)]);
    // What takes too long is not waited for.
    let mut node = asked();
    assert!(going(&node.measured(129, &full)).is_empty());
    assert_eq!(going(&node.measured(130, &full)), [("a", 1)]);
}

#[test]
fn inodes_and_processes_are_told_in_thousands() {
    for signal in [Signal::NodeFsInodesFree, Signal::PidAvailable] {
        let threshold = Threshold::hard(signal, Amount::Quantity(1024));
        let mut node = Node::new(vec![threshold], vec![(asks("a", "", 0), disk_of(1))]);
        node.stays_short(&[(signal, 1000)]);
        let said = "Threshold quantity: 1024, available: 1k. ";
        assert!(node.why("a").contains(said), "{}", node.why("a"));
    }
}

#[test]
fn memory_comes_before_all_else() {
    let of_disk = Threshold::hard(Signal::NodeFsAvailable, Amount::Quantity(100));
    let mut node = Node::new(vec![of_disk, hard()], vec![(asks("a", "", 0), uses(200))]);
    let full = [(Signal::NodeFsAvailable, 99), (Signal::MemoryAvailable, 99)];
    let step = node.measured(0, &full);
    assert!(step.calls.is_empty(), "{:?}", step.calls);
    let why = node.why("a");
    assert!(why.contains("low on resource: memory"), "{why}");
}

#[test]
fn a_pod_that_requests_memory_as_a_whole_is_named_where_memory_is_short() {
    let json = r#"{"metadata":{"name":"a"},"spec":{"resources":{"requests":{"memory":"100"}},
        "containers":[{"name":"c"}]}}"#;
    let said = |signal| {
        let own = PodUsage {
            looked: true,
            ..uses(200)
        };
        let threshold = Threshold::hard(signal, Amount::Quantity(100));
        let mut node = Node::new(vec![threshold], vec![(admitted(with("a", 1, json)), own)]);
        node.stays_short(&[(signal, 99)]);
        node.why("a")
            .contains("Pod a was using 200, request is 100, has larger consumption of memory. ")
    };
    assert!(said(Signal::MemoryAvailable));
    assert!(!said(Signal::NodeFsAvailable));
}

#[test]
fn a_disk_of_images_apart_is_nobodys() {
    let first = |apart: bool| {
        let pods = vec![
            (asks("idle", "", 0), disk_of(0)),
            (asks("fills", "", 5), disk_of(20)),
        ];
        let threshold = Threshold::hard(Signal::ImageFsAvailable, Amount::Quantity(100));
        let mut node = Node::new(vec![threshold], pods);
        Arc::make_mut(node.0.usage.as_mut().unwrap()).images_apart = apart;
        let step = node.stays_short(&[(Signal::ImageFsAvailable, 99)]);
        going(&step)[0].0.to_owned()
    };
    assert_eq!(first(false), "fills");
    assert_eq!(first(true), "idle", "by priority alone");
}

#[test]
fn who_uses_just_what_was_requested_uses_no_more() {
    let pods = vec![
        (asks("within", "200", 0), uses(200)),
        (asks("above", "100", 5), uses(150)),
    ];
    let mut node = Node::new(vec![hard()], pods);
    assert_eq!(going(&node.memory(0, 50)), [("above", 1)]);
}

#[test]
fn of_a_disk_the_containers_that_use_more_than_they_request_are_named() {
    let disk = |bytes| Disk { bytes, inodes: 1 };
    let uses = |root, logs| ContainerUsage {
        memory: 1 << 30,
        root: disk(root),
        logs: disk(logs),
    };
    let json = r#"{"metadata":{"name":"a"},"spec":{"containers":[
        {"name":"within","resources":{"requests":{"ephemeral-storage":"1Ki"}}},
        {"name":"above","resources":{"requests":{"ephemeral-storage":"1Ki"}}},
        {"name":"none"}]}}"#;
    let own = PodUsage {
        containers: [
            ("within".to_owned(), uses(1000, 24)),
            ("above".to_owned(), uses(1000, 25)),
            ("none".to_owned(), uses(1024, 1024)),
        ]
        .into(),
        looked: true,
        ..PodUsage::default()
    };
    let of_disk = Threshold::hard(Signal::NodeFsAvailable, Amount::Quantity(100));
    let mut node = Node::new(vec![of_disk], vec![(admitted(with("a", 1, json)), own)]);
    node.stays_short(&[(Signal::NodeFsAvailable, 99)]);
    let said = "The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 99. \
        Container above was using 1025, request is 1Ki, has larger consumption of ephemeral-storage. \
        Container none was using 2Ki, request is 0, has larger consumption of ephemeral-storage. ";
    assert_eq!(node.why("a"), said);
}

#[test]
fn a_pod_whose_disk_was_not_looked_at_is_looked_at_first() {
    let of_disk = Threshold::hard(Signal::NodeFsAvailable, Amount::Part(100_000));
    let pods = vec![(asks("a", "", 0), PodUsage::default())];
    let mut node = Node::new(vec![of_disk], pods);
    let step = node.stays_short(&[(Signal::NodeFsAvailable, 99)]);
    assert!(going(&step).is_empty());
    assert_eq!(step.measure.unwrap().at, at(2));
}
