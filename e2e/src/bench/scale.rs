//! A Deployment from none to many Ready pods, and back.

use std::time::Instant;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use measure::report;

use super::scene::{Scene, Side};
use super::writes::Tally;

const NAME: &str = "sleepers";

/// Pods a second of each round.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    up: Vec<f64>,
    down: Vec<f64>,
    pods: usize,
}

impl Rates {
    /// Brings `pods` up on one side.
    pub(super) async fn up(&mut self, scene: &mut Scene, side: Side, pods: usize) -> Result<()> {
        self.pods = pods;
        self.up.push(scaled(scene, side, pods, pods).await?);
        Ok(())
    }

    /// Takes them down again.
    pub(super) async fn down(&mut self, scene: &mut Scene, side: Side) -> Result<()> {
        self.down.push(scaled(scene, side, 0, self.pods).await?);
        Ok(())
    }

    /// How many times the other's rate this is, of medians, to all Ready.
    pub(super) fn ratio_up(&self, other: &Rates) -> f64 {
        median(&self.up) / median(&other.up)
    }

    /// The same, back to none.
    pub(super) fn ratio_down(&self, other: &Rates) -> f64 {
        median(&self.down) / median(&other.down)
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// So many pods up and down again, uncounted.
pub(super) async fn round(scene: &mut Scene, side: Side, pods: usize) -> Result<()> {
    deployment(scene, side).await?;
    for replicas in [pods, 0] {
        replicate(scene, side, replicas).await?;
        scene.quiet().await?;
    }
    Ok(())
}

/// Scales to `replicas`, and waits for quiet. Pods a second, of `pods` that came or went.
#[allow(clippy::cast_precision_loss)]
async fn scaled(scene: &mut Scene, side: Side, replicas: usize, pods: usize) -> Result<f64> {
    let begun = Instant::now();
    let ended = replicate(scene, side, replicas).await?;
    let rate = pods as f64 / ended.duration_since(begun).as_secs_f64();
    // What was written until then, and what is told later: events wait for their turn.
    let during = Tally::of(&scene.written()?, side);
    let mut whole = during.clone();
    whole.add(&Tally::of(&scene.quiet().await?, side));
    let way = if replicas == 0 { "down" } else { "up" };
    report::row(
        &format!("{} {way}, pods a second", side.name()),
        format!("{rate:.0}"),
    );
    report::row(
        "   written meanwhile",
        format!("{during}; with what came later: {whole}"),
    );
    Ok(rate)
}

async fn replicate(scene: &Scene, side: Side, replicas: usize) -> Result<Instant> {
    let api: Api<Deployment> = Api::namespaced(scene.client.clone(), side.name());
    let patch = serde_json::json!({ "spec": { "replicas": replicas } });
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let reached = scene.pods(side).until(|counts| match replicas {
        0 => counts.all == 0,
        many => counts.ready == many,
    });
    reached.await
}

async fn deployment(scene: &Scene, side: Side) -> Result<()> {
    let labels = serde_json::json!({ "app": NAME });
    let manifest = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": side.name() },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": scene.pod_spec(side) },
        },
    });
    scene
        .plane
        .kubectl_with(&["create", "-f", "-"], &manifest.to_string())
        .await?;
    Ok(())
}
