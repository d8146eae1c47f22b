//! Preview2: files, stdio and exit on the layers that preview1 stands on too, and requests by this
//! crate's own client; the rest of `wasi:cli/command` (clocks, random, sockets) is wasmtime-wasi's,
//! and that of `wasi:http/proxy` wasmtime-wasi-http's.
//!
//! Must not know: where the root comes from, or what a container is.

mod cli;
mod convert;
mod descriptor;
mod entries;
mod filesystem;
mod http;
mod link;
mod sockets;
mod stdin;
mod stdout;
mod streams;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) use descriptor::Descriptor;
pub(crate) use link::{HasHost, HasSockets};
pub use link::{P2Host, add_p2};
pub(crate) use sockets::{SocketsView, udp};
pub(crate) use stdin::Input;
pub(crate) use stdout::Output;
pub(crate) use streams::{FileInput, FileOutput, Position};

use crate::fs::Root;
use crate::http::Client;
use crate::stdio::{OutSink, Stdin};
use crate::{Blocking, Charge, Network, Tty, World, WorldError};

/// A guest's world in preview2. Dropped, it ends whatever still waits for the guest's streams.
pub struct P2 {
    wasi: WasiCtx,
    table: ResourceTable,
    sockets: sockets::Sockets,
    host: Host,
    http: http::Http,
    _killed: DropGuard,
}

/// What this crate's own interfaces work on.
pub(crate) struct Host {
    given: Arc<Given>,
    pub(crate) stdin: Arc<stdin::Shared>,
    pub(crate) work: Work,
}

/// The worlds of all instances of one component in one container: what they share is made once.
pub struct P2Shared {
    given: Arc<Given>,
    client: Arc<Client>,
    network: Network,
    blocking: Arc<Blocking>,
    charge: Charge,
    table_capacity: usize,
}

/// What a guest is given and can't change.
pub(crate) struct Given {
    pub(crate) root: Root,
    pub(crate) stdout: Arc<dyn OutSink>,
    pub(crate) stderr: Arc<dyn OutSink>,
    pub(crate) tty: Tty,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
}

impl Deref for Host {
    type Target = Given;

    fn deref(&self) -> &Given {
        &self.given
    }
}

/// What is done beside the guest: on the pod's blocking threads, and in tasks that end with it.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) blocking: Arc<Blocking>,
    pub(crate) charge: Charge,
    tasks: TaskTracker,
    killed: CancellationToken,
}

impl Work {
    /// Goes on beside the guest, until it is done or the guest is dropped.
    pub(crate) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.tasks
            .spawn(self.killed.clone().run_until_cancelled_owned(work))
    }
}

/// What a host function of this crate sees.
pub(crate) struct HostView<'a> {
    pub(crate) host: &'a Host,
    pub(crate) table: &'a mut ResourceTable,
}

impl P2 {
    /// The world of one guest. `table_capacity` bounds how many resources it may hold at once:
    /// descriptors, streams, pollables.
    ///
    /// # Errors
    /// [`WorldError`] for values that no guest can be told. Preopened listeners are preview1's
    /// alone; there are none here.
    pub fn new(world: World, table_capacity: usize) -> Result<P2, WorldError> {
        let (shared, stdin) = P2Shared::split(world, table_capacity)?;
        Ok(shared.with(stdin))
    }

    /// Gives what returns once everything that the guest wrote has been taken. To be awaited when
    /// it has ended by itself, before this is dropped.
    pub fn flushed(&self) -> impl Future<Output = ()> + use<> {
        let tasks = self.host.work.tasks.clone();
        self.host.stdin.close();
        tasks.close();
        async move { tasks.wait().await }
    }

    pub(crate) fn sockets(&mut self) -> sockets::SocketsView<'_> {
        sockets::SocketsView {
            wasi: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
            sockets: &mut self.sockets,
            root: &self.host.root,
            work: &self.host.work,
        }
    }

    pub(crate) fn view(&mut self) -> HostView<'_> {
        HostView {
            host: &self.host,
            table: &mut self.table,
        }
    }
}

impl P2Shared {
    /// The worlds of instances that none reads standard input of. See [`P2::new`].
    ///
    /// # Errors
    /// [`WorldError`]
    pub fn new(world: World, table_capacity: usize) -> Result<P2Shared, WorldError> {
        Ok(P2Shared::split(world, table_capacity)?.0)
    }

    /// The world of one more instance.
    pub fn instance(&self) -> P2 {
        self.with(Stdin::closed())
    }

    fn split(world: World, table_capacity: usize) -> Result<(P2Shared, Stdin), WorldError> {
        world.check()?;
        let share = world.root.share().bounded(world.open_files);
        let client = Client::new(
            world.outgoing,
            world.network,
            world.charge.clone(),
            Arc::clone(&world.blocking),
        );
        let shared = P2Shared {
            given: Arc::new(Given {
                root: world.root.sharing(share),
                stdout: world.stdout,
                stderr: world.stderr,
                tty: world.tty,
                args: world.args,
                env: world.env,
                cwd: world.cwd,
            }),
            client: Arc::new(client),
            network: world.network,
            blocking: world.blocking,
            charge: world.charge,
            table_capacity,
        };
        Ok((shared, world.stdin))
    }

    fn with(&self, stdin: Stdin) -> P2 {
        let killed = CancellationToken::new();
        let work = Work {
            blocking: Arc::clone(&self.blocking),
            charge: self.charge.clone(),
            tasks: TaskTracker::new(),
            killed: killed.clone(),
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(self.table_capacity);
        P2 {
            wasi: sockets::sockets_of(self.network).build(),
            table,
            sockets: sockets::Sockets::new(self.network),
            host: Host {
                given: Arc::clone(&self.given),
                stdin: stdin::Shared::new(stdin, work.clone()),
                work,
            },
            http: http::Http::new(&self.client),
            _killed: killed.drop_guard(),
        }
    }
}

impl WasiView for P2 {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
