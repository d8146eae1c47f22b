//! A pod's `/etc/resolv.conf`, by its dnsPolicy and dnsConfig
//! (`pkg/kubelet/network/dns/dns.go`). There is no cluster DNS to point to yet, so `ClusterFirst`
//! is `Default`, as it is for a kubelet that was given no clusterDNS.

use std::fmt::Write;

use k8s_openapi::api::core::v1::PodSpec;

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
pub(crate) fn resolv_conf(spec: &PodSpec) -> Result<String, String> {
    let mut resolver = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => Resolver::default(),
        "Default" | "ClusterFirst" | "ClusterFirstWithHostNet" => {
            // A machine without the file has no resolver to hand on.
            Resolver::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        }
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
        let text = resolv_conf(&spec).unwrap();
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
    fn a_policy_that_is_none_is_refused() {
        let spec = PodSpec {
            dns_policy: Some("Mine".into()),
            ..PodSpec::default()
        };
        assert!(resolv_conf(&spec).unwrap_err().contains("Mine"));
    }
}
