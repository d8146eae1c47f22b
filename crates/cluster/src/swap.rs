//! Credentials that change under clients that don't.
//!
//! A connection is whoever opened it for as long as it lives, so a new certificate needs new connections. A client of
//! ours is a name for the newest client that there is: each call goes to that one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use kube::client::Body;
use kube::{Client, Config};

/// Which credentials count, and how often they have changed.
#[derive(Debug)]
pub(crate) struct Live(Mutex<Current>);

#[derive(Debug, Clone)]
struct Current {
    config: Config,
    user: Option<String>,
    generation: u64,
}

impl Live {
    pub(crate) fn new(config: Config, user: Option<String>) -> Arc<Live> {
        Arc::new(Live(Mutex::new(Current {
            config,
            user,
            generation: 0,
        })))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn config(&self) -> Config {
        self.current().config.clone()
    }

    pub(crate) fn user(&self) -> Option<String> {
        self.current().user.clone()
    }

    pub(crate) fn replace(&self, config: Config, user: Option<String>) {
        let mut current = self.current();
        current.generation += 1;
        (current.config, current.user) = (config, user);
    }

    /// A client whose every call is made with what counts then. `tuned` says what its connections are like.
    pub(crate) fn client(
        self: &Arc<Self>,
        tuned: impl Fn(&mut Config) + Send + 'static,
    ) -> kube::Result<Client> {
        let made = move |current: &Current| {
            let mut config = current.config.clone();
            tuned(&mut config);
            Client::try_from(config)
        };
        let current = self.current().clone();
        let namespace = current.config.default_namespace.clone();
        let newest = Newest {
            client: made(&current)?,
            generation: current.generation,
        };
        Ok(routed(self.clone(), newest, made, namespace))
    }
}

struct Newest {
    client: Client,
    generation: u64,
}

/// Runs on the task of the outer client, and so makes connections on its runtime.
fn routed(
    live: Arc<Live>,
    mut newest: Newest,
    made: impl Fn(&Current) -> kube::Result<Client> + Send + 'static,
    namespace: String,
) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let changed = {
            let current = live.current();
            (current.generation != newest.generation).then(|| current.clone())
        };
        if let Some(current) = changed {
            match made(&current) {
                Ok(client) => newest.client = client,
                // It was checked when it was taken into use; the old one is the best there is.
                Err(error) => {
                    tracing::error!(%error, "no client can be made of the new credentials")
                }
            }
            newest.generation = current.generation;
        }
        let client = newest.client.clone();
        async move { send(client, request).await }
    });
    Client::new(service, namespace)
}

async fn send(client: Client, request: Request<Body>) -> kube::Result<Response<Body>> {
    client.send(request).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::Node;
    use kube::Api;

    use super::*;

    /// A client whose server says whose it is.
    fn server(says: String) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            let node =
                format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{says}"}}}}"#);
            let answer = Response::new(Body::from(node.into_bytes()));
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn each_call_is_made_with_the_newest_credentials() {
        let config = || Config::new("https://127.0.0.1:1".parse().unwrap());
        let live = Live::new(config(), Some("one".into()));
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let make = move |current: &Current| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(server(current.user.clone().unwrap_or_default()))
        };
        let newest = Newest {
            client: server("one".into()),
            generation: 0,
        };
        let client = routed(live.clone(), newest, make, "default".into());
        let api: Api<Node> = Api::all(client);
        let asked = async || api.get("n").await.unwrap().metadata.name.unwrap();
        assert_eq!(asked().await, "one");
        live.replace(config(), Some("two".into()));
        assert_eq!(asked().await, "two");
        assert_eq!(asked().await, "two");
        assert_eq!(
            made.load(Ordering::SeqCst),
            1,
            "a client is made once for each change"
        );
    }
}
