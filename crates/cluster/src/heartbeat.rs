//! Registers the Node and keeps it alive, in its [`Rhythm`]: its lease, and its status on change and now and then.
//!
//! [`run`] belongs on a runtime and a thread of its own: nothing that pods do may delay a renewal.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Access;
use crate::access::HEARTBEAT_LIMIT;
use crate::backoff::Backoff;
use crate::error::{Call, CallError, Kind};
use crate::lease;
use crate::node::{Health, NodeDescription, has_conditions, says_the_same};
use crate::outage::Outage;
use crate::register::{LEASES, RegisterError, Registrar};

/// Renewals tried again without a pause.
const IMMEDIATE: u32 = 5;

/// How often what is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// For how many seconds a renewal of the lease holds; it is renewed after a quarter of that
    /// (`nodeLeaseRenewIntervalFraction` of the kubelet).
    pub lease_seconds: u32,
    /// How often the status is computed.
    pub update: Duration,
    /// How often an unchanged status is patched all the same, give or take half.
    pub report: Duration,
}

impl Default for Rhythm {
    /// The kubelet's: 40 s, 10 s, 5 min.
    fn default() -> Rhythm {
        Rhythm {
            lease_seconds: 40,
            update: Duration::from_secs(10),
            report: Duration::from_secs(300),
        }
    }
}

impl Rhythm {
    fn report_after(self) -> Duration {
        self.report.mul_f64(rand::rng().random_range(0.5..1.5))
    }

    fn renew_after(self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds)) / 4
    }
}

/// What the API server knows of this node, for the log and for health checks.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The Node as last seen; `None` until it is registered.
    pub node: Option<Node>,
    /// When the lease was last renewed.
    pub renewed: Option<Timestamp>,
    /// What is being waited for, in a sentence.
    pub waiting: Option<String>,
    /// The machine was booted anew since the Node was last told of.
    pub rebooted: bool,
    /// Why the Node is another agent's, which took it while this one could not renew its lease.
    pub rival: Option<String>,
}

/// Registers the Node, then heartbeats until it is dropped. Follows `health`, and tells in `state`.
///
/// It never ends by itself: an API server that is away, or refuses, is asked again with a backoff of 100 ms to 7 s.
///
/// # Errors
/// [`kube::Error`] if no client can be made of `access`.
pub async fn run(
    access: &Access,
    description: NodeDescription,
    rhythm: Rhythm,
    health: watch::Receiver<Health>,
    state: watch::Sender<State>,
) -> kube::Result<Infallible> {
    let client = access.heartbeats()?;
    let lease = Renewer::new(client.clone(), &description, rhythm);
    let server = access.server();
    tracing::info!(node = description.name, server, "registering");
    let mut reporter = Reporter::new(Registrar::new(client, description), rhythm, health, &state);
    reporter.register().await;
    tokio::select! {
        never = reporter.report() => match never {},
        never = lease.renew_for_ever(&state) => match never {},
    }
}

/// Keeps the Node's status.
struct Reporter<'a> {
    registrar: Registrar,
    rhythm: Rhythm,
    health: watch::Receiver<Health>,
    state: &'a watch::Sender<State>,
    outage: Outage,
    /// The status that the server accepted last.
    sent: Option<NodeStatus>,
    /// The taint command has been logged for this lack of a taint.
    told_taint: bool,
}

impl<'a> Reporter<'a> {
    fn new(
        registrar: Registrar,
        rhythm: Rhythm,
        health: watch::Receiver<Health>,
        state: &'a watch::Sender<State>,
    ) -> Self {
        Reporter {
            registrar,
            rhythm,
            health,
            state,
            outage: Outage::of("node status"),
            sent: None,
            told_taint: false,
        }
    }

