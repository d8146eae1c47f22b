//! Name lookup: [`crate::names`] in one call.

use wasmtime::component::Accessor;
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup::{ErrorCode, Host, HostWithStore};
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress;

use crate::names::{self, LookupError};
use crate::p2::{HasSockets, SocketsView};

impl Host for SocketsView<'_> {}

impl<T: Send + 'static> HostWithStore<T> for HasSockets {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ErrorCode>> {
        let (root, network, blocking) = store.with(|mut store| {
            let view = store.get();
            (
                view.root.clone(),
                view.sockets.network,
                view.work.blocking.clone(),
            )
        });
        let found = names::lookup(&name, network, root, &blocking).await;
        Ok(match found {
            Ok(found) => Ok(found.into_iter().map(IpAddress::from).collect()),
            Err(LookupError::NoName) => Err(ErrorCode::InvalidArgument),
            Err(LookupError::Unknown(_)) => Err(ErrorCode::NameUnresolvable),
        })
    }
}
