//! What the node is short of goes into its Node's conditions, and what happens to it into events.

use std::collections::BTreeSet;

use cluster::events::{Severity, Subject};
use cluster::{Health, Recorder};
use lifecycle::EventKind;
use lifecycle::node::{NodeEvent, Pressure};
use tokio::sync::watch;

use crate::machine::Teller;

/// See the module.
pub(super) struct ToCluster {
    pub(super) health: watch::Sender<Health>,
    pub(super) recorder: Recorder,
}

impl Teller for ToCluster {
    fn pressures(&self, pressures: &BTreeSet<Pressure>) {
        // The kubelet's words (`pkg/kubelet/nodestatus/setters.go`).
        let said = |pressure, words: &str| {
            let short = pressures.contains(&pressure);
            short.then(|| format!("kubelet has {words}"))
        };
        self.health.send_modify(|health| {
            health.memory_pressure = said(Pressure::Memory, "insufficient memory available");
            health.disk_pressure = said(Pressure::Disk, "disk pressure");
            health.pid_pressure = said(Pressure::Pid, "insufficient PID available");
        });
    }

    fn event(&self, event: &NodeEvent) {
        let severity = match event.kind {
            EventKind::Normal => Severity::Normal,
            EventKind::Warning => Severity::Warning,
        };
        tracing::warn!(reason = event.reason, "{}", event.message);
        self.recorder
            .record(&Subject::Node, severity, event.reason, &event.message);
    }
}
