//! A command of preview 3, by its first argument: `hello` prints its arguments and environment,
//! `echo` gives back standard input, `files DIR` writes, reads, lists and escapes, `wait MS` waits
//! twice at once, `tcp` and `udp` talk to themselves, `lookup NAME` prints addresses, `fetch
//! AUTHORITY` prints an answer's status, `exit CODE` exits, `fail` fails, `broken` drops its output
//! half-way.
//!
//! Worlds: p3

use wasip3::cli::{environment, exit, stderr, stdin, stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::http::client;
use wasip3::http::types::{Fields, Request, Response, Scheme};
use wasip3::random::random;
use wasip3::sockets::ip_name_lookup;
use wasip3::sockets::types::{
    IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::cli::command::export!(Concurrent);

struct Concurrent;

/// What one write gives, bytes.
const PIECE: usize = 64 << 10;

impl wasip3::exports::cli::run::Guest for Concurrent {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args.get(1..) {
            Some(["hello", ..]) => hello(&args).await,
            Some(["echo"]) => echo().await,
            Some(["files", dir]) => match files(dir).await {
                Ok(lines) => print(&lines).await,
                Err(code) => {
                    complain(&format!("{code:?}\n")).await;
                    return Err(());
                }
            },
            Some(["wait", ms]) => wait(ms.parse().map_err(drop)?).await,
            Some(["tcp"]) => tcp().await,
            Some(["udp"]) => udp().await,
            Some(["lookup", name]) => lookup(name).await,
            Some(["fetch", authority]) => fetch(authority).await,
            Some(["exit", code]) => exit::exit_with_code(code.parse().map_err(drop)?),
            Some(["broken"]) => broken().await,
            _ => return Err(()),
        }
        Ok(())
    }
}

/// Writes to standard output, and waits until it is there.
async fn print(text: &str) {
    let (mut to, from) = wit_stream::new();
    let done = stdout::write_via_stream(from);
    let left = to.write_all(text.as_bytes().to_vec()).await;
    assert!(
        left.is_empty(),
        "standard output took all but {} bytes",
        left.len()
    );
    drop(to);
    done.await.expect("standard output failed");
}

async fn complain(text: &str) {
    let (mut to, from) = wit_stream::new();
    let done = stderr::write_via_stream(from);
    to.write_all(text.as_bytes().to_vec()).await;
    drop(to);
    done.await.expect("standard error failed");
}

async fn hello(args: &[&str]) {
    let mut lines = String::new();
    for arg in args {
        lines += &format!("argument {arg}\n");
    }
    for (name, value) in environment::get_environment() {
        lines += &format!("{name}={value}\n");
    }
    lines += &format!("cwd {:?}\n", environment::get_initial_cwd());
    let is_now = system_clock::now().seconds > 1_700_000_000;
    let differs = random::get_random_bytes(16) != random::get_random_bytes(16);
    lines += &format!("clock {is_now}, random {differs}\n");
    print(&lines).await;
    complain("on standard error\n").await;
}

async fn echo() {
    let (mut from, ended) = stdin::read_via_stream();
    let (mut to, out) = wit_stream::new();
    let done = stdout::write_via_stream(out);
    loop {
        let (result, bytes) = from.read(Vec::with_capacity(PIECE)).await;
        to.write_all(bytes).await;
        if matches!(result, wit_bindgen::StreamResult::Dropped) {
            break;
        }
    }
    drop(to);
    ended.await.expect("standard input failed");
    done.await.expect("standard output failed");
}

async fn open(dir: &Descriptor, path: &str, create: bool) -> Result<Descriptor, ErrorCode> {
    let open = match create {
        true => OpenFlags::CREATE,
        false => OpenFlags::empty(),
    };
    let flags = match create {
        true => DescriptorFlags::READ | DescriptorFlags::WRITE,
        false => DescriptorFlags::READ,
    };
    dir.open_at(PathFlags::SYMLINK_FOLLOW, path.to_owned(), open, flags)
        .await
}

async fn write(file: &Descriptor, text: &[u8], append: bool) -> Result<(), ErrorCode> {
    let (mut to, from) = wit_stream::new();
    let done = match append {
        true => file.append_via_stream(from),
        false => file.write_via_stream(from, 0),
    };
    to.write_all(text.to_vec()).await;
    drop(to);
    done.await
}

async fn read(file: &Descriptor) -> Result<Vec<u8>, ErrorCode> {
    let (from, ended) = file.read_via_stream(0);
    let bytes = from.collect().await;
    ended.await?;
    Ok(bytes)
}

async fn files(dir: &str) -> Result<String, ErrorCode> {
    let (root, name) = preopens::get_directories().remove(0);
    let mut lines = format!("root {name}\n");
    let path = |name: &str| format!("{dir}/{name}");
    let file = open(&root, &path("a"), true).await?;
    write(&file, b"one ", false).await?;
    write(&file, b"two", true).await?;
    lines += &format!("a {:?}\n", String::from_utf8_lossy(&read(&file).await?));
    let large = vec![7_u8; 300_000];
    let other = open(&root, &path("b"), true).await?;
    write(&other, &large, false).await?;
    lines += &format!("b {}\n", read(&other).await? == large);
    root.rename_at(path("b"), &root, path("c")).await?;
    root.symlink_at("/a-link".to_owned(), path("link")).await?;
    let folder = open(&root, dir, false).await?;
    let (entries, ended) = folder.read_directory();
    let mut names: Vec<String> = entries
        .collect()
        .await
        .into_iter()
        .map(|e| e.name)
        .collect();
    ended.await?;
    names.sort();
    lines += &format!("entries {}\n", names.join(" "));
    let stat = root.stat_at(PathFlags::empty(), path("c")).await?;
    lines += &format!("c has {} bytes\n", stat.size);
    let absolute = open(&root, "/etc/passwd", false).await.map(drop);
    lines += &format!("absolute {absolute:?}\n");
    let above = open(&root, "../../../../etc/hostname", false).await;
    let above = match above {
        Ok(file) => String::from_utf8_lossy(&read(&file).await?).into_owned(),
        Err(code) => format!("{code:?}"),
    };
    lines += &format!("above {}\n", above.trim());
    let (_, ended) = folder.read_via_stream(0);
    lines += &format!("reading a folder {:?}\n", ended.await);
    root.unlink_file_at(path("c")).await?;
    let gone = open(&root, &path("c"), false).await.map(drop);
    lines += &format!("gone {gone:?}\n");
    Ok(lines)
}

async fn wait(ms: u64) {
    let began = monotonic_clock::now();
    let (mut tell, mut told) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        monotonic_clock::wait_for(ms * 1_000_000).await;
        tell.write_all(vec![1_u8]).await;
    });
    monotonic_clock::wait_for(ms * 1_000_000).await;
    told.next().await;
    let took = (monotonic_clock::now() - began) / 1_000_000;
    print(&format!("waited {}\n", took >= ms)).await;
}

