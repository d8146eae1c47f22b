//! What the node's decisions hold to, of a configuration that makes sense
//! (`ParseThresholdConfig` of `pkg/kubelet/eviction/helpers.go`).

use std::collections::BTreeMap;

use jiff::SignedDuration;
use lifecycle::node::{Amount, ImagePolicy, Period, Policy, Signal, Threshold};

use super::config::{self, NodeConfig, Span};

/// `SystemCriticalPriority` of `pkg/apis/scheduling`.
const CRITICAL: i32 = 2_000_000_000;

const SIGNALS: [(&str, Signal); 6] = [
    ("memory.available", Signal::MemoryAvailable),
    ("nodefs.available", Signal::NodeFsAvailable),
    ("nodefs.inodesFree", Signal::NodeFsInodesFree),
    ("imagefs.available", Signal::ImageFsAvailable),
    ("imagefs.inodesFree", Signal::ImageFsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

/// See the module.
pub(super) fn of(config: &NodeConfig) -> Policy {
    let mut thresholds: Vec<Threshold> = Vec::new();
    for (signal, value) in amounts(&config.eviction_hard) {
        thresholds.push(Threshold::hard(signal, value));
    }
    let soft = amounts(&config.eviction_soft);
    let times = &config.eviction_soft_grace_period;
    for (name, signal) in SIGNALS {
        let time = times.get(name).and_then(|text| text.parse::<Span>().ok());
        if let (Some(value), Some(time)) = (soft.get(&signal), time) {
            thresholds.push(Threshold {
                grace: signed(time),
                ..Threshold::hard(signal, *value)
            });
        }
    }
    let reclaim = amounts(&config.eviction_minimum_reclaim);
    for threshold in &mut thresholds {
        threshold.reclaim = reclaim.get(&threshold.signal).copied();
    }
    // Pods' share is as short of memory as the machine is (`addAllocatableThresholds`).
    let memory = thresholds.iter().find(|one| is_hard_memory(one)).cloned();
    thresholds.extend(memory.map(|one| Threshold {
        signal: Signal::AllocatableMemoryAvailable,
        ..one
    }));
    Policy {
        thresholds,
        pressure_transition: signed(config.eviction_pressure_transition_period),
        max_pod_grace: config.eviction_max_pod_grace_period,
        images: Some(ImagePolicy {
            high: config.image_gc_high_threshold_percent,
            low: config.image_gc_low_threshold_percent,
            min_age: signed(config.image_minimum_gc_age),
            max_age: signed(config.image_maximum_gc_age),
        }),
    }
}

fn is_hard_memory(one: &Threshold) -> bool {
    one.signal == Signal::MemoryAvailable && one.grace.is_zero()
}

/// The times of a shutdown, the lowest priority first; `None`: guests go on (`migrateConfig`).
pub(super) fn shutdown(config: &NodeConfig) -> Option<Vec<Period>> {
    let all = config.shutdown_grace_period.0.as_secs();
    let critical = config.shutdown_grace_period_critical_pods.0.as_secs();
    let period = |priority, seconds| Period {
        priority,
        seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
    };
    let rest = all.saturating_sub(critical);
    (all > 0).then(|| vec![period(0, rest), period(CRITICAL, critical)])
}

/// Bytes that guests may have together before less than the hard threshold is left of their share,
/// which is what pods may ask for (`GetNodeAllocatableReservation` of `pkg/kubelet/cm`).
pub(super) fn share(policy: &Policy, allocatable: u64) -> u64 {
    let hard = policy.thresholds.iter().find(|one| is_hard_memory(one));
    allocatable.saturating_add(hard.map_or(0, |one| one.value.of(allocatable)))
}

/// 0 % and 100 % are no thresholds (`parseThresholdStatement`).
fn amounts(texts: &BTreeMap<String, String>) -> BTreeMap<Signal, Amount> {
    let amount = |name: &str| {
        let text = texts.get(name)?;
        match config::Threshold::parse(text)? {
            config::Threshold::Amount(amount) => Some(Amount::Quantity(amount)),
            config::Threshold::Share(share) if share > 0.0 && share < 1.0 => {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let millionths = (share * 1_000_000.0).round() as u32;
                Some(Amount::Part(millionths))
            }
            config::Threshold::Share(_) => None,
        }
    };
    SIGNALS
        .into_iter()
        .filter_map(|(name, signal)| Some((signal, amount(name)?)))
        .collect()
}

fn signed(span: Span) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_defaults_are_the_kubelets() {
        let policy = of(&NodeConfig::default());
        let all: Vec<_> = policy
            .thresholds
            .iter()
            .map(|one| (one.signal, one.value))
            .collect();
        let memory = Amount::Quantity(100 << 20);
        let expected = [
            (Signal::MemoryAvailable, memory),
            (Signal::NodeFsAvailable, Amount::Part(100_000)),
            (Signal::NodeFsInodesFree, Amount::Part(50_000)),
            (Signal::ImageFsAvailable, Amount::Part(150_000)),
            (Signal::ImageFsInodesFree, Amount::Part(50_000)),
            (Signal::AllocatableMemoryAvailable, memory),
        ];
        assert_eq!(all, expected);
        assert!(policy.thresholds.iter().all(|one| one.grace.is_zero()));
        assert_eq!(policy.images, Some(ImagePolicy::default()));
        assert_eq!(policy.pressure_transition, SignedDuration::from_mins(5));
        assert_eq!(shutdown(&NodeConfig::default()), None);
        assert_eq!(share(&policy, 1 << 30), (1 << 30) + (100 << 20));
    }

    #[test]
    fn soft_thresholds_have_their_time_and_what_is_to_be_reclaimed() {
        let policy = of(&NodeConfig {
            eviction_hard: map(&[("nodefs.available", "0%")]),
            eviction_soft: map(&[("memory.available", "1.5Gi")]),
            eviction_soft_grace_period: map(&[("memory.available", "1m30s")]),
            eviction_minimum_reclaim: map(&[("memory.available", "10%")]),
            ..NodeConfig::default()
        });
        let soft = Threshold {
            signal: Signal::MemoryAvailable,
            value: Amount::Quantity(3 << 29),
            grace: SignedDuration::from_secs(90),
            reclaim: Some(Amount::Part(100_000)),
        };
        assert_eq!(policy.thresholds, [soft]);
    }

    #[test]
    fn critical_pods_have_their_part_of_the_shutdown() {
        let periods = shutdown(&NodeConfig {
            shutdown_grace_period: Span::seconds(30),
            shutdown_grace_period_critical_pods: Span::seconds(10),
            ..NodeConfig::default()
        });
        let all: Vec<_> = periods
            .into_iter()
            .flatten()
            .map(|one| (one.priority, one.seconds))
            .collect();
        assert_eq!(all, [(0, 20), (CRITICAL, 10)]);
    }
}
