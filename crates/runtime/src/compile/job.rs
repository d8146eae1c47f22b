//! One compiling process, from its start until it is reaped.
//!
//! A thread of its own watches it: `PR_SET_PDEATHSIG` follows the thread that started the child, so
//! that one must not be a runtime's that may end sooner.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::error::CompileError;
use super::limits::CompileLimits;
use super::wire::{Answer, Reply, Request, Task};
use crate::protocol::blocking::{self, Step};
use crate::protocol::frame::Decoder;

/// How much of what the child says on its standard error is kept, bytes.
const MAX_STDERR: usize = 4 << 10;

/// How a child is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The binary.
    pub(super) exe: PathBuf,
    /// The arguments that lead it to [`super::compile_child`].
    pub(super) args: Vec<OsString>,
    /// How many threads it compiles with.
    pub(super) threads: usize,
}

/// A process that compiles. Dropping it ends the process.
pub(super) struct Job {
    answer: oneshot::Receiver<Reply>,
    /// Closing it tells the thread to kill the child.
    _cancel: PipeWriter,
}

impl Job {
    /// Starts a child. The permit is held until it has been reaped.
    pub(super) fn start(
        program: &Program,
        limits: &CompileLimits,
        task: Task,
        fds: Vec<OwnedFd>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Job, CompileError> {
        let failed = |error| CompileError::system("start the compiling process", error);
        let (cancelled, cancel) = io::pipe().map_err(failed)?;
        let (send, answer) = oneshot::channel();
        let (program, limits) = (program.clone(), limits.clone());
        std::thread::Builder::new()
            .name("compile".to_owned())
            .spawn(move || {
                let reply = run(&program, limits, task, &fds, &cancelled);
                drop((fds, permit));
                // Nobody waits for a job that was dropped.
                let _ = send.send(reply);
            })
            .map_err(failed)?;
        Ok(Job {
            answer,
            _cancel: cancel,
        })
    }

    /// Waits for the answer.
    pub(super) async fn answer(self) -> Result<Answer, CompileError> {
        let Job { answer, _cancel } = self;
        answer.await.unwrap_or_else(|_| {
            Err(CompileError::Died {
                how: "was left by its watcher".to_owned(),
                stderr: String::new(),
            })
        })
    }
}

/// Starts the child, waits for its answer within its time, and reaps it whatever happens.
fn run(
    program: &Program,
    limits: CompileLimits,
    task: Task,
    fds: &[OwnedFd],
    cancelled: &PipeReader,
) -> Reply {
    let deadline = Instant::now() + limits.wall;
    let failed = |error| CompileError::system("start the compiling process", error);
    let (socket, theirs) = UnixStream::pair().map_err(failed)?;
    let mut child = Command::new(&program.exe)
        .args(&program.args)
        .env_clear()
        .env("RAYON_NUM_THREADS", program.threads.to_string())
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let request = Request {
        parent: std::process::id() as i32,
        limits,
        task,
    };
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    // A child that ended at once says why on its standard error.
    let _ = blocking::send(&socket, &request, &borrowed);
    let mut watch = Watch {
        socket,
        stderr: child.stderr.take(),
        decoder: Decoder::default(),
        said: Vec::new(),
    };
    let outcome = watch.until(deadline, cancelled);
    // It is over in each case; killing what is exiting already changes nothing.
    let _ = child.kill();
    let status = reap(&mut child)?;
    match outcome {
        Outcome::Reply(reply) => reply,
        Outcome::TimedOut => Err(CompileError::WallLimit {
            seconds: request.limits.wall.as_secs(),
        }),
        Outcome::Cancelled => Err(died(status, "")),
        Outcome::Ended => Err(cause(status, &watch.said(), &request.limits)),
        Outcome::Garbled(message) => Err(died(status, &message)),
    }
}

fn reap(child: &mut Child) -> Result<ExitStatus, CompileError> {
    child
        .wait()
        .map_err(|error| CompileError::system("wait for the compiling process", error))
}

/// How a wait for a child ended.
enum Outcome {
    Reply(Reply),
    /// It closed its socket without an answer.
    Ended,
    TimedOut,
    Cancelled,
    /// It sent what is no answer.
    Garbled(String),
}

/// What is heard of a child.
struct Watch {
    socket: UnixStream,
    /// `None` once it is at its end.
    stderr: Option<ChildStderr>,
    decoder: Decoder,
    said: Vec<u8>,
}

impl Watch {
    fn until(&mut self, deadline: Instant, cancelled: &PipeReader) -> Outcome {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Outcome::TimedOut;
            }
            let mut fds = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(cancelled, PollFlags::IN),
            ];
            if let Some(stderr) = &self.stderr {
                fds.push(PollFd::new(stderr, PollFlags::IN));
            }
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Outcome::Garbled(io::Error::from(error).to_string()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.get(1) == Some(&true) {
                return Outcome::Cancelled;
            }
            if ready.get(2) == Some(&true) {
                self.listen();
            }
            if ready.first() == Some(&true)
                && let Some(outcome) = self.receive()
            {
                return outcome;
            }
        }
    }

    /// Reads some of what the child says.
    fn listen(&mut self) {
        let mut buffer = [0; 1024];
        let read = self.stderr.as_mut().map(|stderr| stderr.read(&mut buffer));
        match read {
            Some(Ok(read)) if read > 0 => {
                self.said.extend(buffer.iter().take(read));
                let excess = self.said.len().saturating_sub(MAX_STDERR);
                self.said.drain(..excess);
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => self.stderr = None,
        }
    }

    fn receive(&mut self) -> Option<Outcome> {
        match blocking::step(&self.socket, &mut self.decoder) {
            Ok(None) => None,
            Ok(Some(Step::End)) => Some(Outcome::Ended),
            Ok(Some(Step::Frame(frame))) => Some(match frame.message() {
                Ok(reply) => Outcome::Reply(reply),
                Err(error) => Outcome::Garbled(error.to_string()),
            }),
            // Reset: it ended with our request unread.
            Err(_) => Some(Outcome::Ended),
        }
    }

    /// What the child said until its end, which is near: it has closed its socket or been reaped.
    fn said(&mut self) -> String {
        while self.stderr.is_some() {
            self.listen();
        }
        String::from_utf8_lossy(&self.said).trim().to_owned()
    }
}

/// Which limit ended a child that gave no answer.
fn cause(status: ExitStatus, said: &str, limits: &CompileLimits) -> CompileError {
    match status.signal() {
        Some(libc::SIGXCPU) => CompileError::CpuLimit {
            seconds: limits.cpu_seconds,
        },
        // What Rust says and does when an allocation fails.
        Some(libc::SIGABRT) if said.contains("memory allocation of") => CompileError::MemoryLimit {
            bytes: limits.memory_bytes,
        },
        _ => died(status, said),
    }
}

fn died(status: ExitStatus, said: &str) -> CompileError {
    CompileError::Died {
        how: match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, code) => format!("exited with status {}", code.unwrap_or_default()),
        },
        stderr: said.to_owned(),
    }
}
