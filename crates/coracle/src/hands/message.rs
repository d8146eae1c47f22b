//! A container's termination message: its file, mounted into each of its runs, and what is read of
//! it and of the log once a run has ended. What of that counts is `lifecycle`'s to say.
//!
//! A guest can't replace a mount, so the file that is read is the one that was made.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::message::{FILE_BYTES, LOG_BYTES, LOG_LINES};
use lifecycle::{Exit, Failure, message};
use logs::{Options, ReadError, Reader};
use runtime::{GuestId, MountSpec};
use rustix::fs::OFlags;
use volume::{MountKind, Mounted};

use super::{Hands, Streams, failure};
use crate::dirs::Dirs;
use crate::machine::SAID;
use crate::program::sentence;

/// Makes a run's file anew, to be mounted; nothing for a container without one. `folder` is the run's.
pub(super) fn mount(
    folder: &Path,
    container: &Container,
) -> Result<Option<(MountSpec, Mounted)>, Failure> {
    let Some(guest_path) = message::path(container) else {
        return Ok(None);
    };
    let path = folder.join(SAID);
    let fd = make(&path).map_err(|error| {
        let message = format!("can't make the termination log {}: {error}", path.display());
        failure("CreateContainerError", message, true)
    })?;
    let spec = MountSpec {
        guest_path,
        read_only: false,
    };
    let kind = MountKind::File;
    Ok(Some((spec, Mounted { fd, kind })))
}

fn make(path: &Path) -> std::io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    options.write(true).create(true).truncate(true);
    let file = options.custom_flags(flags).open(path)?;
    // Whatever the umask is.
    file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
    Ok(file.into())
}

impl Hands {
    /// An exit with what the container said of it; `pod` is the one that it was of.
    pub(crate) async fn with_message(&self, pod: &Arc<Pod>, id: &GuestId, mut exit: Exit) -> Exit {
        let Some(container) = super::container(pod, &id.container).map(Cow::into_owned) else {
            return exit;
        };
        if matches!(self.place.streams, Streams::Attached(_)) || !speaks(&container, &exit) {
            return exit;
        }
        let (dirs, pod, id) = (self.dirs.clone(), Arc::clone(pod), id.clone());
        let fallback = exit.clone();
        let read = tokio::task::spawn_blocking(move || {
            exit.message =
                message::joined(&exit.message, &said(&dirs, (&pod, &container), &id, &exit));
            exit
        });
        read.await.unwrap_or(fallback)
    }
}

fn speaks(container: &Container, exit: &Exit) -> bool {
    message::path(container).is_some() || message::falls_back(container, exit)
}

/// What a container said at its end: in its file, or last in its log. Blocks the thread.
fn said(dirs: &Dirs, (pod, container): (&Pod, &Container), id: &GuestId, exit: &Exit) -> String {
    if message::path(container).is_some() {
        let path = dirs.run(&id.pod_uid, &id.container, id.attempt).join(SAID);
        match end_of(&path) {
            Ok(bytes) if !bytes.is_empty() => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // The kubelet's words.
            Err(error) => {
                return format!(
                    "Error on reading termination log {}: {error}",
                    path.display()
                );
            }
        }
    }
    if !message::falls_back(container, exit) {
        return String::new();
    }
    end_of_log(dirs, pod, id).unwrap_or_else(|error| {
        let error = sentence(&error);
        format!("Error on reading termination message from logs: {error}")
    })
}

