//! `coracle exec`: a command in a container that runs.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context;

use super::place::{self, Root};
use crate::local::control::{Answer, Call, Client, ClientError};
use crate::local::find;
use crate::program::sentence;

/// What `coracle exec` takes.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "coracle exec [OPTIONS] <POD> [--] <COMMAND> [ARG]...",
    after_help = "\
Examples:
  coracle exec web ls /data                    a tool of the image: ls.wasm, on its PATH
  coracle exec -it py -- python3.wasm          a prompt; Ctrl-D ends it
  echo 1 | coracle exec -i web -c db tool      standard input from a pipe

The command runs in the container: with its files, its environment, and within its limits; it ends
with it. Its exit code is coracle's; 125 is a failure of coracle's own, 126 a command that can't be
run, 127 one that is not there. The terminal keeps its own editing of lines: a guest gets no signals,
so Ctrl-C ends the command."
)]
pub(crate) struct Args {
    /// Give the command standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Tell the command that it has a terminal
    #[arg(short, long)]
    tty: bool,
    /// Which container; the first one if left out
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    #[command(flatten)]
    root: Root,
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(value_name = "POD")]
    pod: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command; gives its exit code.
///
/// # Errors
/// When there is no such pod or container, or its session does not answer.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let found = find::one(&args.root.open()?, &args.pod)?;
    let container = place::container(&found, args.container.as_deref())?;
    let call = Call::Exec {
        uid: found.record.uid().to_owned(),
        container,
        command: args.command.clone(),
        tty: args.tty,
        stdin: args.stdin,
    };
    if !found.alive {
        anyhow::bail!(
            "pod {} has ended: a command runs in one that runs",
            found.name()
        );
    }
    let input = args.stdin.then(input).transpose()?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
    match &input {
        Some(Some(pipe)) => fds.push(pipe.as_fd()),
        Some(None) => fds.push(stdin.as_fd()),
        None => {}
    }
    fds.push(stdout.as_fd());
    // A terminal has one stream for both, as docker and the kubelet have it.
    fds.push(if args.tty {
        stdout.as_fd()
    } else {
        stderr.as_fd()
    });
    let answer = Client::call(&found.site, call, &fds).and_then(|client| {
        drop(input); // The session has it: with the last copy here the input ends.
        client.patient().next()
    });
    match answer {
        Ok(Some(Answer::Exited { code, message })) => {
            if !message.is_empty() {
                eprintln!("coracle: {message}");
            }
            Ok(code)
        }
        Ok(_) => anyhow::bail!("the session that holds the pod gave no exit code"),
        Err(ClientError::Refused { message, code }) => {
            eprintln!("coracle: {message}");
            Ok(code)
        }
        Err(ClientError::Ended) => {
            // As a container that is killed: nobody knows what the command did.
            eprintln!("coracle: {}", sentence(&ClientError::Ended));
            Ok(137)
        }
        Err(error) => Err(error.into()),
    }
}

/// Standard input as another process can read it: a terminal by way of a pipe, since reading it stops
/// a process that is not in the terminal's foreground; anything else as it is (`None`).
fn input() -> anyhow::Result<Option<OwnedFd>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .context("no pipe can be had for standard input")?;
    std::thread::spawn(move || {
        let mut to = std::fs::File::from(write);
        let mut buffer = [0; 4096];
        // It ends with the process, with the terminal's end of input, or when nobody reads any more.
        while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
            if to
                .write_all(buffer.get(..count).unwrap_or_default())
                .is_err()
            {
                break;
            }
        }
    });
    Ok(Some(read))
}
