//! ConfigMaps, Secrets and RuntimeClasses, one at a time, with the node's own identity: it may read those that pods bound to it refer
//! to, and no others, and every RuntimeClass.
//!
//! What was read is kept for a short while, so that the containers of many pods don't ask for one object again and
//! again. That there is none is not kept: it may be created any moment, and somebody waits for it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::error::{Call, CallError, Kind};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(10);
/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads ConfigMaps, Secrets and RuntimeClasses.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    classes: Cache<RuntimeClass>,
}

impl Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl Objects {
    /// Reads with this client's identity.
    pub fn new(client: Client) -> Objects {
        Objects {
            client,
            config_maps: Cache::default(),
            secrets: Cache::default(),
            classes: Cache::default(),
        }
    }

    /// A ConfigMap; `None` if there is none.
    ///
    /// # Errors
    /// [`CallError`]. [`Kind::Forbidden`] just after a pod was bound is the authorizer's lag.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, CallError> {
        let api = Api::namespaced(self.client.clone(), namespace);
        let call = Call::of("get", "configmaps", namespace, name);
        get(api, call, &self.config_maps, (namespace, name)).await
    }

    /// A Secret; `None` if there is none.
    ///
    /// # Errors
    /// As [`Objects::config_map`].
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, CallError> {
        let api = Api::namespaced(self.client.clone(), namespace);
        let call = Call::of("get", "secrets", namespace, name);
        get(api, call, &self.secrets, (namespace, name)).await
    }

    /// A RuntimeClass; `None` if there is none.
    ///
    /// # Errors
    /// As [`Objects::config_map`].
    pub async fn runtime_class(&self, name: &str) -> Result<Option<Arc<RuntimeClass>>, CallError> {
        let api = Api::all(self.client.clone());
        let call = Call::on("get", "runtimeclasses", name);
        get(api, call, &self.classes, ("", name)).await
    }
}

/// What was read, and when, by namespace and name.
type Answers<T> = HashMap<(String, String), (Instant, Arc<T>)>;

struct Cache<T>(Arc<Mutex<Answers<T>>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache(Arc::default())
    }
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Cache(self.0.clone())
    }
}

impl<T> Cache<T> {
    fn answers(&self) -> MutexGuard<'_, Answers<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, (namespace, name): (&str, &str), now: Instant) -> Option<Arc<T>> {
        let answers = self.answers();
        let (at, object) = answers.get(&(namespace.to_owned(), name.to_owned()))?;
        (now.duration_since(*at) < KEPT).then(|| object.clone())
    }

    fn put(&self, (namespace, name): (&str, &str), now: Instant, object: Option<Arc<T>>) {
        let mut answers = self.answers();
        // Pods that are gone asked for what nobody asks for again.
        answers.retain(|_, (at, _)| now.duration_since(*at) < KEPT);
        let key = (namespace.to_owned(), name.to_owned());
        match object {
            Some(object) => answers.insert(key, (now, object)),
            None => answers.remove(&key),
        };
    }
}

async fn get<T>(
    api: Api<T>,
    call: Call,
    cache: &Cache<T>,
    named: (&str, &str),
) -> Result<Option<Arc<T>>, CallError>
where
    T: Clone + DeserializeOwned + Debug,
{
    if let Some(known) = cache.get(named, Instant::now()) {
        return Ok(Some(known));
    }
    let found = match call.run(LIMIT, api.get(named.1)).await {
        Ok(object) => Some(Arc::new(object)),
        Err(error) if error.kind() == Kind::NotFound => None,
        Err(error) => return Err(error),
    };
    cache.put(named, Instant::now(), found.clone());
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// An API server that has one ConfigMap, `default/there`, and one RuntimeClass, `wasm`, and forbids the namespace
    /// `other`.
    fn server() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (code, body) = match request.uri().path() {
                "/api/v1/namespaces/default/configmaps/there" => (
                    200,
                    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"},"data":{"k":"v"}}"#,
                ),
                "/apis/node.k8s.io/v1/runtimeclasses/wasm" => (
                    200,
                    r#"{"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"wasm"},"handler":"coracle"}"#,
                ),
                path if path.contains("/other/") => (
                    403,
                    r#"{"kind":"Status","status":"Failure","reason":"Forbidden","message":"no relationship found","code":403}"#,
                ),
                _ => (
                    404,
                    r#"{"kind":"Status","status":"Failure","reason":"NotFound","message":"none","code":404}"#,
                ),
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(body.as_bytes().to_vec()))
                .unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        });
        (Client::new(service, "default"), asked)
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_an_absence_is_not() {
        let (client, asked) = server();
        let objects = Objects::new(client);
        for _ in 0..3 {
            let found = objects.config_map("default", "there").await.unwrap();
            assert_eq!(found.unwrap().data.as_ref().unwrap()["k"], "v");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            assert!(
                objects
                    .config_map("default", "absent")
                    .await
                    .unwrap()
                    .is_none()
            );
            assert!(objects.secret("default", "there").await.unwrap().is_none());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_runtime_class_has_a_handler() {
        let (client, asked) = server();
        let objects = Objects::new(client);
        for _ in 0..2 {
            let found = objects.runtime_class("wasm").await.unwrap();
            assert_eq!(found.unwrap().handler, "coracle");
        }
        assert!(objects.runtime_class("there").await.unwrap().is_none());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_may_not_be_read_says_so() {
        let (client, _) = server();
        let error = Objects::new(client).secret("other", "s").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(
            error.to_string().starts_with("get secrets other/s: "),
            "{error}"
        );
    }

    #[test]
    fn an_answer_ends() {
        let cache = Cache::default();
        let begin = Instant::now();
        cache.put(("a", "b"), begin, Some(Arc::new(1)));
        assert_eq!(cache.get(("a", "b"), begin), Some(Arc::new(1)));
        assert_eq!(cache.get(("a", "c"), begin), None);
        assert_eq!(cache.get(("a", "b"), begin + KEPT), None);
        cache.put(("x", "y"), begin + KEPT, Some(Arc::new(2)));
        assert_eq!(cache.answers().len(), 1);
        cache.put(("x", "y"), begin + KEPT, None);
        assert!(cache.answers().is_empty());
    }
}
