//! 100 bytes there and back over loopback TCP, to a guest that shares its host with spinning ones.
//!
//! The peer is the kernel: a thread that echoes beside as many threads that spin. The client is a
//! thread of this process in both, and has to get its turn on the same cores.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use guests::Guest;
use runtime::{Local, LocalConfig};

use crate::stats::Series;
use crate::{host, report};

/// What a request may take, for all but one in a hundred.
const TARGET: Duration = Duration::from_millis(15);

/// Beside how many spinners.
const SPINNERS: [u32; 3] = [0, 2, 8];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many requests for each figure
    #[arg(long, default_value_t = 2000)]
    requests: u32,
    /// The longest that one figure may take, seconds: then it has fewer requests
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            requests: 2000,
            seconds: 30,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("echo: 100 bytes there and back beside spinning guests");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for spinners in SPINNERS {
        let theirs = beside_threads(spinners, args)?;
        let ours = runtime.block_on(beside_guests(spinners, args))?;
        let name = format!("beside {spinners} spinners");
        report::row(&format!("{name}, a guest"), &ours);
        report::row(&format!("{name}, a thread"), &theirs);
        let p99 = ours.percentile(99.0);
        let reached = p99 <= TARGET;
        report::verdict(
            &format!("{name}, p99"),
            format!("{p99:.3?}"),
            "at most 15 ms",
            reached,
        );
    }
    Ok(())
}

async fn beside_guests(spinners: u32, args: &Args) -> anyhow::Result<Series> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let local = Local::new(LocalConfig::default())?;
    let spinner = host::compile(&path("code"), &host::module(Guest::RustSpinner)?).await?;
    let echo = host::compile(&path("code"), &host::module(Guest::RustEcho)?).await?;
    for number in 1..=spinners {
        let root = host::root(&path(&format!("root-{number}")))?;
        local
            .start(host::spec(number), host::fds(&spinner, root)?)
            .await?;
    }
    let listener = host::listener()?;
    let address = listener.local_addr()?;
    let mut spec = host::spec(0);
    spec.args = vec!["echo".to_owned(), "4".to_owned()];
    let mut fds = host::fds(&echo, host::root(Path::new(&path("root-0")))?)?;
    fds.listeners = vec![listener.into()];
    local.start(spec, fds).await?;
    let series = ask(address, args)?;
    local.shutdown().await;
    Ok(series)
}

/// The same with threads in place of guests, which the kernel gives their turns.
fn beside_threads(spinners: u32, args: &Args) -> anyhow::Result<Series> {
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..spinners {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    let listener = host::listener()?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || serve(&listener));
    let series = ask(address, args);
    over.store(true, Ordering::Relaxed);
    // It ends with the connection; what it failed with, the client has seen.
    let _ = echo.join();
    series
}

fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(buffer.get(..n).unwrap_or_default())?,
        }
    }
}

/// Asks, one request after the other.
fn ask(address: SocketAddr, args: &Args) -> anyhow::Result<Series> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(args.seconds)))?;
    let (message, mut answer) = ([7; 100], [0; 100]);
    let mut once = || -> anyhow::Result<Duration> {
        let begin = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer).context("no answer came")?;
        Ok(begin.elapsed())
    };
    // The first has to wait for the accept.
    once()?;
    let begin = Instant::now();
    let mut seen = Vec::new();
    for _ in 0..args.requests {
        seen.push(once()?);
        if begin.elapsed() > Duration::from_secs(args.seconds) {
            break;
        }
    }
    Ok(Series::of(seen))
}
