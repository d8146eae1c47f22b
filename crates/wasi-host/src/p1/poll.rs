//! `poll_oneoff`: waiting for clocks and descriptors, without a thread and without spinning.

use super::clock::realtime;
use super::table::{Descriptor, OpenFile};
use super::types::{
    Clockid, Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Fd, Size, Subclockflags,
    Subscription, SubscriptionClock, SubscriptionU,
};
use super::{Ctx, Result};
use crate::fs::SeekFrom;
use futures::future::{BoxFuture, FutureExt, select_all};
use rustix::event::PollFlags;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::Instant;
use wiggle::{GuestMemory, GuestPtr};

/// The most subscriptions of one call; `EINVAL` past it.
const SUBSCRIPTIONS: Size = 4096;

/// How long a wait for a time of day may go on before the clock is looked at anew: it may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How one subscription stands.
enum State {
    Ready(Event),
    /// Ready at this time, if time goes that far.
    At(Option<Instant>),
    /// Ready when this is done.
    When(BoxFuture<'static, ()>),
}

impl Ctx {
    pub(super) async fn poll(
        &self,
        memory: &mut GuestMemory<'_>,
        subscriptions: GuestPtr<Subscription>,
        events: GuestPtr<Event>,
        count: Size,
    ) -> Result<Size> {
        if count == 0 || count > SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        let subscriptions = (0..count)
            .map(|at| Ok(memory.read(subscriptions.add(at)?)?))
            .collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        loop {
            let (mut ready, mut until, mut waits) = (Vec::new(), None, Vec::new());
            for subscription in &subscriptions {
                match self.state(subscription, begun).await? {
                    State::Ready(event) => ready.push(event),
                    State::At(at) => until = earlier(until, at),
                    State::When(wait) => waits.push(wait),
                }
            }
            if !ready.is_empty() {
                let count = Size::try_from(ready.len()).map_err(|_| Errno::Overflow)?;
                for (at, event) in (0..).zip(ready) {
                    memory.write(events.add(at)?, event)?;
                }
                return Ok(count);
            }
            wait(until, waits).await;
        }
    }

    async fn state(&self, subscription: &Subscription, begun: Instant) -> Result<State> {
        let event = |kind, error, fd_readwrite| {
            let userdata = subscription.userdata;
            State::Ready(Event {
                userdata,
                error,
                type_: kind,
                fd_readwrite,
            })
        };
        let none = || EventFdReadwrite {
            nbytes: 0,
            flags: Eventrwflags::empty(),
        };
        Ok(match &subscription.u {
            SubscriptionU::Clock(clock) => match self.deadline(clock, begun) {
                Err(error) => event(Eventtype::Clock, error, none()),
                Ok(Some(at)) if at <= Instant::now() => {
                    event(Eventtype::Clock, Errno::Success, none())
                }
                Ok(at) => State::At(at.map(|at| match clock.id {
                    Clockid::Realtime => at.min(Instant::now() + LOOK_AGAIN),
                    _ => at,
                })),
            },
            SubscriptionU::FdRead(fd) => match self.readable(fd.file_descriptor).await {
                Readiness::Bad(error) => event(Eventtype::FdRead, error, none()),
                Readiness::Bytes(nbytes, flags) => event(
                    Eventtype::FdRead,
                    Errno::Success,
                    EventFdReadwrite { nbytes, flags },
                ),
                Readiness::Wait(wait) => State::When(wait),
            },
            SubscriptionU::FdWrite(fd) => match self.writable(fd.file_descriptor) {
                Readiness::Bad(error) => event(Eventtype::FdWrite, error, none()),
                Readiness::Bytes(nbytes, flags) => event(
                    Eventtype::FdWrite,
                    Errno::Success,
                    EventFdReadwrite { nbytes, flags },
                ),
                Readiness::Wait(wait) => State::When(wait),
            },
        })
    }

