//! Probes: the handler that a Pod names, asked once (`runProbe` in `pkg/kubelet/prober/prober.go`).
//!
//! Must not know: when a probe is due and what its result changes, which is `lifecycle`'s to say.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Pod, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lifecycle::{Failure, Outcome, Output, ProbeKind};
use probe::{HttpGet, Scheme};

use super::capture::Captured;
use super::{Hands, failure};
use crate::container::expand;

/// A probe that can't be made is tried so often (`maxProbeRetries`).
const TRIES: u32 = 3;
/// `kube-probe/<major>.<minor>` of the Kubernetes that this node is of.
const AGENT: &str = "kube-probe/1.36";

impl Hands {
    /// Makes a container's probe once.
    ///
    /// # Errors
    /// It can't be made: its port has no name, its command is not there, the guest host is gone.
    pub(super) async fn probe(
        &self,
        pod: &Pod,
        name: &str,
        (kind, run): (ProbeKind, u32),
        ips: &[IpAddr],
    ) -> Result<Output, Failure> {
        let container = super::container(pod, name).ok_or_else(|| broken("no such container"))?;
        // It was taken out of the Pod meanwhile, which the API server does not allow.
        let spec = kind
            .probe(&container)
            .ok_or_else(|| broken("no such probe"))?;
        let mut tries = 1;
        loop {
            let asked = self.probe_once(pod, &container, (spec, run), ips).await;
            if asked.is_ok() || tries == TRIES {
                return asked;
            }
            tries += 1;
        }
    }

    async fn probe_once(
        &self,
        pod: &Pod,
        container: &Container,
        (spec, run): (&Probe, u32),
        ips: &[IpAddr],
    ) -> Result<Output, Failure> {
        let seconds = spec.timeout_seconds.unwrap_or(1).max(1);
        let timeout = Duration::from_secs(u64::from(seconds.unsigned_abs()));
        if let Some(exec) = &spec.exec {
            return self.probe_exec(pod, container, (exec, run), timeout).await;
        }
        if let Some(get) = &spec.http_get {
            let get = http_get(get, container, ips, AGENT).map_err(|why| broken(&why))?;
            // What has no whole body is no result: it is thrown away.
            let asked = probe::http(&get, timeout).await;
            return asked.map(probed).map_err(|why| broken(&why.to_string()));
        }
        if let Some(socket) = &spec.tcp_socket {
            let (host, port) = tcp(socket, container, ips).map_err(|why| broken(&why))?;
            return Ok(probed(probe::tcp(&host, port, timeout).await));
        }
        if let Some(grpc) = &spec.grpc {
            let host = address(None, ips).map_err(|why| broken(&why))?;
            let port = u16::try_from(grpc.port).map_err(|_| broken("the port is none"))?;
            let service = grpc.service.as_deref().unwrap_or_default();
            return Ok(probed(
                probe::grpc(&host, port, service, AGENT, timeout).await,
            ));
        }
        Err(broken("missing probe handler"))
    }

    async fn probe_exec(
        &self,
        pod: &Pod,
        container: &Container,
        (exec, run): (&ExecAction, u32),
        timeout: Duration,
    ) -> Result<Output, Failure> {
        let command = command(exec, container);
        let words = command.join(" ");
        let captured = self.captured(pod, (&container.name, run), command);
        let (outcome, message) = match tokio::time::timeout(timeout, captured).await {
            Ok(Ok(Captured { code: 0, output })) => (Outcome::Success, output),
            Ok(Ok(Captured { output, .. })) => (Outcome::Failure, output),
            Ok(Err(error)) => return Err(broken(&error.message)),
            // Dropped with the future, the command's guest is ended.
            Err(_) => {
                let said = format!("command timed out: {words:?} timed out after {timeout:?}");
                (Outcome::Failure, said)
            }
        };
        Ok(Output::Probed { outcome, message })
    }
}

fn broken(why: &str) -> Failure {
    failure("Unhealthy", why, true)
}

fn probed(outcome: probe::Outcome) -> Output {
    let (outcome, message) = match outcome {
        probe::Outcome::Success(said) => (Outcome::Success, said),
        probe::Outcome::Warning(said) => (Outcome::Warning, said),
        probe::Outcome::Failure(said) => (Outcome::Failure, said),
    };
    Output::Probed { outcome, message }
}

