//! Execs by way of the protocol.

use std::sync::atomic::Ordering;

use super::{Remote, gone_reason, unexpected};
use crate::protocol::message::{Answer, Call, EXEC, ExecLayout};
use crate::spec::{ExecEnd, ExecError, ExecFds, ExecSpec};

impl Remote {
    /// See [`Host::exec`](crate::Host::exec).
    pub async fn exec(&self, spec: ExecSpec, fds: ExecFds) -> Result<ExecEnd, ExecError> {
        if !self.0.theirs.can(EXEC) {
            return Err(ExecError::Unsupported {
                version: self.0.theirs.binary.clone(),
            });
        }
        let (layout, fds) = ExecLayout::of(fds);
        let call = Call::Exec {
            spec: Box::new(spec),
            fds: layout,
        };
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut cancel = Cancel {
            remote: self,
            exec: Some(id),
        };
        let answer = self.call_as(id, &call, fds).await;
        cancel.exec = None;
        match answer {
            Ok(Answer::ExecEnded(end)) => Ok(end),
            Ok(Answer::NotExecuted(error)) => Err(error),
            Ok(other) => Err(ExecError::Gone(unexpected(&other))),
            Err(error) => Err(ExecError::Gone(gone_reason(error))),
        }
    }
}

/// Ends an exec that nobody waits for any more.
struct Cancel<'a> {
    remote: &'a Remote,
    exec: Option<u64>,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        if let Some(exec) = self.exec {
            let id = self.remote.0.next.fetch_add(1, Ordering::Relaxed);
            // If it can't be asked, the exec ends with the connection or has ended with the host.
            let _ = self.remote.post(id, &Call::Cancel { exec }, vec![]);
        }
    }
}
