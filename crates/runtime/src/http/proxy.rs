//! A component that answers requests, of preview2 or preview3, and one request that it is handed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasi_host::P2Host;
use wasmtime::component::{Accessor, InstancePre};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p3::Request as Handed;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

use super::body::RequestBody;
use crate::component::Composed;

/// What an instance answers with; an error of its own in words.
pub(super) type Answer = Result<Response<HyperOutgoingBody>, String>;

/// See the module.
pub(crate) enum Proxy {
    /// It exports `wasi:http/incoming-handler` 0.2.
    Preview2(ProxyPre<Composed>),
    /// It exports `wasi:http/handler` 0.3.
    Preview3(ServicePre<Composed>),
}

impl Proxy {
    /// # Errors
    /// It exports neither.
    pub(crate) fn new(pre: &InstancePre<Composed>) -> wasmtime::Result<Proxy> {
        match ServicePre::new(pre.clone()) {
            Ok(service) => Ok(Proxy::Preview3(service)),
            Err(_) => ProxyPre::new(pre.clone()).map(Proxy::Preview2),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Proxy::Preview2(pre) => pre.engine(),
            Proxy::Preview3(pre) => pre.engine(),
        }
    }

    /// Makes an instance in `store` and has it answer, until it is done with the request.
    ///
    /// # Errors
    /// A trap, an exit, or what the host's functions failed with.
    pub(super) async fn handle(
        &self,
        store: &mut Store<Composed>,
        request: Request<RequestBody>,
        answer: oneshot::Sender<Answer>,
    ) -> wasmtime::Result<()> {
        match self {
            Proxy::Preview2(pre) => {
                let proxy = pre.instantiate_async(&mut *store).await?;
                let mut view = store.data_mut().p2().http();
                let request = view.new_incoming_request(Scheme::Http, request)?;
                let answer = view.new_response_outparam_from_callback(move |answered| {
                    // Who asked may have left.
                    drop(answer.send(answered.map_err(|code| code.to_string())));
                })?;
                let handler = proxy.wasi_http_incoming_handler();
                handler.call_handle(&mut *store, request, answer).await
            }
            Proxy::Preview3(pre) => {
                let service = pre.instantiate_async(&mut *store).await?;
                let view = store.data_mut().p2().http();
                let (request, taken) = Handed::from_http(view.hooks, request);
                let served = store.run_concurrent(async |store| {
                    serve(store, &service, request, taken, answer).await
                });
                served.await?
            }
        }
    }
}

/// Has a service answer, and goes on until its answer is sent and it has nothing more to do.
async fn serve(
    store: &Accessor<Composed>,
    service: &Service,
    request: Handed,
    taken: impl Future<Output = Result<(), Error>> + Send + 'static,
    answer: oneshot::Sender<Answer>,
) -> wasmtime::Result<()> {
    let request = store.with(|mut store| store.data_mut().p2().http().table.push(request))?;
    let handler = service.wasi_http_handler();
    let response = match handler.call_handle(store, request).await? {
        Ok(response) => response,
        Err(code) => {
            drop(answer.send(Err(code.to_string())));
            return Ok(());
        }
    };
    let response = store.with(|mut store| {
        let response = store.data_mut().p2().http().table.delete(response)?;
        response.into_http_with_getter(&mut store, taken, |data| data.p2().http())
    })?;
    let (left, sent) = oneshot::channel();
    let response = response.map(|body| {
        Sent {
            body,
            left: Some(left),
        }
        .boxed_unsync()
    });
    // Who asked may have left.
    drop(answer.send(Ok(response)));
    // The body's other side is in this store: it is read as long as this goes on.
    let _ = sent.await;
    poll_fn(|cx| store.poll_no_interesting_tasks(cx)).await;
    Ok(())
}

/// A body that says when it is at its end, or gone.
struct Sent {
    body: HyperOutgoingBody,
    left: Option<oneshot::Sender<()>>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let sent = self.get_mut();
        let polled = Pin::new(&mut sent.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            sent.left = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
