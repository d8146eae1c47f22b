//! Figures of a series: what was seen, sorted, and how it is printed.

use std::fmt;
use std::time::Duration;

/// A series of durations.
#[derive(Clone, Debug, Default)]
pub struct Series {
    sorted: Vec<Duration>,
}

impl Series {
    /// Of what was measured, in any order.
    pub fn of(mut seen: Vec<Duration>) -> Series {
        seen.sort_unstable();
        Series { sorted: seen }
    }

    /// The smallest value that at least `percent` of all are not above.
    pub fn percentile(&self, percent: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = (percent / 100.0 * self.sorted.len() as f64).ceil() as usize;
        self.sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// The median.
    pub fn median(&self) -> Duration {
        self.percentile(50.0)
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// How many times the other's median ours is.
    pub fn ratio(&self, other: &Series) -> f64 {
        self.median().as_secs_f64() / other.median().as_secs_f64()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {:>9.3?}  median {:>9.3?}  p99 {:>9.3?}  max {:>9.3?}  (n={})",
            self.sorted.first().copied().unwrap_or_default(),
            self.median(),
            self.percentile(99.0),
            self.max(),
            self.sorted.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let series = Series::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(series.median(), Duration::from_millis(50));
        assert_eq!(series.percentile(99.0), Duration::from_millis(99));
        assert_eq!(series.max(), Duration::from_millis(100));
        assert_eq!(Series::default().median(), Duration::ZERO);
    }
}
