//! `coracle stats`: what containers use, as `docker stats` shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use super::output::{self, Format, Table};
use super::place::Root;
use crate::dirs::Dirs;
use crate::local::control::{Answer, Call, Client, Sample};
use crate::local::find::{self, Found};
use crate::program::sentence;

/// What `coracle stats` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle stats                 all that runs, every second, until Ctrl-C
  coracle stats --no-stream web
  coracle stats -o json         once

CPU % is of one core. Memory is what is charged to the container's limit.")]
pub(crate) struct Args {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID; all if left out
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// In another form, once
    #[arg(short, long, value_name = "FORM")]
    output: Option<Format>,
    #[command(flatten)]
    root: Root,
}

/// Over what time CPU use is measured.
const PERIOD: Duration = Duration::from_secs(1);

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Use {
    pod: String,
    container: String,
    /// Thousandths of a core.
    cpu_milli: u64,
    /// Since the container was started.
    cpu_nanos: u64,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
}

/// Prints what containers use.
///
/// # Errors
/// When a pod can't be found.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let dirs = args.root.open()?;
    let once = args.no_stream || args.output.is_some();
    let mut before = samples(&pods(&dirs, args)?);
    loop {
        std::thread::park_timeout(PERIOD);
        let found = pods(&dirs, args)?;
        let now = samples(&found);
        let uses = uses(&found, &before, &now);
        if !once && std::io::stdout().is_terminal() {
            // Home, and nothing left of the last picture.
            output::out(b"\x1b[H\x1b[J")?;
        }
        let names = || uses.iter().map(|u| format!("pod/{}", u.pod)).collect();
        output::print(args.output, &uses, || table(&uses), names)?;
        if once {
            return Ok(0);
        }
        before = now;
    }
}

fn pods(dirs: &Dirs, args: &Args) -> anyhow::Result<Vec<Found>> {
    let mut found = match args.pods.is_empty() {
        true => find::all(dirs),
        false => find::each(dirs, &args.pods)?,
    };
    found.retain(|it| it.alive);
    Ok(found)
}

type Samples = BTreeMap<(String, String), Sample>;

/// What each container uses now, by UID and name.
fn samples(found: &[Found]) -> Samples {
    let sites: BTreeSet<_> = found.iter().map(|it| &it.site).collect();
    let mut samples = Samples::new();
    for site in sites {
        let answer = Client::call(site, Call::Stats, &[]).and_then(|mut client| client.next());
        match answer {
            Ok(Some(Answer::Stats { stats })) => {
                let keyed = stats
                    .into_iter()
                    .map(|s| ((s.uid.clone(), s.container.clone()), s));
                samples.extend(keyed);
            }
            // It has ended meanwhile: it uses nothing.
            Ok(_) | Err(crate::local::control::ClientError::Ended) => {}
            Err(error) => eprintln!("coracle: session {}: {}", site.id(), sentence(&error)),
        }
    }
    samples
}

fn uses(found: &[Found], before: &Samples, now: &Samples) -> Vec<Use> {
    let mut uses = Vec::new();
    for it in found {
        let ours = now.iter().filter(|((uid, _), _)| uid == it.record.uid());
        for (key, sample) in ours {
            uses.push(Use {
                pod: it.name(),
                container: sample.container.clone(),
                cpu_milli: cpu_milli(before.get(key), sample),
                cpu_nanos: sample.cpu_nanos,
                memory_bytes: sample.memory_bytes,
                memory_limit_bytes: sample.memory_limit_bytes,
            });
        }
    }
    uses
}

/// Thousandths of a core between two samples; 0 if there is no earlier one of this run.
fn cpu_milli(before: Option<&Sample>, now: &Sample) -> u64 {
    let Some(before) = before else { return 0 };
    let (Some(cpu), Ok(time)) = (
        now.cpu_nanos.checked_sub(before.cpu_nanos),
        u128::try_from(before.at.duration_until(now.at).as_nanos()),
    ) else {
        return 0;
    };
    let milli = u128::from(cpu).saturating_mul(1000).checked_div(time);
    milli
        .and_then(|milli| u64::try_from(milli).ok())
        .unwrap_or(0)
}

fn table(uses: &[Use]) -> Table {
    let mut table = Table::new(
        &["NAME", "CONTAINER", "CPU %", "MEM USAGE / LIMIT", "MEM %"],
        &["CPU TIME"],
    );
    for it in uses {
        let limit = match it.memory_limit_bytes {
            Some(limit) => output::bytes(limit),
            None => "none".to_owned(),
        };
        let share = it
            .memory_limit_bytes
            .and_then(|limit| it.memory_bytes.saturating_mul(1000).checked_div(limit));
        table.row([
            it.pod.clone(),
            it.container.clone(),
            tenths(it.cpu_milli),
            format!("{} / {limit}", output::bytes(it.memory_bytes)),
            share.map_or_else(|| "-".to_owned(), tenths),
            format!("{:?}", Duration::from_millis(it.cpu_nanos / 1_000_000)),
        ]);
    }
    table
}

/// Thousandths as per cent.
fn tenths(milli: u64) -> String {
    format!("{}.{}%", milli / 10, milli % 10)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample(cpu_nanos: u64, second: i64) -> Sample {
        Sample {
            uid: "u".into(),
            container: "main".into(),
            cpu_nanos,
            memory_bytes: 32 << 20,
            memory_limit_bytes: Some(64 << 20),
            at: jiff::Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn cpu_is_a_share_of_a_core_between_two_samples() {
        let half = cpu_milli(Some(&sample(0, 10)), &sample(500_000_000, 11));
        assert_eq!((half, tenths(half).as_str()), (500, "50.0%"));
        assert_eq!(
            cpu_milli(Some(&sample(0, 10)), &sample(4_000_000_000, 12)),
            2000
        );
        assert_eq!(cpu_milli(None, &sample(9, 1)), 0, "the first is no rate");
        assert_eq!(
            cpu_milli(Some(&sample(9, 1)), &sample(0, 2)),
            0,
            "another run"
        );
        assert_eq!(cpu_milli(Some(&sample(0, 2)), &sample(9, 2)), 0, "no time");
        assert_eq!(
            cpu_milli(Some(&sample(0, 3)), &sample(9, 2)),
            0,
            "a clock that was put back"
        );
    }

    #[test]
    fn a_row_has_shares_of_what_has_a_limit() {
        let mut one = Use {
            pod: "web".into(),
            container: "main".into(),
            cpu_milli: 15,
            cpu_nanos: 1_500_000_000,
            memory_bytes: 32 << 20,
            memory_limit_bytes: Some(64 << 20),
        };
        let text = table(std::slice::from_ref(&one)).render(true);
        for word in ["1.5%", "32.0MiB / 64.0MiB", "50.0%", "1.5s"] {
            assert!(text.contains(word), "{text}");
        }
        one.memory_limit_bytes = None;
        assert!(table(&[one]).render(false).contains("32.0MiB / none"));
    }
}
