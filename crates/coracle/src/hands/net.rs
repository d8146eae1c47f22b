//! A pod's address, what of it is published, and the sockets that a guest is given.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::{Failure, Output};
use runtime::Network;

use super::{Hands, class, failure};
use crate::addresses::Addresses;
use crate::program::sentence;
use crate::publish::{PortMapping, PublishError, Publisher};

/// The kubelet's reason when a pod's network can't be had.
pub(super) const NETWORK: &str = "FailedCreatePodSandBox";

/// Where pods have their addresses from.
#[derive(Clone, Debug)]
pub(crate) enum PodNet {
    /// They share the node's.
    Node,
    /// Each has one that this machine alone knows.
    Local(Arc<LocalNet>),
}

/// The network of the pods of a machine without a cluster.
#[derive(Debug, Default)]
pub(crate) struct LocalNet {
    addresses: Addresses,
    publisher: Publisher,
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether the pod wants the node's network.
fn on_the_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

fn publish_failure(error: &PublishError) -> Failure {
    failure(NETWORK, sentence(error), error.retryable())
}

/// The first hostPort that would have to lead elsewhere.
fn elsewhere(pod: &Pod) -> Result<(), Failure> {
    let mappings = PortMapping::of_pod(pod).map_err(|error| publish_failure(&error.into()))?;
    match mappings.iter().find(|one| one.host_port != one.port) {
        None => Ok(()),
        Some(one) => {
            let message = format!(
                "spec.containers[].ports[].hostPort is {} and its containerPort {}: pods share the node's address in this version; make them equal, or remove hostPort",
                one.host_port, one.port
            );
            Err(failure(NETWORK, message, false))
        }
    }
}

impl Hands {
    /// The network that is the pod's own, if it has one.
    fn local(&self, pod: &Pod) -> Option<&LocalNet> {
        match &self.place.pod_net {
            PodNet::Local(net) if !on_the_node(pod) => Some(net),
            _ => None,
        }
    }

    /// Takes ports of this machine for a pod to come; see [`Publisher::take`].
    pub(crate) fn take_ports(
        &self,
        wanted: &[PortMapping],
    ) -> Result<Vec<PortMapping>, PublishError> {
        match &self.place.pod_net {
            PodNet::Local(net) => net.publisher.take(wanted),
            // There the node's ports are the pods'.
            PodNet::Node => Ok(Vec::new()),
        }
    }

    /// The pod's addresses, once it has them.
    pub(super) fn ips(&self, pod: &Pod) -> Vec<IpAddr> {
        match self.local(pod) {
            Some(net) => net.addresses.of(uid(pod)).into_iter().collect(),
            None => self.place.host_ips.clone(),
        }
    }

    /// What a guest's addresses mean.
    pub(super) fn network(&self, pod: &Pod) -> Network {
        match self.local(pod).and_then(|net| net.addresses.of(uid(pod))) {
            Some(ip) => Network::Pod { ip },
            None => Network::Node,
        }
    }

    /// Makes sure that the pod can be run here, gives it its address, and leads there what it
    /// publishes.
    pub(super) async fn address(&self, pod: &Pod) -> Result<Output, Failure> {
        self.hostname(pod)?;
        class::check(&*self.place.objects, pod).await?;
        let Some(net) = self.local(pod) else {
            elsewhere(pod)?;
            return Ok(Output::Addresses(self.place.host_ips.clone()));
        };
        let ip = net
            .addresses
            .claim(uid(pod))
            .map_err(|error| failure(NETWORK, sentence(&error), true))?;
        let published = PortMapping::of_pod(pod)
            .map_err(PublishError::from)
            .and_then(|mappings| net.publisher.publish(uid(pod), &mappings, ip));
        match published {
            Ok(()) => Ok(Output::Addresses(vec![ip])),
            Err(error) => {
                // What failed leaves nothing: nobody asks for its undoing.
                net.addresses.release(uid(pod));
                Err(publish_failure(&error))
            }
        }
    }

    /// Takes back what the pod was given.
    pub(super) async fn release(&self, pod: &Pod) -> Result<Output, Failure> {
        if let PodNet::Local(net) = &self.place.pod_net {
            net.publisher.withdraw(uid(pod)).await;
            net.addresses.release(uid(pod));
        }
        Ok(Output::Nothing)
    }
}
