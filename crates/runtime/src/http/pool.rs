//! The engine that instances come from which live for a request, and what it costs to have it.
//!
//! It is made when the first server starts: its slots are mapped beforehand, and a process that
//! serves nothing does without.

use std::sync::Arc;

use crate::engine::{self, Calls};
use crate::program::Programs;
use crate::room::{Needs, Promise, Room};
use crate::ticker::Ticker;

/// How many instances there may be at once in the process, the most first: fewer where there is
/// less address space, or fewer mappings.
const SLOTS: [u32; 4] = [512, 256, 64, 16];

/// Mappings of a slot: two for its stack, which is there beforehand, and four for a memory in use.
const MAPPINGS: u64 = 6;

/// See the module.
pub(crate) struct Pool {
    pub(crate) programs: Programs,
    pub(crate) ticker: Arc<Ticker>,
    _promise: Promise,
}

impl Pool {
    /// The largest that can be had; `None` if there is none.
    pub(crate) fn new(room: &Arc<Room>) -> Option<Pool> {
        SLOTS
            .into_iter()
            .find_map(|slots| match Pool::of(slots, room) {
                Ok(pool) => Some(pool),
                Err(why) => {
                    tracing::warn!(slots, why, "no pool of instances so large");
                    None
                }
            })
    }

    fn of(slots: u32, room: &Arc<Room>) -> Result<Pool, String> {
        let needs = Needs {
            mappings: u64::from(slots) * MAPPINGS,
            descriptors: 0,
        };
        let promise = room.promise(needs).map_err(|error| error.to_string())?;
        let made = engine::pooled(slots).and_then(|engine| {
            let ticker = Ticker::start(engine.clone())?;
            Ok((Programs::new(engine, Calls::Sequential)?, ticker))
        });
        let (programs, ticker) = made.map_err(|error| format!("{error:#}"))?;
        Ok(Pool {
            programs,
            ticker: Arc::new(ticker),
            _promise: promise,
        })
    }
}
