//! What a name means to a guest: what its container's `/etc/hosts` says, else what the machine's
//! resolver does. The container's `resolv.conf` is for guests that ask servers themselves.
//!
//! This module must not know WASI.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use crate::fs::{OpenOptions, Opened, Root};
use crate::{Blocking, Network};

/// What is read of a hosts file, bytes: it is the guest's to write.
const HOSTS_BYTES: usize = 256 << 10;

/// The longest name, bytes (RFC 1035, 2.3.4), with a dot at its end.
const NAME_BYTES: usize = 254;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// It can't be one.
    #[error("it is no host name")]
    NoName,
    /// Nobody knows it.
    #[error("it has no address")]
    Unknown(#[source] io::Error),
}

/// Whether it can be a name or an address at all.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#'))
}

/// The addresses of a name, as a guest in that network and with that root calls them. Those of a
/// family that the guest has no sockets of are left out, unless there are no others.
///
/// # Errors
/// [`LookupError`]
pub(crate) async fn lookup(
    name: &str,
    network: Network,
    root: Root,
    blocking: &Arc<Blocking>,
) -> Result<Vec<IpAddr>, LookupError> {
    if !is_name(name) {
        return Err(LookupError::NoName);
    }
    let literal = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    if let Ok(ip) = literal.parse() {
        return Ok(vec![ip]);
    }
    let bare = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // A file that can't be read says nothing.
    let hosts = blocking.run(move || hosts_file(&root)).await;
    let mut found = in_hosts(&hosts.unwrap_or_default(), &bare);
    if found.is_empty() && is_localhost(&bare) {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if found.is_empty() {
        // Nobody is asked for what has no address by its definition (RFC 6761, 6.4).
        if bare.ends_with(".invalid") {
            return Err(LookupError::Unknown(io::ErrorKind::NotFound.into()));
        }
        let asked = tokio::net::lookup_host((name, 0)).await;
        let answers = asked.map_err(LookupError::Unknown)?;
        found = answers.map(|at| at.ip().to_canonical()).collect();
    }
    Ok(usable(found, network))
}

/// It is never asked of a server (RFC 6761, 6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn usable(found: Vec<IpAddr>, network: Network) -> Vec<IpAddr> {
    let (usable, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|ip| network.has(ip.is_ipv4()));
    if usable.is_empty() { other } else { usable }
}

fn hosts_file(root: &Root) -> Vec<u8> {
    let options = OpenOptions {
        read: true,
        follow: true,
        ..OpenOptions::default()
    };
    let opened = root
        .dir()
        .and_then(|dir| root.open(&dir, Path::new("/etc/hosts"), options));
    let Ok(Opened::File(file)) = opened else {
        return Vec::new();
    };
    let mut text = Vec::new();
    while text.len() < HOSTS_BYTES {
        match file.read(HOSTS_BYTES - text.len()) {
            Ok(bytes) if !bytes.is_empty() => text.extend(bytes),
            _ => break,
        }
    }
    text
}

/// Every address that hosts(5) has for a name, in order.
fn in_hosts(text: &[u8], name: &str) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOSTS: &[u8] = b"# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost\n127.64.1.2\tweb-0 # itself\n\n\
        10.0.0.9\tDB.example db\n10.0.0.10 db\nnonsense db\n";

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_hosts_file_is_read_as_hosts_5_says() {
        for (name, found) in [
            ("localhost", &["127.0.0.1", "::1"][..]),
            ("web-0", &["127.64.1.2"]),
            ("db", &["10.0.0.9", "10.0.0.10"]),
            ("db.example", &["10.0.0.9"]),
            ("itself", &[]),
            ("10.0.0.9", &[]),
        ] {
            assert_eq!(in_hosts(HOSTS, name), ips(found), "{name}");
        }
    }

    #[tokio::test]
    async fn the_containers_file_comes_before_the_machines_resolver() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/hosts"), HOSTS).unwrap();
        let fd = std::fs::File::open(folder.path()).unwrap().into();
        let root = Root::new(fd, Vec::new()).unwrap();
        let pod = Network::Pod {
            ip: Network::local_pod(1),
        };
        let blocking = Blocking::new(1);
        let look = |name: &'static str, network| {
            let (root, blocking) = (root.clone(), blocking.clone());
            async move { lookup(name, network, root, &blocking).await }
        };
        assert_eq!(
            look("DB.", pod).await.unwrap(),
            ips(&["10.0.0.9", "10.0.0.10"])
        );
        // A pod without IPv6 is not told of what it can't use.
        assert_eq!(look("localhost", pod).await.unwrap(), ips(&["127.0.0.1"]));
        assert_eq!(
            look("localhost", Network::Node).await.unwrap(),
            ips(&["127.0.0.1", "::1"])
        );
        assert_eq!(look("ip6-localhost", pod).await.unwrap(), ips(&["::1"]));
        assert_eq!(look("a.localhost", pod).await.unwrap(), ips(&["127.0.0.1"]));
        assert_eq!(look("[::1]", pod).await.unwrap(), ips(&["::1"]));
        let none = look("no-such-name.invalid", pod).await;
        assert!(matches!(none, Err(LookupError::Unknown(_))));
        for nothing in ["", "a b", "http://x", "a\0b"] {
            assert!(matches!(look(nothing, pod).await, Err(LookupError::NoName)));
        }
    }
}
