//! The guests of this process, as the protocol's server calls them.

use std::time::Duration;

use super::Service;
use crate::events::Events;
use crate::local::{Local, LocalConfig};
use crate::spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, GuestFds, GuestId, GuestSpec, GuestState, HostBudget,
    HostError, Limits, StartError, Started, Stats,
};

/// The guests of a process that is there for them.
pub(super) fn local_service() -> Result<Local, String> {
    Local::new(LocalConfig::default()).map_err(|error| {
        use std::error::Error;
        let cause = error.source().map(|cause| format!(": {cause}"));
        format!("{error}{}", cause.unwrap_or_default())
    })
}

impl Service for Local {
    async fn start(&self, spec: GuestSpec, fds: GuestFds) -> Result<Started, StartError> {
        Local::start(self, spec, fds).await
    }

    async fn exec(&self, spec: ExecSpec, fds: ExecFds) -> Result<ExecEnd, ExecError> {
        Local::exec(self, spec, fds).await
    }

    async fn stop(&self, id: &GuestId, grace: Duration) -> Result<(), HostError> {
        Local::stop(self, id, grace).await
    }

    fn list(&self) -> Vec<GuestState> {
        Local::list(self)
    }

    fn events(&self) -> Events {
        Local::events(self)
    }

    fn stats(&self, id: &GuestId) -> Result<Stats, HostError> {
        Local::stats(self, id)
    }

    fn all_stats(&self) -> Vec<Stats> {
        Local::all_stats(self)
    }

    fn set_limits(&self, id: &GuestId, limits: &Limits) -> Result<(), HostError> {
        Local::set_limits(self, id, limits)
    }

    fn forget(&self, id: &GuestId) -> Result<(), HostError> {
        Local::forget(self, id)
    }

    fn budget(&self) -> HostBudget {
        Local::budget(self)
    }

    async fn shutdown(&self) {
        Local::shutdown(self).await;
    }
}
