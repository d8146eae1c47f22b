//! Execs of a connection: each ends with it at the latest.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Connection, Service, check_whole, not_as_laid_out, send_answer};
use crate::protocol::frame::Frame;
use crate::protocol::message::{Answer, ExecLayout};
use crate::spec::ExecSpec;

impl<S: Service> Connection<S> {
    /// Runs an exec beside the other calls, until its end, its [`Call::Cancel`] or the connection's.
    pub(super) fn exec(
        &mut self,
        id: u64,
        spec: ExecSpec,
        layout: ExecLayout,
        frame: Frame,
        permit: OwnedSemaphorePermit,
    ) {
        self.execs.retain(|_, task| !task.is_finished());
        if self.execs.contains_key(&id) {
            let message = format!("request {id} is an exec that runs already");
            return self.answer(id, Answer::NotUnderstood(message), permit);
        }
        let (service, send) = (Arc::clone(&self.service), self.send.clone());
        let task = tokio::spawn(async move {
            let answer = exec(&*service, spec, &layout, frame).await;
            send_answer(&send, id, &answer, permit);
        });
        self.execs.insert(id, task.abort_handle());
    }

    /// Ends an exec, if it runs still.
    pub(super) fn cancel(&mut self, exec: u64) {
        if let Some(task) = self.execs.remove(&exec) {
            task.abort();
        }
    }
}

async fn exec<S: Service>(
    service: &S,
    spec: ExecSpec,
    layout: &ExecLayout,
    frame: Frame,
) -> Answer {
    if let Err(lost) = check_whole(&frame) {
        return Answer::NotExecuted(lost.into());
    }
    let Some(fds) = layout.take(frame.fds) else {
        return not_as_laid_out();
    };
    match service.exec(spec, fds).await {
        Ok(end) => Answer::ExecEnded(end),
        Err(error) => Answer::NotExecuted(error),
    }
}
