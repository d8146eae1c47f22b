//! New limits for a guest that runs.

use lifecycle::{Failure, Output};
use runtime::{GuestId, HostError, Limits};

use super::{Hands, failure};

/// How its limits are to change; see [`lifecycle::What::Resize`].
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) cpu_milli: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) shrinks: bool,
}

impl Hands {
    /// Sets the limits of a guest. One that has ended meanwhile has none to set.
    pub(super) async fn resize(&self, id: &GuestId, change: Change) -> Result<Output, Failure> {
        match self.set_limits(id, change).await {
            Ok(()) | Err(Refused::Host(HostError::Unknown(_))) => Ok(Output::Nothing),
            Err(Refused::Host(error)) => Err(failure("ResizeError", error, true)),
            Err(Refused::InUse { limit, used }) => {
                let name = &id.container;
                // The kubelet's words (`validateMemoryResizeAction` in `pkg/kubelet/kuberuntime`).
                let message = format!(
                    "cannot decrease memory limits: attempting to set container {name:?} memory \
                     limit ({limit}) below current usage ({used})"
                );
                Err(failure("ResizeError", message, true))
            }
        }
    }

    async fn set_limits(&self, id: &GuestId, change: Change) -> Result<(), Refused> {
        let host = self.host();
        if let Some(limit) = change.memory_bytes.filter(|_| change.shrinks) {
            let used = host.stats(id).await.map_err(Refused::Host)?.memory_bytes;
            if used >= limit {
                return Err(Refused::InUse { limit, used });
            }
        }
        let cpu = change.cpu_milli;
        let limits = Limits {
            memory_bytes: change.memory_bytes,
            cpu_milli: cpu.map(|milli| u32::try_from(milli).unwrap_or(u32::MAX)),
            ..Limits::default()
        };
        host.set_limits(id, &limits).await.map_err(Refused::Host)
    }
}

/// Why limits were not set.
enum Refused {
    Host(HostError),
    /// Bytes.
    InUse {
        limit: u64,
        used: u64,
    },
}
