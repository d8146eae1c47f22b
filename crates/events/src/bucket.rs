//! A bucket that refills with time.

use std::time::Duration;

use jiff::Timestamp;

/// So many at once, and so many a second after that.
#[derive(Clone, Debug)]
pub struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    at: Timestamp,
}

impl Bucket {
    /// One that is full now.
    pub fn full(size: f64, per_second: f64, now: Timestamp) -> Bucket {
        Bucket {
            size,
            per_second,
            level: size,
            at: now,
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.at = now;
        self.level = (self.level + passed * self.per_second).min(self.size);
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.level) / self.per_second,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn says_how_long_to_wait() {
        let mut bucket = Bucket::full(1.0, 50.0, at(5));
        assert_eq!(bucket.take(at(5)), Ok(()));
        assert_eq!(bucket.take(at(5)), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(at(3)), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(at(6)), Ok(()));
    }
}
