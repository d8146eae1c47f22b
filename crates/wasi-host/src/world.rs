//! What a guest is given: the values that the guest host makes of a container, for either WASI.

use crate::fs::Root;
use crate::stdio::{OutSink, Stdin};
use crate::{Blocking, Charge, Network, OutgoingHttp};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Tells the CPU time that the guest has taken so far.
pub type CpuClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A guest's world.
pub struct World {
    /// Its files.
    pub root: Root,
    /// Its arguments, its name first.
    pub args: Vec<String>,
    /// Its environment, in order.
    pub env: Vec<(String, String)>,
    /// Where relative paths start, absolute. Preview1 has no such thing; it is told in `PWD`,
    /// which Go heeds, unless it is `/` or the environment has that already.
    pub cwd: String,
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output.
    pub stdout: Arc<dyn OutSink>,
    /// Standard error.
    pub stderr: Arc<dyn OutSink>,
    /// Which of the three are terminals.
    pub tty: Tty,
    /// What its addresses mean.
    pub network: Network,
    /// Listening TCP sockets, which a guest of preview1 finds from descriptor 4 on, in order.
    pub listeners: Vec<OwnedFd>,
    /// What its own HTTP requests may reach.
    pub outgoing: OutgoingHttp,
    /// What its buffers in the host are charged to.
    pub charge: Charge,
    /// Where its files are worked on.
    pub blocking: Arc<Blocking>,
    /// How many descriptors it may have open at once, the standard ones included: `EMFILE` past it.
    pub open_files: usize,
    /// The clock of its CPU time, if it has one.
    pub cpu_clock: Option<CpuClock>,
}

/// Which of a guest's standard streams are terminals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tty {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Tty {
    /// All three, as a container's `tty: true` makes them.
    pub const ALL: Self = Self {
        stdin: true,
        stdout: true,
        stderr: true,
    };
}

/// Why a world can't be.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A NUL would cut the value short, unseen.
    #[error("{what} {value:?} has a NUL byte in it: remove it")]
    Nul {
        /// What it is: an argument, a variable.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable whose name is empty or has a `=` in it.
    #[error("environment variable name {0:?} is empty or has a \"=\" in it")]
    VariableName(String),
    /// A listener that is none.
    #[error("a preopened listener can't be used")]
    Listener(#[source] std::io::Error),
    /// The bound on descriptors leaves no room for what the guest starts with.
    #[error("a bound of {bound} open files is too low: the guest starts with {needed}")]
    OpenFiles {
        /// The bound.
        bound: usize,
        /// What it needs.
        needed: usize,
    },
    /// `/` can't be opened.
    #[error("the container's root can't be opened")]
    Root(#[source] crate::fs::Errno),
}

impl World {
    /// Refuses what no guest could be told as it is.
    ///
    /// # Errors
    /// [`WorldError`]
    pub fn check(&self) -> Result<(), WorldError> {
        let nul = |what, value: &String| match value.contains('\0') {
            true => Err(WorldError::Nul {
                what,
                value: value.clone(),
            }),
            false => Ok(()),
        };
        self.args.iter().try_for_each(|arg| nul("argument", arg))?;
        for (name, value) in &self.env {
            nul("environment variable", name)?;
            nul("environment variable", value)?;
            if name.is_empty() || name.contains('=') {
                return Err(WorldError::VariableName(name.clone()));
            }
        }
        Ok(())
    }
}

/// How a guest ended by its own will: `proc_exit`, or preview2's `exit`. The code is what a POSIX
/// parent would see, the low 8 bits. Travels as the error of the guest's call: downcast it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest exited with code {0}")]
pub struct Exit(pub u8);
