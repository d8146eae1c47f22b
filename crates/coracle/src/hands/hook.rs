//! Lifecycle hooks: the handler that a Pod names, run once (`Run` in
//! `pkg/kubelet/lifecycle/handlers.go`).
//!
//! Must not know: when a hook is due and who waits for it, which is `lifecycle`'s to say.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Pod};
use lifecycle::{Failure, Hook, Output, display};
use probe::Scheme;

use super::capture::Captured;
use super::probe::http_get;
use super::{Hands, failure};

/// `kube-lifecycle/<major>.<minor>` of the Kubernetes that this node is of.
const AGENT: &str = "kube-lifecycle/1.36";
/// What nothing else bounds, the kubelet does not bound either.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Hands {
    /// Runs a container's hook.
    ///
    /// # Errors
    /// It failed, or took longer than `grace_seconds`.
    pub(super) async fn hook(
        &self,
        pod: &Pod,
        (name, run): (&str, u32),
        hook: Hook,
        (ips, grace_seconds): (&[IpAddr], Option<u32>),
    ) -> Result<Output, Failure> {
        let reason = match hook {
            Hook::PostStart => "FailedPostStartHook",
            Hook::PreStop => "FailedPreStopHook",
        };
        let bound = grace_seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds.into()));
        let run = self.handler(pod, (name, run), hook, (ips, bound));
        let said = match tokio::time::timeout(bound, run).await {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(message)) => message,
            Err(_) => format!("{hook:?} hook of container {name:?} did not end within {bound:?}"),
        };
        Err(failure(reason, said, false))
    }

    async fn handler(
        &self,
        pod: &Pod,
        (name, run): (&str, u32),
        hook: Hook,
        (ips, bound): (&[IpAddr], Duration),
    ) -> Result<Output, String> {
        let container = super::container(pod, name).ok_or("no such container")?;
        let handler = hook.handler(&container).ok_or("no such hook")?;
        if let Some(exec) = &handler.exec {
            let ran = self.hook_exec(pod, &container, (exec, run)).await;
            return ran.map(|()| Output::Nothing);
        }
        if let Some(get) = &handler.http_get {
            return hook_get(pod, &container, get, (ips, bound)).await;
        }
        if let Some(sleep) = &handler.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            return Ok(Output::Nothing);
        }
        Err("Cannot run handler: invalid handler: use exec, httpGet or sleep".to_owned())
    }

    async fn hook_exec(
        &self,
        pod: &Pod,
        container: &Container,
        (exec, run): (&ExecAction, u32),
    ) -> Result<(), String> {
        let words = exec.command.clone().unwrap_or_default();
        let ran = self.captured(pod, (&container.name, run), words.clone());
        let (error, message) = match ran.await {
            Ok(Captured { code: 0, .. }) => return Ok(()),
            Ok(Captured { code, output }) => {
                (format!("command {words:?} exited with {code}"), output)
            }
            Err(error) => (error.message, String::new()),
        };
        Err(format!(
            "Exec lifecycle hook ([{}]) for Container {:?} in Pod {:?} failed - error: {error}, message: {message:?}",
            words.join(" "),
            container.name,
            display(pod)
        ))
    }
}

/// Whatever is answered is well; a server of no TLS is asked again without.
async fn hook_get(
    pod: &Pod,
    container: &Container,
    action: &HTTPGetAction,
    (ips, bound): (&[IpAddr], Duration),
) -> Result<Output, String> {
    let failed = |error: String| {
        format!(
            "HTTP lifecycle hook ({}) for Container {:?} in Pod {:?} failed - error: {error}",
            action.path.as_deref().unwrap_or_default(),
            container.name,
            display(pod)
        )
    };
    let mut get = http_get(action, container, ips, AGENT).map_err(failed)?;
    let Err(why) = probe::answers(&get, bound).await else {
        return Ok(Output::Nothing);
    };
    if why.in_the_clear {
        get.scheme = Scheme::Http;
        get.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        if probe::answers(&get, bound).await.is_ok() {
            let host = get.authority();
            return Ok(Output::FellBack { host });
        }
    }
    Err(failed(why.to_string()))
}