    async fn register(&mut self) {
        let mut backoff = Backoff::calls();
        let mut said = String::new();
        loop {
            let health = self.health.borrow_and_update().clone();
            match self.registrar.register(&health).await {
                Ok(registered) => {
                    self.outage.answered();
                    let node = registered.node;
                    if registered.rebooted {
                        self.state.send_modify(|state| state.rebooted = true);
                    }
                    let checked = self.registrar.checked(&health, &node);
                    let status = self.registrar.description().status(
                        &checked,
                        Some(&node),
                        Timestamp::now(),
                    );
                    self.sent = Some(status);
                    return self.seen(node);
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!("waiting to register the node: {text}");
                        said.clone_from(&text);
                    }
                    self.state.send_modify(|state| state.waiting = Some(text));
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                }
            }
        }
    }

    /// Computes the status in its rhythm and whenever health turns; patches it when it differs or is due.
    async fn report(&mut self) -> Infallible {
        let mut ticks = tokio::time::interval(self.rhythm.update);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Instant::now() + self.rhythm.report_after();
        let mut backoff = Backoff::calls();
        loop {
            let health = self.health.borrow_and_update().clone();
            let rival = self.state.borrow().rival.clone();
            if rival.is_some() {
                self.state.send_modify(|state| state.waiting = rival);
                self.next_look(&mut ticks).await;
                continue;
            }
            match self.report_once(&health, Instant::now() >= due).await {
                Ok(patched) => {
                    self.outage.answered();
                    backoff.reset();
                    if patched {
                        due = Instant::now() + self.rhythm.report_after();
                    }
                    self.state.send_modify(|state| state.waiting = None);
                }
                Err(error) if error.kind() == Kind::NotFound => {
                    tracing::warn!("the Node was deleted: registering it again");
                    self.register().await;
                    continue;
                }
                Err(error) => {
                    self.outage.failed(&error);
                    self.waits(&error);
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                    continue;
                }
            }
            self.next_look(&mut ticks).await;
        }
    }

    async fn next_look(&mut self, ticks: &mut tokio::time::Interval) {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = self.health.changed() => if changed.is_err() {
                // Whoever told of health is gone: what it said last stays true.
                ticks.tick().await;
            }
        }
    }

    /// Whether the status was patched.
    ///
    /// The Node is fetched each time, as the kubelet does: the node controller may have written Ready=Unknown during an
    /// outage, an administrator may have added the taint, or the Node may be gone.
    async fn report_once(&mut self, health: &Health, due: bool) -> Result<bool, CallError> {
        let node = self.registrar.get().await?;
        let health = self.registrar.checked(health, &node);
        let wanted = self
            .registrar
            .description()
            .status(&health, Some(&node), Timestamp::now());
        let told = self
            .sent
            .as_ref()
            .is_some_and(|sent| says_the_same(sent, &wanted));
        let stands = node
            .status
            .as_ref()
            .is_some_and(|status| has_conditions(status, &wanted));
        self.seen(node.clone());
        if told && stands && !due {
            return Ok(false);
        }
        let node = self.registrar.patch_status(&node, &health).await?;
        self.sent = Some(wanted);
        self.seen(node);
        Ok(true)
    }

    fn seen(&mut self, node: Node) {
        let lacks = self.registrar.checked(&Health::default(), &node).not_ready;
        match &lacks {
            Some(message) if !self.told_taint => {
                tracing::error!("the node stays NotReady: {message}")
            }
            None if self.told_taint => tracing::info!("the Node has its taint now"),
            _ => {}
        }
        self.told_taint = lacks.is_some();
        self.state.send_modify(|state| {
            state.node = Some(node);
            state.waiting = lacks;
        });
    }

    fn waits(&self, error: &CallError) {
        let text = error.to_string();
        let new = self.state.borrow().waiting.as_ref() != Some(&text);
        if new && !error.kind().is_outage() {
            tracing::warn!("waiting to report the node's status: {text}");
        }
        self.state.send_modify(|state| state.waiting = Some(text));
    }
}

/// Keeps the lease.
struct Renewer {
    api: Api<Lease>,
    name: String,
    mark: String,
    rhythm: Rhythm,
    outage: Outage,
}

