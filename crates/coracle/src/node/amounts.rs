//! How much the node has, and how much of it pods may ask for
//! (`pkg/kubelet/cm/node_container_manager_linux.go`: capacity less the reserves and the hard
//! eviction thresholds). Must not know: which pods there are.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use cluster::node::Amounts;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lifecycle::quantity;

use super::config::{NodeConfig, Threshold};

/// The machine as far as pods share it.
#[derive(Clone, Copy, Debug)]
struct Whole {
    cpu_milli: u64,
    memory: u64,
    disk: u64,
}

/// Capacity and allocatable.
///
/// # Errors
/// When the machine does not tell what it has, or the reserves leave nothing of it.
pub(super) fn of(config: &NodeConfig) -> anyhow::Result<(Amounts, Amounts)> {
    let cores = runtime::cores();
    let memory = match &config.memory {
        // Not asked for where it is said, so that it need not be known.
        Some(memory) => quantity::bytes(memory).unwrap_or(0),
        None => memory_of_machine()?,
    };
    let whole = Whole {
        cpu_milli: u64::try_from(cores).unwrap_or(1).saturating_mul(1000),
        memory,
        disk: disk_of(&config.root_dir)?,
    };
    split(config, whole)
}

fn split(config: &NodeConfig, whole: Whole) -> anyhow::Result<(Amounts, Amounts)> {
    let cpus = config.cpus.as_ref().and_then(quantity::milli);
    let capacity = Amounts {
        cpu_milli: cpus.unwrap_or(whole.cpu_milli),
        memory: whole.memory,
        pods: config.max_pods.into(),
        ephemeral_storage: whole.disk,
    };
    // The threshold is of the machine. Where the node has a share of it, the rest is its reserve.
    let memory_kept = match config.memory {
        Some(_) => 0,
        None => threshold(config, "memory.available", whole.memory),
    };
    let disk_kept = threshold(config, "nodefs.available", whole.disk);
    let allocatable = Amounts {
        cpu_milli: left(config, "cpu", quantity::milli, capacity.cpu_milli, 0)?,
        memory: left(
            config,
            "memory",
            quantity::bytes,
            capacity.memory,
            memory_kept,
        )?,
        ephemeral_storage: left(
            config,
            "ephemeral-storage",
            quantity::bytes,
            capacity.ephemeral_storage,
            disk_kept,
        )?,
        ..capacity
    };
    Ok((capacity, allocatable))
}

fn threshold(config: &NodeConfig, signal: &str, whole: u64) -> u64 {
    let threshold = config.eviction_hard.get(signal);
    threshold
        .and_then(|text| Threshold::parse(text))
        .map_or(0, |threshold| threshold.of(whole))
}

fn left(
    config: &NodeConfig,
    resource: &str,
    read: fn(&Quantity) -> Option<u64>,
    whole: u64,
    threshold: u64,
) -> anyhow::Result<u64> {
    let of = |map: &BTreeMap<String, Quantity>| map.get(resource).and_then(read).unwrap_or(0);
    let (system, kube) = (of(&config.system_reserved), of(&config.kube_reserved));
    let kept = system.saturating_add(kube).saturating_add(threshold);
    ensure!(
        kept < whole,
        "the reserves leave pods nothing of {resource}: the node has {whole}, and systemReserved \
         {system}, kubeReserved {kube} and evictionHard {threshold} are kept; reserve less"
    );
    Ok(whole - kept)
}

fn memory_of_machine() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib.saturating_mul(1024))
        .context("/proc/meminfo has no MemTotal; say how much the node has with --memory")
}

fn disk_of(root: &Path) -> anyhow::Result<u64> {
    let stat = rustix::fs::statvfs(root).with_context(|| format!("{}", root.display()))?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: Whole = Whole {
        cpu_milli: 4000,
        memory: 8 << 30,
        disk: 100 << 30,
    };

    fn amounts(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), Quantity((*text).into()));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn reserves_and_hard_thresholds_are_kept_from_pods() {
        let config = NodeConfig {
            system_reserved: amounts(&[("cpu", "500m"), ("memory", "1Gi")]),
            kube_reserved: amounts(&[("cpu", "250m"), ("ephemeral-storage", "5Gi")]),
            ..NodeConfig::default()
        };
        let (capacity, allocatable) = split(&config, WHOLE).unwrap();
        assert_eq!(
            (capacity.cpu_milli, capacity.memory, capacity.pods),
            (4000, 8 << 30, 1000)
        );
        assert_eq!(allocatable.cpu_milli, 3250);
        assert_eq!(allocatable.memory, (7 << 30) - (100 << 20));
        assert_eq!(allocatable.ephemeral_storage, 85 << 30);
        assert_eq!(allocatable.pods, 1000);
    }

    #[test]
    fn a_share_of_the_machine_needs_no_threshold_of_memory() {
        let config = NodeConfig {
            cpus: Some(Quantity("1".into())),
            memory: Some(Quantity("64Mi".into())),
            ..NodeConfig::default()
        };
        let whole = Whole {
            memory: 64 << 20,
            ..WHOLE
        };
        let (capacity, allocatable) = split(&config, whole).unwrap();
        assert_eq!((capacity.cpu_milli, capacity.memory), (1000, 64 << 20));
        assert_eq!(
            (allocatable.cpu_milli, allocatable.memory),
            (1000, 64 << 20)
        );
    }

    #[test]
    fn reserves_that_leave_nothing_are_refused() {
        let config = NodeConfig {
            system_reserved: amounts(&[("memory", "8Gi")]),
            ..NodeConfig::default()
        };
        let error = split(&config, WHOLE).unwrap_err().to_string();
        assert!(error.contains("nothing of memory"), "{error}");
    }
}
