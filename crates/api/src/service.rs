//! A request's way: who is it, may they, what is it, and the answer. In this order, as the kubelet's filter has it, so
//! that who may not ask learns nothing.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::authn::Authenticator;
use crate::authority::ClientCa;
use crate::authz::{Authorizer, Refusal};
use crate::backend::{Backend, Reviews};
use crate::body::{self, Body, text};
use crate::health::Health;
use crate::logs::{self, Readers};
use crate::options::{BadQuery, LogOptions};
use crate::route::{Route, decoded};

/// Answers for one node.
pub struct Api {
    authenticator: Authenticator,
    authorizer: Authorizer,
    backend: Arc<dyn Backend>,
    health: Arc<Health>,
    readers: Readers,
    pub(crate) closing: CancellationToken,
}

impl Api {
    /// Answers for the node of this name. Without a CA nobody is known by a certificate.
    pub fn new(
        node: &str,
        authority: Option<ClientCa>,
        reviews: Arc<dyn Reviews>,
        backend: Arc<dyn Backend>,
        health: Arc<Health>,
    ) -> Arc<Api> {
        Arc::new(Api {
            authenticator: Authenticator::new(authority, Arc::clone(&reviews)),
            authorizer: Authorizer::new(node, reviews),
            backend,
            health,
            readers: Readers::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Answers one request of who has shown these certificates. Its body is not looked at.
    pub(crate) async fn answer<B>(
        &self,
        chain: &[CertificateDer<'static>],
        request: &Request<B>,
    ) -> Response<Body> {
        let Some(path) = decoded(request.uri().path()) else {
            return text(StatusCode::BAD_REQUEST, "400: Bad Request");
        };
        let user = self
            .authenticator
            .authenticate(chain, request.headers())
            .await;
        let Some(user) = user else {
            return body::unauthorized(request.version());
        };
        let method = request.method();
        match self.authorizer.authorize(&user, method, &path).await {
            Err(Refusal::Forbidden(why)) => return text(StatusCode::FORBIDDEN, why),
            Err(Refusal::Unknown(why)) => return text(StatusCode::INTERNAL_SERVER_ERROR, why),
            Ok(()) => {}
        }
        let query = request.uri().query();
        match Route::of(method, &path) {
            Route::Health(check) => health(&self.health, check.as_deref(), query),
            Route::Pods => list(
                self.backend
                    .pods()
                    .iter()
                    .map(|pod| (**pod).clone())
                    .collect(),
            ),
            Route::RunningPods => {
                let pods = self.backend.pods();
                list(pods.iter().filter_map(|pod| running(pod)).collect())
            }
            Route::Configuration => object(&self.backend.configuration()),
            Route::Logs {
                namespace,
                pod,
                container,
            } => {
                let query = query.unwrap_or_default();
                self.logs((&namespace, &pod, &container), query)
                    .await
                    .unwrap_or_else(|refused| refused)
            }
            Route::Unsupported(what) => text(StatusCode::NOT_IMPLEMENTED, what),
            Route::Disabled(what) => text(StatusCode::METHOD_NOT_ALLOWED, format!("{what}\n")),
            Route::Only(method) => body::only(method),
            Route::Unknown => not_found(),
        }
    }

    async fn logs(
        &self,
        (namespace, pod, container): (&str, &str, &str),
        query: &str,
    ) -> Result<Response<Body>, Response<Body>> {
        // The kubelet's own words, JSON that is served as text among them.
        let message = |code, message| text(code, format!(r#"{{"message": "{message}"}}"#));
        for (value, what) in [
            (pod, "Missing podID."),
            (container, "Missing container name."),
            (namespace, "Missing podNamespace."),
        ] {
            if value.is_empty() {
                return Err(message(StatusCode::BAD_REQUEST, what));
            }
        }
        let options = LogOptions::of(query, Timestamp::now()).map_err(|bad| match bad {
            BadQuery::Undecodable => message(StatusCode::BAD_REQUEST, "Unable to decode query."),
            BadQuery::Invalid => message(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request."),
        })?;
        let Some(found) = self.backend.pod(namespace, pod) else {
            let why = format!("pod {pod:?} does not exist");
            return Err(text(StatusCode::NOT_FOUND, why));
        };
        if !logs::has_container(&found, container) {
            let why = format!("container {container:?} not found in pod {pod:?}");
            return Err(text(StatusCode::NOT_FOUND, why));
        }
        let id = logs::run_of(&found, container, options.previous)
            .map_err(|why| text(StatusCode::BAD_REQUEST, why))?;
        let uid = found.metadata.uid.clone().unwrap_or_default();
        // Before the log is opened, so that no end comes unseen.
        let ended = self.backend.ended(&uid, container, &id);
        let (backend, name) = (Arc::clone(&self.backend), container.to_owned());
        let open = move || backend.open_log(&found, &name, &id, options.reader);
        let broken = |error: std::io::Error| {
            tracing::error!(%error, "a log can't be read");
            text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let reader = match self.readers.run(open).await.map_err(broken)? {
            Ok(reader) => reader,
            Err(error) => {
                let cause: &dyn std::error::Error = &error;
                tracing::warn!(error = cause, "a log can't be read");
                return Err(text(StatusCode::BAD_REQUEST, error.to_string()));
            }
        };
        let closing = self.closing.clone();
        let pieces = logs::pieces(reader, self.readers.clone(), ended, closing).map_err(broken)?;
        Ok(body::stream(pieces))
    }
}

/// `/healthz` of a request that may ask.
pub(crate) fn health(health: &Health, check: Option<&str>, query: Option<&str>) -> Response<Body> {
    match health.answer(check, query) {
        Some((code, said)) => text(code, said),
        None => not_found(),
    }
}

pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404: Page Not Found")
}

fn list(items: Vec<Pod>) -> Response<Body> {
    object(&k8s_openapi::List::<Pod> {
        items,
        ..k8s_openapi::List::default()
    })
}

fn object(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => body::json(text),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A pod as what runs of it shows it (`ToAPIPod` of `pkg/kubelet/container/runtime.go`); `None` if nothing does.
fn running(pod: &Pod) -> Option<Pod> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let lasting = init.chain(status.container_statuses.iter().flatten());
    let all = lasting.chain(status.ephemeral_container_statuses.iter().flatten());
    let containers: Vec<Container> = all
        .filter(|container| {
            container
                .state
                .as_ref()
                .is_some_and(|s| s.running.is_some())
        })
        .map(|container| Container {
            name: container.name.clone(),
            image: Some(container.image.clone()),
            ..Container::default()
        })
        .collect();
    if containers.is_empty() {
        return None;
    }
    Some(Pod {
        metadata: ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers,
            ..PodSpec::default()
        }),
        status: None,
    })
}
