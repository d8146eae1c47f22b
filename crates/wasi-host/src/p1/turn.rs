//! Letting others have a turn.

use std::future::poll_fn;
use std::task::Poll;

/// Gives up the rest of this turn, once. Never by way of the runtime's own `yield_now`, which
/// defers the wake-up and starves guests when the runtime takes one task a turn.
pub(super) async fn end() {
    let mut ended = false;
    poll_fn(|cx| {
        if ended {
            return Poll::Ready(());
        }
        ended = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
