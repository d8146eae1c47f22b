//! What a process has of what no limit of a container bounds: memory mappings and descriptors.
//!
//! The kernel refuses a mapping too many not to the guest that asks but to whoever comes next,
//! the allocator among them, and the process hangs. So each guest's are promised before it starts,
//! well below the limit, and a guest too many is refused.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

use crate::spec::{HostBudget, StartError, Usage};

/// Mappings kept for threads, the allocator and loaded modules: a blocking thread has four.
const SPARE_MAPPINGS: u64 = 4096;

/// Descriptors kept for the process itself and for what guests open while they run, as a part of all.
const SPARE_DESCRIPTORS: u64 = 10;

/// Linux' default, where `/proc` can't be read.
const MAX_MAP_COUNT: u64 = 65_530;

/// A container that has fewer descriptors open than this is no hoarder.
const MODEST: u64 = 64;

/// The part of all descriptors that hoarders can have together.
const HOARDED: u64 = 2;

/// The part of all descriptors that is left to starts, however many others are open.
const FOR_STARTS: u64 = 8;

/// One kind of thing there are so many of.
struct Pool {
    resource: &'static str,
    advice: &'static str,
    used: AtomicU64,
    max: u64,
}

impl Pool {
    /// Takes one, if then no more than `bound` are taken.
    fn take_one(&self, bound: u64) -> bool {
        let fits = |used: u64| (used < bound).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok()
    }

    fn take(&self, wanted: u64) -> Result<(), StartError> {
        let fits = |used: u64| used.checked_add(wanted).filter(|sum| *sum <= self.max);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(drop)
            .map_err(|used| StartError::Budget {
                resource: self.resource.to_owned(),
                used,
                wanted,
                max: self.max,
                advice: self.advice.to_owned(),
            })
    }

    fn give(&self, count: u64) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    fn usage(&self) -> Usage {
        Usage {
            used: self.used.load(Ordering::Relaxed),
            max: self.max,
        }
    }
}

/// What one guest needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) mappings: u64,
    pub(crate) descriptors: u64,
}

/// The room of this process.
pub(crate) struct Room {
    mappings: Pool,
    descriptors: Pool,
}

impl Room {
    /// What the machine lets this process have, less what it has and a reserve.
    pub(crate) fn of_this_process() -> Room {
        let maps = fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let mapped =
            fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count() as u64);
        let limit = getrlimit(Resource::Nofile)
            .current
            .unwrap_or(u64::from(u32::MAX));
        let open = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
        Room::new(
            maps.unwrap_or(MAX_MAP_COUNT)
                .saturating_sub(mapped + SPARE_MAPPINGS),
            (limit - limit / SPARE_DESCRIPTORS).saturating_sub(open),
        )
    }

    pub(crate) fn new(mappings: u64, descriptors: u64) -> Room {
        Room {
            mappings: Pool {
                resource: "mappings",
                advice: "raise the sysctl vm.max_map_count",
                used: AtomicU64::new(0),
                max: mappings,
            },
            descriptors: Pool {
                resource: "descriptors",
                advice: "raise the limit of open files (ulimit -n, or LimitNOFILE= of the service)",
                used: AtomicU64::new(0),
                max: descriptors,
            },
        }
    }

    /// Promises a guest what it needs, until the answer is dropped.
    ///
    /// # Errors
    /// [`StartError::Budget`]
    pub(crate) fn promise(self: &Arc<Room>, needs: Needs) -> Result<Promise, StartError> {
        self.mappings.take(needs.mappings)?;
        if let Err(error) = self.descriptors.take(needs.descriptors) {
            self.mappings.give(needs.mappings);
            return Err(error);
        }
        Ok(Promise {
            room: Arc::clone(self),
            needs,
        })
    }

    /// How much of it is promised to so many guests.
    pub(crate) fn budget(&self, guests: u64) -> HostBudget {
        HostBudget {
            guests,
            mappings: self.mappings.usage(),
            descriptors: self.descriptors.usage(),
        }
    }
}

/// A guest's part of the room.
pub(crate) struct Promise {
    room: Arc<Room>,
    needs: Needs,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.room.mappings.give(self.needs.mappings);
        self.room.descriptors.give(self.needs.descriptors);
    }
}

/// What the guests of one container open as they run. Who hoards is refused while there is still
/// much left for who does not, and for guests to come.
pub(crate) struct Opened {
    room: Arc<Room>,
    open: AtomicU64,
}

impl Opened {
    pub(crate) fn new(room: &Arc<Room>) -> Opened {
        Opened {
            room: Arc::clone(room),
            open: AtomicU64::new(0),
        }
    }
}

impl wasi_host::Descriptors for Opened {
    fn take(&self) -> bool {
        let pool = &self.room.descriptors;
        let bound = match self.open.fetch_add(1, Ordering::Relaxed) {
            ..MODEST => pool.max - pool.max / FOR_STARTS,
            _ => pool.max / HOARDED,
        };
        let taken = pool.take_one(bound);
        if !taken {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn give(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.room.descriptors.give(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn one_too_many_is_told_what_is_short_and_takes_nothing() {
        let room = Arc::new(Room::new(20, 4));
        let needs = Needs {
            mappings: 7,
            descriptors: 3,
        };
        let first = room.promise(needs).unwrap();
        let Err(error) = room.promise(needs) else {
            panic!("there is no room")
        };
        assert_eq!(
            error.to_string(),
            "the guest host has 3 of 4 descriptors in use and this guest needs 3 more: \
             raise the limit of open files (ulimit -n, or LimitNOFILE= of the service)"
        );
        assert_eq!(room.budget(1).mappings, Usage { used: 7, max: 20 });
        drop(first);
        assert_eq!(room.budget(0).descriptors.used, 0);
        room.promise(needs).unwrap();
    }

    #[test]
    fn hoarders_have_half_and_leave_room_for_others_and_for_starts() {
        use wasi_host::Descriptors;
        let room = Arc::new(Room::new(1000, 1000));
        let fill = |container: &Opened| (0..).take_while(|_| container.take()).count();
        let hoarders = [Opened::new(&room), Opened::new(&room)];
        assert_eq!(fill(&hoarders[0]), 500);
        // The second is no hoarder until it is one.
        assert_eq!(fill(&hoarders[1]), 64);
        let modest = Opened::new(&room);
        assert!((0..60).all(|_| modest.take()));
        let needs = Needs {
            mappings: 1,
            descriptors: 300,
        };
        let started = room.promise(needs).unwrap();
        assert!(!Opened::new(&room).take(), "what is left is for starts");
        drop(started);
        for _ in 0..500 {
            hoarders[0].give();
        }
        assert_eq!(fill(&modest), 500 - 64 - 60);
    }

    #[test]
    fn this_process_has_some() {
        let budget = Room::of_this_process().budget(0);
        assert!(budget.mappings.max > 0 && budget.descriptors.max > 0);
    }
}
