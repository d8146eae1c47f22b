//! `coracle logs`: what the guests of a pod said, read from disk as `kubectl logs` shows it.

use std::io::Write;
use std::sync::Mutex;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ContainerStatus;
use logs::{Next, Options, Reader};

use super::place::{self, Root};
use crate::dirs::Dirs;
use crate::local::control::{Answer, Call};
use crate::local::end;
use crate::local::find::{self, Found};
use crate::local::name_of;

/// What `coracle logs` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle logs web                       all that its container has said since it was started
  coracle logs -f --tail 10 web          the last ten lines, and what comes, until the container ends
  coracle logs --since 5m -t web         of the last five minutes, each line with its time
  coracle logs -p web                    of the run before the last restart
  coracle logs --all-containers --prefix pod")]
pub(crate) struct Args {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(value_name = "POD")]
    pod: String,
    /// Which container; the first one if left out
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_containers")]
    container: Option<String>,
    /// Of all containers, init containers first
    #[arg(long)]
    all_containers: bool,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Of the run before this one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "LINES", value_parser = lines, allow_hyphen_values = true)]
    tail: Option<Lines>,
    /// Only what was said so long ago or later, such as 90s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "since_time")]
    since: Option<std::time::Duration>,
    /// Only what was said at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    since_time: Option<Timestamp>,
    /// Each line's time before it
    #[arg(short, long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Before each line, which container said it
    #[arg(long)]
    prefix: bool,
    #[command(flatten)]
    root: Root,
}

/// A number of lines, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lines(Option<u64>);

/// Reads `--tail`: a number, or `all` and -1 as docker and kubectl have it.
fn lines(text: &str) -> Result<Lines, String> {
    match text {
        "all" | "-1" => Ok(Lines(None)),
        number => number
            .parse()
            .map(|number| Lines(Some(number)))
            .map_err(|_| format!("{text:?} is no number of lines; write a number, or all")),
    }
}

/// One container's log.
struct Log {
    container: String,
    attempt: u32,
    reader: Reader,
}

