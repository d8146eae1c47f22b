//! Chance by question: the same seed and question give the same answer, whatever was asked before.

use std::hash::{Hash, Hasher};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// FNV-1a: `std`'s hasher may change between releases, and a seed is to keep its meaning.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A hash that is the same in each run.
pub(crate) fn hash(of: impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    of.hash(&mut hasher);
    hasher.finish()
}

/// Draws for one question.
pub(crate) struct Chance(SmallRng);

impl Chance {
    /// For a question of a seed.
    pub(crate) fn of(seed: u64, question: impl Hash) -> Chance {
        Chance(SmallRng::seed_from_u64(hash((seed, question))))
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// From `low` to below `high`; `low` if there is nothing between them.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        if low < high {
            self.0.random_range(low..high)
        } else {
            low
        }
    }

    /// Below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.between(0, i64::from(bound))).unwrap_or_default()
    }

    /// One of them.
    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, all: [T; N], otherwise: T) -> T {
        let place = usize::try_from(self.below(u32::try_from(N).unwrap_or_default()));
        place
            .ok()
            .and_then(|place| all.get(place).copied())
            .unwrap_or(otherwise)
    }
}
