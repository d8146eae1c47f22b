//! A command's side of the control socket. It blocks: a command has nothing else to do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::protocol::{Answer, Call, Request};
use super::wire;
use crate::local::alive::Site;
use crate::local::record::VERSION;

/// The longest answer, bytes.
const MAX_ANSWER: u64 = 256 << 20;

/// How long a session may take to accept, and to answer what needs no waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a session did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is nobody: it has ended, or is about to.
    #[error("the session that holds the pod has ended")]
    Ended,
    /// It said no.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to exit with.
        code: u8,
    },
    /// It does not answer.
    #[error("the session that holds the pod does not answer; `ps` shows its process")]
    Silent,
    /// The connection broke.
    #[error("can't speak with the session that holds the pod")]
    Io(#[source] io::Error),
    /// It answers what this coracle does not understand.
    #[error("the session that holds the pod answers what this coracle does not understand")]
    Answer(#[source] serde_json::Error),
}

/// A connection with its one call.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Calls a session.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) fn call(
        site: &Site,
        call: Call,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Client, ClientError> {
        let mut stream = dial(site).map_err(io_error)?;
        let request = Request {
            version: VERSION,
            call,
        };
        let mut line = serde_json::to_vec(&request).map_err(ClientError::Answer)?;
        line.push(b'\n');
        let sent = wire::send(stream.as_fd(), &line, fds).map_err(io_error)?;
        stream
            .write_all(line.get(sent..).unwrap_or_default())
            .map_err(io_error)?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// From now on an answer may take as long as it does.
    pub(crate) fn patient(self) -> Client {
        // It fails for a duration of 0 alone.
        let _ = self.stream.get_ref().set_read_timeout(None);
        self
    }

    /// The next answer; nothing after the last one.
    ///
    /// # Errors
    /// [`ClientError`]; what the session refused is [`ClientError::Refused`].
    pub(crate) fn next(&mut self) -> Result<Option<Answer>, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(MAX_ANSWER)
            .read_until(b'\n', &mut line)
            .map_err(io_error)?;
        if read == 0 {
            return Err(ClientError::Ended);
        }
        if line.last() != Some(&b'\n') {
            // Its process was killed while it wrote.
            return Err(ClientError::Ended);
        }
        match serde_json::from_slice(&line).map_err(ClientError::Answer)? {
            Answer::Done => Ok(None),
            Answer::Error { message, code } => Err(ClientError::Refused { message, code }),
            answer => Ok(Some(answer)),
        }
    }
}

fn io_error(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ClientError::Ended,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent,
        _ => ClientError::Io(error),
    }
}

fn dial(site: &Site) -> io::Result<UnixStream> {
    let folder = wire::open_folder(site.runs())?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Also how long connecting may take where a session accepts nothing any more.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let address = wire::address(folder.as_fd(), &site.socket());
    connect(&socket, &SocketAddrUnix::new(address)?)?;
    Ok(UnixStream::from(socket))
}
