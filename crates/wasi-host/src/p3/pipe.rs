//! Between the component model's streams and preview2's: what is read ahead is charged, and a piece
//! is taken from a guest only when the one before is where it was to go.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::component::{
    Destination, FutureReader, Lift, Lower, Source, StreamConsumer, StreamProducer, StreamReader,
    StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError};

use crate::fs::{Errno, IO_BYTES};
use crate::p2::Work;

/// An interface's word for why a stream ended before its end.
pub(super) trait Code: Send + Sync + Sized + 'static {
    /// What the system said, if it did.
    fn of(error: &io::Error) -> Self;

    /// What anybody else said.
    fn other(_error: &wasmtime::Error) -> Self {
        Self::of(&io::Error::other("unknown"))
    }

    /// The other side is gone.
    fn broken() -> Self {
        Self::of(&Errno::PIPE.into())
    }
}

/// What an interface's future says of its stream.
pub(super) type Told<E> = Result<(), E>;

fn code<E: Code>(error: &wasmtime::Error) -> E {
    match error.downcast_ref::<io::Error>() {
        Some(error) => E::of(error),
        None => E::other(error),
    }
}

/// A stream that a guest reads, and the future of how it ended.
pub(super) type Readable<E, I = u8> = (StreamReader<I>, FutureReader<Told<E>>);

/// Lets a guest read `input`.
pub(super) fn readable<E: Code + Lift + Lower>(
    mut store: impl AsContextMut,
    input: DynInputStream,
) -> wasmtime::Result<Readable<E>> {
    let (tell, told) = oneshot::channel();
    let producer = Reading {
        input: Input::Idle(input),
        tell: Some(tell),
    };
    Ok((
        StreamReader::new(&mut store, producer)?,
        FutureReader::new(&mut store, told)?,
    ))
}

/// A stream that is at its end, and why.
pub(super) fn nothing<E: Code + Lift + Lower, I: Lift + Lower + Send + Sync + 'static>(
    mut store: impl AsContextMut,
    why: E,
) -> wasmtime::Result<Readable<E, I>> {
    Ok((
        StreamReader::new(&mut store, std::iter::empty())?,
        FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(why)) })?,
    ))
}

/// Writes what a guest gives to `output`. `done` is told how it ended.
pub(super) fn write<E: Code>(
    store: impl AsContextMut,
    data: StreamReader<u8>,
    output: DynOutputStream,
    work: &Work,
    done: oneshot::Sender<Told<E>>,
) -> wasmtime::Result<()> {
    let consumer = Writing {
        output: Output::Idle(output),
        taken: false,
        tell: Some(done),
        work: work.clone(),
    };
    data.pipe(store, consumer)
}

/// Writes what a guest gives to `output`, and makes the future of how it ended.
pub(super) fn written<E: Code + Lift + Lower>(
    mut store: impl AsContextMut,
    data: StreamReader<u8>,
    output: DynOutputStream,
    work: &Work,
) -> wasmtime::Result<FutureReader<Told<E>>> {
    let (tell, told) = oneshot::channel();
    write(&mut store, data, output, work, tell)?;
    FutureReader::new(&mut store, told)
}

/// Takes nothing of what a guest gives, and says why.
pub(super) fn refused<E: Code + Lift + Lower>(
    mut store: impl AsContextMut,
    mut data: StreamReader<u8>,
    why: E,
) -> wasmtime::Result<FutureReader<Told<E>>> {
    data.close(&mut store)?;
    FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(why)) })
}

/// The one that a guest reads.
struct Reading<E> {
    input: Input,
    tell: Option<oneshot::Sender<Told<E>>>,
}

