//! What a Pod says of HTTP: at which port a container serves it and within which bounds, and what
//! its own requests may reach.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use lifecycle::Failure;
use runtime::{HttpSpec, OutgoingHttp};

use super::failure;

/// Where a container serves that names no port.
const PORT: u16 = 8080;

/// The name of the port that HTTP is served at.
const PORT_NAME: &str = "http";

/// Durations, as `90s` or `1m 30s`.
const REQUEST_TIMEOUT: &str = "coracle.dev/http-request-timeout";
const IDLE_TIMEOUT: &str = "coracle.dev/http-idle-timeout";
const HEADER_TIMEOUT: &str = "coracle.dev/http-header-timeout";
const BODY_TIMEOUT: &str = "coracle.dev/http-body-timeout";

/// Numbers.
const MAX_CONCURRENT: &str = "coracle.dev/http-max-concurrent";
const MAX_QUEUED: &str = "coracle.dev/http-max-queued";
const MAX_CONNECTIONS: &str = "coracle.dev/http-max-connections";

/// Krustlet's, of a guest's own requests: a JSON array of URLs or hosts, and a number.
const ALLOWED_DOMAINS: &str = "alpha.wasi.krustlet.dev/allowed-domains";
const MAX_OUTGOING: &str = "alpha.wasi.krustlet.dev/max-concurrent-requests";

/// What Krustlet takes for any host.
const ANY_DOMAIN: &str = "insecure:allow-all";

/// The port that a container serves at: the one that is named `http`, else its first, else 8080.
pub(super) fn port(container: &Container) -> u16 {
    let is_tcp = |port: &&ContainerPort| port.protocol.as_deref().is_none_or(|p| p == "TCP");
    let ports = || container.ports.iter().flatten().filter(is_tcp);
    let chosen = ports()
        .find(|port| port.name.as_deref() == Some(PORT_NAME))
        .or_else(|| ports().next());
    chosen
        .and_then(|port| u16::try_from(port.container_port).ok())
        .unwrap_or(PORT)
}

/// Listens at a container's port, on each address of its pod.
///
/// # Errors
/// The port is taken, or not to be had.
pub(super) fn listen(container: &Container, ips: &[IpAddr]) -> Result<Vec<OwnedFd>, Failure> {
    let port = port(container);
    let at = |ip: &IpAddr| listen_at(&container.name, SocketAddr::new(*ip, port));
    ips.iter().map(at).collect()
}

fn listen_at(container: &str, at: SocketAddr) -> Result<OwnedFd, Failure> {
    TcpListener::bind(at).map(OwnedFd::from).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AddrInUse => "the port is taken; give another containerPort",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::PermissionDenied => {
                "the system keeps low ports for the privileged; give one from 1024 on"
            }
            _ => "it can't be served there",
        };
        let message = format!("container {container:?}: can't serve HTTP at {at}: {help}: {error}");
        failure("RunContainerError", message, true)
    })
}

/// Says the port in the environment, whatever else that says of it.
pub(super) fn tell(port: u16, env: &mut Vec<(String, String)>) {
    env.retain(|(name, _)| name != "PORT");
    env.push(("PORT".to_owned(), port.to_string()));
}

pub(super) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

pub(super) fn wrong(name: &str, value: &str, problem: &str) -> Failure {
    let message = format!("metadata.annotations[{name}] is {value:?}: {problem}");
    failure("CreateContainerConfigError", message, false)
}

/// Reads a duration of at least a millisecond.
fn duration(pod: &Pod, name: &str, milliseconds: &mut u64) -> Result<(), Failure> {
    let Some(value) = annotation(pod, name) else {
        return Ok(());
    };
    let problem = "write a duration such as 30s, 2m or 500ms";
    let read = humantime::parse_duration(value.trim());
    let read: Duration = read.map_err(|_| wrong(name, value, problem))?;
    *milliseconds = u64::try_from(read.as_millis()).unwrap_or(u64::MAX);
    match *milliseconds {
        0 => Err(wrong(name, value, "it has to be at least 1ms")),
        _ => Ok(()),
    }
}

/// Reads a number of at least `least`.
fn number(pod: &Pod, name: &str, least: u32) -> Result<Option<u32>, Failure> {
    let Some(value) = annotation(pod, name) else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => {
            let problem = format!("write a whole number of at least {least}");
            Err(wrong(name, value, &problem))
        }
    }
}

/// Within which bounds a Pod's containers serve.
///
/// # Errors
/// An annotation that says nothing of use.
pub(super) fn bounds(pod: &Pod) -> Result<HttpSpec, Failure> {
    let mut spec = HttpSpec::default();
    duration(pod, REQUEST_TIMEOUT, &mut spec.request_timeout_ms)?;
    duration(pod, IDLE_TIMEOUT, &mut spec.idle_timeout_ms)?;
    duration(pod, HEADER_TIMEOUT, &mut spec.header_timeout_ms)?;
    duration(pod, BODY_TIMEOUT, &mut spec.body_timeout_ms)?;
    spec.max_concurrent = number(pod, MAX_CONCURRENT, 1)?.unwrap_or(spec.max_concurrent);
    spec.max_queued = number(pod, MAX_QUEUED, 0)?.unwrap_or(spec.max_queued);
    spec.max_connections = number(pod, MAX_CONNECTIONS, 1)?.unwrap_or(spec.max_connections);
    Ok(spec)
}

