//! What one `step` of a pod at rest costs: three containers that run, each with a liveness and a readiness
//! probe. 20 µs are asked. `cargo bench -p lifecycle --bench step`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // It measures, and decides nothing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::{Image, Kind, Memory, Observed, Outcome, Output, Progress, Verdict, step};

/// So many steps are timed as one, so many times; the median is told.
const STEPS: u32 = 2_000;
const ROUNDS: usize = 31;

fn pod() -> Pod {
    let container = |name: &str| {
        format!(
            r#"{{"name":"{name}","image":"registry.example/app:1",
                "env":[{{"name":"A","value":"b"}}],
                "resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},"limits":{{"memory":"32Mi"}}}},
                "livenessProbe":{{"httpGet":{{"path":"/live","port":8080}},"periodSeconds":10}},
                "readinessProbe":{{"httpGet":{{"path":"/ready","port":8080}},"periodSeconds":5}}}}"#
        )
    };
    let containers = ["a", "b", "c"].map(container).join(",");
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","generation":1}},
            "spec":{{"containers":[{containers}],"restartPolicy":"Always"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn answer(kind: Kind, now: Timestamp) -> Output {
    match kind {
        Kind::Pull => Output::Pulled(Image {
            id: "sha256:aa".to_owned(),
            size: 7,
            present: true,
            took_ms: 1,
        }),
        Kind::Address => Output::Addresses(vec!["192.0.2.1".parse().unwrap()]),
        Kind::Start => Output::Started {
            at: now,
            container_id: "coracle://a".to_owned(),
        },
        Kind::Probe(_) => Output::Probed {
            outcome: Outcome::Success,
            message: String::new(),
        },
        _ => Output::Nothing,
    }
}

/// Lets all that is asked for succeed, until every container is ready.
fn settle(pod: &Pod, now: Timestamp) -> (Memory, Observed) {
    let mut memory = Memory::default();
    let mut observed = Observed {
        guest_host: Some(1),
        verdict: Some(Verdict::Admitted),
        host_ips: vec!["192.0.2.9".parse().unwrap()],
        ..Observed::default()
    };
    loop {
        let step = step(pod, &memory, &observed, now);
        for action in &step.actions {
            let output = answer(action.key.kind, now);
            let done = Progress::Done { at: now, output };
            observed.actions.insert(action.key.clone(), done);
        }
        for key in &step.forget {
            observed.actions.remove(key);
        }
        memory = step.memory;
        if step.actions.is_empty() && step.forget.is_empty() {
            let ready = step.status.container_statuses.unwrap_or_default();
            assert!(ready.len() == 3 && ready.iter().all(|one| one.ready));
            return (memory, observed);
        }
    }
}

fn measure(name: &str, mut once: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            (0..STEPS).for_each(|_| once());
            begin.elapsed() / STEPS
        })
        .collect();
    times.sort();
    let least = times.first().copied().unwrap_or_default();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("step, {name}: median {median:?}, least {least:?} (at most 20 µs are asked)");
}

fn main() {
    let pod = pod();
    let now = Timestamp::from_second(1_000).unwrap();
    let (memory, observed) = settle(&pod, now);
    measure("nothing is due", || {
        black_box(step(black_box(&pod), &memory, &observed, now));
    });
    let later = Timestamp::from_second(1_010).unwrap();
    assert_eq!(step(&pod, &memory, &observed, later).actions.len(), 6);
    measure("six probes are due", || {
        black_box(step(black_box(&pod), &memory, &observed, later));
    });
}
