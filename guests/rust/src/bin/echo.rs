//! Gives back what it gets: `echo` from standard input to standard output, `echo FD` from each
//! connection in turn that the listening descriptor FD accepts (the first one after the preopened
//! directories: 4 where `/` is the only one).
//!
//! Worlds: p1

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;

fn main() -> io::Result<()> {
    match std::env::args().nth(1) {
        None => copy(&mut io::stdin().lock(), &mut io::stdout().lock()),
        Some(_) => serve(rust_guests::number(1, 4) as i32),
    }
}

fn serve(fd: i32) -> io::Result<()> {
    // SAFETY: the host opened this descriptor for the guest, and nothing else here uses it.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    println!("serving");
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut out = stream.try_clone().or_else(|_| reborrow(&stream))?;
        if let Err(error) = copy(&mut stream, &mut out) {
            println!("connection lost: {}", rust_guests::errno(&error));
        }
        // `out` may share the descriptor with `stream`, which closes it.
        std::mem::forget(out);
    }
}

/// WASI preview 1 has no `dup`: a second handle of the same descriptor.
fn reborrow(stream: &std::net::TcpStream) -> io::Result<std::net::TcpStream> {
    use std::os::fd::AsRawFd;
    // SAFETY: the caller forgets the result, so the descriptor is closed once.
    Ok(unsafe { std::net::TcpStream::from_raw_fd(stream.as_raw_fd()) })
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => {
                to.write_all(&buffer[..n])?;
                to.flush()?;
            }
        }
    }
}
