//! An exec: a module that runs in a running container, in its tree of files, with its environment
//! and network, on its memory budget and CPU quota, and with streams of its own.
//!
//! It must not know who asked, nor what becomes of the container.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use logs::Stream;
use wasi_host::stdio::{OutSink, Stdin};

use crate::container::Container;
use crate::engines::Engines;
use crate::execs::{MAX_EXECS, NoPlace, Place};
use crate::guest::{Guest, report};
use crate::instance::{self, Code};
use crate::prepare::system;
use crate::room::{Needs, Promise};
use crate::spec::{ExecEnd, ExecError, ExecFds, ExecSpec, StartError};
use crate::stdio;
use crate::ticker::Ticker;
use crate::trap::Ending;
use crate::turn::Turns;
use crate::world::Process;

/// An exec that is ready to run. Dropped, it ends at once.
pub(crate) struct Exec {
    // In the order in which they go: the container has ended when the place is given back.
    code: Code,
    stderr: Arc<dyn OutSink>,
    container: Arc<Container>,
    name: String,
    _promise: Promise,
    place: Place,
}

/// Takes a place in a container.
///
/// # Errors
/// It has ended, or has as many execs as it may.
pub(crate) fn enter(guest: &Guest) -> Result<Place, ExecError> {
    guest.execs.enter().map_err(|refused| match refused {
        NoPlace::Over => ExecError::Ended(guest.id.clone()),
        NoPlace::Full => ExecError::TooMany {
            id: guest.id.clone(),
            max: MAX_EXECS,
        },
    })
}

/// Makes an exec. To be called on the runtime that it will run on. May block on the disk.
///
/// # Errors
/// [`ExecError`]
pub(crate) fn prepare(
    engines: &Engines,
    guest: &Guest,
    place: Place,
    spec: ExecSpec,
    fds: ExecFds,
) -> Result<Exec, ExecError> {
    check(&spec)?;
    let world = guest
        .world()
        .ok_or_else(|| ExecError::Ended(guest.id.clone()))?;
    let descriptors = [&fds.stdin, &fds.stdout, &fds.stderr]
        .into_iter()
        .flatten()
        .count() as u64;
    let loaded = engines.program(fds.code, spec.export.as_deref())?;
    let promise = engines.room.promise(Needs {
        mappings: loaded.mappings,
        descriptors,
    })?;
    let blocking = &world.container.blocking;
    let stdin = match fds.stdin {
        None => Stdin::closed(),
        Some(fd) => Stdin::from_fd(fd).map_err(|error| system("use standard input", error))?,
    };
    let stdout = stdio::output(Stream::Stdout, None, fds.stdout, blocking)
        .map_err(|error| system("use standard output", error))?;
    let stderr = stdio::output(Stream::Stderr, None, fds.stderr, blocking)
        .map_err(|error| system("use standard error", error))?;
    let name = spec.args.first().cloned().unwrap_or_default();
    let process = world.process(Process {
        args: spec.args,
        env: spec.env,
        cwd: spec.cwd,
        stdin,
        stdout,
        stderr: Arc::clone(&stderr),
        tty: spec.tty,
        listeners: Vec::new(),
    });
    let container = Arc::clone(&world.container);
    let code = instance::code(loaded.program, process, Arc::clone(&container), spec.export)?;
    Ok(Exec {
        code,
        stderr,
        container,
        name,
        _promise: promise,
        place,
    })
}

/// Refuses what can't be meant.
fn check(spec: &ExecSpec) -> Result<(), StartError> {
    match &spec.cwd {
        Some(cwd) if !cwd.starts_with('/') => Err(StartError::Invalid {
            field: "cwd".to_owned(),
            value: cwd.clone(),
            problem: "it has to be absolute: begin it with /".to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Exec {
    /// Runs it to its end, or to the container's.
    pub(crate) async fn run(self, ticker: Arc<Ticker>) -> ExecEnd {
        let Exec {
            place,
            _promise,
            stderr,
            container,
            name,
            code,
        } = self;
        let memory = Arc::clone(&container.memory);
        let turns = Turns::new(container, ticker, code);
        let serve = async {
            tokio::select! {
                biased;
                () = memory.until_over() => memory.over().map_or_else(Ending::container_ended, Ending::out_of_memory),
                () = place.over() => Ending::container_ended(),
                result = turns => Ending::of(result, &memory),
            }
        };
        let ending = AssertUnwindSafe(serve).catch_unwind().await;
        let ending = ending.unwrap_or_else(|payload| Ending::panicked(&*payload));
        tokio::select! {
            biased;
            () = place.over() => {}
            () = report(&name, &ending, &*stderr) => {}
        }
        ExecEnd {
            code: ending.code,
            kind: ending.kind,
            message: ending.message,
        }
    }
}
