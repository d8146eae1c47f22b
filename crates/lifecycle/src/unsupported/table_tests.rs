//! Holds the table of `docs/pod-fields.md` against what is refused and warned of.
//!
//! The API's types are asked for every field that they have, by a reader that gives them all; for
//! each of them a Pod that has only that field goes through [`unsupported`] and [`ineffective`]. A
//! field without a row fails, so does a row that says something else, and one of no field.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod every;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::*;

const TABLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/pod-fields.md"
));

/// A row's field and what it says of it.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in TABLE.lines() {
        let Some(rest) = line.strip_prefix("| `") else {
            continue;
        };
        let (field, rest) = rest.split_once('`').unwrap();
        let outcome = rest.split('|').nth(1).unwrap().trim();
        assert!(
            ["yes", "no effect", "warned", "refused"].contains(&outcome),
            "{line}"
        );
        assert!(
            !(field.ends_with(".*") && outcome == "yes"),
            "{field}: what works is told field by field"
        );
        let before = rows.insert(field.to_owned(), outcome.to_owned());
        assert_eq!(before, None, "{field} has two rows");
    }
    rows
}

/// The row of a field: its own, or the nearest `above.*`. The fields of init and ephemeral containers
/// are as a container's where they have no row.
fn row(rows: &BTreeMap<String, String>, field: &str) -> Option<String> {
    let mut above = field;
    if rows.contains_key(field) {
        return Some(field.to_owned());
    }
    while let Some((shorter, _)) = above.rsplit_once('.') {
        let all = format!("{shorter}.*");
        if rows.contains_key(&all) {
            return Some(all);
        }
        above = shorter;
    }
    let others = ["spec.initContainers[].", "spec.ephemeralContainers[]."];
    let rest = others.iter().find_map(|list| field.strip_prefix(list))?;
    row(rows, &format!("spec.containers[].{rest}"))
}

/// A Pod that has one field set, and what every Pod needs.
fn pod_with(field: &str) -> Pod {
    let mut pod: Pod = every::only(field);
    let spec = pod.spec.get_or_insert_default();
    if spec.containers.is_empty() {
        spec.containers.push(Container::default());
    }
    let inits = spec.init_containers.iter_mut().flatten();
    for (place, container) in spec.containers.iter_mut().chain(inits).enumerate() {
        if container.name.is_empty() {
            container.name = format!("c{place}");
        }
        for policy in container.resize_policy.iter_mut().flatten() {
            for (text, value) in [
                (&mut policy.resource_name, "cpu"),
                (&mut policy.restart_policy, "NotRequired"),
            ] {
                if text.is_empty() {
                    *text = value.to_owned();
                }
            }
        }
        for rule in container.restart_policy_rules.iter_mut().flatten() {
            container.restart_policy = Some("Always".to_owned());
            let codes = rule.exit_codes.get_or_insert_default();
            for (text, value) in [(&mut rule.action, "Restart"), (&mut codes.operator, "In")] {
                if text.is_empty() {
                    *text = value.to_owned();
                }
            }
        }
        let mounts = container.volume_mounts.iter_mut().flatten();
        for mount in mounts.filter(|mount| mount.name.is_empty()) {
            mount.name = "v".to_owned();
        }
    }
    for one in spec.ephemeral_containers.iter_mut().flatten() {
        if one.name.is_empty() {
            one.name = "e".to_owned();
        }
        let mounts = one.volume_mounts.iter_mut().flatten();
        for mount in mounts.filter(|mount| mount.name.is_empty()) {
            mount.name = "v".to_owned();
        }
    }
    let volume = Volume {
        name: "v".to_owned(),
        ..Volume::default()
    };
    spec.volumes.get_or_insert_default().push(volume);
    pod
}

fn outcome(field: &str) -> &'static str {
    let pod = pod_with(field);
    if !unsupported(&pod).is_empty() {
        "refused"
    } else if !ineffective(&pod).is_empty() {
        "warned"
    } else {
        "accepted"
    }
}

#[test]
fn every_field_of_a_pod_has_a_row_that_is_true() {
    let rows = rows();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let fields = every::fields::<Pod>();
    assert!(fields.len() > 500, "{}", fields.len());
    for field in fields.iter().filter(|field| !field.starts_with("status.")) {
        let outcome = outcome(field);
        let Some(row) = row(&rows, field) else {
            wrong.push(format!("{field} has no row; it is {outcome}"));
            continue;
        };
        let said = rows[&row].as_str();
        let agrees = match said {
            "yes" | "no effect" => outcome == "accepted",
            said => said == outcome,
        };
        if !agrees {
            wrong.push(format!(
                "{field} is {outcome}, and the row {row} says {said}"
            ));
        }
        used.insert(row);
    }
    let unused = rows.keys().filter(|row| !used.contains(*row));
    wrong.extend(unused.map(|row| format!("the row {row} is of no field")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
