//! A pod's `/etc/resolv.conf`, by its dnsPolicy and dnsConfig
//! (`pkg/kubelet/network/dns/dns.go`). Where there is no cluster DNS to point to, `ClusterFirst` is
//! `Default`, as it is for a kubelet that was given no clusterDNS.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodSpec;

/// Where a pod's names are looked up, beside what the pod itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dns {
    /// The cluster's servers; none on a machine of its own.
    pub(crate) servers: Vec<IpAddr>,
    /// The cluster's domain; empty if it has none.
    pub(crate) domain: String,
    /// The machine's resolv.conf; empty for no servers of the machine's.
    pub(crate) resolv_conf: PathBuf,
}

impl Dns {
    /// As the machine itself.
    pub(crate) fn of_machine() -> Dns {
        Dns {
            servers: Vec::new(),
            domain: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    fn machine(&self) -> Resolver {
        // A machine without the file has no resolver to hand on.
        Resolver::parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default())
    }

    /// The cluster's servers alone, which ask the machine's themselves
    /// (`generateSearchesForDNSClusterFirst`).
    fn cluster(&self, namespace: &str) -> Resolver {
        let mut searches = Vec::new();
        if !self.domain.is_empty() {
            let domain = &self.domain;
            searches = vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ];
        }
        for search in self.machine().searches {
            if !searches.contains(&search) {
                searches.push(search);
            }
        }
        Resolver {
            nameservers: self.servers.iter().map(IpAddr::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    }
}

/// resolv.conf, by its three directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut found = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect();
            match words.next() {
                Some("nameserver") => found.nameservers.extend(words.next().map(str::to_owned)),
                // The last one counts (resolv.conf(5)).
                Some("search") => found.searches = rest(words),
                Some("options") => found.options = rest(words),
                _ => {}
            }
        }
        found
    }

    fn merge(&mut self, spec: &PodSpec) {
        let Some(config) = &spec.dns_config else {
            return;
        };
        let add = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
            for item in more.iter().flatten() {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        add(&mut self.nameservers, &config.nameservers);
        add(&mut self.searches, &config.searches);
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            self.options
                .retain(|known| known.split(':').next() != Some(name.as_str()));
            self.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

/// The contents of a pod's resolv.conf.
///
/// # Errors
/// When dnsPolicy is a word that the API does not have.
pub(crate) fn resolv_conf(dns: &Dns, namespace: &str, spec: &PodSpec) -> Result<String, String> {
    let known = !dns.servers.is_empty();
    let on_host = spec.host_network == Some(true);
    let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "ClusterFirst" if known && !on_host => dns.cluster(namespace),
        "ClusterFirstWithHostNet" if known => dns.cluster(namespace),
        "Default" | "ClusterFirst" | "ClusterFirstWithHostNet" => dns.machine(),
        other => {
            return Err(format!(
                "dnsPolicy {other:?} is none; use Default, ClusterFirst, ClusterFirstWithHostNet or None"
            ));
        }
    };
    resolver.merge(spec);
    Ok(resolver.text())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption};

    use super::*;

    #[test]
    fn none_takes_the_pods_own_alone() {
        let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
            name: Some(name.into()),
            value: value.map(Into::into),
        };
        let spec = PodSpec {
            dns_policy: Some("None".into()),
            dns_config: Some(PodDNSConfig {
                nameservers: Some(vec!["10.0.0.10".into()]),
                searches: Some(vec!["svc.local".into()]),
                options: Some(vec![option("ndots", Some("5")), option("edns0", None)]),
            }),
            ..PodSpec::default()
        };
        let text = resolv_conf(&Dns::of_machine(), "default", &spec).unwrap();
        assert_eq!(
            text,
            "search svc.local\nnameserver 10.0.0.10\noptions ndots:5 edns0\n"
        );
    }

    #[test]
    fn options_of_the_pod_replace_the_hosts() {
        let mut resolver = Resolver::parse("# c\nnameserver 1.1.1.1\noptions ndots:1 rotate\n");
        resolver.merge(&PodSpec {
            dns_config: Some(PodDNSConfig {
                options: Some(vec![PodDNSConfigOption {
                    name: Some("ndots".into()),
                    value: Some("5".into()),
                }]),
                ..PodDNSConfig::default()
            }),
            ..PodSpec::default()
        });
        assert_eq!(
            resolver.text(),
            "nameserver 1.1.1.1\noptions rotate ndots:5\n"
        );
    }

    #[test]
    fn cluster_first_asks_the_cluster_alone_with_the_pods_own_domains_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        std::fs::write(
            &file,
            "nameserver 1.1.1.1\nsearch corp.example cluster.local\n",
        )
        .unwrap();
        let dns = Dns {
            servers: vec!["10.0.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            resolv_conf: file,
        };
        let text = |policy: &str, on_host: bool| {
            let spec = PodSpec {
                dns_policy: Some(policy.into()),
                host_network: Some(on_host),
                ..PodSpec::default()
            };
            resolv_conf(&dns, "shop", &spec).unwrap()
        };
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
                       nameserver 10.0.0.10\noptions ndots:5\n";
        let machine = "search corp.example cluster.local\nnameserver 1.1.1.1\n";
        assert_eq!(text("ClusterFirst", false), cluster);
        assert_eq!(text("ClusterFirst", true), machine);
        assert_eq!(text("ClusterFirstWithHostNet", true), cluster);
        assert_eq!(text("Default", false), machine);
    }

    #[test]
    fn a_policy_that_is_none_is_refused() {
        let spec = PodSpec {
            dns_policy: Some("Mine".into()),
            ..PodSpec::default()
        };
        let refused = resolv_conf(&Dns::of_machine(), "default", &spec).unwrap_err();
        assert!(refused.contains("Mine"));
    }
}
