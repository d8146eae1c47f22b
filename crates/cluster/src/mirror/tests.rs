#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn pod(hash: &str) -> Arc<Pod> {
    let text = format!(
        r#"{{"metadata":{{"name":"web-n","namespace":"default","uid":"{hash}",
            "annotations":{{"{HASH}":"{hash}","mine":"stays"}}}},
            "spec":{{"containers":[{{"name":"c"}}]}},"status":{{"phase":"Pending"}}}}"#
    );
    serde_json::from_str::<Pod>(&text).unwrap().into()
}

fn status(phase: &str) -> PodStatus {
    PodStatus {
        phase: Some(phase.to_owned()),
        ..PodStatus::default()
    }
}

/// As the API server gives it.
fn mirror(hash: &str, uid: &str) -> Arc<Pod> {
    let owner = Owner {
        name: "n".to_owned(),
        uid: "node-uid".to_owned(),
    };
    let mut mirror = image_of(&pod(hash), owner);
    mirror.metadata.uid = Some(uid.to_owned());
    mirror.into()
}

fn delete(uid: &str) -> Option<Op> {
    Some(Op::Delete {
        uid: uid.to_owned(),
    })
}

#[test]
fn what_is_sent_is_the_pod_with_its_hash_and_its_node() {
    let sent = mirror("h1", "m1");
    assert_eq!(annotation(&sent, MIRROR), Some("h1"));
    assert_eq!(annotation(&sent, "mine"), Some("stays"));
    assert_eq!((sent.status.clone(), is_mirror(&sent)), (None, true));
    let owners = sent.metadata.owner_references.clone().unwrap();
    let owner = owners.first().unwrap();
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("Node", "node-uid", Some(true))
    );
    assert!(!is_mirror(&pod("h1")));
}

#[test]
fn a_mirror_is_created_told_and_created_again() {
    let mut entry = Entry::default();
    assert_eq!(entry.next(false, true), None);
    entry.want(pod("h1"), status("Running"));
    // Nobody owns it before the node is known.
    assert_eq!(entry.next(false, false), None);
    let create = entry.next(false, true).unwrap();
    assert!(matches!(&create, Op::Create(sent) if *sent == pod("h1")));
    entry.done(&create, Some(mirror("h1", "m1")));
    let told = entry.next(false, true).unwrap();
    assert!(matches!(&told, Op::Status { status: said, .. } if **said == status("Running")));
    entry.done(&told, None);
    assert_eq!(entry.next(false, true), None);
    entry.vanished("another");
    assert_eq!(entry.next(false, true), None);
    // Somebody deleted it.
    entry.vanished("m1");
    assert_eq!(entry.next(false, true), Some(create.clone()));
    entry.done(&create, Some(mirror("h1", "m2")));
    // The new one knows nothing of what was said to the old one.
    assert!(matches!(entry.next(false, true), Some(Op::Status { .. })));
}

#[test]
fn one_under_deletion_or_of_other_content_goes_first_and_is_asked_once() {
    let mut entry = Entry::default();
    entry.want(pod("h2"), status("Running"));
    entry.observe(&mirror("h1", "m1"));
    assert_eq!(entry.next(false, true), delete("m1"));
    entry.done(&entry.next(false, true).unwrap(), None);
    assert_eq!(entry.next(false, true), None, "a finalizer may hold it");
    entry.vanished("m1");
    assert!(matches!(entry.next(false, true), Some(Op::Create(_))));
    let mut ending = Pod::clone(&mirror("h2", "m2"));
    ending.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
    );
    entry.observe(&Arc::new(ending));
    assert_eq!(entry.next(false, true), delete("m2"));
}

#[test]
fn a_mirror_goes_with_its_pod_and_not_before() {
    let mut entry = Entry::default();
    entry.observe(&mirror("h1", "m1"));
    // After a restart: its pod is expected, and has not spoken yet.
    assert_eq!(entry.next(false, true), None);
    assert_eq!(entry.next(true, true), delete("m1"));
    entry.want(pod("h1"), status("Failed"));
    assert!(matches!(entry.next(true, true), Some(Op::Status { .. })));
    entry.forget("another");
    assert!(matches!(entry.next(true, true), Some(Op::Status { .. })));
    entry.forget("h1");
    assert_eq!(entry.next(true, true), delete("m1"));
    entry.vanished("m1");
    assert!(entry.is_empty());
}
