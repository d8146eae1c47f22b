//! What every world in a container has in common, whatever kind of guest runs in it: the tree of
//! files, the environment, the container's limits. The main guest, an exec and an instance that
//! serves a request are each a [`Process`] in it.
//!
//! It must not know what a process runs, nor when it ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use wasi_host::fs::Root;
use wasi_host::stdio::{OutSink, Stdin};
use wasi_host::{Charge, Network, OutgoingHttp, Tty, World};

use crate::container::Container;

/// How many descriptors a process may have open at once, as a container's default is on many hosts.
const OPEN_FILES: usize = 1024;

/// The world of a container, from which those of its processes are made.
pub(crate) struct ContainerWorld {
    /// The limits that all processes share.
    pub(crate) container: Arc<Container>,
    /// The tree of files, mounts included.
    pub(crate) root: Root,
    /// The environment of every process.
    pub(crate) env: Vec<(String, String)>,
    /// Where relative paths start.
    pub(crate) cwd: String,
    /// What addresses mean to every process.
    pub(crate) network: Network,
    /// What the HTTP requests of every process may reach.
    pub(crate) outgoing: OutgoingHttp,
}

/// What one process has of its own.
pub(crate) struct Process {
    /// The arguments, its name first.
    pub(crate) args: Vec<String>,
    /// Variables beyond the container's, which they replace.
    pub(crate) env: Vec<(String, String)>,
    /// Its working directory, if it is not the container's.
    pub(crate) cwd: Option<String>,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Arc<dyn OutSink>,
    pub(crate) stderr: Arc<dyn OutSink>,
    /// Whether its standard streams are a terminal.
    pub(crate) tty: bool,
    /// Sockets that listen, which it finds after its folders.
    pub(crate) listeners: Vec<OwnedFd>,
}

impl ContainerWorld {
    /// The world of one process.
    pub(crate) fn process(&self, process: Process) -> World {
        World {
            root: self.root.clone(),
            args: process.args,
            env: merged(&self.env, process.env),
            cwd: process.cwd.unwrap_or_else(|| self.cwd.clone()),
            stdin: process.stdin,
            stdout: process.stdout,
            stderr: process.stderr,
            tty: if process.tty {
                Tty::ALL
            } else {
                Tty::default()
            },
            network: self.network,
            outgoing: self.outgoing.clone(),
            listeners: process.listeners,
            charge: Charge::to(self.container.memory.clone()),
            blocking: Arc::clone(&self.container.blocking),
            open_files: OPEN_FILES,
            cpu_clock: Some(self.container.cpu_clock()),
        }
    }
}

/// The container's variables with a process's own: each name once, the container's order first.
fn merged(base: &[(String, String)], own: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut env = base.to_vec();
    for (name, value) in own {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => env.push((name, value)),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| {
            word.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        text.split(' ').filter_map(pair).collect()
    }

    #[test]
    fn a_process_adds_variables_and_replaces_the_containers() {
        assert_eq!(
            merged(&pairs("A=1 B=2 C=3"), pairs("B=9 D=4")),
            pairs("A=1 B=9 C=3 D=4")
        );
        assert_eq!(merged(&pairs("A=1"), Vec::new()), pairs("A=1"));
    }
}
