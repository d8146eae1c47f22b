//! The API server dies and comes back: nothing is lost, and all that happened is told.

use cluster::{PodEvent, Publisher, pods};
use e2e::ControlPlane;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;

use crate::bench::{Beat, PATIENCE, access, phase, pod, status};

#[tokio::test]
async fn what_happened_while_the_api_server_was_away_is_told_afterwards() {
    // One of its own: the others must not notice.
    let plane = ControlPlane::start().await.unwrap();
    let access = access(&plane, "outage").await;
    let mut beat = Beat::start(&access, "outage");
    let client = access.pods().unwrap();
    let (publisher, _reports) = Publisher::new(client.clone());
    let mut events = Box::pin(pods::watch(client, "outage"));
    let (ends, stays) = (
        pod(&plane, "default", "ends", "outage").await,
        pod(&plane, "default", "stays", "outage").await,
    );
    beat.told(|state| state.renewed.is_some()).await;

    plane.stop_api_server();
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap();
    publisher.publish(&uid(&ends), &ends, status("Running"), false);
    publisher.publish(&uid(&stays), &stays, status("Running"), false);
    publisher.publish(&uid(&ends), &ends, status("Failed"), true);
    let away = jiff::Timestamp::now();
    beat.told(|state| state.waiting.is_some()).await;
    assert_eq!(publisher.behind(), 2);

    plane.start_api_server().await.unwrap();
    let told = async {
        let (mut failed, mut running) = (false, false);
        while !(failed && running) {
            if let Some(PodEvent::Applied(pod)) = events.next().await {
                failed |= uid(&pod) == uid(&ends) && phase(Some(&pod)) == "Failed";
                running |= uid(&pod) == uid(&stays) && phase(Some(&pod)) == "Running";
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    beat.told(|state| state.renewed.is_some_and(|at| at > away) && state.waiting.is_none())
        .await;
}

#[tokio::test]
async fn a_control_plane_leaves_nothing_behind() {
    let plane = ControlPlane::start().await.unwrap();
    let (dir, server) = (plane.dir(), plane.server());
    drop(plane);
    assert!(!dir.exists());
    let address: std::net::SocketAddr = server.trim_start_matches("https://").parse().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
