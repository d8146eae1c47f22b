//! The stacks that guests run on: mappings of our own, so that what a guest has touched of its
//! stack can be charged to its container.
//!
//! A stack belongs to the container in whose turn it is made (see [`crate::turn`]). Wasm frames
//! probe every page that they span and the host's frames are small, so the touched part is one
//! piece that ends at the top, and grows only downwards.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use wasmtime::{StackCreator, StackMemory};

use crate::budget::Memory;
use crate::execs::MAX_EXECS;
use crate::turn;

/// How many pages are looked at by one call.
const WINDOW: usize = 16;

/// How many stacks the concurrent calls of a container may have beside one an instance and exec.
pub(crate) const CALL_STACKS: u32 = 64;

/// A container has too many calls under way.
#[derive(Debug, thiserror::Error)]
#[error("{0} calls are under way, the most that the container may have at once")]
pub(crate) struct TooManyStacks(pub(crate) usize);

/// How many stacks a container may have whose main guest is so many instances.
pub(crate) fn stacks_of(instances: u32) -> usize {
    let all = u64::from(instances) + u64::from(MAX_EXECS) + u64::from(CALL_STACKS);
    usize::try_from(all).unwrap_or(usize::MAX)
}

/// Makes stacks.
pub(crate) struct Stacks;

// SAFETY: a stack is a private mapping with a guard page below it, page aligned, zero filled, and
// nothing but the engine touches it until it is dropped.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let memory = turn::memory();
        let extent = Arc::new(Extent::map(size)?);
        if let Some(memory) = &memory {
            memory.add_stack(&extent)?;
        }
        Ok(Box::new(Stack {
            extent,
            memory: memory.map(|m| Arc::downgrade(&m)),
        }))
    }
}

/// One stack, as the engine holds it.
struct Stack {
    extent: Arc<Extent>,
    memory: Option<Weak<Memory>>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.as_ref().and_then(Weak::upgrade) {
            memory.remove_stack(&self.extent);
        }
    }
}

// SAFETY: the ranges are those of the mapping, which lives as long as `self.extent`.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.extent.top() as *mut u8
    }

    fn range(&self) -> Range<usize> {
        self.extent.bottom()..self.extent.top()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        self.extent.base as *mut u8..self.extent.bottom() as *mut u8
    }
}

/// A mapping: a guard page, then the stack.
pub(crate) struct Extent {
    base: usize,
    len: usize,
    page: usize,
    /// The lowest address known to be touched.
    low: AtomicUsize,
}

impl Extent {
    fn map(size: usize) -> std::io::Result<Extent> {
        let page = rustix::param::page_size();
        let len = size
            .checked_next_multiple_of(page)
            .and_then(|size| size.checked_add(page))
            .ok_or(rustix::io::Errno::INVAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let base = base as usize;
        let extent = Extent {
            base,
            len,
            page,
            low: AtomicUsize::new(base + len),
        };
        // SAFETY: the range lies within the mapping just made.
        unsafe {
            rustix::mm::mprotect(
                (base + page) as *mut c_void,
                len - page,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }?;
        // A huge page would make the first frame cost 2 MiB; without the advice's support there are none.
        // SAFETY: as above; the advice does not change what the memory holds.
        let _ = unsafe {
            rustix::mm::madvise(
                (base + page) as *mut c_void,
                len - page,
                Advice::LinuxNoHugepage,
            )
        };
        Ok(extent)
    }

    fn bottom(&self) -> usize {
        self.base + self.page
    }

    fn top(&self) -> usize {
        self.base + self.len
    }

    /// Bytes of the stack that were ever touched.
    pub(crate) fn touched(&self) -> u64 {
        let mut low = self.low.load(Ordering::Relaxed);
        while low > self.bottom() {
            let from = low.saturating_sub(WINDOW * self.page).max(self.bottom());
            let resident = self.resident_at_end(from, low);
            low -= resident * self.page;
            if low > from {
                break;
            }
        }
        self.low.fetch_min(low, Ordering::Relaxed);
        (self.top() - low) as u64
    }

    /// How many pages in an unbroken row, up to `to`, are in memory. At most [`WINDOW`] are asked for.
    fn resident_at_end(&self, from: usize, to: usize) -> usize {
        let mut map = [0u8; WINDOW];
        // SAFETY: the range lies within the mapping, and `map` has a byte for each of its pages.
        let failed =
            unsafe { libc::mincore(from as *mut c_void, to - from, map.as_mut_ptr()) } != 0;
        if failed {
            return 0;
        }
        let pages = (to - from) / self.page;
        map.iter()
            .take(pages)
            .rev()
            .take_while(|page| **page & 1 == 1)
            .count()
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and nobody holds the stack any more.
        let unmapped = unsafe { rustix::mm::munmap(self.base as *mut c_void, self.len) };
        debug_assert!(unmapped.is_ok(), "a stack's mapping is whole");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn only_touched_pages_count_and_stay_counted() {
        let extent = Extent::map(1 << 20).unwrap();
        assert_eq!(extent.touched(), 0);
        for page in 1..=40 {
            let at = (extent.top() - page * extent.page) as *mut u8;
            // SAFETY: within the stack's writable part.
            unsafe { at.write_volatile(1) };
        }
        assert_eq!(extent.touched(), 40 * extent.page as u64);
        assert_eq!(extent.touched(), 40 * extent.page as u64);
    }

    #[test]
    fn a_stack_that_is_all_touched_ends_at_its_guard() {
        let extent = Extent::map(64 << 10).unwrap();
        for at in (extent.bottom()..extent.top()).step_by(extent.page) {
            // SAFETY: within the stack's writable part.
            unsafe { (at as *mut u8).write_volatile(1) };
        }
        assert_eq!(extent.touched(), 64 << 10);
    }

    #[test]
    fn a_container_has_as_many_stacks_as_it_was_promised() {
        let memory = Memory::new(None);
        memory.expect_instances(2);
        let stacks: Vec<_> = (0..2 + MAX_EXECS + CALL_STACKS)
            .map(|_| Arc::new(Extent::map(64 << 10).unwrap()))
            .collect();
        for stack in &stacks {
            memory.add_stack(stack).unwrap();
        }
        let more = Arc::new(Extent::map(64 << 10).unwrap());
        assert!(memory.add_stack(&more).is_err());
        memory.remove_stack(&stacks[0]);
        memory.add_stack(&more).unwrap();
    }
}
