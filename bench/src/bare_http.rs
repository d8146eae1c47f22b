//! The bare engine as a server of `wasi:http`: wasmtime-wasi-http as its documentation has it, with
//! what makes it fast: instances from a pool that keeps their first pages. Epochs are on, since no
//! one can be stopped without them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Between two ticks of the epoch.
const TICK: Duration = Duration::from_millis(2);

/// What a slot keeps, bytes.
const KEPT: usize = 128 << 10;

/// A server on a runtime of its own, until it is dropped.
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

struct Hooks;

type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Connection,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Connection), Error>> + Send>
    {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl Bare {
    /// Serves a component on loopback.
    pub(crate) fn serve(component: &[u8]) -> anyhow::Result<Bare> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(4000)
            .total_tables(2000)
            .max_tables_per_module(4)
            .linear_memory_keep_resident(KEPT)
            .table_keep_resident(KEPT);
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let proxy = Arc::new(ProxyPre::new(linker.instantiate_pre(&component)?)?);
        let weak = engine.weak();
        std::thread::spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                std::thread::park_timeout(TICK);
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(entered);
        runtime.spawn(accept(listener, proxy));
        Ok(Bare {
            address,
            runtime: Some(runtime),
        })
    }
}

async fn accept(listener: tokio::net::TcpListener, proxy: Arc<ProxyPre<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            // Without it an answer waits for the acknowledgement of the last.
            stream.set_nodelay(true)?;
            let service = service_fn(|request| handle(Arc::clone(&proxy), request));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            Ok::<_, anyhow::Error>(served.await?)
        });
    }
}

async fn handle(
    proxy: Arc<ProxyPre<State>>,
    request: http::Request<hyper::body::Incoming>,
) -> anyhow::Result<http::Response<HyperOutgoingBody>> {
    let state = State {
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        hooks: Hooks,
        table: ResourceTable::new(),
    };
    let mut store = Store::new(proxy.engine(), state);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store.set_epoch_deadline(1);
    let (answer, answered) = tokio::sync::oneshot::channel();
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(answer)?;
    let task = tokio::spawn(async move {
        let instance = proxy.instantiate_async(&mut store).await?;
        let handler = instance.wasi_http_incoming_handler();
        handler.call_handle(&mut store, request, out).await
    });
    match answered.await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            task.await??;
            Err(anyhow::anyhow!("no answer")).context("the guest")
        }
    }
}