/// What the requests of a Pod's guests may reach.
///
/// # Errors
/// An annotation that says nothing of use.
pub(super) fn outgoing(pod: &Pod) -> Result<OutgoingHttp, Failure> {
    let max_concurrent = number(pod, MAX_OUTGOING, 1)?;
    let Some(value) = annotation(pod, ALLOWED_DOMAINS) else {
        return Ok(OutgoingHttp {
            allowed: None,
            max_concurrent,
        });
    };
    let problem = |problem: &str| wrong(ALLOWED_DOMAINS, value, problem);
    let texts: Vec<String> = serde_json::from_str(value).map_err(|_| {
        problem("write a JSON array of strings, as [\"https://example.com\", \"10.0.0.1:8080\"]")
    })?;
    if texts.iter().any(|text| text == ANY_DOMAIN) {
        return Ok(OutgoingHttp {
            allowed: None,
            max_concurrent,
        });
    }
    let allowed: Result<Vec<_>, _> = texts.iter().map(|text| text.parse()).collect();
    let allowed =
        allowed.map_err(|error: runtime::WrongDestination| problem(&error.to_string()))?;
    Ok(OutgoingHttp {
        allowed: Some(allowed),
        max_concurrent,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::default();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pod.metadata.annotations = Some(annotations.iter().map(owned).collect());
        pod
    }

    #[test]
    fn the_port_is_the_one_named_http_else_the_first_else_8080() {
        for (ports, expected) in [
            ("[]", 8080),
            (r#"[{"containerPort":9000}]"#, 9000),
            (
                r#"[{"containerPort":53,"protocol":"UDP"},{"containerPort":9000,"protocol":"TCP"}]"#,
                9000,
            ),
            (
                r#"[{"containerPort":9000},{"containerPort":80,"name":"http"}]"#,
                80,
            ),
            (
                r#"[{"containerPort":53,"protocol":"UDP","name":"http"}]"#,
                8080,
            ),
        ] {
            let json = format!(r#"{{"name":"c","ports":{ports}}}"#);
            assert_eq!(
                port(&serde_json::from_str(&json).unwrap()),
                expected,
                "{ports}"
            );
        }
        let mut env = vec![("PORT".to_owned(), "1".to_owned())];
        tell(80, &mut env);
        assert_eq!(env, [("PORT".to_owned(), "80".to_owned())]);
    }

    #[test]
    fn a_taken_port_is_told_with_its_address() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let json = format!(
            r#"{{"name":"web","ports":[{{"containerPort":{}}}]}}"#,
            at.port()
        );
        let container: Container = serde_json::from_str(&json).unwrap();
        let failure = listen(&container, &[at.ip()]).unwrap_err();
        for word in ["\"web\"", &at.to_string(), "taken"] {
            assert!(failure.message.contains(word), "{}", failure.message);
        }
        drop(taken);
        assert_eq!(listen(&container, &[at.ip()]).unwrap().len(), 1);
    }

    #[test]
    fn annotations_bound_what_is_served() {
        let spec = bounds(&pod(&[
            (REQUEST_TIMEOUT, "1m 30s"),
            (BODY_TIMEOUT, "250ms"),
            (MAX_CONCURRENT, "7"),
            (MAX_QUEUED, "0"),
        ]))
        .unwrap();
        let expected = HttpSpec {
            request_timeout_ms: 90_000,
            body_timeout_ms: 250,
            max_concurrent: 7,
            max_queued: 0,
            ..HttpSpec::default()
        };
        assert_eq!(spec, expected);
        assert_eq!(bounds(&Pod::default()).unwrap(), HttpSpec::default());
        for (name, value) in [
            (IDLE_TIMEOUT, "soon"),
            (IDLE_TIMEOUT, "0s"),
            (MAX_CONCURRENT, "0"),
            (MAX_CONNECTIONS, "-1"),
            (MAX_QUEUED, ""),
        ] {
            let failure = bounds(&pod(&[(name, value)])).unwrap_err();
            assert!(failure.message.contains(name), "{}", failure.message);
            assert!(
                failure.message.contains(&format!("{value:?}")),
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn krustlets_annotations_bound_what_is_asked() {
        let rules = outgoing(&pod(&[
            (
                ALLOWED_DOMAINS,
                r#"["https://example.com/x", "10.0.0.1:81"]"#,
            ),
            (MAX_OUTGOING, "42"),
        ]))
        .unwrap();
        let allowed = ["example.com", "10.0.0.1:81"].map(|d| d.parse().unwrap());
        assert_eq!(rules.allowed, Some(allowed.to_vec()));
        assert_eq!(rules.max_concurrent, Some(42));
        let any = pod(&[(ALLOWED_DOMAINS, r#"["insecure:allow-all"]"#)]);
        assert_eq!(outgoing(&any).unwrap(), OutgoingHttp::default());
        let none = pod(&[(ALLOWED_DOMAINS, "[]")]);
        assert_eq!(outgoing(&none).unwrap().allowed, Some(vec![]));
        for (name, value) in [
            (ALLOWED_DOMAINS, "https://example.com"),
            (ALLOWED_DOMAINS, r#"["*.example.com"]"#),
            (ALLOWED_DOMAINS, "[1]"),
            (MAX_OUTGOING, "many"),
        ] {
            let failure = outgoing(&pod(&[(name, value)])).unwrap_err();
            assert!(failure.message.contains(name), "{}", failure.message);
        }
    }
}
