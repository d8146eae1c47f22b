//! One instance and the request that it was made for.
//!
//! It goes on when it is polled, within the container's quota, and is gone when it is dropped:
//! what it answers with says nothing of whether it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::{Method, Request, Uri};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasi_host::P2Host;
use wasmtime::AsContextMut;

use super::body::RequestBody;
use super::proxy::Answer;
use super::server::Shared;
use crate::budget::Hold;
use crate::component::RESOURCES;
use crate::instance;
use crate::turn::Throttle;

/// See the module.
pub(super) struct Instance {
    shared: Arc<Shared>,
    work: Option<BoxFuture<'static, wasmtime::Result<()>>>,
    throttle: Throttle,
    failed: Arc<AtomicBool>,
    request: Named,
    /// Its place among those that are handled, and what is held for it.
    held: Option<(OwnedSemaphorePermit, Hold)>,
}

/// A request, for messages.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What follows the path may be nobody's business.
        write!(f, "{} {}", self.method, self.uri.path())
    }
}

/// Says that an instance is gone before it was done, unless it was done. Dropped before its store,
/// so that whoever sees the store's streams end knows why.
struct Fate {
    failed: Arc<AtomicBool>,
    is_done: bool,
}

impl Drop for Fate {
    fn drop(&mut self) {
        if !self.is_done {
            self.failed.store(true, Ordering::Release);
        }
    }
}

impl Instance {
    /// An instance to be: it is made when it is first polled.
    pub(super) fn new(
        shared: &Arc<Shared>,
        request: Request<RequestBody>,
        named: Named,
        held: (OwnedSemaphorePermit, Hold),
    ) -> (Instance, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let work = run(Arc::clone(shared), request, answer, Arc::clone(&failed));
        let instance = Instance {
            shared: Arc::clone(shared),
            work: Some(Box::pin(work)),
            throttle: Throttle::default(),
            failed,
            request: named,
            held: Some(held),
        };
        (instance, answered)
    }

    /// Lets it go on. Ready when it is done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<wasmtime::Result<()>> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Ok(()));
        };
        ready!(self.throttle.poll_free(&self.shared.container, cx));
        let result = ready!(work.as_mut().poll(cx));
        self.work = None;
        self.held = None;
        Poll::Ready(result)
    }

    /// Lets it go on after it has answered. What it fails with is logged.
    pub(super) fn poll_on(&mut self, cx: &mut Context<'_>) {
        if self.work.is_some()
            && let Poll::Ready(Err(error)) = self.poll(cx)
        {
            self.shared.report_end(&self.request, &error);
        }
    }

    /// What it was made for.
    pub(super) fn request(&self) -> &Named {
        &self.request
    }

    /// Whether it is gone and was not done.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Ends it, and says why in the log.
    pub(super) fn abandon(&mut self, why: &str) {
        self.work = None;
        self.held = None;
        self.shared.report(&self.request, why);
    }

    /// What it still has to do once its answer is complete, it does on its own, for as long as a
    /// request may take.
    pub(super) fn finish_beside(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        let mut rest = Instance {
            shared: Arc::clone(&self.shared),
            work: Some(work),
            throttle: Throttle::default(),
            failed: Arc::clone(&self.failed),
            request: self.request.clone(),
            held: self.held.take(),
        };
        let bound = self.shared.spec.request_timeout();
        self.shared.beside(async move {
            let done = std::future::poll_fn(|cx| {
                rest.poll_on(cx);
                match rest.work {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(()),
                }
            });
            if tokio::time::timeout(bound, done).await.is_err() {
                rest.abandon(&format!("it was not done {bound:?} after its answer"));
            }
        });
    }
}

async fn run(
    shared: Arc<Shared>,
    request: Request<RequestBody>,
    answer: oneshot::Sender<Answer>,
    failed: Arc<AtomicBool>,
) -> wasmtime::Result<()> {
    let world = shared.worlds.instance();
    let container = Arc::clone(&shared.container);
    let mut store = instance::store(shared.proxy.engine(), world, container);
    let mut fate = Fate {
        failed,
        is_done: false,
    };
    store.as_context_mut().set_max_component_handles(RESOURCES);
    let result = shared.proxy.handle(&mut store, request, answer).await;
    // What it wrote is on its way beside it: dropping the store would cut it off.
    let flushed = store.data_mut().p2().flushed();
    flushed.await;
    fate.is_done = result.is_ok();
    result
}
