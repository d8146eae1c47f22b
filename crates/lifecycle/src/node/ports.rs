//! Ports of the node's own: two pods can't have one at once
//! (`pkg/scheduler/framework/plugins/nodeports`, `HostPortInfo` of `kube-scheduler/framework`).

use k8s_openapi::api::core::v1::{Container, Pod};

/// The address that stands for all.
const ANY: &str = "0.0.0.0";

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    ip: String,
    protocol: String,
    number: i32,
}

impl Port {
    fn collides(&self, other: &Port) -> bool {
        let ips = self.ip == other.ip || self.ip == ANY || other.ip == ANY;
        ips && (&self.protocol, self.number) == (&other.protocol, other.number)
    }
}

/// The ports of the containers that run all the pod's life. A pod of hostNetwork takes its
/// containerPorts, which the API server notes as hostPorts (`SetDefaults_PodSpec`) and a file does not.
pub(super) fn of(pod: &Pod) -> Vec<Port> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let shared = spec.host_network == Some(true);
    let sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let inits = spec.init_containers.iter().flatten().filter(sidecar);
    let mut taken = Vec::new();
    for port in inits
        .chain(&spec.containers)
        .flat_map(|one| one.ports.iter().flatten())
    {
        let own = port.host_port.filter(|port| *port > 0);
        let number = own.or(shared.then_some(port.container_port));
        let Some(number) = number else { continue };
        let or = |word: &Option<String>, default: &str| match word.as_deref() {
            None | Some("") => default.to_owned(),
            Some(word) => word.to_owned(),
        };
        taken.push(Port {
            ip: or(&port.host_ip, ANY),
            protocol: or(&port.protocol, "TCP"),
            number,
        });
    }
    taken
}

/// Whether one of `wanted` is taken.
pub(super) fn collide(wanted: &[Port], taken: &[Port]) -> bool {
    wanted
        .iter()
        .any(|one| taken.iter().any(|other| one.collides(other)))
}
