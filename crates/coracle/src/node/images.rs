//! The images that the Node lists, for the scheduler's `ImageLocality`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::Health;
use image::{Digest, Summary};
use k8s_openapi::api::core::v1::ContainerImage;
use tokio::sync::watch;

use crate::hands::Hands;

/// How often the store is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Tells of the store's images as they change. Never ends.
pub(super) async fn follow(hands: Arc<Hands>, health: watch::Sender<Health>) {
    loop {
        let store = hands.store.clone();
        match tokio::task::spawn_blocking(move || store.summaries()).await {
            Ok(Ok(summaries)) => {
                let images = listed(summaries);
                health.send_if_modified(|health| {
                    let changed = health.images != images;
                    health.images = images;
                    changed
                });
            }
            Ok(Err(error)) => tracing::warn!(%error, "the images can't be listed"),
            Err(error) => tracing::warn!(%error, "the images were not listed"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One entry an image, the largest first, with the name by digest before the tags (`setters.go` of the kubelet).
fn listed(summaries: Vec<Summary>) -> Vec<ContainerImage> {
    let mut by_digest: BTreeMap<Digest, (u64, Vec<String>)> = BTreeMap::new();
    for summary in summaries {
        let pinned = summary.reference.pinned(summary.digest).to_string();
        let (size, names) = by_digest.entry(summary.digest).or_default();
        *size = summary.size;
        if !names.contains(&pinned) {
            names.insert(0, pinned);
        }
        let name = summary.reference.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut images: Vec<(u64, Vec<String>)> = by_digest.into_values().collect();
    images.sort_by(|one, other| other.cmp(one));
    let image = |(size, names)| ContainerImage {
        names: Some(names),
        size_bytes: i64::try_from(size).ok(),
    };
    images.into_iter().map(image).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_listed_once_with_all_its_names() {
        let digest = |letter: char| format!("sha256:{}", letter.to_string().repeat(64));
        let summary = |name: &str, letter: char, size| Summary {
            reference: name.parse().unwrap(),
            digest: digest(letter).parse().unwrap(),
            id: digest(letter).parse().unwrap(),
            platform: String::new(),
            artifact: false,
            created: None,
            size,
        };
        let images = listed(vec![
            summary("r.example.org/a:1", 'a', 5),
            summary("r.example.org/a:2", 'a', 5),
            summary("r.example.org/b:1", 'b', 9),
        ]);
        assert_eq!(images.len(), 2);
        assert_eq!(images.first().unwrap().size_bytes, Some(9));
        let names = images.last().unwrap().names.clone().unwrap();
        let pinned = format!("r.example.org/a@{}", digest('a'));
        assert_eq!(
            names,
            [pinned.as_str(), "r.example.org/a:1", "r.example.org/a:2"]
        );
    }
}
