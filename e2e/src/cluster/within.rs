//! Work on a thread that has entered another network namespace.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

/// The network of the process `pid`, to be entered by a thread.
pub(super) fn of(pid: u32) -> Result<File> {
    File::open(format!("/proc/{pid}/ns/net")).context("the host is gone")
}

/// Moves the current thread into a network, and gives it a runtime there.
pub(super) fn enter(network: &File) -> Result<Runtime> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering the host's network")?;
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Runs `work` on a thread of its own in the network of the process `pid`, to its end.
///
/// # Errors
/// What `work` returns, or that the network can't be entered.
pub(super) fn network<T, F>(pid: u32, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    let file = of(pid)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || enter(&file)?.block_on(work()));
        match thread.join() {
            Ok(result) => result,
            Err(panic) => Err(anyhow!(
                "the thread in the host's network panicked: {panic:?}"
            )),
        }
    })
}
