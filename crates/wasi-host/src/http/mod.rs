//! A guest's own HTTP requests: where they may go, how they are dialled, how long they may take.
//!
//! Neither the engine's own client nor its certificates are used: every address is one that the
//! pod's network allows, names are looked up as the machine does, and a certificate is good if the
//! machine trusts it.
//!
//! It must not know of preview2's resources, nor of how requests are served.

mod body;
mod dial;
mod error;
mod patience;
mod rules;
mod send;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use patience::Patience;
pub use rules::{Destination, OutgoingHttp, WrongDestination};
pub(crate) use send::{Connection, send};

use crate::{Blocking, Charge, Network};

/// What all requests of a container share.
pub(crate) struct Client {
    rules: OutgoingHttp,
    permits: Arc<Semaphore>,
    network: Network,
    charge: Charge,
    blocking: Arc<Blocking>,
    /// What a test trusts in place of the machine's certificates.
    #[cfg(test)]
    trusts: Option<Arc<rustls::ClientConfig>>,
}

impl Client {
    pub(crate) fn new(
        rules: OutgoingHttp,
        network: Network,
        charge: Charge,
        blocking: Arc<Blocking>,
    ) -> Client {
        let permits = rules.max_concurrent.map_or(Semaphore::MAX_PERMITS, |most| {
            usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS)
        });
        Client {
            rules,
            permits: Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS))),
            network,
            charge,
            blocking,
            #[cfg(test)]
            trusts: None,
        }
    }
}
