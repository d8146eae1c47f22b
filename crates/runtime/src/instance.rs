//! A program in a container: its store, the world it is linked to, and the call that runs it.
//!
//! It must not know how turns are taken, nor how a run's end is told.

use std::sync::Arc;

use futures::future::BoxFuture;
use wasi_host::p1::{Ctx, add_p1};
use wasi_host::{World, WorldError};
use wasmtime::{AsContextMut, Engine, InstancePre, Linker, Store};

use crate::budget::Limiter;
use crate::component;
use crate::container::Container;
use crate::prepare::chain;
use crate::program::Program;
use crate::spec::StartError;
use crate::turn;

/// The function of a command.
pub(crate) const START: &str = "_start";

/// The function that readies a module which is no command.
const INITIALIZE: &str = "_initialize";

/// The most bytes that one call of a component may have the host copy.
const HOSTCALL_FUEL: usize = 64 << 20;

/// What a store holds: a world of preview1 or preview2, and its part of the container's limits.
pub(crate) struct Data<W> {
    pub(crate) world: W,
    limiter: Limiter,
    container: Arc<Container>,
}

/// A run, to be polled in turns.
pub(crate) type Code = BoxFuture<'static, wasmtime::Result<()>>;

/// The store of a core module.
pub(crate) type Core = Data<Ctx>;

/// What core modules are linked to.
///
/// # Errors
/// The world names something twice: a bug.
pub(crate) fn core_linker(engine: &Engine) -> wasmtime::Result<Linker<Core>> {
    let mut linker = Linker::new(engine);
    add_p1(&mut linker, |data: &mut Core| &mut data.world)?;
    Ok(linker)
}

/// A store in a container.
pub(crate) fn store<W: Send + 'static>(
    engine: &Engine,
    world: W,
    container: Arc<Container>,
) -> Store<Data<W>> {
    let limiter = Limiter::new(Arc::clone(&container.memory));
    let mut store = Store::new(
        engine,
        Data {
            world,
            limiter,
            container,
        },
    );
    store.limiter(|data| &mut data.limiter);
    store.epoch_deadline_callback(|context| Ok(turn::tick(&context.data().container)?));
    store.set_epoch_deadline(1);
    let mut context = store.as_context_mut();
    context.set_hostcall_fuel(HOSTCALL_FUEL);
    store
}

/// Makes a core module's world, to be called on the runtime that the guest will run on.
///
/// # Errors
/// The world can't be as the spec has it.
pub(crate) fn core_world(world: World) -> Result<Ctx, StartError> {
    Ctx::new(world).map_err(unworldly)
}

/// Why a world can't be.
pub(crate) fn unworldly(error: WorldError) -> StartError {
    let (field, value) = match &error {
        WorldError::Nul { what, value } => (*what, value.clone()),
        WorldError::VariableName(name) => ("environment variable", name.clone()),
        WorldError::Listener(_) => ("listeners", String::new()),
        _ => {
            return StartError::System {
                what: "make the guest's world".to_owned(),
                message: chain(&error),
            };
        }
    };
    StartError::Invalid {
        field: field.to_owned(),
        value,
        problem: chain(&error),
    }
}

/// The run of a program, ready to be polled. To be called on the runtime that the guest runs on.
///
/// # Errors
/// The world can't be as the spec has it.
pub(crate) fn code(
    program: Arc<Program>,
    world: World,
    container: Arc<Container>,
    export: Option<String>,
) -> Result<Code, StartError> {
    Ok(match &*program {
        Program::Core(_) => {
            let world = core_world(world)?;
            Box::pin(async move {
                let Program::Core(pre) = &*program else {
                    return Ok(());
                };
                run_core(pre, world, container, export).await
            })
        }
        Program::Component(_) => {
            let world = component::world(world)?;
            Box::pin(async move {
                let Program::Component(pre) = &*program else {
                    return Ok(());
                };
                component::run(pre, world, container, export).await
            })
        }
    })
}

/// Runs a core module to its end.
///
/// # Errors
/// A trap, an exit, or what the host's functions failed with.
async fn run_core(
    pre: &InstancePre<Core>,
    world: Ctx,
    container: Arc<Container>,
    export: Option<String>,
) -> wasmtime::Result<()> {
    let mut store = store(pre.module().engine(), world, container);
    let instance = pre.instantiate_async(&mut store).await?;
    if export.is_some()
        && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, INITIALIZE)
    {
        initialize.call_async(&mut store, ()).await?;
    }
    let run = instance.get_typed_func::<(), ()>(&mut store, export.as_deref().unwrap_or(START))?;
    run.call_async(&mut store, ()).await
}
