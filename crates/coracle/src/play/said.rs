//! What the pods of a session say while somebody looks: each line of a log with its container before
//! it, on standard output, and warnings on standard error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use k8s_openapi::api::core::v1::ContainerStatus;
use logs::{Ender, Options, Reader};
use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use crate::dirs::Dirs;
use crate::local::{Known, Session, end, name_of};
use crate::program::sentence;

/// A line that does not end is printed in parts of this size.
const PART: usize = 64 << 10;

/// Colours that are read on light and dark.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Follows what is said until it is told to end.
pub(super) struct Said {
    end: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Said {
    /// Ends once all that was said is printed.
    pub(super) async fn end(self) {
        self.end.send_replace(true);
        // A printer that panicked has told so itself.
        let _ = self.task.await;
    }
}

/// Prints what the pods of a session say; `events`: everything that is told of them.
pub(super) fn follow(session: &Session, dirs: Dirs, events: bool) -> Said {
    let (end, mut ended) = watch::channel(false);
    let session = session.clone();
    let mut changes = session.changes();
    let mut speakers = Speakers {
        dirs,
        events,
        live: BTreeMap::new(),
        seen: BTreeSet::new(),
        printers: Vec::new(),
        told: BTreeMap::new(),
        colours: BTreeMap::new(),
    };
    let task = tokio::spawn(async move {
        loop {
            speakers.look(&session);
            if *ended.borrow_and_update() {
                break;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                _ = ended.changed() => {}
            }
        }
        drop(session);
        // The last lines of logs are on disk: printing them is waited for.
        let _ = tokio::task::spawn_blocking(move || speakers.finish()).await;
    });
    Said { end, task }
}

/// One run of a container: the pod's UID, the container, which run.
type Run = (String, String, u32);

struct Speakers {
    dirs: Dirs,
    events: bool,
    /// Printers of runs that may go on.
    live: BTreeMap<Run, Ender>,
    /// Runs that were seen.
    seen: BTreeSet<Run>,
    printers: Vec<JoinHandle<()>>,
    /// How often each event was told.
    told: BTreeMap<(String, String, String), u64>,
    colours: BTreeMap<String, u8>,
}

impl Speakers {
    fn look(&mut self, session: &Session) {
        let known = session.known();
        for pod in &known {
            let (_, name) = name_of(&pod.pod);
            for told in pod.events.all() {
                let key = (
                    pod.uid().to_owned(),
                    told.reason.clone(),
                    told.message.clone(),
                );
                let before = self.told.insert(key, told.count).unwrap_or_default();
                if told.count > before && (self.events || told.kind == "Warning") {
                    let (kind, reason, message) = (&told.kind, &told.reason, &told.message);
                    eprintln!("{name}: {kind}: {reason}: {message}");
                }
            }
            for status in end::containers(&pod.status) {
                self.of_container(pod.uid(), name, pod, status);
            }
        }
        // A pod that is gone says nothing any more.
        let uids: BTreeSet<&str> = known.iter().map(|pod| pod.uid()).collect();
        self.live.retain(|(uid, ..), ender| {
            let stays = uids.contains(uid.as_str());
            if !stays {
                ender.end();
            }
            stays
        });
        self.printers.retain(|printer| !printer.is_finished());
    }

    fn of_container(&mut self, uid: &str, pod_name: &str, pod: &Known, status: &ContainerStatus) {
        for (attempt, ended) in runs(status) {
            let run = (uid.to_owned(), status.name.clone(), attempt);
            if self.seen.insert(run.clone()) {
                let folder = self.dirs.logs(&pod.pod, &status.name);
                match open(&folder, attempt) {
                    Ok(reader) => {
                        let ender = reader.ender();
                        let prefix = self.prefix(pod_name, &status.name);
                        let printer = std::thread::spawn(move || print(reader, &prefix));
                        self.printers.push(printer);
                        self.live.insert(run.clone(), ender);
                    }
                    // It may be written the moment after.
                    Err(_) if !ended => {
                        self.seen.remove(&run);
                    }
                    Err(error) => eprintln!("coracle: {pod_name}/{}: {error}", status.name),
                }
            }
            if ended && let Some(ender) = self.live.remove(&run) {
                ender.end();
            }
        }
    }

    fn prefix(&mut self, pod: &str, container: &str) -> Vec<u8> {
        let name = format!("{pod}/{container}");
        if !std::io::stdout().is_terminal() {
            return format!("{name} | ").into_bytes();
        }
        let next = COLOURS
            .get(self.colours.len() % COLOURS.len())
            .copied()
            .unwrap_or_default();
        let colour = self.colours.entry(name.clone()).or_insert(next);
        format!("\x1b[{colour}m{name} |\x1b[0m ").into_bytes()
    }

    fn finish(self) {
        self.live.values().for_each(Ender::end);
        for printer in self.printers {
            // A printer that panicked has told so itself.
            let _ = printer.join();
        }
    }
}

/// The runs that a status tells of, and whether each has ended.
fn runs(status: &ContainerStatus) -> Vec<(u32, bool)> {
    let attempt = |id: Option<&str>| id?.rsplit('_').next()?.parse::<u32>().ok();
    let mut runs = Vec::new();
    let states = [&status.last_state, &status.state];
    for state in states.into_iter().flatten() {
        if let Some(ended) = &state.terminated {
            runs.extend(attempt(ended.container_id.as_deref()).map(|run| (run, true)));
        }
        if state.running.is_some() {
            runs.extend(attempt(status.container_id.as_deref()).map(|run| (run, false)));
        }
    }
    runs
}

fn open(folder: &std::path::Path, attempt: u32) -> Result<Reader, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir: OwnedFd = rustix::fs::open(folder, flags, Mode::empty())
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let options = Options {
        follow: true,
        ..Options::default()
    };
    Reader::open(dir, &attempt.to_string(), options).map_err(|error| sentence(&error))
}

/// Prints a log until it is ended, a whole line at a time.
fn print(mut reader: Reader, prefix: &[u8]) {
    let mut line = prefix.to_vec();
    let write = |line: &mut Vec<u8>| {
        let mut out = std::io::stdout().lock();
        // Nobody listens any more: the pods go on.
        let _ = out.write_all(line).and_then(|()| out.flush());
        line.truncate(prefix.len());
    };
    loop {
        match reader.next(&mut line) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                eprintln!("coracle: {}", sentence(&error));
                break;
            }
        }
        if line.len() > PART && line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if line.last() == Some(&b'\n') {
            write(&mut line);
        }
    }
    if line.len() > prefix.len() {
        line.push(b'\n');
        write(&mut line);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_of_this_run_and_the_one_before() {
        let status = |text: &str| serde_json::from_str::<ContainerStatus>(text).unwrap();
        let running = r#"{"name":"c","image":"i","imageID":"","ready":true,"restartCount":1,
            "containerID":"coracle://u_c_1","state":{"running":{}},
            "lastState":{"terminated":{"exitCode":1,"containerID":"coracle://u_c_0"}}}"#;
        assert_eq!(runs(&status(running)), [(0, true), (1, false)]);
        let waiting = r#"{"name":"c","image":"i","imageID":"","ready":false,"restartCount":0,
            "state":{"waiting":{"reason":"ContainerCreating"}}}"#;
        assert_eq!(runs(&status(waiting)), []);
    }
}
