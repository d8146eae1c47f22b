//! `wasi:sockets` in the guest's network.
//!
//! TCP is wasmtime-wasi's with addresses translated on the way there and back; UDP and name lookup
//! are of this crate, since a pod's socket may have to be two of the system's, and since a pod has
//! an `/etc/hosts`.

mod check;
mod lookup;
mod tcp;
pub(crate) mod udp;
mod udp_socket;
mod udp_streams;
#[cfg(test)]
mod udp_tests;

use std::collections::HashMap;
use std::net::SocketAddr;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::{instance_network, tcp_create_socket};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, SocketError, SocketResult};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::Work;
use crate::fs::Root;
use crate::network::Face;
use crate::{Network, OpenOne};

pub(in crate::p2) use check::sockets_of;

/// What is kept for a guest's sockets.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) network: Network,
    /// What is kept of each TCP socket, by its index in the table.
    tcp: HashMap<u32, Tcp>,
}

/// What is kept of a TCP socket.
struct Tcp {
    faces: Faces,
    /// Its streams, where nobody has taken them: preview2 gives them away at once.
    input: Option<DynInputStream>,
    output: Option<DynOutputStream>,
    /// What its descriptor is counted by.
    _one: OpenOne,
}

/// How a socket is told of its addresses.
#[derive(Clone, Copy, Debug)]
struct Faces {
    local: Face,
    remote: Face,
}

impl Faces {
    const OWN: Faces = Faces {
        local: Face::Own,
        remote: Face::Own,
    };
}

impl Sockets {
    pub(super) fn new(network: Network) -> Sockets {
        Sockets {
            network,
            tcp: HashMap::new(),
        }
    }
}

/// What a host function of sockets sees.
pub(crate) struct SocketsView<'a> {
    pub(crate) wasi: WasiSocketsCtxView<'a>,
    pub(crate) sockets: &'a mut Sockets,
    pub(crate) root: &'a Root,
    pub(crate) work: &'a Work,
}

impl SocketsView<'_> {
    fn table(&mut self) -> &mut ResourceTable {
        self.wasi.table
    }

    /// Takes a descriptor for a socket: `new-socket-limit` if there is none to spare.
    fn take_one(&self) -> SocketResult<OpenOne> {
        Ok(self.root.share().take()?)
    }

    /// The network resource stands for the right to use what takes it: it has to be there.
    fn check(&self, network: &Resource<network::Network>) -> SocketResult<()> {
        self.wasi.table.get(network)?;
        Ok(())
    }

    /// A pod has addresses of one family: sockets of the other are not supported, as on a machine
    /// without it.
    pub(crate) fn check_family(&self, family: IpAddressFamily) -> SocketResult<()> {
        match self.sockets.network.has(family == IpAddressFamily::Ipv4) {
            true => Ok(()),
            false => Err(ErrorCode::NotSupported.into()),
        }
    }
}

/// Another handle for what the table has under the same index.
fn same<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

/// An address that nothing can be sent to, in any network.
fn is_nowhere(address: SocketAddr) -> bool {
    address.port() == 0 || address.ip().to_canonical().is_unspecified()
}

impl network::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.wasi, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.wasi, error)
    }
}

impl network::HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<network::Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasi, network)
    }
}

impl instance_network::Host for SocketsView<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<network::Network>> {
        instance_network::Host::instance_network(&mut self.wasi)
    }
}

impl tcp_create_socket::Host for SocketsView<'_> {
    fn create_tcp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket>> {
        self.check_family(family)?;
        let one = self.take_one()?;
        let socket = tcp_create_socket::Host::create_tcp_socket(&mut self.wasi, family)?;
        self.keep(&socket, Faces::OWN, one);
        Ok(socket)
    }
}
