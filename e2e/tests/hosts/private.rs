//! Images of a registry with TLS and a password: the pod's imagePullSecrets.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::objects::{pod, spec};
use crate::space::Space;

/// Why a pod's container waits.
fn waits(pod: &Pod) -> Option<&str> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = all.first()?.state.as_ref()?.waiting.as_ref()?;
    waiting.message.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_a_password_is_pulled_by_who_knows_it() {
    let Some(space) = Space::on_hosts("private").await else {
        return;
    };
    let (server, user, password) = space.cluster().private_registry();
    for (name, password) in [("right", password), ("wrong", "guessed")] {
        let server = format!("--docker-server={server}");
        let user = format!("--docker-username={user}");
        let password = format!("--docker-password={password}");
        let create = ["create", "secret", "docker-registry", name];
        let words = [&create[..], &[&server, &user, &password]].concat();
        space.kubectl(&words).await;
    }
    let make = async |name: &str, secrets: &[&str]| {
        let mut spec = spec(&space.ours().private, &[]);
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        spec["imagePullSecrets"] = json!(secrets);
        space.create::<Pod>(pod(name, &spec)).await;
    };
    make("stranger", &[]).await;
    make("mistaken", &["wrong", "absent"]).await;
    for name in ["stranger", "mistaken"] {
        let refused = |pod: Option<&Pod>| {
            let waits = pod.and_then(waits);
            waits.is_some_and(|why| why.contains("401"))
        };
        space.until(name, "refused", refused).await;
    }
    make("known", &["absent", "wrong", "right"]).await;
    space.phase("known", "Running").await;
}
