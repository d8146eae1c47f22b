//! Static pods, and the mirrors that the API server shows of them.

use super::*;

/// A static pod's file: a sleeper that is told apart by an argument.
fn static_pod(scene: &Scene, file: &Path, sleep: &str) {
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": scene.name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": scene.image, "args": [sleep]}],
        },
    });
    // As tools replace a file: whole, by a rename, from outside the folder.
    let whole = file.parent().unwrap().with_extension("new");
    std::fs::write(&whole, manifest.to_string()).unwrap();
    std::fs::rename(&whole, file).unwrap();
}

/// The static pod's mirror, once it runs and is not the one with this UID.
async fn running_mirror(scene: &Scene, not: Option<&str>) -> Pod {
    let not = not.map(str::to_owned);
    let is = move |pod: Option<&Pod>| {
        pod.is_some_and(|pod| {
            pod.metadata.uid != not
                && pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")
        })
    };
    let seen = scene
        .plane
        .await_pod(scene.name, "sleeper-statics", "a running mirror", is)
        .await;
    let pod = seen.unwrap_or_else(|e| panic!("{e:#}\n{}", scene.node.log().unwrap()));
    let pod = pod.unwrap();
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    assert!(annotations.contains_key("kubernetes.io/config.mirror"));
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Node", "statics")
    );
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_are_mirrored_changed_and_removed_live_and_while_the_agent_is_away() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("manifests");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("sleeper.json");
    let arguments = ["--pod-manifest-path", folder.to_str().unwrap()];
    let mut scene = Scene::set_with("statics", &module, &arguments).await;
    static_pod(&scene, &file, "1h");
    let first = running_mirror(&scene, None).await;

    // A mirror is a picture: without it the pod runs on, and it is drawn again.
    scene.delete("sleeper-statics").await;
    let again = running_mirror(&scene, first.metadata.uid.as_deref()).await;
    assert_eq!(container_id(&again), container_id(&first));

    scene.node.kill().unwrap();
    scene.node.restart().unwrap();
    scene.ready().await;
    let adopted = running_mirror(&scene, None).await;
    assert_eq!(container_id(&adopted), container_id(&first));

    static_pod(&scene, &file, "2h");
    let changed = running_mirror(&scene, adopted.metadata.uid.as_deref()).await;
    assert_ne!(container_id(&changed), container_id(&first));
    assert_eq!(
        changed.spec.as_ref().unwrap().containers[0].args,
        Some(vec!["2h".to_owned()])
    );

    // Changed and removed while nobody looks.
    scene.node.kill().unwrap();
    static_pod(&scene, &file, "3h");
    scene.node.restart().unwrap();
    let last = running_mirror(&scene, changed.metadata.uid.as_deref()).await;
    assert_eq!(
        last.spec.as_ref().unwrap().containers[0].args,
        Some(vec!["3h".to_owned()])
    );
    scene.node.kill().unwrap();
    std::fs::remove_file(&file).unwrap();
    scene.node.restart().unwrap();
    scene.gone("sleeper-statics").await;
}