/// The last bytes of a file, as many as count.
fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(FILE_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of a run's log, as many of them and of their bytes as count.
fn end_of_log(dirs: &Dirs, pod: &Pod, id: &GuestId) -> Result<String, ReadError> {
    let name = id.attempt.to_string();
    let folder = dirs
        .open_logs(pod, &id.container)
        .map_err(|source| ReadError::Io {
            name: name.clone(),
            source,
        })?;
    let options = Options {
        tail: Some(LOG_LINES),
        ..Options::default()
    };
    let mut reader = Reader::open(folder, &name, options)?;
    let (mut kept, mut record) = (VecDeque::new(), Vec::new());
    while reader.next(&mut record)?.is_some() {
        kept.extend(record.drain(..));
        kept.drain(..kept.len().saturating_sub(LOG_BYTES));
    }
    Ok(String::from_utf8_lossy(kept.make_contiguous()).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lifecycle::ExitKind;
    use runtime::GuestId;

    use super::*;

    struct World {
        _dir: tempfile::TempDir,
        dirs: Dirs,
        pod: Pod,
        id: GuestId,
    }

    fn world(container: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(dir.path()).unwrap();
        let pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"uid":"u","name":"p","namespace":"n"}},"spec":{{"containers":[{{"name":"c",{container}}}]}}}}"#
        ))
        .unwrap();
        let id = super::super::guest_id(&pod, "c", 3);
        World {
            _dir: dir,
            dirs,
            pod,
            id,
        }
    }

    impl World {
        fn container(&self) -> Container {
            super::super::container(&self.pod, "c")
                .unwrap()
                .into_owned()
        }

        fn folder(&self) -> std::path::PathBuf {
            self.dirs.run("u", "c", 3)
        }

        fn said(&self, code: i32) -> String {
            let exit = Exit {
                code,
                kind: ExitKind::Exited,
                message: String::new(),
                started_at: jiff::Timestamp::UNIX_EPOCH,
                finished_at: jiff::Timestamp::UNIX_EPOCH,
            };
            said(&self.dirs, (&self.pod, &self.container()), &self.id, &exit)
        }
    }

    const FILE: &str = r#""terminationMessagePath":"/dev/termination-log""#;
    const LOG: &str = r#""terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"FallbackToLogsOnError""#;

    #[test]
    fn the_end_of_the_file_is_told_and_a_run_begins_with_an_empty_one() {
        let world = world(FILE);
        let made = || mount(&world.folder(), &world.container()).unwrap().unwrap();
        let (spec, mounted) = made();
        assert_eq!(spec.guest_path, "/dev/termination-log");
        assert!(!spec.read_only && mounted.kind == MountKind::File);
        assert_eq!(world.said(1), "");
        let text = format!("{}{}", "a".repeat(5000), "b".repeat(4000));
        std::fs::write(world.folder().join(SAID), &text).unwrap();
        assert_eq!(world.said(0), text.get(text.len() - 4096..).unwrap());
        made();
        assert_eq!(world.said(0), "");
    }

    #[test]
    fn what_is_no_text_is_told_as_far_as_it_is() {
        let world = world(FILE);
        mount(&world.folder(), &world.container()).unwrap();
        std::fs::write(world.folder().join(SAID), b"bad \xff byte").unwrap();
        assert_eq!(world.said(0), "bad \u{fffd} byte");
    }

    #[test]
    fn what_is_in_the_files_place_is_not_followed() {
        let world = world(FILE);
        std::fs::create_dir_all(world.folder()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", world.folder().join(SAID)).unwrap();
        let said = world.said(0);
        assert!(
            said.starts_with("Error on reading termination log "),
            "{said}"
        );
        assert!(mount(&world.folder(), &world.container()).is_err());
    }

    #[test]
    fn the_log_speaks_where_the_file_is_empty_or_gone_and_the_container_failed() {
        let world = world(LOG);
        let missing = world.said(1);
        assert!(
            missing.starts_with("Error on reading termination message from logs: "),
            "{missing}"
        );
        let folder = world.dirs.logs(&world.pod, "c");
        std::fs::create_dir_all(&folder).unwrap();
        let lines: String = (0..200)
            .map(|line| {
                format!("2026-01-01T00:00:00.000000000Z stdout F line {line:03} of the log\n")
            })
            .collect();
        std::fs::write(folder.join("3.log"), lines).unwrap();
        let said = world.said(1);
        assert!(said.ends_with("line 199 of the log\n"), "{said}");
        // 80 lines of 20 bytes are less than 2 KiB.
        assert!(said.starts_with("line 120 of the log\n"), "{said}");
        assert_eq!(world.said(0), "");
        std::fs::create_dir_all(world.folder()).unwrap();
        std::fs::write(world.folder().join(SAID), "own words").unwrap();
        assert_eq!(world.said(1), "own words");
    }

    #[test]
    fn of_long_lines_the_last_bytes_count() {
        let world = world(LOG);
        let folder = world.dirs.logs(&world.pod, "c");
        std::fs::create_dir_all(&folder).unwrap();
        let line = "x".repeat(3000);
        let text = format!("2026-01-01T00:00:00.000000000Z stderr F {line}\n");
        std::fs::write(folder.join("3.log"), text).unwrap();
        assert_eq!(world.said(2), format!("{}\n", "x".repeat(2047)));
    }
}
