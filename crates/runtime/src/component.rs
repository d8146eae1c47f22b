//! A component in a container: as [`crate::instance`] does it for core modules.
//!
//! It must not know how turns are taken, nor how a run's end is told.

use std::sync::Arc;

use wasi_host::p2::{P2, P2Host, P2Shared, add_p2};
use wasi_host::p3::add_p3;
use wasi_host::{Exit, World};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{AsContextMut, Engine};

use crate::container::Container;
use crate::engine::Calls;
use crate::instance::{self, Data};
use crate::spec::StartError;

/// The interface of a command, of any version of preview2 and preview3.
const RUN: [&str; 2] = ["wasi:cli/run@0.2.", "wasi:cli/run@0.3."];

/// How many resources a component may hold: descriptors, streams, pollables.
pub(crate) const RESOURCES: usize = 10_000;

/// The store of a component.
pub(crate) type Composed = Data<P2>;

impl P2Host for Composed {
    fn p2(&mut self) -> &mut P2 {
        &mut self.world
    }
}

/// What components are linked to.
///
/// # Errors
/// The world names something twice: a bug.
pub(crate) fn linker(engine: &Engine, calls: Calls) -> wasmtime::Result<Linker<Composed>> {
    let mut linker = Linker::new(engine);
    add_p2(&mut linker)?;
    if calls == Calls::Concurrent {
        add_p3(&mut linker)?;
    }
    Ok(linker)
}

/// Makes a component's world, to be called on the runtime that the guest will run on.
///
/// # Errors
/// The world can't be as the spec has it.
pub(crate) fn world(world: World) -> Result<P2, StartError> {
    P2::new(world, RESOURCES).map_err(instance::unworldly)
}

/// Makes what the worlds of a component's instances share.
///
/// # Errors
/// The world can't be as the spec has it.
pub(crate) fn worlds(world: World) -> Result<P2Shared, StartError> {
    P2Shared::new(world, RESOURCES).map_err(instance::unworldly)
}

/// The function that a component is run by.
pub(crate) fn entry(component: &Component, export: Option<&str>) -> Option<ComponentExportIndex> {
    if let Some(name) = export {
        return component.get_export_index(None, name);
    }
    let ty = component.component_type();
    let (name, _) = ty
        .exports(component.engine())
        .find(|(name, _)| RUN.iter().any(|run| name.starts_with(run)))?;
    let interface = component.get_export_index(None, name)?;
    component.get_export_index(Some(&interface), "run")
}

/// Runs a component to its end: the command's `run`, or a function without values.
///
/// # Errors
/// A trap, an exit, or what the host's functions failed with.
pub(crate) async fn run(
    pre: &InstancePre<Composed>,
    world: P2,
    container: Arc<Container>,
    export: Option<String>,
) -> wasmtime::Result<()> {
    let mut store = instance::store(pre.engine(), world, container);
    store.as_context_mut().set_max_component_handles(RESOURCES);
    let result = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let entry = entry(pre.component(), export.as_deref())
            .ok_or_else(|| wasmtime::format_err!("there is no function to run"))?;
        if export.is_some() {
            let function = instance.get_typed_func::<(), ()>(&mut store, &entry)?;
            return function.call_async(&mut store, ()).await;
        }
        let command = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, &entry)?;
        let (succeeded,) = command.call_async(&mut store, ()).await?;
        succeeded.map_err(|()| Exit(1).into())
    }
    .await;
    // What it wrote is on its way beside it: dropping the store would cut it off.
    let flushed = store.data().world.flushed();
    flushed.await;
    result
}
