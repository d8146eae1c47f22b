//! What a pod may be told of itself: its fields and its resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lifecycle::quantity;

use super::{PodFacts, ProcessError};

/// The fields of `podFieldSelectorRuntimeValue` (`pkg/kubelet/kubelet_pods.go`), for variables;
/// `None` for what is none of them.
pub(super) fn variable(pod: &Pod, path: &str, facts: &PodFacts) -> Option<String> {
    let spec = pod.spec.as_ref();
    let join = |ips: &[std::net::IpAddr]| {
        ips.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[std::net::IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(match path {
        "spec.nodeName" => spec.map(|s| text(&s.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .map(|s| text(&s.service_account_name))
            .unwrap_or_default(),
        "status.podIP" => first(&facts.ips),
        "status.podIPs" => join(&facts.ips),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => join(&facts.host_ips),
        // A variable shows one label, a file may show all.
        "metadata.labels" | "metadata.annotations" => return None,
        path => return file(pod, path),
    })
}

/// The fields of `ExtractFieldPathAsString` (`pkg/fieldpath/fieldpath.go`), for files.
pub(super) fn file(pod: &Pod, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Some(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        _ => {
            let (map, key) = subscript(path)?;
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return None,
            };
            map.and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        }
    })
}

/// `key="value"` in lines, by key (`FormatMap`).
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten();
    lines
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// As Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && (c as u32) < 0x80 => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Splits `metadata.labels['app']` into its parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A resource of a container, divided and rounded up (`ExtractContainerResourceValue` in
/// `pkg/api/v1/resource/helpers.go`). A limit that is not set is what the node has.
///
/// # Errors
/// `Resource` for what is none.
pub(super) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &PodFacts,
) -> Result<String, ProcessError> {
    let wrong = || ProcessError::Resource(selector.resource.clone());
    let (list, name) = selector.resource.split_once('.').ok_or_else(wrong)?;
    let node = match name {
        "cpu" => facts.allocatable.cpu_milli,
        "memory" => facts.allocatable.memory,
        "ephemeral-storage" => facts.allocatable.ephemeral_storage,
        _ => return Err(wrong()),
    };
    let is_cpu = name == "cpu";
    let read = |quantity: &Quantity| match is_cpu {
        true => quantity::milli(quantity),
        false => quantity::bytes(quantity),
    };
    let resources = container.resources.as_ref();
    let amounts = match list {
        "limits" => resources.and_then(|own| own.limits.as_ref()),
        "requests" => resources.and_then(|own| own.requests.as_ref()),
        _ => return Err(wrong()),
    };
    let own = amounts
        .and_then(|amounts| amounts.get(name))
        .and_then(read)
        .unwrap_or_default();
    let amount = match (list, own) {
        ("limits", 0) => node,
        (_, own) => own,
    };
    let unit = if is_cpu { 1000 } else { 1 };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(read)
        .filter(|by| *by > 0);
    Ok(amount.div_ceil(divisor.unwrap_or(unit)).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_lines_as_go_quotes_them() {
        let map = [
            ("b".to_owned(), "x\"y\\z\n\u{1}".to_owned()),
            ("a".to_owned(), "é".to_owned()),
        ];
        assert_eq!(
            lines(Some(&map.into())),
            "a=\"é\"\nb=\"x\\\"y\\\\z\\n\\x01\""
        );
        assert_eq!(lines(None), "");
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_str(
            r#"{"name":"c","resources":{"limits":{"cpu":"1500m","memory":"100Mi"},"requests":{"cpu":"250m"}}}"#,
        )
        .unwrap();
        let facts = PodFacts {
            allocatable: lifecycle::Resources {
                cpu_milli: 4000,
                memory: 8 << 30,
                ephemeral_storage: 7,
                ..Default::default()
            },
            ..PodFacts::default()
        };
        let get = |resource: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: (!divisor.is_empty()).then(|| Quantity(divisor.into())),
                container_name: None,
            };
            super::resource(&container, &selector, &facts)
        };
        for (resource, divisor, value) in [
            ("limits.cpu", "", "2"),
            ("limits.cpu", "1m", "1500"),
            ("limits.memory", "", "104857600"),
            ("limits.memory", "1Mi", "100"),
            ("limits.memory", "1Gi", "1"),
            ("limits.memory", "0", "104857600"),
            ("requests.cpu", "1m", "250"),
            ("requests.memory", "1Mi", "0"),
            ("limits.ephemeral-storage", "", "7"),
        ] {
            assert_eq!(
                get(resource, divisor).unwrap(),
                value,
                "{resource} {divisor}"
            );
        }
        for resource in ["limits", "limits.gpu", "some.cpu", ""] {
            assert!(get(resource, "").is_err(), "{resource}");
        }
    }
}