impl Renewer {
    fn new(client: Client, description: &NodeDescription, rhythm: Rhythm) -> Renewer {
        Renewer {
            api: Api::namespaced(client, LEASES),
            name: description.name.clone(),
            mark: description.mark.clone(),
            rhythm,
            outage: Outage::of("node lease"),
        }
    }

    async fn renew_for_ever(&self, state: &watch::Sender<State>) -> Infallible {
        let mut ticks = tokio::time::interval(self.rhythm.renew_after());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease = None;
        loop {
            ticks.tick().await;
            lease = Some(self.renew(lease, state).await);
            state.send_modify(|state| {
                state.renewed = Some(Timestamp::now());
                state.rival = None;
            });
        }
    }

    /// Renews until it has worked: five times at once, then with a backoff.
    async fn renew(&self, mut lease: Option<Lease>, state: &watch::Sender<State>) -> Lease {
        let mut backoff = Backoff::calls();
        let mut said = None;
        for attempt in 1u32.. {
            let uid = state
                .borrow()
                .node
                .as_ref()
                .and_then(|node| node.metadata.uid.clone());
            match self.try_renew(lease.take(), uid).await {
                Ok(lease) => {
                    self.outage.answered();
                    return lease;
                }
                Err(RegisterError::Others(why)) => {
                    self.outage.answered();
                    if state.borrow().rival.is_none() {
                        tracing::error!("waiting for the node's lease: {why}");
                    }
                    state.send_modify(|state| state.rival = Some(why));
                    tokio::time::sleep(self.rhythm.renew_after()).await;
                }
                Err(RegisterError::Call(error)) => {
                    self.outage.failed(&error);
                    if !error.kind().is_outage()
                        && error.kind() != Kind::Conflict
                        && said != Some(error.kind())
                    {
                        tracing::warn!("waiting to renew the node's lease: {error}");
                        said = Some(error.kind());
                    }
                    if attempt >= IMMEDIATE {
                        tokio::time::sleep(backoff.next(error.retry_after())).await;
                    }
                }
            }
        }
        Lease::default()
    }

    /// One attempt. Without a lease at hand, or with one that somebody else wrote, the server's is fetched first.
    async fn try_renew(
        &self,
        lease: Option<Lease>,
        node_uid: Option<String>,
    ) -> Result<Lease, RegisterError> {
        let lease = match lease {
            Some(lease) => lease,
            None => match self
                .call("get")
                .run(HEARTBEAT_LIMIT, self.api.get(&self.name))
                .await
            {
                Ok(lease) => match lease::rival(&lease, &self.mark, Timestamp::now()) {
                    Some(why) => return Err(RegisterError::Others(why)),
                    None => lease,
                },
                Err(error) if error.kind() == Kind::NotFound => {
                    let lease = self.renewed(Lease::default(), node_uid);
                    let params = PostParams::default();
                    let request = self.api.create(&params, &lease);
                    return Ok(self.call("create").run(HEARTBEAT_LIMIT, request).await?);
                }
                Err(error) => return Err(error.into()),
            },
        };
        let lease = self.renewed(lease, node_uid);
        let params = PostParams::default();
        let request = self.api.replace(&self.name, &params, &lease);
        Ok(self.call("update").run(HEARTBEAT_LIMIT, request).await?)
    }

    fn renewed(&self, mut lease: Lease, node_uid: Option<String>) -> Lease {
        let owner = node_uid.map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.name.clone(),
            uid,
            ..Default::default()
        });
        lease.metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(LEASES.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..lease.metadata
        };
        lease::sign(&mut lease, &self.mark);
        let spec = lease.spec.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(self.rhythm.lease_seconds).ok(),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..spec
        });
        lease
    }

    fn call(&self, verb: &'static str) -> Call {
        Call::of(verb, "leases", LEASES, &self.name)
    }
}
