//! The network between a node and the API server, cut: what goes one way or the other is lost without a word. And an
//! etcd that hangs, so that the API server answers nobody.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{ASIDE, Cluster, Host};
use crate::child::Process;

/// An nftables table of a host's own network.
const TABLE: &str = "coracle_e2e_cut";

/// A network that is cut until this is mended or dropped.
pub struct Cut<'a> {
    hosts: Vec<&'a Host>,
}

impl Cluster {
    /// The API server's other address, which [`Cluster::cut`] cuts off.
    pub fn aside(&self) -> String {
        format!("https://{ASIDE}:6443")
    }

    /// Cuts every host off from [`Cluster::aside`].
    ///
    /// # Errors
    /// If nft can't.
    pub fn cut(&self) -> Result<Cut<'_>> {
        let mut cut = Cut { hosts: Vec::new() };
        for host in self.hosts() {
            // On its way in, where nobody is told of it: on the way out the sender would be.
            let rules = format!(
                "table inet {TABLE} {{\nchain input {{\ntype filter hook input priority -300\n\
                 ip saddr {ASIDE} drop\nip daddr {ASIDE} drop\n}}\n}}\n"
            );
            cut.hosts.push(host);
            nft(host, &rules)?;
        }
        Ok(cut)
    }
}

/// An etcd that hangs until this is dropped.
pub struct Paused<'a> {
    etcd: &'a Process,
}

impl Cluster {
    /// Stops etcd as it is: it neither answers nor ends.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause_etcd(&self) -> Result<Paused<'_>> {
        let etcd = self.etcd.as_ref().context("there is no etcd")?;
        etcd.signal_group(Signal::STOP)?;
        Ok(Paused { etcd })
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.etcd.signal_group(Signal::CONT) {
            eprintln!("etcd stays stopped: {error:#}");
        }
    }
}

impl Cut<'_> {
    fn mend(&mut self) -> Result<()> {
        for host in self.hosts.drain(..) {
            nft(host, &format!("delete table inet {TABLE}"))?;
        }
        Ok(())
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.mend() {
            eprintln!("the network stays cut: {error:#}");
        }
    }
}

fn nft(host: &Host, rules: &str) -> Result<()> {
    let said = host
        .in_network(Path::new("nft"))
        .arg(rules)
        .output()
        .context("running nft")?;
    ensure!(
        said.status.success(),
        "nft on host {}: {}",
        host.name(),
        String::from_utf8_lossy(&said.stderr).trim()
    );
    Ok(())
}
