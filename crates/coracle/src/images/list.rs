//! Lists of images, and all that is known of one.

use image::{Details, Digest, Summary};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{FindError, Images, short};
use crate::cli::output::{self, Table};

const NONE: &str = "<none>";

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    repository: String,
    tag: String,
    #[serde(rename = "ID")]
    id: Digest,
    digest: Digest,
    created: Option<Timestamp>,
    /// In bytes.
    size: u64,
    platform: String,
    /// `image` or `artifact`.
    kind: &'static str,
}

/// The images of the store: those with a tag, and those that a digest alone names; with `all` also the digests beside
/// tags. With `wanted`, those of that repository or name.
///
/// # Errors
/// When the store can't be read.
pub(crate) fn rows(images: &Images, wanted: Option<&str>, all: bool) -> anyhow::Result<Vec<Row>> {
    let summaries = images.store.summaries()?;
    let tagged: Vec<(String, Digest)> = summaries
        .iter()
        .filter(|s| s.reference.tag().is_some())
        .map(|s| (s.reference.name(), s.digest))
        .collect();
    let is_shown = |s: &&Summary| {
        all || s.reference.tag().is_some() || !tagged.contains(&(s.reference.name(), s.digest))
    };
    let wanted = wanted.map(|w| (w, w.parse::<image::Reference>()));
    let is_wanted = |s: &&Summary| match &wanted {
        None => true,
        Some((_, Ok(name))) if s.reference == *name => true,
        Some((word, Ok(name))) => {
            // A name without a tag is a repository.
            let has_tag = word
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains([':', '@']));
            !has_tag && s.reference.name() == name.name()
        }
        Some((_, Err(_))) => false,
    };
    Ok(summaries
        .iter()
        .filter(is_shown)
        .filter(is_wanted)
        .map(row)
        .collect())
}

fn row(summary: &Summary) -> Row {
    Row {
        repository: summary.reference.name(),
        tag: summary.reference.tag().unwrap_or(NONE).to_owned(),
        id: summary.id,
        digest: summary.digest,
        created: summary.created,
        size: summary.size,
        platform: summary.platform.clone(),
        kind: kind(summary),
    }
}

fn kind(summary: &Summary) -> &'static str {
    match summary.artifact {
        true => "artifact",
        false => "image",
    }
}

/// docker's table.
pub(crate) fn table(rows: &[Row], whole: bool) -> Table {
    let mut table = Table::new(
        &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
        &["PLATFORM", "KIND", "DIGEST"],
    );
    let now = Timestamp::now();
    for row in rows {
        let created = row.created.map_or_else(
            || "N/A".to_owned(),
            |at| format!("{} ago", output::age(at, now)),
        );
        table.row([
            row.repository.clone(),
            row.tag.clone(),
            id(row, whole),
            created,
            output::bytes(row.size),
            row.platform.clone(),
            row.kind.to_owned(),
            row.digest.to_string(),
        ]);
    }
    table
}

fn id(row: &Row, whole: bool) -> String {
    match whole {
        true => row.id.to_string(),
        false => short(row.id),
    }
}

/// Each image's id once.
pub(crate) fn ids(rows: &[Row], whole: bool) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for row in rows {
        let id = id(row, whole);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Names as any command takes them.
pub(crate) fn names(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| match row.tag.as_str() {
            NONE => format!("{}@{}", row.repository, row.digest),
            tag => format!("{}:{tag}", row.repository),
        })
        .collect()
}

/// Everything of each image, in the fields of `docker image inspect`.
///
/// # Errors
/// When one is not in the store, or its documents are damaged.
pub(crate) fn inspect(images: &Images, words: &[String]) -> anyhow::Result<Vec<Value>> {
    let summaries = images.store.summaries()?;
    let mut found = Vec::new();
    for word in words {
        let summary = images.find(word)?;
        let details = images
            .store
            .details(&summary.reference)?
            .ok_or_else(|| FindError::None(word.clone()))?;
        found.push(object(&details, &summaries));
    }
    Ok(found)
}

fn object(details: &Details, all: &[Summary]) -> Value {
    let summary = &details.summary;
    let names = |tagged: bool| -> Vec<String> {
        all.iter()
            .filter(|s| s.digest == summary.digest && s.reference.tag().is_some() == tagged)
            .map(|s| s.reference.to_string())
            .collect()
    };
    let config = &details.config;
    let of_config = |field: &str| config.get(field).cloned().unwrap_or(Value::Null);
    let mut object = json!({
        "Id": summary.id,
        "Digest": summary.digest,
        "RepoTags": names(true),
        "RepoDigests": names(false),
        "Kind": kind(summary),
        "Created": of_config("created"),
        "Architecture": of_config("architecture"),
        "Os": of_config("os"),
        "Size": summary.size,
        "Annotations": details.manifest.get("annotations").cloned().unwrap_or_else(|| json!({})),
        "Manifest": details.manifest,
    });
    let rest = match summary.artifact {
        true => {
            json!({"Component": of_config("component"), "LayerDigests": of_config("layerDigests")})
        }
        false => {
            json!({"Config": of_config("config"), "RootFS": {"Type": "layers", "Layers": details.layers}})
        }
    };
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}
