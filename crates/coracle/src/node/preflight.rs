//! `coracle node --check`: whether a node would work here, line by line, each with what helps. Changes
//! nothing, here or in the cluster.

use std::fmt;
use std::path::Path;

use cluster::check::{Check, DEEDS};
use cluster::{Access, CallError, Kind};
use jiff::Timestamp;
use rustix::process::{Resource, getrlimit};

use super::config::NodeConfig;
use super::{amounts, describe};
use crate::cli::node::Args;
use crate::program::sentence;

/// Between this machine's clock and the server's, seconds: certificates are backdated by five minutes,
/// and the node controller forgives 50 s.
const SKEW: (u64, u64) = (10, 50);
/// Fewer descriptors or mappings leave room for few pods; a guest has about 7 of each.
const ROOM: u64 = 65_536;

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// What was looked at, printed as it becomes known.
#[derive(Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn line(&mut self, verdict: Verdict, what: &str, text: impl fmt::Display) {
        println!("{verdict:<5} {what}: {text}");
        self.failed |= verdict == Verdict::Fail;
    }

    fn result(&mut self, what: &str, result: Result<String, String>) -> bool {
        let good = result.is_ok();
        match result {
            Ok(text) => self.line(Verdict::Ok, what, text),
            Err(text) => self.line(Verdict::Fail, what, text),
        }
        good
    }
}

/// Looks at everything; 1 if a node would not work.
///
/// # Errors
/// When standard output can't be written, or there is no runtime.
pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut report = Report::default();
    match NodeConfig::of(args) {
        Ok(config) => {
            let from = match &args.config {
                Some(file) => file.display().to_string(),
                None => "flags, environment and defaults".to_owned(),
            };
            report.line(Verdict::Ok, "configuration", from);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            machine(&config, &mut report);
            runtime.block_on(cluster(&config, &mut report));
        }
        Err(error) => {
            for problem in error.to_string().lines() {
                report.line(Verdict::Fail, "configuration", problem);
            }
        }
    }
    Ok(u8::from(report.failed))
}

fn machine(config: &NodeConfig, report: &mut Report) {
    report.result("root folder", writable(&config.root_dir));
    match amounts::of(config) {
        Ok((_, free)) => report.line(
            Verdict::Ok,
            "resources",
            format!(
                "pods may request {} m of CPU, {} MiB of memory and {} MiB of disk",
                free.cpu_milli,
                free.memory >> 20,
                free.ephemeral_storage >> 20
            ),
        ),
        Err(error) => report.line(Verdict::Fail, "resources", sentence(error.as_ref())),
    }
    let open = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    room(
        report,
        "open files",
        open,
        "raise it: LimitNOFILE= of systemd, ulimit -Hn",
    );
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    match maps.ok().and_then(|text| text.trim().parse().ok()) {
        Some(maps) => room(
            report,
            "mappings",
            maps,
            "raise it: sysctl vm.max_map_count=1048576",
        ),
        None => report.line(
            Verdict::Warn,
            "mappings",
            "/proc/sys/vm/max_map_count can't be read",
        ),
    }
    memory_limit(config, report);
}

fn room(report: &mut Report, what: &str, limit: u64, help: &str) {
    let pods = limit / 7;
    match limit {
        u64::MAX => report.line(Verdict::Ok, what, "no limit"),
        limit if limit < ROOM => {
            let text = format!("the limit of {limit} leaves room for about {pods} guests; {help}");
            report.line(Verdict::Warn, what, text);
        }
        limit => report.line(Verdict::Ok, what, format!("{limit}")),
    }
}

