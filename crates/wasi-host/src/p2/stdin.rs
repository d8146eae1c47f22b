//! Standard input as a stream. Every handle that a guest gets is the same stream: what one has
//! read ahead, another takes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::Work;
use crate::fs::IO_BYTES;
use crate::stdio::Stdin;

/// The stream behind all handles.
pub(crate) struct Shared {
    stdin: Stdin,
    work: Work,
    state: Mutex<State>,
    changed: Notify,
}

enum State {
    /// Nothing was read ahead.
    Empty,
    /// A read is on its way.
    Reading,
    /// This was read, and not taken yet.
    Bytes(Bytes),
    /// A read failed; told once.
    Failed(io::Error),
    /// The end.
    Closed,
}

impl Shared {
    pub(crate) fn new(stdin: Stdin, work: Work) -> Arc<Shared> {
        Arc::new(Shared {
            stdin,
            work,
            state: Mutex::new(State::Empty),
            changed: Notify::new(),
        })
    }

    /// Ends the stream; a read that is on its way is given up.
    pub(super) fn close(&self) {
        self.set(State::Closed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_waiters();
    }

    /// Begins to read ahead, if nothing is there. The read is a task of its own: whoever waits for
    /// it may stop waiting, and what was read is not lost.
    fn begin(self: &Arc<Self>) {
        let mut state = self.state();
        if !matches!(*state, State::Empty) {
            return;
        }
        *state = State::Reading;
        let shared = self.clone();
        drop(self.work.spawn(async move {
            let read = tokio::select! {
                read = shared.stdin.read(&shared.work.blocking, IO_BYTES) => read,
                () = shared.closed() => return,
            };
            shared.set(match read {
                Ok(bytes) if bytes.is_empty() => State::Closed,
                Ok(bytes) => State::Bytes(bytes.into()),
                Err(errno) => State::Failed(errno.into()),
            });
        }));
    }

    async fn closed(&self) {
        self.until(|state| matches!(state, State::Closed)).await;
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if reached(&self.state()) {
                return;
            }
            changed.await;
        }
    }
}

/// A guest's handle.
pub(crate) struct Input(Arc<Shared>);

impl Input {
    pub(crate) fn new(shared: &Arc<Shared>) -> Input {
        Input(shared.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.0.begin();
        self.0.until(|state| !matches!(state, State::Reading)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut state = self.0.state();
        match &mut *state {
            State::Empty | State::Reading => Ok(Bytes::new()),
            State::Bytes(bytes) => {
                let taken = bytes.split_to(size.min(bytes.len()));
                if bytes.is_empty() {
                    *state = State::Empty;
                }
                Ok(taken)
            }
            State::Failed(_) => match std::mem::replace(&mut *state, State::Closed) {
                State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            State::Closed => Err(StreamError::Closed),
        }
    }
}
