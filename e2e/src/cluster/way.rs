//! A way to the API server from outside the hosts' network: a port of loopback, behind which a thread in the first
//! host's network passes on what comes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::{FIRST_HOST, within};

/// See the module. Closed when dropped.
pub(super) struct Way {
    port: u16,
    _open: oneshot::Sender<()>,
}

impl Way {
    /// Opens one through the network of the process `pid`.
    pub(super) fn open(pid: u32) -> Result<Way> {
        let network = within::of(pid)?;
        // A socket belongs to the network that it was made in: this one is outside.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (open, closed) = oneshot::channel();
        std::thread::Builder::new()
            .name("way".to_owned())
            .spawn(move || {
                if let Err(error) = serve(&network, listener, closed) {
                    eprintln!("nobody reaches the API server any more: {error:#}");
                }
            })
            .context("starting a thread")?;
        Ok(Way { port, _open: open })
    }

    /// The API server's address, outside.
    pub(super) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

fn serve(network: &File, listener: TcpListener, closed: oneshot::Receiver<()>) -> Result<()> {
    within::enter(network)?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            ended = accept(listener) => ended,
            _dropped = closed => Ok(()),
        }
    })
}

async fn accept(listener: tokio::net::TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(pass(stream));
    }
}

/// A side that goes away, or is not there, ends the other: whoever asked sees that, and asks again.
async fn pass(mut outside: TcpStream) {
    if let Ok(mut inside) = TcpStream::connect((FIRST_HOST, 6443)).await {
        let _cut_off = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    }
}
