//! What pods do and what is said of them delays no renewal of the lease: a hundred guests that compute
//! without end, and ten thousand changes of pods, on a real API server.
//!
//! A suite of its own, since it leaves the machine nothing for others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "binary/scene.rs"]
#[expect(dead_code, reason = "the scene of other suites, who use all of it")]
mod scene;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use guests::Guest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

use scene::Scene;

/// Guests that compute.
const BUSY: usize = 100;
/// Changes that the node's watch brings.
const EVENTS: usize = 10_000;
/// For how long a renewal holds; it is due after a quarter.
const LEASE: Duration = Duration::from_secs(12);

/// Notes the instants of renewals, and never ends.
async fn note(client: Client, node: &str, renewals: &mut Vec<jiff::Timestamp>) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let mut seen = std::pin::pin!(watcher(leases, config).default_backoff().applied_objects());
    while let Some(lease) = seen.next().await {
        let renewed = lease.ok().and_then(|lease| lease.spec?.renew_time);
        renewals.extend(renewed.map(|time| time.0));
    }
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_guests_and_a_storm_of_changes_delay_no_renewal() {
    let Some(module) = scene::module(Guest::RustSpinner) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let seconds = LEASE.as_secs();
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nnodeLeaseDurationSeconds: {seconds}\n"
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap()];
    let scene = Scene::set_with("busy", &module, &arguments).await;
    let client = scene.plane.admin().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), scene.name);
    let names: Vec<String> = (0..BUSY)
        .map(|number| format!("spinner-{number}"))
        .collect();
    let items: Vec<_> = names.iter().map(|name| spinner(&scene, name)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let applied = scene
        .plane
        .kubectl_with(&["apply", "-f", "-"], &list.to_string())
        .await;
    applied.unwrap();
    for name in &names {
        scene.phase(name, "Running").await;
    }

    let changes = futures::stream::iter(0..EVENTS).map(|number| {
        let (pods, name) = (&pods, &names[number % BUSY]);
        let annotations = json!({"example.com/change": number.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        async move {
            let parameters = PatchParams::default();
            let changed = pods.patch_metadata(name, &parameters, &patch).await;
            changed.map(|_| ())
        }
    });
    let mut renewals = Vec::new();
    let begin = jiff::Timestamp::now();
    tokio::select! {
        done = changes.buffer_unordered(8).try_collect::<()>() => done.unwrap(),
        () = note(client, "busy", &mut renewals) => {}
    }
    let end = jiff::Timestamp::now();

    renewals.retain(|renewed| *renewed > begin);
    let instants: Vec<_> = [vec![begin], renewals, vec![end]].concat();
    let gaps = instants
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
    let longest = gaps.fold(0.0, f64::max);
    let all = end.duration_since(begin).as_secs_f64();
    println!(
        "{EVENTS} changes in {all:.1} s; the longest time without a renewal was {longest:.1} s"
    );
    // A renewal is due after a quarter; as much again is left to the API server, which is as busy.
    assert!(
        longest < LEASE.as_secs_f64() / 2.0,
        "{}",
        scene.node.log().unwrap()
    );
}

/// A pod that computes and asks for nothing.
fn spinner(scene: &Scene, name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": scene.name},
        "spec": {
            "nodeName": scene.name,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"key": "kubernetes.io/arch", "operator": "Exists"}],
            "containers": [{"name": "main", "image": scene.image}],
        },
    })
}
