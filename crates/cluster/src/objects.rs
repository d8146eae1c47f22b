//! ConfigMaps, Secrets and RuntimeClasses, one at a time, with the node's own identity: it may read those that pods bound to it refer
//! to, and no others, and every RuntimeClass.
//!
//! What was read is kept for a short while, so that the containers of a pod don't ask for one object again and again. A
//! pod never gets what was read before it first asked: who changes an object and then makes pods anew is sure that they
//! have the change, as by the kubelet (`AddReference` of `pkg/kubelet/util/manager/cache_based_manager.go`). Pods that ask
//! at the same time share a read. That there is none is not kept: it may be created any moment, and somebody waits for it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::error::{Call, CallError, Kind};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(10);
/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The pod for whose sake something is read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// `metadata.namespace`
    pub namespace: &'a str,
    /// `metadata.uid`
    pub uid: &'a str,
}

/// Reads ConfigMaps, Secrets and RuntimeClasses.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    readers: Arc<Readers>,
    config_maps: Arc<Cache<ConfigMap>>,
    secrets: Arc<Cache<Secret>>,
    classes: Arc<Cache<RuntimeClass>>,
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
            readers: Arc::default(),
            config_maps: Arc::default(),
            secrets: Arc::default(),
            classes: Arc::default(),
        }
    }

    /// A ConfigMap; `None` if there is none.
    ///
    /// # Errors
    /// [`CallError`]. [`Kind::Forbidden`] just after a pod was bound is the authorizer's lag.
    pub async fn config_map(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, Arc<CallError>> {
        self.own(&self.config_maps, "configmaps", reader, name)
            .await
    }

    /// A Secret; `None` if there is none.
    ///
    /// # Errors
    /// As [`Objects::config_map`].
    pub async fn secret(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, Arc<CallError>> {
        self.own(&self.secrets, "secrets", reader, name).await
    }

    /// A RuntimeClass; `None` if there is none.
    ///
    /// # Errors
    /// As [`Objects::config_map`].
    pub async fn runtime_class(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<RuntimeClass>>, Arc<CallError>> {
        let api = Api::all(self.client.clone());
        let call = Call::on("get", "runtimeclasses", name);
        read(
            &self.classes,
            self.readers.since(reader),
            ("", name),
            || get(api, call, name.to_owned()),
        )
        .await
    }

    /// An object of the pod's namespace.
    async fn own<T>(
        &self,
        cache: &Arc<Cache<T>>,
        resource: &'static str,
        reader: Reader<'_>,
        name: &str,
    ) -> Found<T>
    where
        T: Resource<Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
        T::DynamicType: Default,
    {
        let api = Api::namespaced(self.client.clone(), reader.namespace);
        let call = Call::of("get", resource, reader.namespace, name);
        let named = (reader.namespace, name);
        read(cache, self.readers.since(reader), named, || {
            get(api, call, name.to_owned())
        })
        .await
    }
}

/// Gets an object.
async fn get<T>(api: Api<T>, call: Call, name: String) -> Found<T>
where
    T: Clone + DeserializeOwned + Debug,
{
    match call.run(LIMIT, api.get(&name)).await {
        Ok(object) => Ok(Some(Arc::new(object))),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(Arc::new(error)),
    }
}

/// When pods first asked, by UID. One that asks again after a while counts as new: it costs a read.
#[derive(Default)]
struct Readers(Mutex<HashMap<String, Instant>>);

impl Readers {
    fn since(&self, reader: Reader<'_>) -> Instant {
        let now = Instant::now();
        let mut readers = lock(&self.0);
        readers.retain(|_, first| now.duration_since(*first) < KEPT);
        *readers.entry(reader.uid.to_owned()).or_insert(now)
    }
}

type Found<T> = Result<Option<Arc<T>>, Arc<CallError>>;
type Flight<T> = Shared<BoxFuture<'static, Found<T>>>;
type Named = (String, String);

/// What is known of objects, by namespace and name.
struct Cache<T>(Mutex<HashMap<Named, Place<T>>>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache(Mutex::default())
    }
}

struct Place<T> {
    /// What was read, and when that began.
    kept: Option<(Instant, Arc<T>)>,
    /// The latest read, which may be over.
    flight: Option<Flight<T>>,
    /// That read has not begun, so that whoever comes may join it.
    open: bool,
}

impl<T> Place<T> {
    fn is_of_use(&self, now: Instant) -> bool {
        let flight = self.flight.as_ref();
        flight.is_some_and(|flight| flight.peek().is_none()) || self.fresh(now).is_some()
    }

    /// What was read, unless that is too long ago.
    fn fresh(&self, now: Instant) -> Option<&(Instant, Arc<T>)> {
        let kept = self.kept.as_ref();
        kept.filter(|(begun, _)| now.duration_since(*begun) < KEPT)
    }
}

impl<T: Send + Sync + 'static> Cache<T> {
    /// What was read since then, or the read that will tell: it begins after this.
    fn known<G>(
        self: &Arc<Self>,
        since: Instant,
        (namespace, name): (&str, &str),
        get: impl FnOnce() -> G,
    ) -> Result<Arc<T>, Flight<T>>
    where
        G: Future<Output = Found<T>> + Send + 'static,
    {
        let now = Instant::now();
        let named = (namespace.to_owned(), name.to_owned());
        let mut places = lock(&self.0);
        // Pods that are gone asked for what nobody asks for again.
        places.retain(|_, place| place.is_of_use(now));
        let place = places.entry(named.clone()).or_insert(Place {
            kept: None,
            flight: None,
            open: false,
        });
        if let Some((_, object)) = place.fresh(now).filter(|(begun, _)| *begun >= since) {
            return Ok(object.clone());
        }
        if let Some(flight) = place.flight.as_ref().filter(|_| place.open) {
            return Err(flight.clone());
        }
        let earlier = place.flight.take().filter(|one| one.peek().is_none());
        let flight = self.clone().fly(named, earlier, get()).boxed().shared();
        place.open = true;
        place.flight = Some(flight.clone());
        Err(flight)
    }

    /// Reads once the earlier read is over, so that those who come meanwhile are read for once.
    async fn fly(
        self: Arc<Self>,
        named: Named,
        earlier: Option<Flight<T>>,
        get: impl Future<Output = Found<T>>,
    ) -> Found<T> {
        if let Some(earlier) = earlier {
            let _ = earlier.await;
        }
        let begun = Instant::now();
        self.change(&named, |place| place.open = false);
        let found = get.await;
        if let Ok(object) = &found {
            let kept = object.clone().map(|object| (begun, object));
            self.change(&named, |place| place.kept = kept);
        }
        found
    }

    fn change(&self, named: &Named, change: impl FnOnce(&mut Place<T>)) {
        if let Some(place) = lock(&self.0).get_mut(named) {
            change(place);
        }
    }
}

