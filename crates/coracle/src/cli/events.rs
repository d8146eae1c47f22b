//! `coracle events`: what was told of pods, as `kubectl get events` shows it.

use std::sync::mpsc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::{self, Format, Table};
use super::place::Root;
use crate::local::control::{Answer, Call};
use crate::local::events::Told;
use crate::local::find::{self, Found};
use crate::local::name_of;

/// What `coracle events` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle events            of all pods
  coracle events -f web     and what comes, until the pod has ended
  coracle events -o json    a List of Events

The latest 200 of each pod are kept, repeats counted.")]
pub(crate) struct Args {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID; all if left out
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    /// Go on until the pods that there are now have ended
    #[arg(
        short,
        long,
        visible_alias = "watch",
        short_alias = 'w',
        conflicts_with = "output"
    )]
    follow: bool,
    /// In another form
    #[arg(short, long, value_name = "FORM")]
    output: Option<Format>,
    #[command(flatten)]
    root: Root,
}

/// Prints events.
///
/// # Errors
/// When a pod can't be found.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let dirs = args.root.open()?;
    let found = match args.pods.is_empty() {
        true => find::all(&dirs),
        false => find::each(&dirs, &args.pods)?,
    };
    let mut told: Vec<(&Found, &Told)> = found
        .iter()
        .flat_map(|it| it.record.events.all().iter().map(move |told| (it, told)))
        .collect();
    told.sort_by_key(|(_, told)| told.last_timestamp);
    let list = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": told.iter().map(|(it, told)| object(it, told)).collect::<Vec<_>>(),
    });
    let names = || {
        let name = |(it, told): &(&Found, &Told)| format!("{}: {}", it.name(), told.reason);
        told.iter().map(name).collect()
    };
    output::print(args.output, &list, || table(&told), names)?;
    if args.follow {
        follow(&found)?;
    }
    Ok(0)
}

/// As the API has it.
fn object(found: &Found, told: &Told) -> Value {
    let (namespace, name) = name_of(&found.record.pod);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": name,
            "uid": found.record.uid(),
            "fieldPath": told.container,
        },
        "type": told.kind,
        "reason": told.reason,
        "message": told.message,
        "firstTimestamp": told.first_timestamp,
        "lastTimestamp": told.last_timestamp,
        "count": told.count,
        "source": {"component": "coracle"},
    })
}

fn cells(found: &Found, told: &Told, now: Timestamp) -> [String; 7] {
    let age = output::age(told.last_timestamp, now);
    let age = match told.count {
        1 => age,
        count => {
            let first = output::age(told.first_timestamp, now);
            format!("{age} (x{count} over {first})")
        }
    };
    [
        age,
        told.kind.clone(),
        told.reason.clone(),
        format!("pod/{}", found.name()),
        told.message.clone(),
        told.container.clone().unwrap_or_default(),
        told.count.to_string(),
    ]
}

fn titles() -> Table {
    Table::new(
        &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
        &["SUBOBJECT", "COUNT"],
    )
}

fn table(all: &[(&Found, &Told)]) -> Table {
    let now = Timestamp::now();
    let mut table = titles();
    for (found, told) in all {
        table.row(cells(found, told, now));
    }
    table
}

/// Prints what comes, of each pod until it has ended.
fn follow(found: &[Found]) -> anyhow::Result<()> {
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for (index, it) in found.iter().enumerate() {
            let send = send.clone();
            scope.spawn(move || watch(it, |told| send.send((index, told)).is_ok()));
        }
        drop(send);
        for (index, told) in receive {
            let Some(found) = found.get(index) else {
                continue;
            };
            let mut line = titles().headless(true);
            line.row(cells(found, &told, Timestamp::now()));
            output::out(line.render(false).as_bytes())?;
        }
        Ok(())
    })
}

/// Tells each event that is new, or was told again, from what is known on.
fn watch(found: &Found, tell: impl Fn(Told) -> bool) {
    let uid = found.record.uid().to_owned();
    let Ok(client) = found.call(Call::Watch { uid }) else {
        return; // It has ended: nothing comes.
    };
    let mut client = client.patient();
    let mut known: Vec<Told> = found.record.events.all().to_vec();
    while let Ok(Some(Answer::Pod { pod })) = client.next() {
        let now = pod.events.all();
        for told in now.iter().filter(|told| !known.contains(told)) {
            if !tell(told.clone()) {
                return;
            }
        }
        known = now.to_vec();
    }
}
