//! The rules of a container's runs: how each ended is true, and another begins only as policy and
//! backoff allow.

use jiff::{SignedDuration, Timestamp};
use lifecycle::Cause;
use lifecycle::memory::Ended;

use crate::machine::Machine;
use crate::rules::{Broken, Shown, broken, member};
use crate::validation;

/// What one has seen who watches a container all its life.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) attempt: u32,
    pub(crate) ended: Option<Box<Ended>>,
    /// The end that `ended` tells was not yet followed by a new run.
    unpaid: bool,
    /// The attempt that was stopped for a changed spec.
    respecified: Option<u32>,
    /// The attempt that was stopped for its resources.
    resized: Option<u32>,
    /// The attempt that was stopped for a failed probe.
    unhealthy: Option<u32>,
    /// All containers of the pod begin anew since its last run.
    pub(crate) anew: bool,
    /// The attempt whose preStop hook was asked for.
    pub(crate) pre_stop: Option<u32>,
    /// Seconds, and when they were last raised.
    crash: Option<(i64, Timestamp)>,
}

impl Seen {
    /// Its end begins, for a reason that may bring another run.
    pub(crate) fn ends(&mut self, cause: Cause, attempt: u32) {
        match cause {
            Cause::SpecChange => self.respecified = Some(attempt),
            Cause::Resize => self.resized = Some(attempt),
            Cause::Probe(_) => self.unhealthy = Some(attempt),
            _ => {}
        }
    }

    /// A run ended, as memory says: it has to be true.
    pub(crate) fn over(
        &mut self,
        machine: &Machine,
        (id, name): (u32, &str),
    ) -> Result<(), Broken> {
        self.unpaid = true;
        if self.respecified == Some(self.attempt) {
            self.crash = None;
        }
        let Some(ended) = &self.ended else {
            return broken("ends stay known", format!("{name} forgot how it ended"));
        };
        let truth = machine.truth.get(&(id, name.to_owned()));
        let true_code = truth.and_then(|truth| truth.codes.get(&self.attempt).copied());
        let guessed = matches!(
            ended.reason.as_str(),
            "ContainerStatusUnknown" | "StartError"
        );
        if !guessed && true_code != Some(ended.exit_code) {
            let said = ended.exit_code;
            let detail = format!("{name} ended with {true_code:?}, and {said} is told");
            return broken("exit codes are true", detail);
        }
        Ok(())
    }

    /// A pull begins: the way to a new run, which policy and backoff have to allow.
    pub(crate) fn restart(&mut self, shown: &Shown<'_>, name: &str) -> Result<(), Broken> {
        let Some(ended) = self.ended.as_ref().filter(|_| self.unpaid) else {
            return Ok(());
        };
        self.unpaid = false;
        if std::mem::take(&mut self.anew) {
            return Ok(());
        }
        let (container, first) = member(shown.pod, name)?;
        let policy = shown
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let done = first && !sidecar && ended.exit_code == 0;
        let respecified = self.respecified.take().is_some() | self.resized.take().is_some();
        let unhealthy = self.unhealthy.take().is_some()
            && container.restart_policy.as_deref().or(policy) != Some("Never");
        if !respecified
            && !unhealthy
            && (done || !validation::should_restart(container, policy, ended.exit_code))
        {
            let code = ended.exit_code;
            return broken("restarts obey the policy", format!("{name} after {code}"));
        }
        let expired = |updated: Timestamp| {
            ended.finished_at.duration_since(updated) > SignedDuration::from_mins(10)
        };
        let delay = match self.crash {
            Some((delay, updated)) if !expired(updated) => {
                let due = ended
                    .finished_at
                    .saturating_add(SignedDuration::from_secs(delay));
                if due.is_ok_and(|due| shown.now < due) {
                    let early = format!("{name} {delay} s after {} is due", ended.finished_at);
                    return broken("restarts obey the backoff", early);
                }
                (delay * 2).min(300)
            }
            _ => 10,
        };
        self.crash = Some((delay, shown.now));
        Ok(())
    }
}