enum Input {
    Idle(DynInputStream),
    Waiting(BoxFuture<'static, DynInputStream>),
    Gone,
}

impl<E> Reading<E> {
    fn end(&mut self, told: Told<E>) -> Poll<wasmtime::Result<StreamResult>> {
        self.input = Input::Gone;
        if let Some(tell) = self.tell.take() {
            // Who dropped the future does not want to know.
            let _ = tell.send(told);
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl<E> Drop for Reading<E> {
    fn drop(&mut self) {
        let _ = self.end(Ok(()));
    }
}

/// Waits until a stream is ready, which may be that it is at its end.
fn waiting(mut input: DynInputStream) -> Input {
    Input::Waiting(Box::pin(async move {
        input.ready().await;
        input
    }))
}

impl<D, E: Code> StreamProducer<D> for Reading<E> {
    type Item = u8;
    type Buffer = BytesMut;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, BytesMut>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let reading = self.get_mut();
        // A read of nothing asks whether there is something.
        let only_asks = destination.remaining(&mut store) == Some(0);
        let mut waited = false;
        loop {
            match mem::replace(&mut reading.input, Input::Gone) {
                Input::Gone => return Poll::Ready(Ok(StreamResult::Dropped)),
                Input::Waiting(mut wait) => match wait.as_mut().poll(cx) {
                    Poll::Ready(input) => {
                        waited = true;
                        reading.input = Input::Idle(input);
                    }
                    Poll::Pending => {
                        // What it reads ahead is kept for the next.
                        reading.input = Input::Waiting(wait);
                        return match finish {
                            true => Poll::Ready(Ok(StreamResult::Cancelled)),
                            false => Poll::Pending,
                        };
                    }
                },
                Input::Idle(input) if only_asks && waited => {
                    reading.input = Input::Idle(input);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Input::Idle(input) if only_asks => reading.input = waiting(input),
                Input::Idle(mut input) => {
                    let room = destination.remaining(&mut store).unwrap_or(IO_BYTES);
                    match input.read(room.min(IO_BYTES)) {
                        Ok(bytes) if bytes.is_empty() => reading.input = waiting(input),
                        Ok(bytes) => {
                            reading.input = Input::Idle(input);
                            give(store, destination, &bytes);
                            return Poll::Ready(Ok(StreamResult::Completed));
                        }
                        Err(StreamError::Closed) => return reading.end(Ok(())),
                        Err(StreamError::LastOperationFailed(error)) => {
                            return reading.end(Err(code(&error)));
                        }
                        Err(StreamError::Trap(error)) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }
}

/// Puts into the guest's memory what there is room for, which was asked before.
fn give<D>(
    store: StoreContextMut<'_, D>,
    destination: Destination<'_, u8, BytesMut>,
    bytes: &[u8],
) {
    let mut direct = destination.as_direct(store, bytes.len());
    let room = direct.remaining();
    let length = room.len().min(bytes.len());
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
    direct.mark_written(length);
}

/// The one that a guest writes.
struct Writing<E: Code> {
    output: Output,
    /// A piece was taken from the guest, which is not told of it yet.
    taken: bool,
    tell: Option<oneshot::Sender<Told<E>>>,
    work: Work,
}

enum Output {
    Idle(DynOutputStream),
    Waiting(BoxFuture<'static, DynOutputStream>),
    Gone,
}

impl<E: Code> Writing<E> {
    fn end(&mut self, told: Told<E>) -> Poll<wasmtime::Result<StreamResult>> {
        self.output = Output::Gone;
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(told);
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }

    /// Waits until `output` takes something. Ready with an end if there is one.
    fn wait(&mut self, mut output: DynOutputStream) {
        self.output = Output::Waiting(Box::pin(async move {
            output.ready().await;
            output
        }));
    }
}

/// How a stream that is written no more has ended.
async fn last<E: Code>(output: BoxFuture<'static, DynOutputStream>) -> Told<E> {
    match output.await.check_write() {
        Ok(_) => Ok(()),
        Err(StreamError::Closed) => Err(E::broken()),
        Err(StreamError::LastOperationFailed(error) | StreamError::Trap(error)) => {
            Err(code(&error))
        }
    }
}

impl<E: Code> Drop for Writing<E> {
    fn drop(&mut self) {
        let tell = self.tell.take();
        match mem::replace(&mut self.output, Output::Gone) {
            // What was taken is written though nobody waits for it.
            Output::Waiting(output) if self.taken => {
                self.work.spawn(async move {
                    let told = last(output).await;
                    tell.map(|tell| tell.send(told))
                });
            }
            _ => {
                let _ = tell.map(|tell| tell.send(Ok(())));
            }
        }
    }
}

impl<D, E: Code> StreamConsumer<D> for Writing<E> {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'_, D>,
        mut source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let writing = self.get_mut();
        loop {
            let mut output = match mem::replace(&mut writing.output, Output::Gone) {
                Output::Gone => return Poll::Ready(Ok(StreamResult::Dropped)),
                Output::Idle(output) => output,
                Output::Waiting(mut wait) => match wait.as_mut().poll(cx) {
                    Poll::Ready(output) => output,
                    Poll::Pending => {
                        writing.output = Output::Waiting(wait);
                        return match (finish, writing.taken) {
                            (false, _) => Poll::Pending,
                            (true, true) => Poll::Ready(Ok(StreamResult::Completed)),
                            (true, false) => Poll::Ready(Ok(StreamResult::Cancelled)),
                        };
                    }
                },
            };
            let room = match output.check_write() {
                Ok(room) => room,
                Err(StreamError::Closed) => return writing.end(Err(E::broken())),
                Err(StreamError::LastOperationFailed(error)) => {
                    return writing.end(Err(code(&error)));
                }
                Err(StreamError::Trap(error)) => return Poll::Ready(Err(error)),
            };
            if room == 0 {
                writing.wait(output);
                continue;
            }
            if mem::take(&mut writing.taken) {
                writing.output = Output::Idle(output);
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            let bytes = take(&mut store, &mut source, room);
            // A write of nothing asks whether there is room.
            if bytes.is_empty() {
                writing.output = Output::Idle(output);
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            match output.write(bytes) {
                Ok(()) => {
                    writing.taken = true;
                    writing.wait(output);
                }
                Err(StreamError::Closed) => return writing.end(Err(E::broken())),
                Err(StreamError::LastOperationFailed(error)) => {
                    return writing.end(Err(code(&error)));
                }
                Err(StreamError::Trap(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Takes from the guest's memory as much as there is room for.
fn take<D>(store: &mut StoreContextMut<'_, D>, source: &mut Source<'_, u8>, room: usize) -> Bytes {
    let mut direct = source.reborrow().as_direct(store.as_context_mut());
    let there = direct.remaining();
    let length = there.len().min(room).min(IO_BYTES);
    let bytes = Bytes::copy_from_slice(there.get(..length).unwrap_or_default());
    direct.mark_read(length);
    bytes
}
