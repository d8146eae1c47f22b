//! A folder's entries as a stream, read in batches that are charged.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::component::{
    Destination, FutureReader, StreamProducer, StreamReader, StreamResult, VecBuffer,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::p3::bindings::filesystem::types::{DirectoryEntry, ErrorCode};

use super::convert;
use super::pipe::{Readable, Told};
use crate::fs::{Dir, DirEntry, Errno, OpenOptions, Opened, Root};
use crate::held::Held;
use crate::p2::Work;

/// How many entries are given at once where nobody says how many are wanted.
const AT_ONCE: usize = 64;

/// A listing under way.
pub(super) struct Listing {
    /// A descriptor of its own, once it is open, so that two listings of one folder don't move
    /// each other on.
    own: Option<Dir>,
    given: Dir,
    root: Root,
    work: Work,
    cookie: u64,
    read: VecDeque<DirEntry>,
    held: Option<Held>,
}

impl Listing {
    pub(super) fn new(dir: Dir, root: Root, work: Work) -> Listing {
        Listing {
            own: None,
            given: dir,
            root,
            work,
            cookie: 0,
            read: VecDeque::new(),
            held: None,
        }
    }

    /// Reads the next batch; an empty one is the end.
    async fn fill(&mut self) -> Result<(), Errno> {
        // What was held for the batch before goes first.
        self.held = None;
        let (own, given) = (self.own.take(), self.given.clone());
        let (root, cookie) = (self.root.clone(), self.cookie);
        let done = self.work.blocking.run(move || {
            let dir = match own {
                Some(dir) => dir,
                None => open(&root, &given)?,
            };
            let batch = dir.entries(cookie)?;
            Ok((dir, batch))
        });
        let (dir, batch) = done.await.map_err(|_| Errno::IO)??;
        let bytes = batch.iter().map(|e| size_of::<DirEntry>() + e.name.len());
        self.held = Some(self.work.charge.hold(bytes.sum(), "a listing")?);
        self.own = Some(dir);
        self.read = batch.into();
        Ok(())
    }

    /// Takes some of what was read.
    fn take(&mut self, most: usize) -> Result<Vec<DirectoryEntry>, Errno> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(entry) = self.read.pop_front()
        {
            self.cookie = entry.next;
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            taken.push(DirectoryEntry {
                type_: convert::kind(entry.kind),
                name: String::from_utf8(entry.name).map_err(|_| Errno::ILSEQ)?,
            });
        }
        Ok(taken)
    }
}

fn open(root: &Root, dir: &Dir) -> Result<Dir, Errno> {
    let options = OpenOptions {
        read: true,
        directory: true,
        ..OpenOptions::default()
    };
    match root.open(dir, ".".as_ref(), options)? {
        Opened::Dir(dir) => Ok(dir),
        Opened::File(_) => Err(Errno::NOTDIR),
    }
}

/// A listing as a guest reads it.
pub(super) fn stream(
    mut store: impl AsContextMut,
    listing: Listing,
) -> wasmtime::Result<Readable<ErrorCode, DirectoryEntry>> {
    let (tell, told) = oneshot::channel();
    let producer = Entries {
        state: State::Idle(Box::new(listing)),
        tell: Some(tell),
    };
    Ok((
        StreamReader::new(&mut store, producer)?,
        FutureReader::new(&mut store, told)?,
    ))
}

type Filled = (Box<Listing>, Result<(), Errno>);

enum State {
    Idle(Box<Listing>),
    Filling(BoxFuture<'static, Filled>),
    Gone,
}

struct Entries {
    state: State,
    tell: Option<oneshot::Sender<Told<ErrorCode>>>,
}

impl Entries {
    fn end(&mut self, told: Result<(), Errno>) -> Poll<wasmtime::Result<StreamResult>> {
        self.state = State::Gone;
        if let Some(tell) = self.tell.take() {
            // Who dropped the future does not want to know.
            let _ = tell.send(told.map_err(convert::code));
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        let _ = self.end(Ok(()));
    }
}

impl<D> StreamProducer<D> for Entries {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let entries = self.get_mut();
        let wanted = destination.remaining(&mut store).unwrap_or(AT_ONCE);
        // A read of nothing asks whether there is something: a folder always answers soon.
        if wanted == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            match mem::replace(&mut entries.state, State::Gone) {
                State::Gone => return Poll::Ready(Ok(StreamResult::Dropped)),
                State::Filling(mut filling) => match filling.as_mut().poll(cx) {
                    Poll::Ready((_, Err(errno))) => return entries.end(Err(errno)),
                    Poll::Ready((listing, Ok(()))) if listing.read.is_empty() => {
                        return entries.end(Ok(()));
                    }
                    Poll::Ready((listing, Ok(()))) => entries.state = State::Idle(listing),
                    Poll::Pending => {
                        // What it reads is kept for the next.
                        entries.state = State::Filling(filling);
                        return match finish {
                            true => Poll::Ready(Ok(StreamResult::Cancelled)),
                            false => Poll::Pending,
                        };
                    }
                },
                State::Idle(mut listing) => match listing.take(wanted) {
                    Err(errno) => return entries.end(Err(errno)),
                    Ok(taken) if taken.is_empty() => {
                        entries.state = State::Filling(Box::pin(async move {
                            let filled = listing.fill().await;
                            (listing, filled)
                        }));
                    }
                    Ok(taken) => {
                        entries.state = State::Idle(listing);
                        destination.set_buffer(taken.into());
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                },
            }
        }
    }
}
