//! Jobs and CronJobs, to each of their ends.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::objects::{job, once};
use crate::space::{Space, phase};

/// The reason of a Job's condition of this kind, where that is true.
fn ended<'a>(job: Option<&'a Job>, kind: &str) -> Option<&'a str> {
    let all = job?.status.as_ref()?.conditions.as_ref()?;
    let found = all
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")?;
    found.reason.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_as_often_as_it_is_to() {
    let Some(space) = Space::take("job-success").await else {
        return;
    };
    let mut object = job("work", &once(&space.scene.images.exit, &["0"]));
    object["spec"]["completions"] = json!(4);
    object["spec"]["parallelism"] = json!(2);
    space.create::<Job>(object).await;
    let complete = |job: Option<&Job>| ended(job, "Complete").is_some();
    let job = space.until("work", "complete", complete).await.unwrap();
    assert_eq!(job.status.unwrap().succeeded, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_tried_again_up_to_its_limit() {
    let Some(space) = Space::take("job-failure").await else {
        return;
    };
    let mut object = job("work", &once(&space.scene.images.exit, &["3"]));
    object["spec"]["backoffLimit"] = json!(1);
    space.create::<Job>(object).await;
    // Of one that restarts in place, the restarts count.
    let mut within = once(&space.scene.images.exit, &["3"]);
    within["restartPolicy"] = json!("OnFailure");
    let mut object = job("within", &within);
    object["spec"]["backoffLimit"] = json!(1);
    space.create::<Job>(object).await;
    for name in ["work", "within"] {
        let failed = |job: Option<&Job>| ended(job, "Failed") == Some("BackoffLimitExceeded");
        space.until(name, "failed for good", failed).await;
    }
    let labels = "batch.kubernetes.io/job-name=work";
    let two = |pods: &[&Pod]| pods.len() == 2 && pods.iter().all(|pod| phase(pod) == "Failed");
    space.pods(labels, "both have failed", two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_end_jobs_and_pods() {
    let Some(space) = Space::take("job-deadline").await else {
        return;
    };
    let mut object = job("late", &once(&space.scene.images.sleeper, &[]));
    object["spec"]["activeDeadlineSeconds"] = json!(4);
    space.create::<Job>(object).await;
    // A pod's own: the node's to keep.
    let mut own = once(&space.scene.images.sleeper, &[]);
    own["activeDeadlineSeconds"] = json!(2);
    space.create::<Pod>(crate::objects::pod("own", &own)).await;
    let failed = |job: Option<&Job>| ended(job, "Failed") == Some("DeadlineExceeded");
    space.until("late", "too late", failed).await;
    let labels = "batch.kubernetes.io/job-name=late";
    space
        .pods(labels, "its pod is gone", |pods| pods.is_empty())
        .await;
    let own = space.phase("own", "Failed").await;
    let reason = own.status.and_then(|status| status.reason);
    assert_eq!(reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_of_an_indexed_job_knows_its_index() {
    let Some(space) = Space::take("job-indexed").await else {
        return;
    };
    let mut object = job("work", &once(&space.scene.images.inspect, &[]));
    object["spec"]["completionMode"] = json!("Indexed");
    object["spec"]["completions"] = json!(3);
    object["spec"]["parallelism"] = json!(3);
    space.create::<Job>(object).await;
    let complete = |job: Option<&Job>| ended(job, "Complete").is_some();
    let job = space.until("work", "complete", complete).await.unwrap();
    assert_eq!(
        job.status.unwrap().completed_indexes.as_deref(),
        Some("0-2")
    );
    let labels = "batch.kubernetes.io/job-name=work";
    let said = space.kubectl(&["logs", "-l", labels]).await;
    let told: BTreeSet<&str> = [
        "JOB_COMPLETION_INDEX=0",
        "JOB_COMPLETION_INDEX=1",
        "JOB_COMPLETION_INDEX=2",
    ]
    .into_iter()
    .filter(|index| said.contains(index))
    .collect();
    assert_eq!(told.len(), 3, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_suspended_and_goes_on() {
    let Some(space) = Space::take("job-suspend").await else {
        return;
    };
    let mut object = job("work", &once(&space.scene.images.sleeper, &[]));
    object["spec"]["suspend"] = json!(true);
    space.create::<Job>(object).await;
    let suspended = |job: Option<&Job>| ended(job, "Suspended").is_some();
    space.until("work", "suspended", suspended).await;
    let labels = "batch.kubernetes.io/job-name=work";
    let set = async |suspend: bool| {
        let patch = json!({"spec": {"suspend": suspend}}).to_string();
        space.kubectl(&["patch", "job", "work", "-p", &patch]).await;
    };
    let runs = |pods: &[&Pod]| pods.len() == 1 && phase(pods[0]) == "Running";
    set(false).await;
    space.pods(labels, "it runs", runs).await;
    set(true).await;
    space
        .pods(labels, "its pod has ended", |pods| pods.is_empty())
        .await;
    set(false).await;
    space.pods(labels, "it runs again", runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_makes_jobs_in_time_and_none_while_it_is_suspended() {
    let Some(space) = Space::take("cron").await else {
        return;
    };
    let cron = |name: &str, suspend: bool| {
        json!({
            "metadata": {"name": name},
            "spec": {"schedule": "* * * * *", "suspend": suspend,
                "jobTemplate": {"spec": {"template": {"spec": once(&space.scene.images.exit, &["0"])}}}},
        })
    };
    space.create::<CronJob>(cron("never", true)).await;
    space.create::<CronJob>(cron("often", false)).await;
    let succeeded = |cron: Option<&CronJob>| {
        let status = cron.and_then(|cron| cron.status.as_ref());
        status.is_some_and(|status| status.last_successful_time.is_some())
    };
    space.until("often", "successful", succeeded).await;
    let api = space.api::<CronJob>();
    let never = api.get("never").await.unwrap().status.unwrap_or_default();
    assert_eq!(never.last_schedule_time, None);
    let create = ["create", "job", "by-hand", "--from=cronjob/never"];
    space.kubectl(&create).await;
    let complete = |job: Option<&Job>| ended(job, "Complete").is_some();
    space.until("by-hand", "complete", complete).await;
}