/// A cgroup that is smaller than what pods are promised ends the node instead of a pod.
fn memory_limit(config: &NodeConfig, report: &mut Report) {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = group.lines().find_map(|line| line.strip_prefix("0::"));
    let limit = path.and_then(|path| {
        let file = Path::new("/sys/fs/cgroup")
            .join(path.trim_start_matches('/'))
            .join("memory.max");
        std::fs::read_to_string(file)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let promised = amounts::of(config).map_or(0, |(_, free)| free.memory);
    match limit {
        Some(limit) if limit < promised => report.line(
            Verdict::Warn,
            "cgroup",
            format!(
                "this process may have {} MiB of memory, and pods are promised {} MiB; set --memory to less than the limit",
                limit >> 20,
                promised >> 20
            ),
        ),
        Some(limit) => report.line(Verdict::Ok, "cgroup", format!("{} MiB of memory", limit >> 20)),
        None => report.line(Verdict::Ok, "cgroup", "no limit of memory is known"),
    }
}

fn writable(root: &Path) -> Result<String, String> {
    let shown = root.display();
    let help = "give another with --root-dir, or start as a user who may write there";
    crate::dirs::make(root).map_err(|error| format!("{error:#}; {help}"))?;
    let file = tempfile::NamedTempFile::new_in(root);
    match file {
        Ok(_) => Ok(format!("{shown} can be written")),
        Err(error) => Err(format!("{shown}: {error}; {help}")),
    }
}

async fn cluster(config: &NodeConfig, report: &mut Report) {
    let access = match access(config).await {
        Ok(access) => access,
        Err(error) => return report.line(Verdict::Fail, "identity", sentence(error.as_ref())),
    };
    let name = describe::name(config, &access);
    let own = access.node().is_some();
    match (access.for_node(&name), access.user()) {
        (Err(error), _) => report.line(Verdict::Fail, "identity", error),
        (Ok(()), Some(user)) if own => report.line(Verdict::Ok, "identity", user),
        (Ok(()), user) => {
            let user = user.unwrap_or_else(|| "a token's user".to_owned());
            let text = format!(
                "{user} is no node's own identity; the API server then holds it to no node's limits"
            );
            let verdict = match config.bootstrap_kubeconfig {
                Some(_) => Verdict::Ok,
                None => Verdict::Warn,
            };
            report.line(verdict, "identity", text);
        }
    }
    if let Err(error) = describe::ip(config, &access) {
        report.line(Verdict::Fail, "address", sentence(error.as_ref()));
    }
    let check = match Check::of(&access) {
        Ok(check) => check,
        Err(error) => return report.line(Verdict::Fail, "API server", error),
    };
    let server = match check.server().await {
        Ok(server) => server,
        Err(error) => {
            let text = format!("{}: {}", access.server(), help(&error));
            return report.line(Verdict::Fail, "API server", text);
        }
    };
    let shown = format!("{} is {}", access.server(), server.version);
    report.line(Verdict::Ok, "API server", shown);
    skew(server.date, Timestamp::now(), report);
    if own || config.bootstrap_kubeconfig.is_none() {
        rights(&check, &name, report).await;
    }
}

/// As the node would begin; a kubeconfig that bootstrap has yet to write is none.
async fn access(config: &NodeConfig) -> anyhow::Result<Access> {
    let written = config.root_dir.join("kubeconfig");
    let named = config.kubeconfig.clone();
    let own = named.or_else(|| config.bootstrap_kubeconfig.is_some().then_some(written));
    match (own, &config.bootstrap_kubeconfig) {
        (Some(own), Some(bootstrap)) if !own.exists() => Ok(Access::load(bootstrap).await?),
        (Some(own), _) => Ok(Access::load(&own).await?),
        (None, _) => Ok(Access::in_cluster()?),
    }
}

fn help(error: &CallError) -> String {
    let help = match error.kind() {
        Kind::Unreachable | Kind::Timeout => "; look at the address, the network and the firewall",
        Kind::Unauthorized => "; have new credentials made",
        _ => "",
    };
    format!("{error}{help}")
}

fn skew(theirs: Option<Timestamp>, ours: Timestamp, report: &mut Report) {
    let Some(theirs) = theirs else {
        return report.line(
            Verdict::Warn,
            "clock",
            "the server does not say what time it has",
        );
    };
    let apart = ours.as_second().abs_diff(theirs.as_second());
    let (warn, fail) = SKEW;
    let verdict = match apart {
        apart if apart >= fail => Verdict::Fail,
        apart if apart >= warn => Verdict::Warn,
        _ => Verdict::Ok,
    };
    let text = match verdict {
        Verdict::Ok => format!("{apart} s from the server's"),
        _ => format!(
            "{apart} s from the server's ({theirs:.0} there, {ours:.0} here); set this machine's clock (chrony, systemd-timesyncd)"
        ),
    };
    report.line(verdict, "clock", text);
}

async fn rights(check: &Check, node: &str, report: &mut Report) {
    for deed in DEEDS {
        match check.may(deed, node).await {
            Ok(Ok(())) => report.line(Verdict::Ok, "may", deed),
            Ok(Err(why)) => {
                let because = if why.is_empty() {
                    String::new()
                } else {
                    format!(" ({why})")
                };
                let text = format!(
                    "{deed}: not allowed{because}; a node's own identity, system:node:{node} in the group system:nodes, has it"
                );
                report.line(Verdict::Fail, "may", text);
            }
            Err(error) => return report.line(Verdict::Warn, "may", help(&error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_and_far_apart_are_a_failure() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        for (apart, failed) in [
            (0, false),
            (9, false),
            (20, false),
            (49, false),
            (50, true),
            (4000, true),
        ] {
            let mut report = Report::default();
            skew(Some(at(10_000)), at(10_000 + apart), &mut report);
            assert_eq!(report.failed, failed, "{apart}");
            let mut report = Report::default();
            skew(Some(at(10_000 + apart)), at(10_000), &mut report);
            assert_eq!(report.failed, failed, "{apart}");
        }
    }

    #[test]
    fn a_root_folder_that_can_t_be_written_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(&folder.path().join("new")).is_ok());
        let file = folder.path().join("file");
        assert!(std::fs::write(&file, "").is_ok());
        let error = writable(&file.join("below")).unwrap_err();
        assert!(error.contains("--root-dir"), "{error}");
    }
}
