#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.yaml");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn args(words: &[&str]) -> Args {
    let words = ["coracle", "node"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Node(args) => *args,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    let (_folder, file) = written(&format!("{HEAD}{text}"));
    let error = NodeConfig::file(&file).unwrap_err().to_string();
    error.replace(&file.display().to_string(), "f")
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let text = "maxPods: 7\nclusterDNS: [10.0.0.10]\nnodeStatusReportFrequency: 1m30s\n\
                kubeconfig: k/conf\nregisterWithTaints:\n- {key: a, effect: NoSchedule}\n";
    let (folder, file) = written(&format!("{HEAD}{text}"));
    let file = file.to_str().unwrap();
    let config = NodeConfig::of(&args(&["--config", file, "--max-pods", "9"])).unwrap();
    assert_eq!(config.max_pods, 9);
    assert_eq!(config.cluster_dns, ["10.0.0.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.node_status_report_frequency, Span::seconds(90));
    assert_eq!(config.register_with_taints[0].key, "a");
    // Paths of a file are relative to where it lies.
    let kubeconfig = folder.path().canonicalize().unwrap().join("k/conf");
    let found = config.kubeconfig.unwrap();
    assert_eq!(found.file_name(), kubeconfig.file_name());
    assert!(found.is_absolute());
    assert_eq!(config.node_lease_duration_seconds, 40);
    assert_eq!(NodeConfig::of(&args(&[])).unwrap(), NodeConfig::default());
}

#[test]
fn flags_are_read_as_the_kubelet_reads_them() {
    let words = [
        "--node-labels=zone=a,node.kubernetes.io/pool=wasm",
        "--register-with-taints=team=red:NoExecute,spot:PreferNoSchedule",
        "--system-reserved=cpu=500m,memory=1Gi",
        "--eviction-hard=memory.available<5%",
        "--cluster-dns=10.0.0.10,10.0.0.11",
    ];
    let config = NodeConfig::of(&args(&words)).unwrap();
    assert_eq!(config.node_labels["node.kubernetes.io/pool"], "wasm");
    let taints = &config.register_with_taints;
    assert_eq!(taints[0].value.as_deref(), Some("red"));
    assert_eq!(
        (taints[1].value.as_deref(), taints[1].effect.as_str()),
        (None, "PreferNoSchedule")
    );
    assert_eq!(config.system_reserved["memory"], Quantity("1Gi".into()));
    assert_eq!(config.eviction_hard.len(), 1);
    assert_eq!(config.cluster_dns.len(), 2);
}

#[test]
fn what_is_wrong_in_a_file_has_its_line_and_its_field() {
    let error = refused("maxPod: 3\ncgroupDriver: systemd\nclusterDNS: [here]\nnodeIP: x\n");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        lines[0].starts_with(
            "f:3:1: KubeletConfiguration: maxPod: unknown field; did you mean maxPods?"
        ),
        "{error}"
    );
    assert!(
        lines[1].starts_with("f:4:1: KubeletConfiguration: cgroupDriver: is a kubelet's"),
        "{error}"
    );
    assert!(
        lines[2].starts_with("f:5:14: KubeletConfiguration: clusterDNS[0]: "),
        "{error}"
    );
    assert!(
        lines[3].starts_with("f:6:9: KubeletConfiguration: nodeIP: "),
        "{error}"
    );
}

#[test]
fn values_that_make_no_sense_are_refused_wherever_they_come_from() {
    let text = "maxPods: 0\nevictionHard: {memory.available: lots, disk: 1%}\nnodeLabels:\n  \
                kubernetes.io/os: linux\n  node-role.kubernetes.io/x: ''\nsystemReserved: {pid: 1}\n\
                registerWithTaints: [{key: a, effect: Never}]\nnodeStatusUpdateFrequency: 0s\n\
                port: 0\ntlsCertFile: a.crt\n";
    let error = refused(text);
    for part in [
        "f:3:10: KubeletConfiguration: maxPods: 0",
        "evictionHard[memory.available]: \"lots\" is neither",
        "evictionHard[disk]: is no signal",
        "nodeLabels[kubernetes.io/os]: is set by Coracle",
        "nodeLabels[node-role.kubernetes.io/x]: a node may not",
        "systemReserved.pid: is none of",
        "registerWithTaints[0].effect: \"Never\"",
        "nodeStatusUpdateFrequency: must be longer",
        "port: 0 can't be served",
        "tlsPrivateKeyFile: is missing",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let error = NodeConfig::of(&args(&["--max-pods", "0"])).unwrap_err();
    assert!(error.to_string().starts_with("maxPods: 0"), "{error}");
}

#[test]
fn evictions_images_and_shutdown_are_checked_together() {
    let text = "evictionSoft: {memory.available: 1Gi, pid.available: '0'}\n\
                evictionSoftGracePeriod: {memory.available: soon, nodefs.available: 1m, pid.available: 0s}\n\
                evictionMinimumReclaim: {disk: 1Gi}\nimageGCHighThresholdPercent: 70\n\
                shutdownGracePeriod: 5ms\nshutdownGracePeriodCriticalPods: 2s\n";
    let error = refused(text);
    for part in [
        "evictionSoft[pid.available]: \"0\" is neither an amount above 0",
        "evictionSoftGracePeriod[memory.available]: \"soon\" is no duration",
        "evictionSoftGracePeriod[nodefs.available]: is of no threshold in evictionSoft",
        "evictionSoftGracePeriod[pid.available]: is no time",
        "evictionMinimumReclaim[disk]: is no signal",
        "imageGCLowThresholdPercent: 80 must be less than imageGCHighThresholdPercent, 70",
        "shutdownGracePeriod: must be 1s or more",
        "shutdownGracePeriodCriticalPods: is a part of shutdownGracePeriod",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let lacking = refused("evictionSoft: {memory.available: 1Gi}\n");
    assert!(
        lacking.contains("has no time in evictionSoftGracePeriod"),
        "{lacking}"
    );
}

#[test]
fn the_flags_of_evictions_images_and_shutdown_are_the_kubelets() {
    let words = [
        "--eviction-hard=",
        "--eviction-soft=memory.available<1Gi",
        "--eviction-soft-grace-period=memory.available=1m30s",
        "--eviction-minimum-reclaim=memory.available=10%",
        "--eviction-max-pod-grace-period=7",
        "--eviction-pressure-transition-period=30s",
        "--image-gc-high-threshold=50",
        "--image-gc-low-threshold=40",
        "--minimum-image-ttl-duration=1m",
        "--image-maximum-gc-age=24h",
        "--shutdown-grace-period=30s",
        "--shutdown-grace-period-critical-pods=10s",
    ];
    let config = NodeConfig::of(&args(&words)).unwrap();
    assert!(config.eviction_hard.is_empty());
    assert_eq!(config.eviction_soft["memory.available"], "1Gi");
    assert_eq!(
        config.eviction_soft_grace_period["memory.available"],
        "1m30s"
    );
    assert_eq!(config.eviction_minimum_reclaim["memory.available"], "10%");
    assert_eq!(config.eviction_max_pod_grace_period, 7);
    assert_eq!(
        config.eviction_pressure_transition_period,
        Span::seconds(30)
    );
    assert_eq!(config.image_gc_high_threshold_percent, 50);
    assert_eq!(config.image_gc_low_threshold_percent, 40);
    assert_eq!(config.image_minimum_gc_age, Span::seconds(60));
    assert_eq!(config.image_maximum_gc_age, Span::seconds(24 * 3600));
    assert_eq!(config.shutdown_grace_period, Span::seconds(30));
    assert_eq!(
        config.shutdown_grace_period_critical_pods,
        Span::seconds(10)
    );
}

#[test]
fn a_file_of_something_else_is_refused() {
    let (_folder, file) = written("apiVersion: v1\nkind: Pod\n");
    let error = NodeConfig::file(&file).unwrap_err().to_string();
    assert!(
        error.contains("write kubelet.config.k8s.io/v1beta1"),
        "{error}"
    );
    assert!(error.contains("write KubeletConfiguration"), "{error}");
    let (_folder, file) = written(&format!("{HEAD}---\n{HEAD}"));
    let error = NodeConfig::file(&file).unwrap_err().to_string();
    assert!(error.contains("a second document"), "{error}");
}

/// What is in force can be read back: it is served, and people copy it.
#[test]
fn what_is_in_force_is_a_file_again() {
    let text = "maxPods: 7\nclusterDNS: [10.0.0.10]\nproviderID: x://1\nmemory: 1Gi\n\
                authentication: {x509: {clientCAFile: /ca.crt}}\nport: 10260\n";
    let (_folder, file) = written(&format!("{HEAD}{text}"));
    let config = NodeConfig::file(&file).unwrap();
    let (_folder, file) = written(&config.served().to_string());
    assert_eq!(NodeConfig::file(&file).unwrap(), config);
}

/// A field that came to be used is no longer told to be a kubelet's alone.
#[test]
fn no_field_is_both_used_and_unusable() {
    let used = serde_json::to_value(NodeConfig::default()).unwrap();
    let used: BTreeSet<String> = used.as_object().unwrap().keys().cloned().collect();
    for field in &used {
        assert_eq!(unusable::why(field), None, "{field}");
    }
    assert!(used.contains("clusterDNS") && used.contains("providerID"));
}
