//! What `/healthz` looks at. A check fails where a restart of the agent may help; what it waits for is told beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::{Check, Health, Verdict};
use cluster::heartbeat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use super::identity::Waits;

/// How old the last turn of the node's loop may be (`SyncLoopHealthCheck` of `pkg/kubelet/kubelet.go`).
const SLOW: Duration = Duration::from_secs(300);
/// How often the loop turns where nothing else turns it.
pub(super) const TURN: Duration = Duration::from_secs(10);

/// When the node's loop last turned.
pub(super) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(super) fn new() -> Arc<Pulse> {
        Arc::new(Pulse(Mutex::new(Instant::now())))
    }

    /// It turns.
    pub(super) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it turned lately.
    pub(super) fn is_alive(&self) -> bool {
        self.verdict(Instant::now()) == Verdict::Good
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match now.saturating_duration_since(last) > SLOW {
            true => Verdict::Bad("sync Loop took longer than expected".to_owned()),
            false => Verdict::Good,
        }
    }
}

/// The checks of a node.
pub(super) fn checks(
    pulse: Arc<Pulse>,
    health: watch::Receiver<cluster::Health>,
    state: watch::Receiver<heartbeat::State>,
    certificates: Waits,
) -> Health {
    Health::new(vec![
        Check::new("log", log),
        Check::new("syncloop", move || pulse.verdict(Instant::now())),
        Check::new("guests", move || {
            waits(health.borrow().not_ready.as_deref())
        }),
        Check::new("certificates", move || {
            let all: Vec<String> = certificates.list().into_values().collect();
            waits(Some(all.join("; ").as_str()).filter(|all| !all.is_empty()))
        }),
        Check::new("node", move || waits(state.borrow().waiting.as_deref())),
    ])
}

/// The log is standard error: where that takes nothing, every task that says something stands still.
fn log() -> Verdict {
    let mut fds = [PollFd::from_borrowed_fd(
        rustix::stdio::stderr(),
        PollFlags::OUT,
    )];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&now)) {
        Ok(0) => Verdict::Bad("logging blocked".to_owned()),
        _ => Verdict::Good,
    }
}

fn waits(what: Option<&str>) -> Verdict {
    what.map_or(Verdict::Good, |what| {
        // A line a check.
        Verdict::Waiting(what.replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_found() {
        let now = Instant::now();
        let pulse = Pulse::new();
        pulse.beat();
        assert_eq!(pulse.verdict(now), Verdict::Good);
        assert_eq!(pulse.verdict(now + SLOW), Verdict::Good);
        let late = pulse.verdict(now + SLOW + TURN);
        assert!(matches!(late, Verdict::Bad(_)));
    }

    #[test]
    fn what_is_waited_for_is_told_in_a_line() {
        assert_eq!(waits(None), Verdict::Good);
        let two = Verdict::Waiting("a b".to_owned());
        assert_eq!(waits(Some("a\nb")), two);
    }
}
