//! The variables by which a container finds Services (`pkg/kubelet/envvars`, and `getServiceEnvVarMap` of
//! `pkg/kubelet/kubelet_pods.go`).

use std::net::Ipv6Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};

/// The variables of a pod's containers for `services`: those of its own namespace, unless it wants none, and of the API
/// server whatever it wants. One without an address of the cluster has none.
pub(super) fn variables(pod: &Pod, services: &[Arc<Service>]) -> Vec<(String, String)> {
    let wanted = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let told = services
        .iter()
        .filter(|service| wanted || is_api_server(service));
    // The API server's own comes before one of its name in the pod's namespace, which takes its place.
    let (own, masters): (Vec<_>, Vec<_>) = told.partition(|service| !is_api_server(service));
    let shadowed = |name: &Option<String>| own.iter().any(|other| other.metadata.name == *name);
    let masters = masters
        .into_iter()
        .filter(|service| !shadowed(&service.metadata.name));
    masters
        .chain(own.iter().copied())
        .flat_map(|service| of_service(service))
        .collect()
}

fn is_api_server(service: &Service) -> bool {
    let named = (
        service.metadata.namespace.as_deref(),
        service.metadata.name.as_deref(),
    );
    named == (Some("default"), Some("kubernetes"))
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.as_ref();
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref());
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or(&[]);
    let Some(address) = address.filter(|ip| !ip.is_empty() && *ip != "None") else {
        return Vec::new();
    };
    let Some(first) = ports.first() else {
        return Vec::new();
    };
    let name = in_capitals(service.metadata.name.as_deref().unwrap_or_default());
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), address.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        let called = port.name.as_deref().filter(|name| !name.is_empty());
        if let Some(called) = called {
            let variable = format!("{name}_SERVICE_PORT_{}", in_capitals(called));
            all.push((variable, port.port.to_string()));
        }
    }
    all.push((format!("{name}_PORT"), url(first, address)));
    for port in ports {
        let of_port = format!(
            "{name}_PORT_{}_{}",
            port.port,
            protocol(port).to_uppercase()
        );
        all.push((of_port.clone(), url(port, address)));
        all.push((format!("{of_port}_PROTO"), protocol(port).to_lowercase()));
        all.push((format!("{of_port}_PORT"), port.port.to_string()));
        all.push((format!("{of_port}_ADDR"), address.to_owned()));
    }
    all
}

fn in_capitals(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn protocol(port: &ServicePort) -> &str {
    let named = port.protocol.as_deref();
    named.filter(|name| !name.is_empty()).unwrap_or("TCP")
}

fn url(port: &ServicePort, address: &str) -> String {
    let protocol = protocol(port).to_lowercase();
    match address.parse::<Ipv6Addr>() {
        Ok(_) => format!("{protocol}://[{address}]:{}", port.port),
        Err(_) => format!("{protocol}://{address}:{}", port.port),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn service(json: serde_json::Value) -> Arc<Service> {
        Arc::new(serde_json::from_value(json).unwrap())
    }

    fn of(namespace: &str, name: &str, address: &str) -> Arc<Service> {
        service(serde_json::json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "clusterIP": address, "ports": [{ "port": 443 }] },
        }))
    }

    fn pod(links: Option<bool>) -> Pod {
        let pod = serde_json::json!({
            "metadata": { "namespace": "shop" },
            "spec": { "enableServiceLinks": links, "containers": [] },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn hosts(variables: &[(String, String)]) -> Vec<(&str, &str)> {
        let hosts = variables
            .iter()
            .filter(|(name, _)| name.ends_with("_SERVICE_HOST"));
        hosts
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// The example of Kubernetes' documentation, with a second port.
    #[test]
    fn a_service_has_the_variables_of_the_kubelet() {
        let redis = service(serde_json::json!({
            "metadata": { "namespace": "shop", "name": "redis-primary" },
            "spec": { "clusterIP": "10.0.0.11", "ports": [
                { "port": 6379, "protocol": "TCP" },
                { "port": 53, "protocol": "UDP", "name": "by-name" },
            ] },
        }));
        let found: Vec<String> = variables(&pod(None), &[redis])
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let wanted = "REDIS_PRIMARY_SERVICE_HOST=10.0.0.11
REDIS_PRIMARY_SERVICE_PORT=6379
REDIS_PRIMARY_SERVICE_PORT_BY_NAME=53
REDIS_PRIMARY_PORT=tcp://10.0.0.11:6379
REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.0.11:6379
REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp
REDIS_PRIMARY_PORT_6379_TCP_PORT=6379
REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.0.11
REDIS_PRIMARY_PORT_53_UDP=udp://10.0.0.11:53
REDIS_PRIMARY_PORT_53_UDP_PROTO=udp
REDIS_PRIMARY_PORT_53_UDP_PORT=53
REDIS_PRIMARY_PORT_53_UDP_ADDR=10.0.0.11";
        assert_eq!(found.join("\n"), wanted);
    }

    #[test]
    fn the_api_server_is_told_of_whatever_is_wanted() {
        let services = [
            of("shop", "web", "10.0.0.2"),
            of("shop", "headless", "None"),
            of("shop", "elsewhere", ""),
            of("default", "kubernetes", "10.0.0.1"),
        ];
        let (master, web) = (
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("WEB_SERVICE_HOST", "10.0.0.2"),
        );
        for wanted in [None, Some(true)] {
            let found = variables(&pod(wanted), &services);
            assert_eq!(hosts(&found), [master, web]);
        }
        assert_eq!(hosts(&variables(&pod(Some(false)), &services)), [master]);
    }

    #[test]
    fn a_service_of_the_pod_s_namespace_takes_the_place_of_the_api_server_s() {
        let services = [
            of("shop", "kubernetes", "10.0.0.3"),
            of("default", "kubernetes", "10.0.0.1"),
        ];
        let found = variables(&pod(None), &services);
        assert_eq!(hosts(&found), [("KUBERNETES_SERVICE_HOST", "10.0.0.3")]);
    }

    #[test]
    fn an_address_of_version_6_stands_in_brackets() {
        let found = variables(&pod(None), &[of("shop", "web", "fd00::1")]);
        let port = found.iter().find(|(name, _)| name == "WEB_PORT").unwrap();
        assert_eq!(port.1, "tcp://[fd00::1]:443");
    }
}
