//! A command in a container, with what it writes.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::Hands;
use super::exec::{ExecFailure, ExecStreams, FAILED, failed};

/// So much of what it writes is kept, bytes (`maxReadLength` in `pkg/probe/exec`).
const MOST: usize = 10 * 1024;

/// How a command ended.
pub(super) struct Captured {
    /// 0 to 255.
    pub(super) code: u8,
    /// What it wrote to standard output and standard error, as far as it is kept.
    pub(super) output: String,
}

impl Hands {
    /// Runs a command to its end. Dropping the future ends it.
    pub(super) async fn captured(
        &self,
        pod: &Pod,
        (container, run): (&str, u32),
        command: Vec<String>,
    ) -> Result<Captured, ExecFailure> {
        let (sender, mut receiver) = pipe::pipe().map_err(|error| failed(FAILED, error))?;
        let stdout = sender
            .into_blocking_fd()
            .map_err(|error| failed(FAILED, error))?;
        let stderr = stdout.try_clone().map_err(|error| failed(FAILED, error))?;
        let streams = ExecStreams {
            stdin: None,
            stdout: Some(stdout),
            stderr: Some(stderr),
        };
        // Both ends of the pipe move with the command: who reads it sees its end when that comes.
        let running = self.exec(pod, container, run, command, false, streams);
        let (ended, output) = tokio::join!(running, read(&mut receiver));
        let ended = ended?;
        Ok(Captured {
            code: ended.code,
            output: match ended.message.is_empty() || !output.is_empty() {
                true => output,
                false => ended.message,
            },
        })
    }
}

/// To the end, so that no writer waits; what is over is not kept.
async fn read(receiver: &mut pipe::Receiver) -> String {
    let mut kept = Vec::new();
    let mut piece = vec![0; 4096];
    while let Ok(read @ 1..) = receiver.read(&mut piece).await {
        let room = MOST.saturating_sub(kept.len());
        kept.extend(piece.iter().take(read.min(room)));
    }
    String::from_utf8_lossy(&kept).into_owned()
}
