//! A container's termination message: what it left in its file or wrote last, for the status
//! (`getTerminationMessage` and `convertToKubeContainerStatus` in
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
//!
//! Must not know: where the file and the log are, and how they are read.

use k8s_openapi::api::core::v1::Container;

use crate::observed::Exit;

/// So much of the file's end counts, bytes (`MaxContainerTerminationMessageLength`).
pub const FILE_BYTES: usize = 4 * 1024;
/// So much of the log's end counts, bytes (`MaxContainerTerminationMessageLogLength`).
pub const LOG_BYTES: usize = 2 * 1024;
/// So many of the log's last lines count (`MaxContainerTerminationMessageLogLines`).
pub const LOG_LINES: u64 = 80;

/// Where the container sees its file, absolute (`MakeAbsolutePath`); `None` if it has none. A mount
/// of its own at that very path takes the file's place, and nothing is read then.
pub fn path(container: &Container) -> Option<String> {
    let path = container.termination_message_path.as_deref();
    let path = path.filter(|path| !path.is_empty())?;
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    let mut mounts = container.volume_mounts.iter().flatten();
    (!mounts.any(|mount| mount.mount_path == path)).then_some(path)
}

/// Whether the log's end is taken where the file says nothing.
pub fn falls_back(container: &Container, exit: &Exit) -> bool {
    let policy = container.termination_message_policy.as_deref();
    policy == Some("FallbackToLogsOnError") && exit.code != 0
}

/// The message of an exit of which the container said `said` itself; either may be empty.
pub fn joined(exit: &str, said: &str) -> String {
    match (exit.is_empty(), said.is_empty()) {
        (_, true) => exit.to_owned(),
        (true, false) => said.to_owned(),
        (false, false) => format!("{exit}: {said}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;
    use crate::observed::ExitKind;

    fn container(json: &str) -> Container {
        serde_json::from_str(json).unwrap()
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            kind: ExitKind::Exited,
            message: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_file_is_where_the_container_says_unless_a_volume_is_there() {
        for (json, expected) in [
            (r#"{"name":"c"}"#, None),
            (r#"{"name":"c","terminationMessagePath":""}"#, None),
            (
                r#"{"name":"c","terminationMessagePath":"/dev/termination-log"}"#,
                Some("/dev/termination-log"),
            ),
            (
                r#"{"name":"c","terminationMessagePath":"end"}"#,
                Some("/end"),
            ),
            (
                r#"{"name":"c","terminationMessagePath":"/end","volumeMounts":[{"name":"v","mountPath":"/end"}]}"#,
                None,
            ),
        ] {
            assert_eq!(path(&container(json)).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn the_log_speaks_for_a_container_that_failed_and_asks_for_it() {
        let asks = container(r#"{"name":"c","terminationMessagePolicy":"FallbackToLogsOnError"}"#);
        let file = container(r#"{"name":"c","terminationMessagePolicy":"File"}"#);
        assert!(falls_back(&asks, &exit(1)) && falls_back(&asks, &exit(143)));
        assert!(!falls_back(&asks, &exit(0)));
        assert!(
            !falls_back(&file, &exit(1)) && !falls_back(&container(r#"{"name":"c"}"#), &exit(1))
        );
    }

    #[test]
    fn as_much_is_read_as_the_kubelet_reads() {
        assert_eq!((FILE_BYTES, LOG_BYTES, LOG_LINES), (4096, 2048, 80));
    }

    #[test]
    fn what_the_container_says_follows_what_is_said_of_it() {
        assert_eq!(joined("", ""), "");
        assert_eq!(joined("trap", ""), "trap");
        assert_eq!(joined("", "bye"), "bye");
        assert_eq!(joined("trap", "bye"), "trap: bye");
    }
}
