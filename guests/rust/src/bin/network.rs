//! Speaks TCP and UDP with the standard library: `network tcp|udp serve ADDRESS [COUNT]` echoes,
//! `network tcp|udp ask ADDRESS TEXT` has an echo, and each tells the addresses that it sees.
//! `network find NAME` tells a name's addresses; `network self` speaks to itself.
//! Worlds: p2

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match *words.as_slice() {
        ["tcp", "serve", at] => tcp_serve(at, usize::MAX),
        ["tcp", "serve", at, count] => tcp_serve(at, number(count)),
        ["udp", "serve", at] => udp_serve(at, usize::MAX),
        ["udp", "serve", at, count] => udp_serve(at, number(count)),
        ["tcp", "ask", at, text] => tcp_ask(at, text),
        ["udp", "ask", at, text] => udp_ask(at, text),
        ["find", name] => find(name),
        ["self"] => itself(),
        _ => {
            eprintln!(
                "network tcp|udp serve ADDRESS [COUNT] | tcp|udp ask ADDRESS TEXT | find NAME | self"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {:?}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(1)
}

fn tcp_serve(at: &str, count: usize) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("listening at {}", listener.local_addr()?);
    for stream in listener.incoming().take(count) {
        let mut stream = stream?;
        println!("{} came to {}", stream.peer_addr()?, stream.local_addr()?);
        let mut bytes = [0; 4096];
        // A peer that breaks off is no reason to end.
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn tcp_ask(at: &str, text: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    println!("{} went to {}", stream.local_addr()?, stream.peer_addr()?);
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("answer: {answer}");
    Ok(())
}

fn udp_serve(at: &str, count: usize) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("listening at {}", socket.local_addr()?);
    for _ in 0..count {
        let mut bytes = [0; 4096];
        let (length, from) = socket.recv_from(&mut bytes)?;
        println!("{from} came");
        socket.send_to(&bytes[..length], from)?;
    }
    Ok(())
}

fn udp_ask(at: &str, text: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(at)?;
    println!("{} goes to {}", socket.local_addr()?, socket.peer_addr()?);
    socket.send(text.as_bytes())?;
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes)?;
    println!("answer: {}", String::from_utf8_lossy(&bytes[..length]));
    Ok(())
}

fn find(name: &str) -> io::Result<()> {
    for at in (name, 0).to_socket_addrs()? {
        println!("{}", at.ip());
    }
    Ok(())
}

/// One end speaks to the other within the guest: each is told of the addresses that it used.
fn itself() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let near = TcpStream::connect(at)?;
    let (mut far, from) = listener.accept()?;
    println!("listening at {}", at.ip());
    println!(
        "from {} to {}",
        near.local_addr()?.ip(),
        near.peer_addr()?.ip()
    );
    println!(
        "the same: {}",
        from == near.local_addr()? && far.local_addr()? == at
    );
    far.write_all(b"x")?;
    drop(far);
    let taken = TcpListener::bind(at).err().map(|error| error.kind());
    println!("again: {taken:?}");
    let mut byte = [0];
    (&near).read_exact(&mut byte)?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    udp.send_to(b"y", udp.local_addr()?)?;
    let (_, from) = udp.recv_from(&mut byte)?;
    println!("itself: {}", from == udp.local_addr()?);
    Ok(())
}
