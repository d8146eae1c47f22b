//! `wasi:http`: its resources are wasmtime-wasi-http's, and its requests go by [`crate::http`].

use std::sync::{Arc, LazyLock};

use http::{HeaderName, Request, Response};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::bindings::http::types as p3;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks,
};

use super::P2;
use crate::http::{self as client, Client};

/// The most bytes that a guest may write to a body at once: what waits for the other side to read
/// is two such pieces.
const CHUNK: usize = 64 << 10;

/// A guest's part of it.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    pub(super) fn new(client: &Arc<Client>) -> Http {
        Http {
            ctx: WasiHttpCtx::new(),
            hooks: Hooks(Arc::clone(client)),
        }
    }
}

impl P2 {
    /// What `wasi:http` works on: to hand a request to the guest, and to link it.
    pub fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http.ctx,
            table: &mut self.table,
            hooks: &mut self.http.hooks,
        }
    }
}

/// What a guest may not set, in one place for all: each header is asked about.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

struct Hooks(Arc<Client>);

type Answer = Result<(Response<WasiBody>, client::Connection), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&FORBIDDEN)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: client::Connection,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        Box::new(client::send(Arc::clone(&self.0), request, options))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        // A request's body that breaks off is the one that comes here as it is.
        tracing::debug!(%error, "a request of a guest's client");
        match error.is_incomplete_message() || error.is_closed() {
            true => ErrorCode::ConnectionTerminated,
            false => ErrorCode::HttpProtocolError,
        }
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> p3::ErrorCode {
        tracing::debug!(%error, "a request of a guest's client");
        match error.is_incomplete_message() || error.is_closed() {
            true => p3::ErrorCode::ConnectionTerminated,
            false => p3::ErrorCode::HttpProtocolError,
        }
    }
}