    /// When `clock` rings; never if that is past all time.
    fn deadline(
        &self,
        clock: &SubscriptionClock,
        begun: Instant,
    ) -> Result<Option<Instant>, Errno> {
        let time = Duration::from_nanos(clock.timeout);
        let is_absolute = clock
            .flags
            .contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
        match clock.id {
            Clockid::Realtime if is_absolute => {
                let left = clock.timeout.saturating_sub(realtime());
                Ok(Instant::now().checked_add(Duration::from_nanos(left)))
            }
            Clockid::Monotonic if is_absolute => {
                Ok(Instant::from_std(self.started).checked_add(time))
            }
            Clockid::Realtime | Clockid::Monotonic => Ok(begun.checked_add(time)),
            // A guest that waits takes no CPU time: it would wait for ever.
            Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => Err(Errno::Notsup),
        }
    }

    async fn readable(&self, fd: Fd) -> Readiness {
        match self.table.get(fd) {
            Err(_) => Readiness::Bad(Errno::Badf),
            Ok(Descriptor::Stdin { stdin, .. }) => {
                if stdin.is_ready_now() {
                    return bytes(stdin.available());
                }
                let stdin = stdin.clone();
                Readiness::Wait(async move { stdin.ready().await }.boxed())
            }
            Ok(Descriptor::File(OpenFile { file, .. })) => {
                let file = file.clone();
                let blocking = self.blocking();
                let left = blocking.run(move || {
                    let position = file.seek(SeekFrom::Current(0))?;
                    Ok(file.stat()?.size.saturating_sub(position))
                });
                match left.await.unwrap_or(Err(crate::fs::Errno::IO)) {
                    Ok(left) => Readiness::Bytes(left, Eventrwflags::empty()),
                    Err(errno) => Readiness::Bad(errno.into()),
                }
            }
            Ok(Descriptor::Socket { socket: host, .. }) => {
                if host.is_ready_now(PollFlags::IN) {
                    return bytes(rustix::io::ioctl_fionread(&**host).unwrap_or(0));
                }
                let host = Arc::clone(host);
                Readiness::Wait(
                    async move { host.wait(Interest::READABLE, PollFlags::IN).await }.boxed(),
                )
            }
            Ok(Descriptor::Listener { listener, .. }) => {
                if listener.is_ready_now(PollFlags::IN) {
                    return Readiness::Bytes(1, Eventrwflags::empty());
                }
                let listener = Arc::clone(listener);
                Readiness::Wait(
                    async move { listener.wait(Interest::READABLE, PollFlags::IN).await }.boxed(),
                )
            }
            Ok(Descriptor::Dir { .. } | Descriptor::Out { .. }) => Readiness::Bad(Errno::Badf),
        }
    }

    fn writable(&self, fd: Fd) -> Readiness {
        // How much room there is nobody knows before a write.
        let ready = || Readiness::Bytes(1, Eventrwflags::empty());
        match self.table.get(fd) {
            Ok(Descriptor::Out { sink, .. }) => {
                if sink.is_ready_now() {
                    return ready();
                }
                let sink = Arc::clone(sink);
                Readiness::Wait(async move { sink.ready().await }.boxed())
            }
            Ok(Descriptor::Socket { socket, .. }) => {
                if socket.is_ready_now(PollFlags::OUT) {
                    return ready();
                }
                let socket = Arc::clone(socket);
                Readiness::Wait(
                    async move { socket.wait(Interest::WRITABLE, PollFlags::OUT).await }.boxed(),
                )
            }
            Ok(Descriptor::File(_)) => ready(),
            Ok(_) | Err(_) => Readiness::Bad(Errno::Badf),
        }
    }
}

/// How a descriptor stands.
enum Readiness {
    Bad(Errno),
    Bytes(u64, Eventrwflags),
    Wait(BoxFuture<'static, ()>),
}

/// Ready with nothing to read is the other side's end.
fn bytes(available: u64) -> Readiness {
    let flags = match available {
        0 => Eventrwflags::FD_READWRITE_HANGUP,
        _ => Eventrwflags::empty(),
    };
    Readiness::Bytes(available, flags)
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Until the time comes or something is done; for ever if there is neither.
async fn wait(until: Option<Instant>, mut waits: Vec<BoxFuture<'static, ()>>) {
    if let Some(until) = until {
        waits.push(tokio::time::sleep_until(until).boxed());
    }
    if waits.is_empty() {
        waits.push(std::future::pending().boxed());
    }
    select_all(waits).await;
}