/// The command, with the variables that the Pod itself gives a value
/// (`ExpandContainerCommandOnlyStatic` in `pkg/kubelet/container/helpers.go`).
fn command(exec: &ExecAction, container: &Container) -> Vec<String> {
    let lookup = |name: &str| {
        let mut known = container.env.iter().flatten().rev();
        known
            .find(|one| one.name == name)
            .and_then(|one| one.value.clone())
    };
    let words = exec.command.iter().flatten();
    words.map(|word| expand(word, lookup)).collect()
}

/// A GET as a handler describes it.
pub(super) fn http_get(
    action: &HTTPGetAction,
    container: &Container,
    ips: &[IpAddr],
    user_agent: &str,
) -> Result<HttpGet, String> {
    let https = action
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let headers = action.http_headers.iter().flatten();
    Ok(HttpGet {
        scheme: if https { Scheme::Https } else { Scheme::Http },
        host: address(action.host.as_deref(), ips)?,
        port: port(&action.port, container)?,
        path: action.path.clone().unwrap_or_default(),
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
        user_agent: user_agent.to_owned(),
    })
}

fn tcp(
    action: &TCPSocketAction,
    container: &Container,
    ips: &[IpAddr],
) -> Result<(String, u16), String> {
    let host = address(action.host.as_deref(), ips)?;
    Ok((host, port(&action.port, container)?))
}

fn address(host: Option<&str>, ips: &[IpAddr]) -> Result<String, String> {
    match (host.filter(|host| !host.is_empty()), ips.first()) {
        (Some(host), _) => Ok(host.to_owned()),
        (None, Some(ip)) => Ok(ip.to_string()),
        (None, None) => Err("the pod has no address".to_owned()),
    }
}

/// A port's number, or that of the container's port of the name (`ResolveContainerPort` in
/// `pkg/probe/util.go`).
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports
                .find(|one| one.name.as_deref() == Some(name))
                .map(|one| one.container_port);
            match named.or_else(|| name.parse().ok()) {
                Some(number) => number,
                None => return Err(format!("couldn't find port: {name} in container")),
            }
        }
    };
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("invalid port number: {number}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn container(text: &str) -> Container {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_port_is_a_number_or_a_name_of_the_containers() {
        let server = container(
            r#"{"name":"c","ports":[{"name":"web","containerPort":8080}],"env":[{"name":"A","value":"x"}]}"#,
        );
        let of = |text: &str| port(&serde_json::from_str(text).unwrap(), &server);
        assert_eq!(of("80"), Ok(80));
        assert_eq!(of(r#""web""#), Ok(8080));
        assert_eq!(of(r#""9090""#), Ok(9090));
        assert_eq!(
            of(r#""other""#),
            Err("couldn't find port: other in container".to_owned())
        );
        assert_eq!(of("0"), Err("invalid port number: 0".to_owned()));
        assert_eq!(of("70000"), Err("invalid port number: 70000".to_owned()));
    }

    #[test]
    fn a_command_knows_the_variables_that_the_pod_gives() {
        let server = container(
            r#"{"name":"c","env":[{"name":"A","value":"x"},{"name":"B","valueFrom":{}}]}"#,
        );
        let exec: ExecAction =
            serde_json::from_str(r#"{"command":["t","$(A)","$(B)","$$(A)"]}"#).unwrap();
        assert_eq!(command(&exec, &server), ["t", "x", "$(B)", "$(A)"]);
    }

    #[test]
    fn a_get_goes_to_the_pod_unless_it_names_a_host() {
        let server = container(r#"{"name":"c"}"#);
        let ips = ["192.0.2.7".parse().unwrap()];
        let get = |text: &str| {
            http_get(&serde_json::from_str(text).unwrap(), &server, &ips, AGENT).unwrap()
        };
        let plain = get(r#"{"port":80}"#);
        assert_eq!(
            (plain.host.as_str(), plain.scheme),
            ("192.0.2.7", Scheme::Http)
        );
        let other = get(r#"{"port":80,"host":"example.test","scheme":"HTTPS"}"#);
        assert_eq!(
            (other.host.as_str(), other.scheme),
            ("example.test", Scheme::Https)
        );
        let none = http_get(&HTTPGetAction::default(), &server, &[], AGENT);
        assert!(none.is_err());
    }
}