fn loopback(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port,
        address: (127, 0, 0, 1),
    })
}

fn shown(address: &IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(v4) => {
            let (a, b, c, d) = v4.address;
            format!("{a}.{b}.{c}.{d}")
        }
        IpSocketAddress::Ipv6(_) => "an address of IPv6".to_owned(),
    }
}

fn port(address: &IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(v4) => v4.port,
        IpSocketAddress::Ipv6(v6) => v6.port,
    }
}

async fn tcp() {
    let listener = TcpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    listener.bind(loopback(0)).expect("bound");
    let mut incoming = listener.listen().expect("listens");
    let at = listener.get_local_address().expect("an address");
    wit_bindgen::spawn_local(async move {
        let socket = incoming.next().await.expect("somebody");
        let (mut from, _) = socket.receive();
        let (mut to, out) = wit_stream::new();
        let sent = socket.send(out);
        let mut all = Vec::new();
        loop {
            let (result, bytes) = from.read(Vec::with_capacity(PIECE)).await;
            all.extend(bytes);
            if matches!(result, wit_bindgen::StreamResult::Dropped) {
                break;
            }
        }
        all.make_ascii_uppercase();
        to.write_all(all).await;
        drop(to);
        sent.await.expect("sent");
    });
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    socket.connect(at).await.expect("connected");
    let local = socket.get_local_address().expect("an address");
    let remote = socket.get_remote_address().expect("an address");
    let (mut to, out) = wit_stream::new();
    let sent = socket.send(out);
    to.write_all(b"over tcp".to_vec()).await;
    drop(to);
    sent.await.expect("sent");
    let (from, ended) = socket.receive();
    let answer = from.collect().await;
    ended.await.expect("received");
    let again = socket.receive().1.await;
    let nowhere = TcpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    let refused = nowhere.connect(loopback(1)).await;
    print(&format!(
        "from {} to {}: {}\nagain {again:?}\nport 1 {refused:?}\n",
        shown(&local),
        shown(&remote),
        String::from_utf8_lossy(&answer)
    ))
    .await;
}

async fn udp() {
    let server = UdpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    server.bind(loopback(0)).expect("bound");
    let at = server.get_local_address().expect("an address");
    let client = UdpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    client.bind(loopback(0)).expect("bound");
    client
        .send(b"over udp".to_vec(), Some(at))
        .await
        .expect("sent");
    let (data, from) = server.receive().await.expect("received");
    let own = client.get_local_address().expect("an address");
    let unbound = UdpSocket::create(IpAddressFamily::Ipv4).expect("a socket");
    let early = unbound.receive().await.map(drop);
    print(&format!(
        "from {}, its own port {}: {}\nunbound {early:?}\n",
        shown(&from),
        port(&from) == port(&own),
        String::from_utf8_lossy(&data)
    ))
    .await;
}

async fn lookup(name: &str) {
    let found = ip_name_lookup::resolve_addresses(name.to_owned()).await;
    let line = match found {
        Ok(found) => found
            .iter()
            .map(|ip| match ip {
                IpAddress::Ipv4((a, b, c, d)) => format!("{a}.{b}.{c}.{d}"),
                IpAddress::Ipv6(_) => "IPv6".to_owned(),
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(code) => format!("{code:?}"),
    };
    print(&format!("{line}\n")).await;
}

async fn fetch(authority: &str) {
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    drop(trailers);
    let (request, _) = Request::new(Fields::new(), None, no_trailers, None);
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request
        .set_authority(Some(authority))
        .expect("an authority");
    request.set_path_with_query(Some("/")).expect("a path");
    let line = match client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (tell, read) = wit_future::new(|| Ok(()));
            drop(tell);
            let (body, trailers) = Response::consume_body(response, read);
            let body = body.collect().await;
            drop(trailers);
            format!("{status} {}", String::from_utf8_lossy(&body).trim())
        }
        Err(code) => format!("{code:?}"),
    };
    print(&format!("{line}\n")).await;
}

async fn broken() {
    let (mut to, from) = wit_stream::new();
    drop(stdout::write_via_stream(from));
    to.write_all(b"not waited for\n".to_vec()).await;
    drop(to);
}
