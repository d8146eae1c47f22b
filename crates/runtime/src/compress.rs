//! Compression of rotated logs: one thread for all containers of this process, a file of each at a
//! turn, and behind everything else that wants to run. A flood that it can't keep up with is
//! removed as it is, when there are too many files of it.
//!
//! It must not know logs beyond their jobs, nor guests.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use logs::Compress;

/// How little the thread asks for, as `nice` has it: a tenth of what a guest's thread gets.
const NICE: i32 = 10;

/// Compresses when there is time. Where no thread can be had, the file stays as it is.
pub(crate) fn later(job: Compress) {
    static QUEUE: OnceLock<Option<Sender<Compress>>> = OnceLock::new();
    if let Some(queue) = QUEUE.get_or_init(start) {
        // The thread never ends.
        let _ = queue.send(job);
    }
}

fn start() -> Option<Sender<Compress>> {
    let (send, jobs) = channel();
    let thread = std::thread::Builder::new().name("compress".to_owned());
    match thread.spawn(move || run(&jobs)) {
        Ok(_) => Some(send),
        Err(error) => {
            tracing::warn!(%error, "rotated logs stay uncompressed: a thread can't be had");
            None
        }
    }
}

fn run(jobs: &Receiver<Compress>) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "the compression of logs has the priority of guests");
    }
    let mut waiting = VecDeque::new();
    loop {
        // What has come meanwhile is behind what waits.
        loop {
            match jobs.try_recv() {
                Ok(job) => waiting.push_back(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let job = match waiting.pop_front() {
            Some(job) => job,
            None => match jobs.recv() {
                Ok(job) => job,
                Err(_) => return,
            },
        };
        match job.step() {
            Ok(true) => waiting.push_back(job),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a rotated log can't be compressed"),
        }
    }
}
