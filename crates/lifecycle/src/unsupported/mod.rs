//! What a Pod may ask for that this version can't do. It is refused by field, never ignored; what
//! gives a guest nothing and takes nothing from it (privileges, capabilities) is accepted with a
//! Warning.
//!
//! Must not know: the node; what only an image or a host can tell is found when it is used.

mod containers;
mod ephemeral;
mod volumes;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::spec::{self, Member, Role};

/// The kubelet's reason for a feature that a node does not have.
const FEATURE: &str = "PodFeatureUnsupported";
/// The kubelet's reason for `spec.os`.
const OS: &str = "PodOSNotSupported";
/// So many fields are named in a refusal.
const NAMED: usize = 5;

/// A field that can't be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The pod's `status.reason`: `PodFeatureUnsupported`, `PodOSNotSupported`.
    pub reason: &'static str,
    /// `spec.containers[0].livenessProbe`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What to do about it.
    pub help: String,
}

/// What the search collects.
#[derive(Default)]
struct Found(Vec<Unsupported>);

impl Found {
    fn add(&mut self, field: impl Into<String>, value: impl Into<String>, help: &str) {
        let (field, value, help) = (field.into(), value.into(), help.to_owned());
        self.0.push(Unsupported {
            reason: FEATURE,
            field,
            value,
            help,
        });
    }

    fn add_if(&mut self, is: bool, field: impl Into<String>, value: &str, help: &str) {
        if is {
            self.add(field, value, help);
        }
    }
}

/// Every field of the Pod that can't be honoured; empty if it can run here.
pub fn unsupported(pod: &Pod) -> Vec<Unsupported> {
    let mut found = Found::default();
    let Some(spec) = &pod.spec else {
        found.add("spec", "null", "give the pod a spec with a container");
        return found.0;
    };
    of_pod(spec, &mut found);
    names(pod, &mut found);
    for (place, volume) in spec.volumes.iter().flatten().enumerate() {
        volumes::of_volume(&format!("spec.volumes[{place}]"), volume, &mut found);
    }
    let ephemerals = spec::ephemerals(pod);
    let lists = [
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("containers", spec.containers.as_slice()),
        ("ephemeralContainers", ephemerals.as_slice()),
    ];
    for (list, containers) in lists {
        for (place, container) in containers.iter().enumerate() {
            let field = format!("spec.{list}[{place}]");
            containers::of_container(&field, container, spec, &mut found);
        }
    }
    for (place, container) in ephemerals.iter().enumerate() {
        let field = format!("spec.ephemeralContainers[{place}]");
        ephemeral::of_container(&field, container, &mut found);
    }
    found.0
}

/// Why a container can't be had that came when the pod was admitted already, which an ephemeral one
/// may; the kubelet's server has looked at it before.
pub(crate) fn late(pod: &Pod, member: &Member<'_>) -> Option<String> {
    let spec = pod
        .spec
        .as_ref()
        .filter(|_| member.role == Role::Ephemeral)?;
    let field = format!("spec.ephemeralContainers[{}]", member.name());
    let mut found = Found::default();
    containers::of_container(&field, member.spec, spec, &mut found);
    ephemeral::of_container(&field, member.spec, &mut found);
    (!found.0.is_empty()).then(|| sentence(&found.0))
}

/// Reason and message of a refusal, if there is cause for one.
pub(crate) fn refusal(pod: &Pod) -> Option<(String, String)> {
    let all = unsupported(pod);
    let first = all.first()?;
    Some((first.reason.to_owned(), sentence(&all)))
}

fn sentence(all: &[Unsupported]) -> String {
    let named = all.iter().take(NAMED).map(|one| {
        let Unsupported {
            field, value, help, ..
        } = one;
        format!("{field} is {value}: {help}")
    });
    let mut message = named.collect::<Vec<_>>().join("; ");
    if all.len() > NAMED {
        message.push_str(&format!("; and {} more fields", all.len() - NAMED));
    }
    message
}

/// What the Pod asks for that is accepted and has no effect, as sentences for a Warning.
pub(crate) fn ineffective(pod: &Pod) -> Vec<String> {
    let mut told = Vec::new();
    let ephemerals = spec::ephemerals(pod);
    for member in spec::members(pod).chain(spec::beside(&ephemerals)) {
        containers::ineffective(&member, &mut told);
    }
    told
}

fn of_pod(spec: &PodSpec, found: &mut Found) {
    if let Some(os) = &spec.os {
        found.0.push(Unsupported {
            reason: OS,
            field: "spec.os.name".to_owned(),
            value: format!("{:?}", os.name),
            help: "this node runs WebAssembly modules; remove spec.os".to_owned(),
        });
    }
    let host = "a guest has no access to the node's processes; set it to false or remove it";
    found.add_if(spec.host_pid == Some(true), "spec.hostPID", "true", host);
    found.add_if(spec.host_ipc == Some(true), "spec.hostIPC", "true", host);
    found.add_if(
        spec.share_process_namespace == Some(true),
        "spec.shareProcessNamespace",
        "true",
        "guests are no processes and can't see each other; set it to false or remove it",
    );
    let no_devices = "this node has no devices to allocate; remove the claims";
    if let Some(claim) = spec.resource_claims.iter().flatten().next() {
        let value = format!("{:?}", claim.name);
        found.add("spec.resourceClaims", value, no_devices);
    }
    let claims = spec.resources.as_ref().and_then(|own| own.claims.as_ref());
    if let Some(claim) = claims.into_iter().flatten().next() {
        let value = format!("{:?}", claim.name);
        found.add("spec.resources.claims", value, no_devices);
    }
    let sysctls = spec
        .security_context
        .as_ref()
        .and_then(|context| context.sysctls.as_ref());
    if let Some(sysctl) = sysctls.into_iter().flatten().next() {
        let help = "a guest has no kernel parameters; remove it";
        found.add(
            "spec.securityContext.sysctls",
            format!("{:?}", sysctl.name),
            help,
        );
    }
    let limits = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref());
    found.add_if(
        limits.is_some_and(|limits| !limits.is_empty()),
        "spec.resources.limits",
        "set",
        "this version limits containers, not pods; set the limits of each container",
    );
    if let Some(requests) = spec
        .resources
        .as_ref()
        .and_then(|own| own.requests.as_ref())
    {
        containers::quantities("spec.resources.requests", requests, found);
    }
    if let Some(overhead) = &spec.overhead {
        containers::quantities("spec.overhead", overhead, found);
    }
    if let Some(policy) = spec.restart_policy.as_deref()
        && !matches!(policy, "Always" | "OnFailure" | "Never")
    {
        let help = "use Always, OnFailure or Never";
        found.add("spec.restartPolicy", format!("{policy:?}"), help);
    }
}

/// A file has no API server that makes sure of these.
fn names(pod: &Pod, found: &mut Found) {
    if spec::mains(pod).next().is_none() {
        found.add("spec.containers", "empty", "give the pod a container");
    }
    let mut seen = BTreeSet::new();
    let ephemerals = spec::ephemerals(pod);
    for member in spec::members(pod).chain(spec::beside(&ephemerals)) {
        let name = member.spec.name.as_str();
        if name.is_empty() {
            found.add(
                "spec.containers[].name",
                "empty",
                "give each container a name",
            );
        } else if !seen.insert(name) {
            let help = "give each container, init and ephemeral container a name of its own";
            found.add("spec.containers[].name", format!("{name:?} twice"), help);
        }
    }
}

#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
