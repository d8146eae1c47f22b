//! From a spec and descriptors to a guest that is ready to run. May block: on the disk for the
//! code and the log.
//!
//! It must not know who asked, nor what becomes of the guest.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use logs::{Policy, Stream, Writer};
use tokio::sync::watch;
use wasi_host::fs::{Mount, Root};
use wasi_host::stdio::Stdin;
use wasi_host::{Blocking, Share, World};

use crate::component;
use crate::container::Container;
use crate::engines::{Engines, Loaded};
use crate::guest::{Guest, Run, Work};
use crate::http::HttpSpec;
use crate::http::{Parts, Server};
use crate::instance;
use crate::room::{Needs, Opened};
use crate::spec::{GuestFds, GuestSpec, LogSpec, MountSpec, StartError};
use crate::stdio::{self, Log};
use crate::world::{ContainerWorld, Process};

/// A guest that is ready.
pub(crate) struct Prepared {
    pub(crate) guest: Arc<Guest>,
    pub(crate) run: Box<Run>,
}

/// Makes a guest. To be called on the runtime that it will run on.
///
/// # Errors
/// [`StartError`]
pub(crate) fn prepare(
    engines: &Engines,
    spec: GuestSpec,
    fds: GuestFds,
) -> Result<Prepared, StartError> {
    check(&spec, &fds)?;
    let descriptors = held(&spec, &fds);
    let loaded = match &spec.http {
        None => engines.program(fds.code, spec.export.as_deref())?,
        Some(http) => engines.server(fds.code, http.max_concurrent)?,
    };
    let promise = engines.room.promise(Needs {
        mappings: loaded.mappings,
        descriptors,
    })?;

    let container = Arc::new(Container::new(&spec.limits));
    if let Some(http) = &spec.http {
        container.memory.expect_instances(http.max_concurrent);
    }
    let blocking = Arc::clone(&container.blocking);
    let share = Share::of(Arc::new(Opened::new(&engines.room)));
    let world = Arc::new(ContainerWorld {
        container: Arc::clone(&container),
        root: root(fds.root, &spec, fds.mounts)?.sharing(share),
        env: spec.env,
        cwd: spec.cwd,
        network: spec.network,
        outgoing: spec.outgoing,
    });
    let guest = Arc::new(Guest::new(
        spec.id,
        spec.name.clone(),
        spec.drain,
        Arc::clone(&world),
    ));
    let log = open_log(spec.log.as_ref(), fds.log_dir, &blocking)?;
    let drained = watch::Sender::new(false);
    let stdin = match fds.stdin {
        None => Ok(Stdin::closed()),
        Some(fd) if spec.drain => stdio::ending_input(fd, &blocking, drained.subscribe()),
        Some(fd) => Stdin::from_fd(fd),
    }
    .map_err(|error| system("use standard input", error))?;
    let stdout = stdio::output(Stream::Stdout, log.as_ref(), fds.stdout, &blocking)
        .map_err(|error| system("use standard output", error))?;
    let stderr = stdio::output(Stream::Stderr, log.as_ref(), fds.stderr, &blocking)
        .map_err(|error| system("use standard error", error))?;
    let listeners = match spec.drain && spec.http.is_none() {
        true => fds
            .listeners
            .iter()
            .map(OwnedFd::try_clone)
            .collect::<Result<_, _>>(),
        false => Ok(Vec::new()),
    }
    .map_err(|error| system("keep a listener", error))?;

    let process = world.process(Process {
        args: spec.args,
        env: Vec::new(),
        cwd: None,
        stdin,
        stdout,
        stderr: Arc::clone(&stderr),
        tty: spec.tty,
        listeners: fds.listeners,
    });
    let work = match spec.http {
        None => {
            let code = instance::code(loaded.program, process, container, spec.export)?;
            Work::Run(code)
        }
        Some(http) => Work::Serve(server(loaded, process, container, spec.name, http)?),
    };
    Ok(Prepared {
        guest,
        run: Box::new(Run {
            work,
            stderr,
            listeners,
            drained,
            promise,
        }),
    })
}

/// A server of a component, on the world's listeners.
fn server(
    loaded: Loaded,
    mut world: World,
    container: Arc<Container>,
    name: String,
    spec: HttpSpec,
) -> Result<Server, StartError> {
    let proxy = loaded.program.proxy()?;
    let listeners = std::mem::take(&mut world.listeners)
        .into_iter()
        .map(listener)
        .collect::<Result<_, _>>()?;
    let stderr = Arc::clone(&world.stderr);
    let parts = Parts {
        name,
        spec,
        proxy,
        worlds: component::worlds(world)?,
        container,
        ticker: loaded.ticker,
        stderr,
        program: loaded.program,
    };
    Ok(Server::new(parts, listeners))
}

