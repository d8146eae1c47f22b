//! A pod's host name and domain (`GeneratePodHostNameAndDomain` of `pkg/kubelet/kubelet_pods.go`, and
//! `GetNodenameForKernel` of `pkg/kubelet/util`).

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use lifecycle::Failure;

use super::failure;
use super::net::NETWORK;
use crate::manifest::names;

/// The domain of a cluster that was told no other, as of one machine.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// A host name has so many characters at most (`truncatePodHostnameIfNeeded`).
const LONGEST: usize = 63;
/// A name with its domain has so many at most: what a kernel keeps.
const LONGEST_WHOLE: usize = 64;

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostName {
    /// Its host name alone, as `/etc/hosts` has it.
    pub(super) short: String,
    /// Its domain; empty without a subdomain.
    pub(super) domain: String,
    /// What its guests take for their host name: `/etc/hostname` and `HOSTNAME`.
    pub(super) own: String,
}

impl HostName {
    /// Of a pod; `cluster` is the cluster's domain, empty if none was told.
    ///
    /// # Errors
    /// A name that is none, or one that is too long with its domain.
    pub(super) fn of(pod: &Pod, cluster: &str) -> Result<HostName, Failure> {
        let spec = pod.spec.as_ref();
        let (short, domain) = parts(pod, spec, cluster).map_err(wrong)?;
        let whole = spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
        let own = match whole && !domain.is_empty() {
            true => format!("{short}.{domain}"),
            false => short.clone(),
        };
        if own.len() > LONGEST_WHOLE {
            // The kubelet's words.
            return Err(wrong(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {own} is too \
                 long ({LONGEST_WHOLE} characters is the max, {} characters requested)",
                own.len()
            )));
        }
        Ok(HostName { short, domain, own })
    }
}

fn wrong(message: String) -> Failure {
    failure(NETWORK, message, false)
}

fn parts(pod: &Pod, spec: Option<&PodSpec>, cluster: &str) -> Result<(String, String), String> {
    let given = |field: fn(&PodSpec) -> &Option<String>| {
        let value = spec.and_then(|spec| field(spec).as_deref());
        value.filter(|value| !value.is_empty())
    };
    if let Some(name) = given(|spec| &spec.hostname_override) {
        let told =
            |why| format!("pod HostnameOverride {name:?} is not a valid DNS subdomain: {why}");
        names::subdomain(name).map_err(told)?;
        return Ok((cut(name), String::new()));
    }
    let asked = given(|spec| &spec.hostname);
    if let Some(name) = asked {
        let told = |why| format!("pod Hostname {name:?} is not a valid DNS label: {why}");
        names::label(name).map_err(told)?;
    }
    let short = cut(asked.or(pod.metadata.name.as_deref()).unwrap_or_default());
    let Some(subdomain) = given(|spec| &spec.subdomain) else {
        return Ok((short, String::new()));
    };
    let told = |why| format!("pod Subdomain {subdomain:?} is not a valid DNS label: {why}");
    names::label(subdomain).map_err(told)?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let cluster = match cluster {
        "" => CLUSTER_DOMAIN,
        cluster => cluster,
    };
    Ok((short, format!("{subdomain}.{namespace}.svc.{cluster}")))
}

fn cut(name: &str) -> String {
    let cut: String = name.chars().take(LONGEST).collect();
    match cut.len() < name.len() {
        true => cut.trim_end_matches(['-', '.']).to_owned(),
        false => cut,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(name: &str, spec: &str, cluster: &str) -> Result<(String, String, String), String> {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"ns"}},"spec":{{"containers":[],{spec}}}}}"#
        ))
        .unwrap();
        HostName::of(&pod, cluster)
            .map(|name| (name.short, name.domain, name.own))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn a_pod_is_called_as_the_kubelet_calls_it() {
        let long = "a".repeat(62);
        let dashed = format!("{long}-b");
        for (name, spec, expected) in [
            ("web-0", r#""hostname":"""#, ("web-0", "", "web-0")),
            ("web-0", r#""hostname":"h""#, ("h", "", "h")),
            (
                "web-0",
                r#""subdomain":"web""#,
                ("web-0", "web.ns.svc.cluster.local", "web-0"),
            ),
            (
                "web-0",
                r#""subdomain":"web","setHostnameAsFQDN":true"#,
                (
                    "web-0",
                    "web.ns.svc.cluster.local",
                    "web-0.web.ns.svc.cluster.local",
                ),
            ),
            ("p", r#""setHostnameAsFQDN":true"#, ("p", "", "p")),
            (
                "p",
                r#""hostname":"h","subdomain":"s","hostnameOverride":"a.b""#,
                ("a.b", "", "a.b"),
            ),
            // Cut, and never at a dash.
            (&dashed, r#""hostname":"""#, (&long, "", &long)),
        ] {
            let (short, domain, own) = of(name, spec, "").unwrap();
            let found = (short.as_str(), domain.as_str(), own.as_str());
            assert_eq!(found, expected, "{name} {spec}");
        }
        let (_, domain, _) = of("p", r#""subdomain":"s""#, "my.domain").unwrap();
        assert_eq!(domain, "s.ns.svc.my.domain");
    }

    #[test]
    fn what_is_no_name_or_too_long_is_refused_in_the_kubelets_words() {
        for (spec, words) in [
            (
                r#""hostname":"A""#,
                "pod Hostname \"A\" is not a valid DNS label",
            ),
            (
                r#""subdomain":"a.b""#,
                "pod Subdomain \"a.b\" is not a valid DNS label",
            ),
            (
                r#""hostnameOverride":"-""#,
                "pod HostnameOverride \"-\" is not a valid DNS subdomain",
            ),
        ] {
            let told = of("p", spec, "").unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        let spec = r#""subdomain":"s","setHostnameAsFQDN":true"#;
        // With ".s.ns.svc.cluster.local", 23 characters, it is as long as it may be.
        assert!(of(&"n".repeat(41), spec, "").is_ok());
        let told = of(&"n".repeat(42), spec, "").unwrap_err();
        assert!(
            told.ends_with("(64 characters is the max, 65 characters requested)"),
            "{told}"
        );
    }
}
