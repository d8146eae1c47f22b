//! Pods, and what makes them, as JSON.

use serde_json::{Value, json};

/// What a pod says to be scheduled to a Wasm node (Krustlet's users say the same).
pub(crate) fn tolerations() -> Value {
    json!([{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoSchedule"}])
}

/// A small container.
pub(crate) fn container(image: &str, args: &[&str]) -> Value {
    json!({"name": "main", "image": image, "args": args,
        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}})
}

/// A pod's spec with one small container, for Wasm nodes.
pub(crate) fn spec(image: &str, args: &[&str]) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "tolerations": tolerations(),
        "nodeSelector": {"kubernetes.io/arch": "wasm32-wasi"},
        "containers": [container(image, args)],
    })
}

/// As [`spec`], for a Job, or a pod that ends.
pub(crate) fn once(image: &str, args: &[&str]) -> Value {
    let mut spec = spec(image, args);
    spec["restartPolicy"] = json!("Never");
    spec
}

/// A pod.
pub(crate) fn pod(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

/// A Deployment, whose pods have the label `app: NAME`.
pub(crate) fn deployment(name: &str, replicas: u32, spec: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
}

/// A Job.
pub(crate) fn job(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec}}})
}
