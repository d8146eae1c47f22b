//! What the node is told to hold to: thresholds of evictions, of image collection, and the order of a
//! shutdown. The defaults are the kubelet's (`pkg/kubelet/apis/config/v1beta1/defaults.go`,
//! `pkg/kubelet/eviction/defaults_linux.go`).

use jiff::SignedDuration;

use super::usage::{Level, Signal};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When pods have to go.
    pub thresholds: Vec<Threshold>,
    /// A condition of the Node stays for so long after its cause (`evictionPressureTransitionPeriod`).
    pub pressure_transition: SignedDuration,
    /// The most grace of a pod that goes for a soft threshold, seconds (`evictionMaxPodGracePeriod`).
    pub max_pod_grace: u32,
    /// When images that nobody uses go; `None`: never, unless disk is short.
    pub images: Option<ImagePolicy>,
}

/// When the node is short of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// It is short with less than that available.
    pub value: Amount,
    /// For so long it may be; zero makes a hard threshold.
    pub grace: SignedDuration,
    /// So much more has to be available before it is no longer short (`evictionMinimumReclaim`).
    pub reclaim: Option<Amount>,
}

/// So much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes, inodes, numbers.
    Quantity(u64),
    /// Millionths of the capacity.
    Part(u32),
}

/// When images that nobody uses go: `pkg/kubelet/images/image_gc_manager.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Percent of the disk in use from which on they do.
    pub high: u8,
    /// Percent of the disk in use down to which they do.
    pub low: u8,
    /// None that was first seen less than that ago.
    pub min_age: SignedDuration,
    /// Each that was not used for longer than that, whatever is free; zero: none for that.
    pub max_age: SignedDuration,
}

/// How long the pods of a priority, or more, may take when the node shuts down
/// (`ShutdownGracePeriodByPodPriority`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// From this priority on.
    pub priority: i32,
    /// Seconds.
    pub seconds: u32,
}

impl Default for Policy {
    /// Nobody goes, whatever is short.
    fn default() -> Policy {
        Policy {
            thresholds: Vec::new(),
            pressure_transition: SignedDuration::from_mins(5),
            max_pod_grace: 0,
            images: None,
        }
    }
}

impl Default for ImagePolicy {
    fn default() -> ImagePolicy {
        ImagePolicy {
            high: 85,
            low: 80,
            min_age: SignedDuration::from_mins(2),
            max_age: SignedDuration::ZERO,
        }
    }
}

impl Amount {
    /// Of that capacity.
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Quantity(amount) => amount,
            Amount::Part(millionths) => {
                let part = u128::from(capacity) * u128::from(millionths) / 1_000_000;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Threshold {
    /// A hard one.
    pub fn hard(signal: Signal, value: Amount) -> Threshold {
        Threshold {
            signal,
            value,
            grace: SignedDuration::ZERO,
            reclaim: None,
        }
    }

    pub(super) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }

    /// `thresholdsMet`; `fully` asks for what is to be reclaimed on top, too.
    pub(super) fn is_met(&self, level: &Level, fully: bool) -> bool {
        let more = self
            .reclaim
            .filter(|_| fully)
            .map(|it| it.of(level.capacity));
        let wanted = self.value.of(level.capacity);
        wanted.saturating_add(more.unwrap_or_default()) > level.available
    }
}
