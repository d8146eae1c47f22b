//! Which values of evictions, image collection and shutdown make no sense
//! (`ParseThresholdConfig` of `pkg/kubelet/eviction/helpers.go`, `pkg/kubelet/apis/config/validation`).

use super::{NodeConfig, Span};

/// Each field whose value makes no sense, with what helps.
pub(super) fn problems(config: &NodeConfig) -> Vec<(String, String)> {
    let mut found = softs(config);
    let mut add = |field: &str, message: String| found.push((field.to_owned(), message));
    let (low, high) = (
        config.image_gc_low_threshold_percent,
        config.image_gc_high_threshold_percent,
    );
    if high > 100 {
        let message = format!("{high} is more than 100, which is all of the disk");
        add("imageGCHighThresholdPercent", message);
    }
    if low >= high {
        let message = format!("{low} must be less than imageGCHighThresholdPercent, {high}");
        add("imageGCLowThresholdPercent", message);
    }
    let (all, critical) = (
        config.shutdown_grace_period,
        config.shutdown_grace_period_critical_pods,
    );
    if critical > all {
        let message = "is a part of shutdownGracePeriod; make that as long at least".to_owned();
        add("shutdownGracePeriodCriticalPods", message);
    }
    for (field, span) in [
        ("shutdownGracePeriod", all),
        ("shutdownGracePeriodCriticalPods", critical),
    ] {
        if span != Span::default() && span < Span::seconds(1) {
            add(field, "must be 1s or more, or 0".to_owned());
        }
    }
    found
}

/// A soft threshold has its time, and no time is of nothing.
fn softs(config: &NodeConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let times = &config.eviction_soft_grace_period;
    for signal in config.eviction_soft.keys() {
        if !times.contains_key(signal) {
            let message = "has no time in evictionSoftGracePeriod; give it one, such as 90s";
            found.push((format!("evictionSoft[{signal}]"), message.to_owned()));
        }
    }
    for (signal, text) in times {
        let message = match text.parse::<Span>() {
            Err(message) => message,
            Ok(span) if span == Span::default() => {
                "is no time; a threshold without one stands in evictionHard".to_owned()
            }
            Ok(_) if !config.eviction_soft.contains_key(signal) => {
                "is of no threshold in evictionSoft; name it there, or remove it".to_owned()
            }
            Ok(_) => continue,
        };
        found.push((format!("evictionSoftGracePeriod[{signal}]"), message));
    }
    found
}
