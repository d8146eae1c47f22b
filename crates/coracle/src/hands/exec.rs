//! Exec: running a command in a container. Which module it means is [`super::lookup`]'s to say.
//!
//! It must not know who asks: a person, a probe or a hook.

use std::os::fd::OwnedFd;

use image::Module;
use k8s_openapi::api::core::v1::Pod;
use runtime::{ExecEnd, ExecError, ExecFds, ExecSpec, ModuleContent, ModuleSource, StartError};

use super::images::Resolved;
use super::lookup::Lookup;
use super::prepare::allows_preview3;
use super::{Hands, guest_id, locked};
use crate::program::sentence;

/// As docker and shells have them: our own failure, what can't be run, what is not there.
pub(super) const FAILED: u8 = 125;
pub(super) const UNFIT: u8 = 126;
pub(super) const MISSING: u8 = 127;

/// What an exec reads and writes; `None` is empty, or nowhere.
#[derive(Debug, Default)]
pub(crate) struct ExecStreams {
    /// Standard input.
    pub(crate) stdin: Option<OwnedFd>,
    /// Standard output.
    pub(crate) stdout: Option<OwnedFd>,
    /// Standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Why a command did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ExecFailure {
    /// What whoever asked exits with: 127 if there is no such command, 126 if it can't be run, and
    /// 125 for everything else.
    pub(crate) exit_code: u8,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

pub(super) fn failed(exit_code: u8, message: impl ToString) -> ExecFailure {
    ExecFailure {
        exit_code,
        message: message.to_string(),
    }
}

impl Hands {
    /// Runs a command in a running container of a pod, to its end; dropping the future ends it.
    /// `attempt` is the run that it is to be in.
    ///
    /// # Errors
    /// [`ExecFailure`]: it did not run, but for a guest host that died meanwhile.
    pub(crate) async fn exec(
        &self,
        pod: &Pod,
        container: &str,
        attempt: u32,
        command: Vec<String>,
        tty: bool,
        streams: ExecStreams,
    ) -> Result<ExecEnd, ExecFailure> {
        let id = guest_id(pod, container, attempt);
        let word = command.first().cloned().unwrap_or_default();
        if word.is_empty() {
            return Err(failed(
                FAILED,
                "an exec needs a command, as in python3.wasm",
            ));
        }
        // Before anything is compiled.
        if let Err(error) = self.host().stats(&id).await {
            let message = format!("container {container:?} does not run: {error}");
            return Err(failed(FAILED, message));
        }
        let module = self.tool(pod, container, &word).await?;
        let source = ModuleSource {
            digest: *module.digest.as_bytes(),
            content: ModuleContent::Path(module.path),
            preview3: allows_preview3(pod).map_err(|failure| failed(FAILED, failure.message))?,
        };
        let spec = ExecSpec {
            id,
            export: module.export,
            args: command,
            env: Vec::new(),
            cwd: None,
            tty,
        };
        let fds = ExecFds {
            code: self.exec_code(&source, &word).await?,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let again = copies(&fds);
        match self.host().exec(spec.clone(), fds).await {
            Err(ExecError::Start(StartError::Code { message })) => {
                tracing::warn!(id = %spec.id, message, "compiled code did not load; it is compiled again");
                let discarded = self.compiler.discard(&source.digest).await;
                discarded.map_err(|error| failed(FAILED, sentence(&error)))?;
                let (stdin, stdout, stderr) = again.map_err(|e| failed(FAILED, e))?;
                let fds = ExecFds {
                    code: self.exec_code(&source, &word).await?,
                    stdin,
                    stdout,
                    stderr,
                };
                let ended = self.host().exec(spec, fds).await;
                ended.map_err(|error| refused(&word, &error))
            }
            ended => ended.map_err(|error| refused(&word, &error)),
        }
    }

    async fn tool(&self, pod: &Pod, name: &str, word: &str) -> Result<Module, ExecFailure> {
        let found = super::container(pod, name)
            .ok_or_else(|| failed(FAILED, format!("the pod has no container {name:?}")))?;
        let image = self.running_image(pod, name).await?;
        let lookup = Lookup::of(pod, &found, &image.process(), image.is_multicall());
        let word = word.to_owned();
        tokio::task::spawn_blocking(move || lookup.find(&image, &word))
            .await
            .unwrap_or_else(|error| Err(failed(FAILED, error)))
    }

    /// The image that a running container was started from.
    async fn running_image(&self, pod: &Pod, name: &str) -> Result<Resolved, ExecFailure> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = locked(&self.resolved).get(&(uid, name.to_owned())).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let status = pod.status.as_ref();
        let statuses = status.into_iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            let ephemeral = status.ephemeral_container_statuses.iter().flatten();
            let lasting = status.container_statuses.iter().flatten().chain(init);
            lasting.chain(ephemeral)
        });
        let id = statuses
            .filter(|status| status.name == name)
            .map(|status| status.image_id.clone())
            .find(|id| !id.is_empty());
        let id = id.ok_or_else(|| {
            let message =
                format!("the image of container {name:?} is not known: it was not started here");
            failed(FAILED, message)
        })?;
        let resolved = self.resolved(pod, name, &id).await;
        resolved.map_err(|failure| failed(FAILED, failure.message))
    }

    async fn exec_code(&self, source: &ModuleSource, word: &str) -> Result<OwnedFd, ExecFailure> {
        let code = self.compiler.code(source, |_| {}).await;
        code.map(|code| code.file).map_err(|error| {
            let message = format!("{word}: {}", sentence(&error));
            failed(if error.retryable() { FAILED } else { UNFIT }, message)
        })
    }
}

type Copies = (Option<OwnedFd>, Option<OwnedFd>, Option<OwnedFd>);

/// The streams once more, for a second try.
fn copies(fds: &ExecFds) -> std::io::Result<Copies> {
    let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
    Ok((copy(&fds.stdin)?, copy(&fds.stdout)?, copy(&fds.stderr)?))
}

/// What the guest host's refusal means to who asked.
fn refused(word: &str, error: &ExecError) -> ExecFailure {
    let exit_code = match error {
        ExecError::Start(error) if !error.retryable() => UNFIT,
        _ => FAILED,
    };
    failed(exit_code, format!("{word}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_run_is_told_by_the_codes_of_shells() {
        let entry = StartError::Entry {
            export: "_start".to_owned(),
            problem: "it exports nothing".to_owned(),
        };
        let code = |error: ExecError| refused("x", &error).exit_code;
        assert_eq!(code(ExecError::Start(entry)), UNFIT);
        assert_eq!(code(ExecError::Start(StartError::Closing)), FAILED);
        assert_eq!(code(ExecError::Gone(String::new())), FAILED);
    }
}
