//! Requests a second of a `wasi:http` guest, served by Coracle with all its limits on, beside the
//! same guest on a bare engine; and how long one waits beside spinning guests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guests::Guest;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtime::{HttpSpec, Limits, Local, LocalConfig};

use crate::bare_http::Bare;
use crate::stats::Series;
use crate::{host, report};

/// Of the bare engine's requests a second.
const TARGET: f64 = 0.90;

/// What a request may take beside spinning guests, for all but one in a hundred.
const P99: Duration = Duration::from_millis(15);

/// How many connections ask at once.
const CONNECTIONS: [usize; 2] = [1, 16];

/// Beside so many spinning guests.
const SPINNERS: u32 = 2;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pairs of turns for each figure
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// How long a turn lasts, milliseconds
    #[arg(long, default_value_t = 1500)]
    turn: u64,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            rounds: 7,
            turn: 1500,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("http: requests a second, an instance each");
    let client = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let component = host::module(Guest::RustServer)?;
    let code = client.block_on(host::compile(&folder.path().join("code"), &component))?;
    let local = Local::new(LocalConfig::default())?;
    let root = host::root(&folder.path().join("root"))?;
    let (spec, fds, ours) = server(&code, root)?;
    client.block_on(local.start(spec, fds))?;
    let bare = Bare::serve(&component)?;
    let turn = Duration::from_millis(args.turn);
    for connections in CONNECTIONS {
        compare(&client, ours, bare.address, connections, args.rounds, turn)?;
    }
    drop(bare);
    let spinner = client.block_on(host::compile(
        &folder.path().join("code"),
        &host::module(Guest::RustSpinner)?,
    ))?;
    for number in 1..=SPINNERS {
        let root = host::root(&folder.path().join(format!("root-{number}")))?;
        client.block_on(local.start(host::spec(number), host::fds(&spinner, root)?))?;
    }
    let seen = client.block_on(load(ours, 1, turn * args.rounds))?;
    let series = Series::of(seen);
    report::row(&format!("beside {SPINNERS} spinning guests"), &series);
    let p99 = series.percentile(99.0);
    let shown = format!("{p99:.3?}");
    report::verdict("beside spinners, p99", shown, "at most 15 ms", p99 <= P99);
    client.block_on(local.shutdown());
    Ok(())
}

/// A server with every limit that a container may have.
fn server(
    code: &std::os::fd::OwnedFd,
    root: std::os::fd::OwnedFd,
) -> anyhow::Result<(runtime::GuestSpec, runtime::GuestFds, SocketAddr)> {
    let listener = host::listener()?;
    let address = listener.local_addr()?;
    let mut spec = host::spec(0);
    spec.http = Some(HttpSpec::default());
    spec.limits = Limits {
        memory_bytes: Some(1 << 30),
        cpu_milli: Some(64_000),
        ..Limits::default()
    };
    let mut fds = host::fds(code, root)?;
    fds.listeners = vec![listener.into()];
    Ok((spec, fds, address))
}

fn compare(
    client: &tokio::runtime::Runtime,
    ours: SocketAddr,
    bare: SocketAddr,
    connections: usize,
    rounds: u32,
    turn: Duration,
) -> anyhow::Result<()> {
    let rate = |address| -> anyhow::Result<f64> {
        let seen = client.block_on(load(address, connections, turn))?;
        #[allow(clippy::cast_precision_loss)]
        let count = seen.len() as f64;
        Ok(count / turn.as_secs_f64())
    };
    // The first of each faults in what later ones find.
    rate(ours)?;
    rate(bare)?;
    let (mut of_ours, mut of_bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who goes first takes turns too.
        let (one, other) = match round % 2 {
            0 => {
                let one = rate(ours)?;
                (one, rate(bare)?)
            }
            _ => {
                let other = rate(bare)?;
                (rate(ours)?, other)
            }
        };
        of_ours.push(one);
        of_bare.push(other);
        ratios.push(one / other);
    }
    let name = format!("{connections} connections");
    report::row(
        &format!("{name}, Coracle"),
        format!("{:.0} req/s", median(of_ours)),
    );
    report::row(
        &format!("{name}, bare"),
        format!("{:.0} req/s", median(of_bare)),
    );
    let ratio = median(ratios);
    let shown = format!("{ratio:.2} x");
    report::verdict(
        &format!("{name}, ratio"),
        shown,
        "at least 0.90 x",
        ratio >= TARGET,
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Asks on so many connections, each one request after the other, for so long; how long each took.
async fn load(
    address: SocketAddr,
    connections: usize,
    turn: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let until = Instant::now() + turn;
    let host: Arc<str> = address.to_string().into();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(ask(address, Arc::clone(&host), until)))
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.extend(task.await??);
    }
    Ok(seen)
}

async fn ask(address: SocketAddr, host: Arc<str>, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut seen = Vec::new();
    while Instant::now() < until {
        let request = http::Request::get("/").header("host", &*host);
        let request = request.body(Empty::<Bytes>::new())?;
        let begin = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        ensure!(
            response.status() == 200,
            "the answer is {}",
            response.status()
        );
        response.into_body().collect().await.context("a body")?;
        seen.push(begin.elapsed());
    }
    connection.abort();
    Ok(seen)
}
