//! A guest host, wherever it is: in this process, or in another by way of the protocol.

use std::time::Duration;

use crate::events::Events;
use crate::local::Local;
use crate::remote::Remote;
use crate::spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, GuestFds, GuestId, GuestSpec, GuestState, HostBudget,
    HostError, Limits, StartError, Started, Stats,
};

/// A guest host.
pub enum Host {
    /// In this process: its guests end with it.
    Local(Local),
    /// In a process of its own: its guests go on when this one ends.
    Remote(Remote),
}

impl Host {
    /// Starts a guest. It runs from then on, whether or not anybody listens. A second start under
    /// the same id changes nothing and is answered as the first. Dropping the future leaves the
    /// guest either started or not.
    ///
    /// # Errors
    /// [`StartError`]: there is no such guest, but for [`StartError::Gone`], which can't tell.
    pub async fn start(&self, spec: GuestSpec, fds: GuestFds) -> Result<Started, StartError> {
        match self {
            Host::Local(host) => host.start(spec, fds).await,
            Host::Remote(host) => host.start(spec, fds).await,
        }
    }

    /// A number that tells guest hosts apart: one in this process has none before or after it.
    pub fn instance(&self) -> u64 {
        match self {
            Host::Local(_) => 1,
            Host::Remote(host) => host.instance(),
        }
    }

    /// Runs a module in a running container: in its tree of files, with its environment and network,
    /// on its memory budget and CPU quota. Resolves when it has ended, which it does with the
    /// container at the latest. Dropping the future ends it.
    ///
    /// # Errors
    /// [`ExecError`]: it did not run, but for [`ExecError::Gone`], which can't tell.
    pub async fn exec(&self, spec: ExecSpec, fds: ExecFds) -> Result<ExecEnd, ExecError> {
        match self {
            Host::Local(host) => host.exec(spec, fds).await,
            Host::Remote(host) => host.exec(spec, fds).await,
        }
    }

    /// Stops a guest and resolves when it has ended, its blocking work included. One that drains
    /// has the grace; a later stop with a shorter one overtakes. One that has ended is stopped.
    ///
    /// # Errors
    /// [`HostError::Unknown`]: it does not run. [`HostError::Gone`].
    pub async fn stop(&self, id: &GuestId, grace: Duration) -> Result<(), HostError> {
        match self {
            Host::Local(host) => host.stop(id, grace).await,
            Host::Remote(host) => host.stop(id, grace).await,
        }
    }

    /// All guests that were not forgotten.
    ///
    /// # Errors
    /// [`HostError::Gone`]
    pub async fn list(&self) -> Result<Vec<GuestState>, HostError> {
        match self {
            Host::Local(host) => Ok(host.list()),
            Host::Remote(host) => host.list().await,
        }
    }

    /// How guests end: first every end that was not forgotten, then each as it comes.
    pub fn events(&self) -> Events {
        match self {
            Host::Local(host) => host.events(),
            Host::Remote(host) => host.events(),
        }
    }

    /// What a guest uses, or used if it has ended.
    ///
    /// # Errors
    /// [`HostError::Unknown`], [`HostError::Gone`]
    pub async fn stats(&self, id: &GuestId) -> Result<Stats, HostError> {
        match self {
            Host::Local(host) => host.stats(id),
            Host::Remote(host) => host.stats(id).await,
        }
    }

    /// What all guests use that run.
    ///
    /// # Errors
    /// [`HostError::Gone`]
    pub async fn all_stats(&self) -> Result<Vec<Stats>, HostError> {
        match self {
            Host::Local(host) => Ok(host.all_stats()),
            Host::Remote(host) => host.all_stats().await,
        }
    }

    /// Changes the limits of a guest as it runs. What it holds above a new memory limit stays, but
    /// it may not grow; blocking operations above a new bound end first.
    ///
    /// # Errors
    /// [`HostError::Unknown`], [`HostError::Gone`]
    pub async fn set_limits(&self, id: &GuestId, limits: &Limits) -> Result<(), HostError> {
        match self {
            Host::Local(host) => host.set_limits(id, limits),
            Host::Remote(host) => host.set_limits(id, limits).await,
        }
    }

    /// Forgets how a guest ended. One that is not known is forgotten.
    ///
    /// # Errors
    /// [`HostError::Running`], [`HostError::Gone`]
    pub async fn forget(&self, id: &GuestId) -> Result<(), HostError> {
        match self {
            Host::Local(host) => host.forget(id),
            Host::Remote(host) => host.forget(id).await,
        }
    }

    /// How much of the process's mappings and descriptors is taken.
    ///
    /// # Errors
    /// [`HostError::Gone`]
    pub async fn budget(&self) -> Result<HostBudget, HostError> {
        match self {
            Host::Local(host) => Ok(host.budget()),
            Host::Remote(host) => host.budget().await,
        }
    }

    /// Stops all guests with no grace, takes no more, and resolves when the last has ended.
    ///
    /// # Errors
    /// [`HostError::Gone`]
    pub async fn shutdown(&self) -> Result<(), HostError> {
        match self {
            Host::Local(host) => {
                host.shutdown().await;
                Ok(())
            }
            Host::Remote(host) => host.shutdown().await,
        }
    }
}
