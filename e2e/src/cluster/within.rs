//! Work on a thread that has entered another network namespace.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` on a thread of its own in the network of the process `pid`, to its end.
///
/// # Errors
/// What `work` returns, or that the network can't be entered.
pub(super) fn network<T, F>(pid: u32, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    let file = File::open(format!("/proc/{pid}/ns/net")).context("the host is gone")?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("entering the host's network")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => Err(anyhow!(
                "the thread in the host's network panicked: {panic:?}"
            )),
        }
    })
}
