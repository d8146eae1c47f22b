//! What is asked of a session, and what it answers. Values only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::local::record::Record;

/// A call, and which protocol it is of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// [`crate::local::record::VERSION`].
    pub(crate) version: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub(crate) call: Call,
}

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub(crate) enum Call {
    /// All pods: one [`Answer::Pods`].
    Pods,
    /// One pod, now and after each change: [`Answer::Pod`] each, and [`Answer::Done`] once it has
    /// ended or is gone.
    Watch {
        /// Which.
        uid: String,
    },
    /// End a pod's containers; it stays known. [`Answer::Pod`] and [`Answer::Done`] when it has ended.
    Stop {
        /// Which.
        uid: String,
        /// Seconds; the pod's own if left out.
        #[serde(default)]
        grace: Option<i64>,
    },
    /// End a pod and forget it, its record and its logs. [`Answer::Done`] when nothing is left.
    Remove {
        /// Which.
        uid: String,
        /// Seconds; the pod's own if left out.
        #[serde(default)]
        grace: Option<i64>,
    },
    /// Run a command in a container that runs: [`Answer::Exited`]. Standard input, if there is one,
    /// output and error come with the request, as descriptors. It ends when the connection does.
    Exec {
        /// Which pod.
        uid: String,
        /// Which container.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
        /// Whether it has a terminal.
        #[serde(default)]
        tty: bool,
        /// Whether the first descriptor is its standard input.
        #[serde(default)]
        stdin: bool,
    },
    /// What the containers use: one [`Answer::Stats`].
    Stats,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It can't be done.
    Error {
        /// Why.
        message: String,
        /// What a command is to exit with, by docker's rules: 125, 126 or 127.
        #[serde(default = "failed")]
        code: u8,
    },
    /// All pods.
    Pods {
        /// In no order.
        pods: Vec<Record>,
    },
    /// One pod.
    Pod {
        /// As it is now.
        pod: Box<Record>,
    },
    /// What containers use.
    Stats {
        /// One for each that runs.
        stats: Vec<Sample>,
    },
    /// A command has ended.
    Exited {
        /// Its code.
        code: u8,
        /// What is to be said of it; empty for an ordinary exit.
        #[serde(default)]
        message: String,
    },
    /// It is done, and nothing follows.
    Done,
}

fn failed() -> u8 {
    crate::FAILED
}

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The pod's UID.
    pub(crate) uid: String,
    /// The container.
    pub(crate) container: String,
    /// CPU time since its start, nanoseconds.
    pub(crate) cpu_nanos: u64,
    /// What is charged to its memory limit, bytes.
    pub(crate) memory_bytes: u64,
    /// Its memory limit, bytes.
    #[serde(default)]
    pub(crate) memory_limit_bytes: Option<u64>,
    /// When this was so.
    pub(crate) at: Timestamp,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn call(json: &str) -> Result<Request, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn calls_of_a_later_version_are_read_as_far_as_they_are_known() {
        let read = call(r#"{"version":1,"call":"stop","uid":"u","grace":3,"why":{"a":[1]}}"#);
        let expected = Call::Stop {
            uid: "u".into(),
            grace: Some(3),
        };
        assert_eq!(read.unwrap().call, expected);
        assert_eq!(
            call(r#"{"version":1,"call":"pods"}"#).unwrap().call,
            Call::Pods
        );
        let unknown = call(r#"{"version":1,"call":"fly"}"#)
            .unwrap_err()
            .to_string();
        assert!(unknown.contains("fly"), "{unknown}");
        for bad in [
            "",
            "{}",
            "[]",
            "{\"call\":\"pods\"}",
            "{\"version\":1}",
            "null",
            "{\"version\":-1,\"call\":\"pods\"}",
        ] {
            call(bad).unwrap_err();
        }
    }

    #[test]
    fn an_error_without_a_code_is_a_failure() {
        let read: Answer = serde_json::from_str(r#"{"answer":"error","message":"m"}"#).unwrap();
        assert!(matches!(
            read,
            Answer::Error {
                code: crate::FAILED,
                ..
            }
        ));
    }
}
