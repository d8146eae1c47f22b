//! The stream of guests' ends, the same whichever process the guests run in.

use tokio::sync::mpsc;

use crate::spec::Exited;

/// How guests ended: first every end that was not forgotten, then each as it comes. The stream
/// ends with the guest host.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Exited>);

impl Events {
    /// A stream and the side that feeds it. It is unbounded: a guest host keeps every end until it
    /// is forgotten in any case.
    pub(crate) fn channel() -> (mpsc::UnboundedSender<Exited>, Events) {
        let (send, receive) = mpsc::unbounded_channel();
        (send, Events(receive))
    }

    /// The next end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Exited> {
        self.0.recv().await
    }
}
