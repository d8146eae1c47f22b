//! Name lookup: [`crate::names`] as a resource.

use std::net::IpAddr;
use std::vec;

use tokio::task::JoinHandle;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketResult};
use wasmtime_wasi_io::poll::subscribe;

use super::SocketsView;
use crate::names::{self, LookupError};

/// A lookup and what came of it.
enum Lookup {
    Asked(JoinHandle<Option<Result<Vec<IpAddr>, LookupError>>>),
    Found(vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

/// The bindings name wasmtime-wasi's type; the table knows by the index what it holds.
fn ours(resource: &Resource<ResolveAddressStream>) -> Resource<Lookup> {
    Resource::new_borrow(resource.rep())
}

impl Lookup {
    fn answered(
        answer: Result<Option<Result<Vec<IpAddr>, LookupError>>, tokio::task::JoinError>,
    ) -> Lookup {
        match answer {
            Ok(Some(Ok(found))) => Lookup::Found(found.into_iter()),
            Ok(Some(Err(LookupError::NoName))) => Lookup::Failed(ErrorCode::InvalidArgument),
            Ok(Some(Err(LookupError::Unknown(_)))) => Lookup::Failed(ErrorCode::NameUnresolvable),
            // The guest is being dropped, or the runtime.
            Ok(None) | Err(_) => Lookup::Failed(ErrorCode::TemporaryResolverFailure),
        }
    }
}

impl Host for SocketsView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.check(&network)?;
        if !names::is_name(&name) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let (root, blocking) = (self.root.clone(), self.work.blocking.clone());
        let network = self.sockets.network;
        let asked = self
            .work
            .spawn(async move { names::lookup(&name, network, root, &blocking).await });
        let lookup = self.table().push(Lookup::Asked(asked))?;
        Ok(Resource::new_own(lookup.rep()))
    }
}

impl HostResolveAddressStream for SocketsView<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table().get_mut(&ours(&this))?;
        if let Lookup::Asked(asked) = lookup {
            // A task that has ended answers at once.
            let answer = match asked.is_finished() {
                true => futures::FutureExt::now_or_never(asked),
                false => None,
            };
            *lookup = Lookup::answered(answer.ok_or(ErrorCode::WouldBlock)?);
        }
        match lookup {
            Lookup::Found(addresses) => Ok(addresses.next().map(IpAddress::from)),
            Lookup::Failed(error) => Err((*error).into()),
            Lookup::Asked(_) => Err(ErrorCode::WouldBlock.into()),
        }
    }

    fn subscribe(
        &mut self,
        this: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours(&this))
    }

    fn drop(&mut self, this: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table()
            .delete(Resource::<Lookup>::new_own(this.rep()))?;
        Ok(())
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Lookup::Asked(asked) = self {
            asked.abort();
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Lookup::Asked(asked) = self {
            let answer = asked.await;
            *self = Lookup::answered(answer);
        }
    }
}
