#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn pod(name: &str, uid: &str) -> Pod {
    let metadata = ObjectMeta {
        namespace: Some("default".into()),
        name: Some(name.into()),
        uid: Some(uid.into()),
        ..Default::default()
    };
    Pod {
        metadata,
        ..Default::default()
    }
}

async fn told(events: Vec<watcher::Result<Event<Pod>>>) -> Vec<String> {
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap();
    let said = |event: PodEvent| match event {
        PodEvent::Applied(pod) => format!("+{}", uid(&pod)),
        PodEvent::Deleted(pod) => format!("-{}", uid(&pod)),
        PodEvent::Mirror(pod) => format!("+mirror {}", uid(&pod)),
        PodEvent::MirrorDeleted(pod) => format!("-mirror {}", uid(&pod)),
        PodEvent::Synced => "synced".to_owned(),
    };
    follow(futures::stream::iter(events))
        .map(said)
        .collect()
        .await
}

#[tokio::test]
async fn a_list_is_told_pod_by_pod_and_then_synced() {
    let events = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(pod("a", "1"))),
        Ok(Event::InitDone),
        Ok(Event::Apply(pod("b", "2"))),
    ];
    assert_eq!(told(events).await, ["+1", "synced", "+2"]);
}

#[tokio::test]
async fn what_vanished_during_an_outage_is_told_by_the_next_list() {
    let gone = kube::core::Status::failure("too old resource version", "Expired")
        .with_code(410)
        .boxed();
    let events = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(pod("a", "1"))),
        Ok(Event::InitApply(pod("b", "2"))),
        Ok(Event::InitDone),
        Err(watcher::Error::WatchError(gone)),
        Ok(Event::Init),
        Ok(Event::InitApply(pod("b", "2"))),
        Ok(Event::InitDone),
    ];
    assert_eq!(
        told(events).await,
        ["+1", "+2", "synced", "+2", "-1", "synced"]
    );
}

#[tokio::test]
async fn a_list_that_broke_off_deletes_nothing() {
    let failed = || watcher::Error::NoResourceVersion;
    let events = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(pod("a", "1"))),
        Ok(Event::InitDone),
        Ok(Event::Init),
        Err(failed()),
        Ok(Event::Init),
        Ok(Event::InitApply(pod("a", "1"))),
        Ok(Event::InitDone),
    ];
    assert_eq!(told(events).await, ["+1", "synced", "+1", "synced"]);
}

#[tokio::test]
async fn a_pod_that_came_back_under_its_name_is_another_pod() {
    let events = vec![
        Ok(Event::Apply(pod("a", "1"))),
        Ok(Event::Apply(pod("a", "2"))),
        Ok(Event::Delete(pod("a", "2"))),
    ];
    assert_eq!(told(events).await, ["+1", "-1", "+2", "-2"]);
}

#[tokio::test]
async fn mirror_pods_are_told_apart_from_those_to_be_run() {
    let mut mirror = pod("etcd-node", "9");
    let annotation = (crate::mirror::MIRROR.to_owned(), "hash".to_owned());
    mirror.metadata.annotations = Some(BTreeMap::from([annotation]));
    let events = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(mirror.clone())),
        Ok(Event::InitDone),
        Ok(Event::Delete(mirror)),
    ];
    assert_eq!(told(events).await, ["+mirror 9", "synced", "-mirror 9"]);
}
