//! `coracle node`: when pods and images have to go, by the kubelet's names.

use crate::node::config::{Pairs, Span};

/// What is left out is as in the file of `--config`, or else by default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Pressure")]
pub(crate) struct Pressure {
    /// What pods must leave free, or go once it was not for a time: memory.available<1Gi
    #[arg(long, value_name = "THRESHOLDS", env = "CORACLE_EVICTION_SOFT")]
    pub(crate) eviction_soft: Option<Pairs>,
    /// The time, of each of --eviction-soft: memory.available=90s
    #[arg(long, value_name = "TIMES", env = "CORACLE_EVICTION_SOFT_GRACE_PERIOD")]
    pub(crate) eviction_soft_grace_period: Option<Pairs>,
    /// So much more is to be free once pods had to go: nodefs.available=500Mi
    #[arg(long, value_name = "AMOUNTS", env = "CORACLE_EVICTION_MINIMUM_RECLAIM")]
    pub(crate) eviction_minimum_reclaim: Option<Pairs>,
    /// The most grace, in seconds, of a pod that goes by --eviction-soft [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "CORACLE_EVICTION_MAX_POD_GRACE_PERIOD"
    )]
    pub(crate) eviction_max_pod_grace_period: Option<u32>,
    /// For so long the Node says that it is short of something after it no longer is [default: 5m]
    #[arg(
        long,
        value_name = "TIME",
        env = "CORACLE_EVICTION_PRESSURE_TRANSITION_PERIOD"
    )]
    pub(crate) eviction_pressure_transition_period: Option<Span>,
    /// Percent of the images' disk in use at which images that nobody uses go [default: 85]
    #[arg(long, value_name = "PERCENT", env = "CORACLE_IMAGE_GC_HIGH_THRESHOLD")]
    pub(crate) image_gc_high_threshold: Option<u8>,
    /// Percent of the images' disk in use down to which they go [default: 80]
    #[arg(long, value_name = "PERCENT", env = "CORACLE_IMAGE_GC_LOW_THRESHOLD")]
    pub(crate) image_gc_low_threshold: Option<u8>,
    /// No image goes that came less than this ago [default: 2m]
    #[arg(long, value_name = "TIME", env = "CORACLE_MINIMUM_IMAGE_TTL_DURATION")]
    pub(crate) minimum_image_ttl_duration: Option<Span>,
    /// Images that nobody has used for so long go whatever is free; 0: none does [default: 0]
    #[arg(long, value_name = "TIME", env = "CORACLE_IMAGE_MAXIMUM_GC_AGE")]
    pub(crate) image_maximum_gc_age: Option<Span>,
    /// On SIGTERM pods end within this time, those of a low priority first; 0: guests go on, for the
    /// next coracle node to adopt [default: 0]
    #[arg(long, value_name = "TIME", env = "CORACLE_SHUTDOWN_GRACE_PERIOD")]
    pub(crate) shutdown_grace_period: Option<Span>,
    /// How much of --shutdown-grace-period is for critical pods, which end last [default: 0]
    #[arg(
        long,
        value_name = "TIME",
        env = "CORACLE_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS"
    )]
    pub(crate) shutdown_grace_period_critical_pods: Option<Span>,
}
