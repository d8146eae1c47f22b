//! What a path asks for (`InstallAuthRequiredHandlers` and its like in `pkg/kubelet/server/server.go`).

use http::Method;
use percent_encoding::percent_decode_str;

/// What is asked for, once it is known that it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/healthz`, or one check of it.
    Health(Option<String>),
    Pods,
    RunningPods,
    Configuration,
    Logs {
        namespace: String,
        pod: String,
        container: String,
    },
    /// What this node can't, and what to do.
    Unsupported(&'static str),
    /// What the kubelet, too, has only by configuration.
    Disabled(&'static str),
    /// The path is there, but only for this method.
    Only(&'static str),
    Unknown,
}

const EXEC: &str = "exec, attach and run are not supported by this version of coracle: use `kubectl logs` to see what a container says";
const FORWARD: &str = "port forwarding is not supported by this version of coracle: reach the pod at its address and port";
const METRICS: &str = "metrics and statistics are not supported by this version of coracle: `kubectl get --raw /api/v1/nodes/NODE/proxy/pods` shows what runs";
const CHECKPOINT: &str = "a guest can't be checkpointed";

/// The path as it is meant: authorisation and routing must read the same one. `None` if it is no text.
pub(crate) fn decoded(path: &str) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

impl Route {
    /// Of a decoded path.
    pub(crate) fn of(method: &Method, path: &str) -> Route {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let get = |route: Route| match *method == Method::GET {
            true => route,
            false => Route::Only("GET"),
        };
        match parts.as_slice() {
            ["healthz"] => Route::Health(None),
            ["healthz", check] => Route::Health(Some((*check).to_owned())),
            ["pods"] | ["pods", ""] => get(Route::Pods),
            ["runningpods"] | ["runningpods", ""] => get(Route::RunningPods),
            ["configz"] => Route::Configuration,
            ["containerLogs", namespace, pod, container] => get(Route::Logs {
                namespace: (*namespace).to_owned(),
                pod: (*pod).to_owned(),
                container: (*container).to_owned(),
            }),
            ["exec" | "attach" | "run", _, _, _] | ["exec" | "attach" | "run", _, _, _, _] => {
                Route::Unsupported(EXEC)
            }
            ["portForward", _, _] | ["portForward", _, _, _] => Route::Unsupported(FORWARD),
            ["metrics"]
            | ["metrics", "cadvisor" | "resource" | "probes" | "slis"]
            | ["stats", "summary" | ""] => Route::Unsupported(METRICS),
            ["checkpoint", _, _, _] => Route::Unsupported(CHECKPOINT),
            ["logs", ..] => Route::Disabled("logs endpoint is disabled."),
            ["debug", "pprof", ..] => Route::Disabled("profiling endpoint is disabled."),
            ["debug", "flags", ..] => Route::Disabled("flags endpoint is disabled."),
            _ => Route::Unknown,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_kubelets() {
        let get = |path: &str| Route::of(&Method::GET, &decoded(path).unwrap());
        assert_eq!(get("/healthz"), Route::Health(None));
        assert_eq!(get("/healthz/ping"), Route::Health(Some("ping".into())));
        assert_eq!(get("/pods"), Route::Pods);
        assert_eq!(get("/pods/"), Route::Pods);
        assert_eq!(get("/runningpods/"), Route::RunningPods);
        assert_eq!(get("/configz"), Route::Configuration);
        let logs = |namespace: &str, pod: &str, container: &str| Route::Logs {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
        };
        assert_eq!(get("/containerLogs/ns/a/b"), logs("ns", "a", "b"));
        assert_eq!(get("/containerLogs/n%73/a//"), Route::Unknown);
        assert_eq!(get("/container%4cogs/ns/%61/b"), logs("ns", "a", "b"));
        assert_eq!(get("/containerLogs/ns//b"), logs("ns", "", "b"));
        for none in [
            "/",
            "",
            "/containerLogs/ns/a",
            "/pods/a",
            "/healthz/a/b",
            "/etc/passwd",
        ] {
            assert_eq!(get(none), Route::Unknown, "{none}");
        }
        assert_eq!(decoded("/%ff"), None);
    }

    #[test]
    fn what_is_not_there_is_said() {
        for path in [
            "/exec/n/p/c",
            "/attach/n/p/u/c",
            "/run/n/p/c",
            "/portForward/n/p",
            "/metrics/cadvisor",
            "/stats/summary",
        ] {
            for method in [Method::GET, Method::POST] {
                assert!(
                    matches!(Route::of(&method, path), Route::Unsupported(_)),
                    "{path}"
                );
            }
        }
        assert!(matches!(
            Route::of(&Method::GET, "/logs/a/b"),
            Route::Disabled(_)
        ));
        assert_eq!(Route::of(&Method::POST, "/pods"), Route::Only("GET"));
    }
}
