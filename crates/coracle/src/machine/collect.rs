//! What nobody needs: images that no pod has, logs of runs that are over.

use std::collections::{BTreeMap, BTreeSet};

use agent::Subject;
use image::Digest;
use lifecycle::node::ImageView;

use crate::dirs::Dirs;
use crate::images::Images;

/// The images of the store, each with what tells whether a pod has it.
pub(super) fn images(store: &image::Store, subjects: &[Subject]) -> Vec<ImageView> {
    let had: BTreeSet<&str> = subjects
        .iter()
        .flat_map(|subject| &subject.images)
        .filter_map(|id| id.rsplit('@').next())
        .collect();
    let known = match store.summaries() {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "the images are not known");
            Vec::new()
        }
    };
    let mut found = BTreeMap::new();
    for summary in known {
        let id = summary.digest.to_string();
        // In doubt somebody has it in hand.
        let held = store.in_use(summary.digest).unwrap_or(true);
        let used = held || had.contains(id.as_str());
        let view = ImageView {
            id: id.clone(),
            size: summary.size,
            used,
        };
        found.insert(id, view);
    }
    found.into_values().collect()
}

/// Removes images by their digests, but for those that are in use by now.
pub(super) fn remove(dirs: &Dirs, ids: &[String]) {
    let digests: Vec<Digest> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    let removed = Images::open(dirs).and_then(|images| images.remove_unused(&digests));
    match removed {
        Ok(freed) => tracing::info!(images = digests.len(), freed, "images that nobody uses"),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "images stay"),
    }
}

/// Removes the logs of runs that are over: of each container all but the latest run's.
pub(super) fn containers(dirs: &Dirs) {
    let pods = std::fs::read_dir(dirs.all_logs())
        .into_iter()
        .flatten()
        .flatten();
    for pod in pods {
        let containers = std::fs::read_dir(pod.path())
            .into_iter()
            .flatten()
            .flatten();
        for container in containers {
            older(&container.path());
        }
    }
}

fn older(folder: &std::path::Path) {
    let run =
        |name: &std::ffi::OsStr| -> Option<u32> { name.to_str()?.split('.').next()?.parse().ok() };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files: Vec<_> = entries
        .filter_map(|entry| Some((run(&entry.file_name())?, entry.path())))
        .collect();
    let Some(latest) = files.iter().map(|(run, _)| *run).max() else {
        return;
    };
    for (_, path) in files.iter().filter(|(run, _)| *run < latest) {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(file = %path.display(), %error, "an old log stays");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_latest_runs_log_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(dir.path()).unwrap();
        let folder = dirs.all_logs().join("n_p_u/c");
        std::fs::create_dir_all(&folder).unwrap();
        for name in [
            "0.log",
            "9.log.20260101-000000.gz",
            "10.log",
            "10.log.x.gz",
            "notes",
        ] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        containers(&dirs);
        let left = std::fs::read_dir(&folder).unwrap();
        let mut left: Vec<_> = left
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["10.log", "10.log.x.gz", "notes"]);
    }
}
