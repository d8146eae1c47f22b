//! What systemd is told of the node, where systemd started it (`sd_notify(3)`): that it works, what
//! it waits for, that it ends, and again and again that it is alive. Anywhere else nothing is told.

use std::sync::Arc;
use std::time::Duration;

use cluster::heartbeat;
use sd_notify::NotifyState;
use tokio::sync::watch;

use super::health::Pulse;

/// The node works, whether or not its API server is there.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It ends, and takes the time that its pods have.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending")]);
}

/// A line for `systemctl status`.
pub(super) fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// Keeps that line to what is waited for.
pub(super) async fn follow(mut heard: watch::Receiver<heartbeat::State>) {
    let mut said = None;
    loop {
        let line = line(&heard.borrow_and_update());
        if said.as_ref() != Some(&line) {
            status(&line);
            said = Some(line);
        }
        if heard.changed().await.is_err() {
            return;
        }
    }
}

fn line(state: &heartbeat::State) -> String {
    match (&state.waiting, &state.node) {
        // A line is a variable of the message: another would begin after a line's end.
        (Some(waiting), _) => waiting.replace('\n', " "),
        (None, Some(_)) => "registered".to_owned(),
        (None, None) => "registering".to_owned(),
    }
}

/// Says that the node is alive, twice in each time that systemd allows (`WatchdogSec=`), for as long as
/// its loop turns.
pub(super) async fn watchdog(pulse: Arc<Pulse>) {
    let Some(allowed) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut turns = tokio::time::interval((allowed / 2).max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        if pulse.is_alive() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd was not told of the node's state");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_waited_for() {
        let mut state = heartbeat::State::default();
        assert_eq!(line(&state), "registering");
        state.node = Some(k8s_openapi::api::core::v1::Node::default());
        assert_eq!(line(&state), "registered");
        state.waiting = Some("the API server\nis away".to_owned());
        assert_eq!(line(&state), "the API server is away");
    }
}