/// Prints logs.
///
/// # Errors
/// When there is no such pod, container or log.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let dirs = args.root.open()?;
    let found = find::one(&dirs, &args.pod)?;
    if !found.record.logged {
        bail!(
            "the output of pod {} goes to the terminal of its `coracle run` (process {}), and no log is kept of it; run it with -d for one",
            found.name(),
            found.record.pid
        );
    }
    let options = args.options();
    let names = args.containers(&found)?;
    let mut logs = Vec::new();
    for name in names {
        match open(&dirs, &found, &name, args.previous, &options) {
            Ok(log) => logs.push(log),
            // Of all containers some may have had no turn yet.
            Err(error) if args.all_containers => eprintln!("coracle: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    let out = Mutex::new(std::io::stdout());
    let pod = name_of(&found.record.pod).1;
    let print = |log: Log| {
        let prefix = match args.prefix {
            true => format!("[pod/{pod}/{}] ", log.container),
            false => String::new(),
        };
        print(&found, log, args.follow, prefix.as_bytes(), &out)
    };
    if !args.follow {
        logs.into_iter().try_for_each(print)?;
        return Ok(0);
    }
    std::thread::scope(|scope| {
        let print = &print;
        let threads: Vec<_> = logs
            .into_iter()
            .map(|log| scope.spawn(move || print(log)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(0)
}

impl Args {
    fn options(&self) -> Options {
        let ago = self.since.map(|ago| {
            let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
            Timestamp::now()
                .saturating_sub(ago)
                .unwrap_or(Timestamp::MIN)
        });
        Options {
            follow: self.follow,
            tail: self.tail.and_then(|lines| lines.0),
            since: ago.or(self.since_time),
            timestamps: self.timestamps,
            limit_bytes: self.limit_bytes,
            stream: None,
        }
    }

    /// The containers that are asked for.
    fn containers(&self, found: &Found) -> anyhow::Result<Vec<String>> {
        match self.all_containers {
            true => Ok(place::containers(found)),
            false => Ok(vec![place::container(found, self.container.as_deref())?]),
        }
    }
}

/// The run before the current one, as the status has it.
fn previous(status: Option<&ContainerStatus>) -> Option<u32> {
    let last = status?.last_state.as_ref()?.terminated.as_ref()?;
    end::attempt_of(last.container_id.as_deref())
}

/// The latest run of which there is a log.
fn latest(folder: &std::path::Path) -> Option<u32> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let attempts = entries.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".log")?.parse::<u32>().ok()
    });
    attempts.max()
}

fn open(
    dirs: &Dirs,
    found: &Found,
    container: &str,
    want_previous: bool,
    options: &Options,
) -> anyhow::Result<Log> {
    let pod = &found.record.pod;
    let status = end::status_of(pod, container);
    let folder = dirs.logs(pod, container);
    let attempt = match want_previous {
        true => previous(status).with_context(|| {
            format!(
                "container {container:?} of pod {} had no run before this one",
                found.name()
            )
        })?,
        false => latest(&folder).with_context(|| not_begun(found, container, status))?,
    };
    let dir = dirs
        .open_logs(pod, container)
        .with_context(|| format!("{}", folder.display()))?;
    let reader = Reader::open(dir, &attempt.to_string(), options.clone()).with_context(|| {
        format!(
            "run {attempt} of container {container:?} of pod {}",
            found.name()
        )
    })?;
    Ok(Log {
        container: container.to_owned(),
        attempt,
        reader,
    })
}

fn not_begun(found: &Found, container: &str, status: Option<&ContainerStatus>) -> String {
    let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let why = waiting
        .and_then(|waiting| waiting.message.clone().or_else(|| waiting.reason.clone()))
        .unwrap_or_else(|| "it has not begun".to_owned());
    format!(
        "container {container:?} of pod {} has said nothing: {why}",
        found.name()
    )
}

/// Ends the reading once the run has ended, or nobody is left who could tell.
fn end_with(found: &Found, container: &str, attempt: u32, ender: &logs::Ender) {
    let uid = found.record.uid().to_owned();
    if let Ok(client) = found.call(Call::Watch { uid }) {
        let mut client = client.patient();
        while let Ok(Some(Answer::Pod { pod })) = client.next() {
            if end::running_attempt(&pod.pod, container) != Some(attempt) {
                break;
            }
        }
    }
    ender.end();
}

/// How much is gathered before it is written.
const CHUNK: usize = 64 << 10;

/// Copies a log to standard output, each line whole.
fn print(
    found: &Found,
    mut log: Log,
    follow: bool,
    prefix: &[u8],
    out: &Mutex<std::io::Stdout>,
) -> anyhow::Result<()> {
    let ender = log.reader.ender();
    if follow {
        let (found, container, attempt) = (found.clone(), log.container.clone(), log.attempt);
        // It ends with the process, if the session outlives this reading.
        std::thread::spawn(move || end_with(&found, &container, attempt, &ender));
    }
    let (mut text, mut line) = (Vec::new(), Vec::new());
    loop {
        let next = log.reader.read(&mut line)?;
        if let Next::Record(_) = next {
            // A line goes on in the next record until it ends.
            if line.ends_with(b"\n") || (prefix.is_empty() && line.len() > CHUNK) {
                text.extend_from_slice(prefix);
                text.append(&mut line);
            }
        }
        let over = next == Next::End;
        if over && !line.is_empty() {
            text.extend_from_slice(prefix);
            text.append(&mut line);
        }
        if next == Next::Wait && prefix.is_empty() {
            text.append(&mut line); // A prompt has no newline, and is waited for.
        }
        let due = text.len() > CHUNK || !matches!(next, Next::Record(_));
        if due && !write(out, &mut text)? {
            return Ok(());
        }
        match next {
            Next::Record(_) => {}
            Next::Wait => log.reader.wait()?,
            Next::End => break,
        }
    }
    let notes = log.reader.notes();
    if notes != logs::Notes::default() {
        eprintln!(
            "coracle: {} damaged lines and {} damaged files were passed over",
            notes.lines, notes.files
        );
    }
    Ok(())
}

/// Writes what was gathered; false if nobody reads any more.
fn write(out: &Mutex<std::io::Stdout>, text: &mut Vec<u8>) -> anyhow::Result<bool> {
    let mut out = out
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let written = out.write_all(text).and_then(|()| out.flush());
    text.clear();
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("can't write to standard output"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!(lines("10"), Ok(Lines(Some(10))));
        assert_eq!(lines("0"), Ok(Lines(Some(0))));
        assert_eq!(lines("all"), Ok(Lines(None)));
        assert_eq!(lines("-1"), Ok(Lines(None)));
        for bad in ["", "-2", "ten", "1.5"] {
            lines(bad).unwrap_err();
        }
    }

    #[test]
    fn a_run_goes_on_while_its_own_container_runs() {
        let pod = |state: serde_json::Value, attempt: u32| -> Pod {
            serde_json::from_value(serde_json::json!({"status": {"containerStatuses": [{
                "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("coracle://u_main_{attempt}"), "state": state,
                "lastState": {"terminated": {"exitCode": 1, "containerID": "coracle://u_main_4"}}}]}}))
            .unwrap()
        };
        let running = || serde_json::json!({"running": {}});
        let ended = || serde_json::json!({"terminated": {"exitCode": 0}});
        let attempt = |pod: &Pod, name: &str| end::running_attempt(pod, name);
        assert_eq!(attempt(&pod(running(), 5), "main"), Some(5));
        assert_eq!(attempt(&pod(ended(), 5), "main"), None);
        assert_eq!(attempt(&pod(running(), 5), "other"), None);
        let pod = pod(running(), 5);
        assert_eq!(previous(end::status_of(&pod, "main")), Some(4));
        assert_eq!(previous(None), None);
    }

    #[test]
    fn the_latest_run_has_the_highest_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "9.log",
            "10.log",
            "10.log.20260101-000000",
            "11.log.gz",
            "x.log",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(latest(folder.path()), Some(10));
        assert_eq!(latest(&folder.path().join("none")), None);
    }
}
