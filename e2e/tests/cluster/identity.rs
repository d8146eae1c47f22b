//! Certificates by CSR: from a bootstrap token to a node's identity and on, signed by the real controller.

use std::time::Duration;

use cluster::csr::{self, CsrError, Request, Signer};
use cluster::{Access, PodEvent, pods};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::bench::{Beat, PATIENCE, until};

fn quiet(_: &str) {}

async fn asked(
    access: &Access,
    node: &str,
    signer: &Signer,
) -> Result<cluster::Certified, CsrError> {
    let key = csr::new_key().unwrap();
    let request = Request::new(node, &key, signer).unwrap();
    request
        .certificate(access.pods().unwrap(), PATIENCE, quiet)
        .await
}

/// Nothing is granted but what kubeadm grants: the token may ask, and a node may ask for itself.
#[tokio::test]
async fn a_token_becomes_a_node_whose_certificate_is_renewed_under_its_clients() {
    let plane = e2e::ControlPlane::shared().await.unwrap();
    let bootstrap = plane.signer().await.unwrap();
    let token = Access::load(&bootstrap).await.unwrap();
    assert_eq!(token.node(), None);
    let first = asked(&token, "boot", &Signer::Client).await.unwrap();
    assert_eq!(first.user(), "system:node:boot");

    let access = Access::load_as(&bootstrap, &first).await.unwrap();
    assert_eq!(access.node().as_deref(), Some("boot"));
    let mut beat = Beat::start(&access, "boot");
    beat.told(|state| state.node.is_some()).await;
    let client = access.pods().unwrap();
    let mut watched = std::pin::pin!(pods::watch(client.clone(), "boot"));
    let first_told = tokio::time::timeout(PATIENCE, watched.next()).await;
    assert!(matches!(first_told, Ok(Some(PodEvent::Synced))));

    let second = asked(&access, "boot", &Signer::Client).await.unwrap();
    assert!(second.not_after() >= first.not_after());
    access.renew(&second).unwrap();
    // The same client, by the new certificate; the watch that was open still tells.
    let nodes: Api<Node> = Api::all(client);
    nodes.get("boot").await.unwrap();
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"boot","namespace":"default"},
        "spec":{"nodeName":"boot","containers":[{"name":"c","image":"none"}]}}"#;
    plane
        .kubectl_with(&["create", "-f", "-"], pod)
        .await
        .unwrap();
    let told = tokio::time::timeout(PATIENCE, watched.next()).await;
    let Ok(Some(PodEvent::Applied(pod))) = told else {
        panic!("{told:?}")
    };
    assert_eq!(pod.metadata.name.as_deref(), Some("boot"));
    let renewed = beat.told(|state| state.renewed.is_some()).await.renewed;
    beat.told(|state| state.renewed > renewed).await;
    plane
        .kubectl(&["delete", "pod", "boot", "--force"])
        .await
        .unwrap();
}

/// Nobody approves a server's certificate by itself; a person does, or denies it.
#[tokio::test]
async fn a_serving_certificate_waits_for_a_person() {
    let plane = e2e::ControlPlane::shared().await.unwrap();
    plane.signer().await.unwrap();
    let kubeconfig = plane.node_kubeconfig("served").unwrap();
    let access = Access::load(&kubeconfig).await.unwrap();
    let signer = Signer::Serving {
        names: vec!["served".into()],
        addresses: vec!["192.0.2.10".parse().unwrap()],
    };
    let requests: Api<CertificateSigningRequest> = Api::all(plane.admin().await.unwrap());
    for approve in [true, false] {
        let key = csr::new_key().unwrap();
        let request = Request::new("served", &key, &signer).unwrap();
        let name = request.name().to_owned();
        let decide = async {
            let exists = |csr: Option<&CertificateSigningRequest>| csr.is_some();
            until(requests.clone(), &name, exists).await;
            let word = if approve { "approve" } else { "deny" };
            plane.kubectl(&["certificate", word, &name]).await.unwrap();
        };
        let client = access.pods().unwrap();
        let (signed, ()) = tokio::join!(request.certificate(client, PATIENCE, quiet), decide);
        match approve {
            true => assert_eq!(signed.unwrap().user(), "system:node:served"),
            false => assert!(matches!(signed, Err(CsrError::Denied { .. })), "{signed:?}"),
        }
    }
    let key = csr::new_key().unwrap();
    let request = Request::new("served", &key, &signer).unwrap();
    let short = Duration::from_secs(2);
    let client = access.pods().unwrap();
    let late = request.certificate(client, short, quiet).await;
    let what = "approved";
    assert!(
        matches!(late, Err(CsrError::Late { what: late, .. }) if late == what),
        "{late:?}"
    );
}
