//! From one certificate to the next.

use std::time::Duration;

use cluster::csr::{PATIENCE, Request, Signer};
use cluster::{Access, Certified};
use jiff::Timestamp;

use super::{CLIENT, Store, Waits};

/// Between a request that was refused and the next, which is of another key.
pub(super) const RETRY: Duration = Duration::from_secs(60);

/// The clock is looked at this often: it may be set, and the machine may sleep.
const CLOCK: Duration = Duration::from_secs(30);

/// Asks for certificates of one kind, and keeps them.
pub(super) struct Rotation {
    pub(super) store: Store,
    /// As whom it asks.
    pub(super) access: Access,
    pub(super) node: String,
    pub(super) waits: Waits,
}

impl Rotation {
    /// Follows the client's certificate, which each new one takes the place of at once. Never ends.
    pub(super) async fn client(self) {
        let mut current = self.access.certified();
        loop {
            match &current {
                Some(certified) => until(certified.replace_at()).await,
                None => return,
            }
            match self.next(CLIENT, &Signer::Client, PATIENCE).await {
                Ok(certified) => {
                    match self.access.renew(&certified) {
                        Ok(()) => {
                            tracing::info!(until = %certified.not_after(), "a new certificate is in use")
                        }
                        Err(error) => tracing::error!(%error, "a new certificate can't be used"),
                    }
                    self.waits.done(CLIENT);
                    current = Some(certified);
                }
                Err(error) => {
                    self.waits.say(CLIENT, &format!("{error:#}"));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Asks for the next one, waits for it and keeps it.
    ///
    /// # Errors
    /// `CsrError` when it was refused or took too long; else the disk's.
    pub(super) async fn next(
        &self,
        who: &'static str,
        signer: &Signer,
        patience: Duration,
    ) -> anyhow::Result<Certified> {
        let key = self.store.key()?;
        let request = Request::new(&self.node, &key, signer)?;
        let waits = self.waits.clone();
        let tell = move |text: &str| waits.say(who, text);
        let client = self.access.pods()?;
        let signed = request.certificate(client, patience, tell).await;
        if signed.is_err() {
            // A request that was refused stays refused.
            self.store.forget_key();
        }
        let certified = signed?;
        self.store.keep(&certified)?;
        self.waits.done(who);
        Ok(certified)
    }
}

/// Until the wall clock says so.
pub(super) async fn until(at: Timestamp) {
    loop {
        let left = at.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(CLOCK)).await,
            _ => return,
        }
    }
}
