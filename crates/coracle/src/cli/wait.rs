//! `coracle wait`: until pods have ended, or are as they were wished to be.

use std::str::FromStr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;

use super::output;
use super::place::Root;
use crate::dirs::Dirs;
use crate::local::control::{Answer, Call};
use crate::local::end::{self, End};
use crate::local::find::{self, Found};
use crate::local::record::Record;

/// What `coracle wait` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle wait job                                     until it has ended; prints its exit code
  coracle wait --for=condition=Ready --timeout 30s web
  coracle wait --for=delete web")]
pub(crate) struct Args {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// What to wait for: exit, condition=NAME[=VALUE], or delete
    #[arg(long = "for", value_name = "WHAT", default_value = "exit")]
    what: What,
    /// How long to wait at most, such as 30s or 5m; 0 looks once
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    root: Root,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The pod has ended.
    Exit,
    /// A condition has a value.
    Condition(String, String),
    /// Nothing is left of it.
    Delete,
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<What, String> {
        let mut parts = text.splitn(3, '=');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("exit"), None, _) => Ok(What::Exit),
            (Some("delete"), None, _) => Ok(What::Delete),
            (Some("condition"), Some(name), value) if !name.is_empty() => {
                let value = value.unwrap_or("true").to_owned();
                Ok(What::Condition(name.to_owned(), value))
            }
            _ => Err(format!(
                "{text:?} is nothing to wait for; write exit, delete, or condition=Ready"
            )),
        }
    }
}

/// How the waiting for one pod ended.
enum Outcome {
    /// It has come; what to print.
    Come(String),
    /// It can't come any more; why.
    Never(String),
}

/// Waits for all pods; prints an exit code each, in their order, or that a condition is met.
///
/// # Errors
/// When a pod can't be found, what is waited for can't come any more, or the time is over.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let dirs = args.root.open()?;
    let found = find::each(&dirs, &args.pods)?;
    let deadline = args
        .timeout
        .and_then(|time| Instant::now().checked_add(time));
    let mut waiting = Vec::new();
    for it in &found {
        let (send, receive) = mpsc::channel();
        let (it, dirs, what) = (it.clone(), dirs.clone(), args.what.clone());
        // One that waits still ends with the process.
        std::thread::spawn(move || {
            // Nobody listens any more once the time is over.
            let _ = send.send(wait(&dirs, &it, &what));
        });
        waiting.push(receive);
    }
    for (it, receive) in found.iter().zip(waiting) {
        let outcome = match deadline {
            // What is so already is told in no time, but for the time that the asking takes.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                receive.recv_timeout(left.max(Duration::from_secs(1))).ok()
            }
            None => receive.recv().ok(),
        };
        match outcome {
            Some(Outcome::Come(text)) => output::out(format!("{text}\n").as_bytes())?,
            Some(Outcome::Never(why)) => bail!("pod {}: {why}", it.name()),
            None => bail!("timed out waiting for pod {}", it.name()),
        }
    }
    Ok(0)
}

fn wait(dirs: &Dirs, found: &Found, what: &What) -> Outcome {
    let mut last = found.record.clone();
    if let Some(outcome) = come(found, &last, what) {
        return outcome;
    }
    let uid = last.uid().to_owned();
    let mut gone = false;
    if let Ok(client) = found.call(Call::Watch { uid: uid.clone() }) {
        let mut client = client.patient();
        loop {
            match client.next() {
                Ok(Some(Answer::Pod { pod })) => {
                    last = *pod;
                    if let Some(outcome) = come(found, &last, what) {
                        return outcome;
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    gone = !last.pod.status.as_ref().is_some_and(end::is_terminal);
                    break;
                }
                // Its session was killed, or has ended in this moment.
                Err(_) => {
                    find::ended(&found.site);
                    break;
                }
            }
        }
    }
    after(dirs, found, last, what, gone)
}

/// The session tells no more of the pod.
fn after(dirs: &Dirs, found: &Found, last: Record, what: &What, gone: bool) -> Outcome {
    let kept = find::one(dirs, last.uid()).ok();
    if *what == What::Delete {
        return match kept {
            None => Outcome::Come(format!("pod/{} is gone", found.name())),
            // Only rm can remove it now.
            Some(_) => Outcome::Never("it has ended and is kept until `coracle rm`".to_owned()),
        };
    }
    if gone && kept.is_none() {
        return Outcome::Never("it was removed".to_owned());
    }
    let last = kept.map_or(last.lose(), |kept| kept.record);
    come(found, &last, what).unwrap_or_else(|| Outcome::Never("it has ended without it".to_owned()))
}

/// Whether it is so now.
fn come(found: &Found, record: &Record, what: &What) -> Option<Outcome> {
    match what {
        What::Exit => match end::end_of(record.pod.status.as_ref()?)? {
            End::Exited { code, .. } => Some(Outcome::Come(code.to_string())),
            End::Never(why) => Some(Outcome::Never(why)),
        },
        What::Condition(name, value) => has(&record.pod, name, value)
            .then(|| Outcome::Come(format!("pod/{} condition met", found.name()))),
        What::Delete => None,
    }
}

fn has(pod: &Pod, name: &str, value: &str) -> bool {
    let status = pod.status.as_ref();
    let mut conditions = status
        .into_iter()
        .flat_map(|it| it.conditions.iter().flatten());
    // As kubectl: neither has to be in the API's own letters.
    conditions
        .any(|it| it.type_.eq_ignore_ascii_case(name) && it.status.eq_ignore_ascii_case(value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_written_as_with_kubectl() {
        let condition = |name: &str, value: &str| What::Condition(name.into(), value.into());
        for (text, what) in [
            ("exit", What::Exit),
            ("delete", What::Delete),
            ("condition=Ready", condition("Ready", "true")),
            ("condition=ready=False", condition("ready", "False")),
        ] {
            assert_eq!(text.parse(), Ok(what));
        }
        for bad in [
            "",
            "condition",
            "condition=",
            "jsonpath={.status}",
            "exit=1",
        ] {
            bad.parse::<What>().unwrap_err();
        }
    }

    #[test]
    fn a_condition_is_met_whatever_its_letters() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}]}}))
        .unwrap();
        assert!(has(&pod, "ready", "true") && has(&pod, "Initialized", "false"));
        assert!(!has(&pod, "Ready", "false") && !has(&pod, "Other", "true"));
    }
}