/// What there is, read no earlier than `since`.
async fn read<T, G>(
    cache: &Arc<Cache<T>>,
    since: Instant,
    named: (&str, &str),
    get: impl FnOnce() -> G,
) -> Found<T>
where
    T: Send + Sync + 'static,
    G: Future<Output = Found<T>> + Send + 'static,
{
    let known = cache.known(since, named, get);
    match known {
        Ok(object) => Ok(Some(object)),
        Err(flight) => flight.await,
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    const POD: Reader<'_> = Reader {
        namespace: "default",
        uid: "u",
    };

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
            let found = objects.config_map(POD, "there").await.unwrap();
            assert_eq!(found.unwrap().data.as_ref().unwrap()["k"], "v");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            assert!(objects.config_map(POD, "absent").await.unwrap().is_none());
            assert!(objects.secret(POD, "there").await.unwrap().is_none());
        }
        assert_eq!(asked.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_runtime_class_has_a_handler() {
        let (client, asked) = server();
        let objects = Objects::new(client);
        for _ in 0..2 {
            let found = objects.runtime_class(POD, "wasm").await.unwrap();
            assert_eq!(found.unwrap().handler, "coracle");
        }
        assert!(objects.runtime_class(POD, "there").await.unwrap().is_none());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_may_not_be_read_says_so() {
        let (client, _) = server();
        let other = Reader {
            namespace: "other",
            ..POD
        };
        let error = Objects::new(client).secret(other, "s").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(
            error.to_string().starts_with("get secrets other/s: "),
            "{error}"
        );
    }

    /// A read that answers `number` once it may.
    fn told(number: u32, gate: &Arc<tokio::sync::Semaphore>) -> BoxFuture<'static, Found<u32>> {
        let gate = gate.clone();
        async move {
            let _turn = gate.acquire().await.unwrap();
            Ok(Some(Arc::new(number)))
        }
        .boxed()
    }

    #[tokio::test]
    async fn who_asks_while_a_read_is_under_way_gets_the_next_and_shares_it() {
        let cache = Arc::new(Cache::default());
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let ask = |number| cache.known(Instant::now(), ("n", "o"), || told(number, &gate));
        let first = ask(1).unwrap_err();
        let mut begun = Box::pin(first.clone());
        assert!(futures::poll!(&mut begun).is_pending());
        let (second, third) = (ask(2).unwrap_err(), ask(3).unwrap_err());
        gate.add_permits(1);
        let all = tokio::join!(first, second, third);
        let numbers = [all.0, all.1, all.2].map(|found| found.unwrap().map(|one| *one));
        assert_eq!(numbers, [Some(1), Some(2), Some(2)]);
    }

    #[tokio::test]
    async fn a_pod_that_comes_later_gets_what_was_read_since() {
        let (client, asked) = server();
        let objects = Objects::new(client);
        for (uid, calls) in [("u", 1), ("v", 2), ("u", 2), ("v", 2)] {
            let reader = Reader { uid, ..POD };
            let found = objects.config_map(reader, "there").await.unwrap();
            assert!(found.is_some());
            assert_eq!(asked.load(Ordering::SeqCst), calls, "{uid}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_failed_is_not_kept_and_holds_up_nobody() {
        let cache: Arc<Cache<u32>> = Arc::default();
        let failed = || async {
            let never = std::future::pending::<kube::Result<()>>();
            let error = Call::on("get", "configmaps", "o").run(LIMIT, never).await;
            Err(Arc::new(error.unwrap_err()))
        };
        let since = Instant::now();
        let all = (0..20).map(|_| read(&cache, since, ("n", "o"), failed));
        let began = tokio::time::Instant::now();
        for found in futures::future::join_all(all).await {
            assert_eq!(found.unwrap_err().kind(), Kind::Timeout);
        }
        assert!(began.elapsed() <= LIMIT * 2, "{:?}", began.elapsed());
        let there = read(&cache, since, ("n", "o"), || async {
            Ok(Some(Arc::new(1)))
        });
        assert_eq!(there.await.unwrap(), Some(Arc::new(1)));
    }
}
