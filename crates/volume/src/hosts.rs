//! `/etc/hosts` as the kubelet writes it (`managedHostsFileContent` in `pkg/kubelet/kubelet_pods.go`).

use std::fmt::Write;
use std::net::IpAddr;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                        fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// One of a pod's `hostAliases`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address, as the pod wrote it.
    pub ip: String,
    /// The names it shall have.
    pub hostnames: Vec<String>,
}

/// The content of a pod's `/etc/hosts`. `domain` is the pod's, empty where it has no subdomain.
pub fn managed_hosts(
    addresses: &[IpAddr],
    hostname: &str,
    domain: &str,
    aliases: &[HostAlias],
) -> String {
    let mut text = String::from(HEADER);
    text.push_str(LOOPBACK);
    for address in addresses {
        // Writing to a string can't fail.
        let _ = match domain {
            "" => writeln!(text, "{address}\t{hostname}"),
            domain => writeln!(text, "{address}\t{hostname}.{domain}\t{hostname}"),
        };
    }
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_the_kubelet_has_it() {
        let aliases = [HostAlias {
            ip: "10.0.0.9".into(),
            hostnames: vec!["a".into(), "b.c".into()],
        }];
        let addresses = ["10.1.2.3".parse().unwrap(), "fd00::7".parse().unwrap()];
        let text = managed_hosts(&addresses, "web-0", "web.ns.svc.cluster.local", &aliases);
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
             10.1.2.3\tweb-0.web.ns.svc.cluster.local\tweb-0\nfd00::7\tweb-0.web.ns.svc.cluster.local\tweb-0\n\
             \n# Entries added by HostAliases.\n10.0.0.9\ta\tb.c\n"
        );
        assert!(managed_hosts(&addresses[..1], "p", "", &[]).ends_with("10.1.2.3\tp\n"));
    }
}
