//! What preview1 keeps for one guest.

use super::table::{Descriptor, Stream, Table};
use crate::fs::Root;
use crate::{Blocking, CpuClock, World, WorldError};
use std::ffi::CString;
use std::sync::Arc;
use std::time::Instant;

/// One guest's preview1: put it in its store, and give [`super::add_p1`] the way there.
pub struct Ctx {
    pub(super) root: Root,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) table: Table,
    pub(super) blocking: Arc<Blocking>,
    pub(super) cpu_clock: Option<CpuClock>,
    /// Where the monotonic clock starts: the host's uptime is no business of a guest's.
    pub(super) started: Instant,
}

impl Ctx {
    /// The descriptors are 0, 1, 2 as ever, 3 for `/`, and the listeners from 4 on. To be called
    /// within the runtime that the guest runs on.
    ///
    /// # Errors
    /// [`WorldError`]
    pub fn new(world: World) -> Result<Self, WorldError> {
        world.check()?;
        let needed = 4 + world.listeners.len();
        if world.open_files < needed {
            return Err(WorldError::OpenFiles {
                bound: world.open_files,
                needed,
            });
        }
        let args = world.args.into_iter().map(|arg| c_string("argument", arg));
        let mut env = world.env;
        if !matches!(world.cwd.as_str(), "" | "/") && !env.iter().any(|(name, _)| name == "PWD") {
            env.push(("PWD".to_owned(), world.cwd));
        }
        let env = env
            .into_iter()
            .map(|(name, value)| c_string("variable", format!("{name}={value}")));

        let (args, env) = (
            args.collect::<Result<_, _>>()?,
            env.collect::<Result<_, _>>()?,
        );
        let root = world.root.dir().map_err(WorldError::Root)?;
        let mut first = vec![
            Descriptor::Stdin {
                stdin: world.stdin,
                stream: Stream::new(world.tty.stdin),
            },
            Descriptor::Out {
                sink: world.stdout,
                stream: Stream::new(world.tty.stdout),
            },
            Descriptor::Out {
                sink: world.stderr,
                stream: Stream::new(world.tty.stderr),
            },
            Descriptor::Dir {
                dir: root,
                preopen: Some("/"),
            },
        ];
        for listener in world.listeners {
            first.push(Descriptor::listener(listener).map_err(WorldError::Listener)?);
        }
        Ok(Self {
            root: world.root,
            args,
            env,
            table: Table::new(first, world.open_files),
            blocking: world.blocking,
            cpu_clock: world.cpu_clock,
            started: Instant::now(),
        })
    }
}

fn c_string(what: &'static str, value: String) -> Result<CString, WorldError> {
    CString::new(value).map_err(|e| WorldError::Nul {
        what,
        value: String::from_utf8_lossy(&e.into_vec()).into_owned(),
    })
}