fn listener(fd: OwnedFd) -> Result<tokio::net::TcpListener, StartError> {
    let listener = std::net::TcpListener::from(fd);
    listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .map_err(|error| system("listen", error))
}

/// Refuses what contradicts itself.
fn check(spec: &GuestSpec, fds: &GuestFds) -> Result<(), StartError> {
    if spec.mounts.len() != fds.mounts.len() {
        return Err(invalid(
            "mounts",
            spec.mounts.len(),
            format!("{} descriptors came with them", fds.mounts.len()),
        ));
    }
    if spec.log.is_some() != fds.log_dir.is_some() {
        return Err(invalid(
            "log",
            spec.log.is_some(),
            "the folder of the log has to come with it, and only then".to_owned(),
        ));
    }
    if spec.limits.blocking_ops == 0 {
        return Err(invalid(
            "limits.blockingOps",
            0,
            "a guest without blocking operations can't read a file: give at least 1".to_owned(),
        ));
    }
    if let Some(http) = &spec.http {
        check_http(http, spec, fds)?;
    }
    if spec.limits.cpu_milli == Some(0) {
        return Err(invalid(
            "limits.cpuMilli",
            0,
            "a guest without CPU time can't run: leave it out for no limit".to_owned(),
        ));
    }
    Ok(())
}

fn check_http(http: &HttpSpec, spec: &GuestSpec, fds: &GuestFds) -> Result<(), StartError> {
    if let Some((field, value, problem)) = http.problem() {
        return Err(invalid(field, value, problem.to_owned()));
    }
    if let Some(export) = &spec.export {
        let problem = "a component that serves is called by its requests: name no function";
        return Err(invalid("export", export, problem.to_owned()));
    }
    match fds.listeners.is_empty() {
        true => Err(invalid(
            "listeners",
            0,
            "a component that serves needs one to be asked on".to_owned(),
        )),
        false => Ok(()),
    }
}

/// How many descriptors of this process the guest has while it does nothing.
fn held(spec: &GuestSpec, fds: &GuestFds) -> u64 {
    // What a guest opens as it runs is counted then: see `Opened`. The root, to list it, never is.
    let root = 1;
    // The folder and the file.
    let log = 2 * usize::from(spec.log.is_some());
    let standard = [&fds.stdin, &fds.stdout, &fds.stderr]
        .into_iter()
        .flatten()
        .count();
    // To drain, a pipe between, and a second hold on each listener.
    let drain = usize::from(spec.drain && spec.http.is_none())
        * (2 * usize::from(fds.stdin.is_some()) + fds.listeners.len());
    (root + log + standard + drain + fds.mounts.len() + fds.listeners.len()) as u64
}

fn open_log(
    spec: Option<&LogSpec>,
    dir: Option<OwnedFd>,
    blocking: &Arc<Blocking>,
) -> Result<Option<Log>, StartError> {
    let Some((spec, dir)) = spec.zip(dir) else {
        return Ok(None);
    };
    let policy = Policy {
        max_size: spec.max_size,
        max_files: spec.max_files,
    };
    let writer =
        Writer::open(dir, &spec.stem, policy).map_err(|error| system("open the log", error))?;
    Ok(Some(Log::new(writer, Arc::clone(blocking))))
}

fn root(fd: OwnedFd, spec: &GuestSpec, fds: Vec<OwnedFd>) -> Result<Root, StartError> {
    let specs = &spec.mounts;
    let mount = |(spec, fd): (&MountSpec, OwnedFd)| Mount {
        guest_path: spec.guest_path.clone(),
        fd,
        read_only: spec.read_only,
    };
    let mounts = specs.iter().zip(fds).map(mount).collect();
    let root = match spec.read_only_root {
        true => Root::new_read_only(fd, mounts),
        false => Root::new(fd, mounts),
    };
    root.map_err(|error| StartError::Invalid {
        field: "mounts".to_owned(),
        value: specs
            .iter()
            .map(|spec| spec.guest_path.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        problem: chain(&error),
    })
}

fn invalid(field: &str, value: impl ToString, problem: String) -> StartError {
    StartError::Invalid {
        field: field.to_owned(),
        value: value.to_string(),
        problem,
    }
}

pub(crate) fn system(what: &str, error: impl Error) -> StartError {
    StartError::System {
        what: what.to_owned(),
        message: chain(&error),
    }
}

/// An error and its sources, as one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
