//! Pods one after the other, 20 a second: how long each takes from its binding to Running, and what it writes.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use measure::report;
use measure::stats::Series;

use super::scene::{Scene, Side};
use super::writes::Tally;

/// Between two pods.
const PAUSE: Duration = Duration::from_millis(50);

/// From the binding to Running, half of the pods and nearly all of them.
const HALF: Duration = Duration::from_millis(25);
const NEARLY_ALL: Duration = Duration::from_millis(100);

pub(super) async fn measure(scene: &mut Scene, side: Side, pods: usize) -> Result<()> {
    report::heading(&format!(
        "cluster: {}, {pods} pods at 20 a second",
        side.name()
    ));
    scene.quiet().await?;
    scene.pods(side).forget();
    let api: Api<Pod> = Api::namespaced(scene.client.clone(), side.name());
    let spec = scene.pod_spec(side);
    let create = |number: usize| {
        let (api, spec) = (api.clone(), spec.clone());
        async move {
            let pod = serde_json::json!({ "metadata": { "name": name(number) }, "spec": spec });
            let pod: Pod = serde_json::from_value(pod)?;
            api.create(&PostParams::default(), &pod).await?;
            anyhow::Ok(())
        }
    };
    paced(pods, create).await?;
    scene
        .pods(side)
        .until(|counts| counts.ready == pods)
        .await?;
    let series = Series::of(scene.pods(side).bound_to_running());
    let mut written = Tally::of(&scene.quiet().await?, side);
    let delete = |number: usize| {
        let api = api.clone();
        async move {
            api.delete(&name(number), &DeleteParams::default()).await?;
            anyhow::Ok(())
        }
    };
    paced(pods, delete).await?;
    scene.pods(side).until(|counts| counts.all == 0).await?;
    written.add(&Tally::of(&scene.quiet().await?, side));
    tell(side, &series, &written, pods);
    Ok(())
}

fn name(number: usize) -> String {
    format!("paced-{number}")
}

/// Does something for each number, one begun each [`PAUSE`], whether those before it are done or not.
async fn paced<F>(count: usize, each: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begun = Instant::now();
    let tasks = FuturesUnordered::new();
    for number in 0..count {
        let due = begun + PAUSE * u32::try_from(number)?;
        tokio::time::sleep_until(due.into()).await;
        tasks.push(tokio::spawn(each(number)));
    }
    tasks
        .map(|joined| joined?)
        .try_collect::<Vec<()>>()
        .await
        .map(|_| ())
}

#[allow(clippy::cast_precision_loss)]
fn tell(side: Side, series: &Series, written: &Tally, pods: usize) {
    report::row("binding to Running, as a watcher sees it", series);
    let each = |verb, resource| written.count(verb, resource) as f64 / pods as f64;
    let (statuses, deletions) = (each("patch", "pods/status"), each("delete", "pods"));
    let told = each("create", "events") + each("patch", "events");
    let others = written.but_for(&["pods/status", "pods", "events", "leases", "nodes/status"]);
    let each = format!(
        "{statuses:.2} of status, {deletions:.2} deletions, {told:.2} events; {others} others in all"
    );
    if side == Side::Kwok {
        return report::row("writes of one pod", each);
    }
    report::verdict(
        "half of them",
        format!("{:.1?}", series.median()),
        "at most 25 ms",
        series.median() <= HALF,
    );
    report::verdict(
        "99 in 100 of them",
        format!("{:.1?}", series.percentile(99.0)),
        "at most 100 ms",
        series.percentile(99.0) <= NEARLY_ALL,
    );
    report::verdict(
        "writes of one pod",
        each,
        "2 of status, 1 deletion, and events",
        statuses <= 2.0 && deletions <= 1.0 && others == 0,
    );
}
