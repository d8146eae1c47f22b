//! `coracle ps`: the pods of this machine, as `kubectl get pods` shows them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::output::{self, Format, Table};
use super::place::Root;
use crate::local::end;
use crate::local::find::{self, Found};
use crate::local::name_of;
use crate::local::words::Words;

/// What `coracle ps` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle ps                      what runs
  coracle ps -a -o wide           also what has ended and is kept
  coracle rm $(coracle ps -aq)    with UIDs alone
  coracle ps -o json              a List of Pods, with their statuses")]
pub(crate) struct Args {
    /// Also the pods that have ended and are kept
    #[arg(short, long)]
    all: bool,
    /// Their UIDs alone
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// In another form
    #[arg(short, long, value_name = "FORM")]
    output: Option<Format>,
    /// Nothing cut short
    #[arg(long)]
    no_trunc: bool,
    /// Without the line of titles
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    root: Root,
}

/// The longest list of images that is shown whole.
const SHORT: usize = 48;

/// Lists pods.
///
/// # Errors
/// When the root folder or standard output can't be had.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let mut found = find::all(&args.root.open()?);
    found.retain(|it| args.all || is_up(it));
    if args.quiet {
        let uids: Vec<String> = found.iter().map(|it| it.record.uid().to_owned()).collect();
        output::out(output::lines(&uids).as_bytes())?;
        return Ok(0);
    }
    let list = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": found.iter().map(|it| object(&it.record.pod)).collect::<Vec<_>>(),
    });
    let names = || {
        let name = |it: &Found| format!("pod/{}", name_of(&it.record.pod).1);
        found.iter().map(name).collect()
    };
    output::print(args.output, &list, || table(args, &found), names)?;
    Ok(0)
}

/// A Pod as the API has it.
pub(crate) fn object(pod: &Pod) -> serde_json::Value {
    // With its apiVersion and kind; a Pod always has a form in JSON.
    serde_json::to_value(pod).unwrap_or_default()
}

fn is_up(found: &Found) -> bool {
    let status = found.record.pod.status.as_ref();
    found.alive && !status.is_some_and(end::is_terminal)
}

fn table(args: &Args, found: &[Found]) -> Table {
    let spaces = found
        .iter()
        .any(|it| name_of(&it.record.pod).0 != "default");
    let mut columns = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if spaces {
        columns.insert(0, "NAMESPACE");
    }
    let now = Timestamp::now();
    let mut table =
        Table::new(&columns, &["IP", "PORTS", "IMAGES", "UID"]).headless(args.no_headers);
    for it in found {
        let (namespace, name) = name_of(&it.record.pod);
        let mut cells = row(&it.record.pod, name, now);
        if spaces {
            cells.insert(0, namespace.to_owned());
        }
        cells.extend(wide(&it.record.pod, args.no_trunc));
        table.row(cells);
    }
    table
}

fn row(pod: &Pod, name: &str, now: Timestamp) -> Vec<String> {
    let words = Words::of(pod);
    let restarts = match words.restarted {
        Some(at) if words.restarts > 0 => {
            format!("{} ({} ago)", words.restarts, output::age(at, now))
        }
        _ => words.restarts.to_string(),
    };
    let age = match &pod.metadata.creation_timestamp {
        Some(at) => output::age(at.0, now),
        None => "<unknown>".to_owned(),
    };
    vec![
        name.to_owned(),
        format!("{}/{}", words.ready, words.total),
        words.status,
        restarts,
        age,
    ]
}

fn wide(pod: &Pod, whole: bool) -> [String; 4] {
    let none = || "<none>".to_owned();
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports: Vec<String> = containers
        .clone()
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            match port.host_port {
                Some(host) => format!("{host}->{}/{protocol}", port.container_port),
                None => format!("{}/{protocol}", port.container_port),
            }
        })
        .collect();
    let images: Vec<&str> = containers.filter_map(|c| c.image.as_deref()).collect();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    [
        ip.unwrap_or_else(none),
        if ports.is_empty() {
            none()
        } else {
            ports.join(",")
        },
        cut(&images.join(","), SHORT, whole),
        cut(&uid, 8, whole).trim_end_matches('…').to_owned(),
    ]
}

fn cut(text: &str, most: usize, whole: bool) -> String {
    if whole || text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most).collect();
    format!("{begin}…")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {"name": "web", "uid": "0123456789",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "main", "image": "file:/".to_owned() + &"x".repeat(60),
                "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"phase": "Running", "podIP": "127.0.0.2", "containerStatuses": [{"name": "main",
                "image": "i", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}}]}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_row_says_what_kubectls_does() {
        let pod = pod();
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(
            row(&pod, "web", now),
            ["web", "1/1", "Running", "2 (5m ago)", "5m"]
        );
        let [ip, ports, images, uid] = wide(&pod, false);
        assert_eq!(
            (ip.as_str(), ports.as_str()),
            ("127.0.0.2", "8080->80/TCP,53/UDP")
        );
        assert_eq!(images.chars().count(), SHORT + 1);
        assert_eq!(uid, "01234567");
        let [_, _, images, uid] = wide(&pod, true);
        assert_eq!((images.len(), uid.as_str()), (66, "0123456789"));
    }
}
