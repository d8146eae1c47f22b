//! `coracle node`: joins a cluster, and runs the pods that are bound to it, until it is told to
//! end. Its guests go on without it, for the next one to adopt.

mod amounts;
pub(crate) mod config;
mod describe;
mod drain;
mod guests;
mod health;
pub(crate) mod identity;
mod images;
mod known;
mod object;
mod policy;
mod port;
mod preflight;
mod statics;
mod supervisor;
mod teller;
mod volumes;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, Config, Folder, Ports, TokioClock};
use anyhow::Context;
use cluster::publisher::Report;
use cluster::{Access, Health, Mirrors, PodEvent, Publisher, Recorder, heartbeat, pods};
use futures::StreamExt;
use runtime::{Host, Remote};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::cli::node::Args;
use crate::dirs::Dirs;
use crate::dns::Dns;
use crate::hands::{Hands, Place, PodNet, Streams};
use crate::machine::Machine;
use crate::objects::ClusterObjects;
use crate::outlet::ClusterOutlet;
use crate::program;
use crate::progress::Reporter;
use config::NodeConfig;
use describe::Site;
use guests::Guests;
use health::Pulse;
use identity::{ServingRotation, Waits};
use known::{Also, Known};
use lifecycle::node::{Period, Policy};
use port::Bound;
use statics::StaticPods;
pub(crate) use statics::is_static;
use teller::ToCluster;
use volumes::Volumes;

/// How long code is kept that nothing is started from.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Runs the node; gives 0 once it was told to end.
///
/// # Errors
/// When something is wrong that no waiting heals: the kubeconfig, the root folder, the address.
pub(crate) fn run(args: Args) -> anyhow::Result<u8> {
    if args.check {
        return preflight::run(&args);
    }
    program::log("info");
    let config = NodeConfig::of(&args)?;
    // Each connection to its port is one, and each log that is followed some more.
    runtime::raise_descriptors();
    let dirs = Dirs::open(&config.root_dir)?;
    let _lock = dirs.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("agent")
        .enable_all()
        .build()?;
    runtime.block_on(node(config, dirs))?;
    // What still runs on a blocking thread is not worth waiting for: it is done again.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(0)
}

/// Everything that the node's loop listens to.
struct Node {
    agent: Arc<Agent>,
    publisher: Publisher,
    mirrors: Mirrors,
    reports: mpsc::UnboundedReceiver<Report>,
    volumes: Arc<Volumes>,
    known: Arc<Known>,
    pulse: Arc<Pulse>,
    health: watch::Sender<Health>,
    heard: watch::Receiver<heartbeat::State>,
}

async fn node(config: NodeConfig, dirs: Dirs) -> anyhow::Result<()> {
    let policy = policy::of(&config);
    let shutdown = policy::shutdown(&config);
    let waits = Waits::default();
    supervisor::status("waiting for an identity");
    let identity = identity::establish(&config, &dirs, &waits).await?;
    let access = identity.access.clone();
    let bound = Bound::new(&config, &access).await?;
    let host = Arc::new(Host::Remote(guest_host(&dirs).await?));
    let site = Site::of(&config, &access, dirs.mark()?, &host.budget().await?)?;
    access.for_node(&site.description.name)?;
    identity.keep(&config, &site.description.name, &waits);
    let health = watch::Sender::new(Health::default());
    let known = Arc::new(Known::new(dirs.clone(), site.served(&config)));
    let pulse = Pulse::new();
    let state = watch::Sender::new(heartbeat::State::default());
    let (beats, state_seen) = (health.subscribe(), state.subscribe());
    let checks = health::checks(pulse.clone(), beats, state_seen, waits.clone());
    let port = bound.serve(&site, known.clone(), checks).await?;
    if let Some(serving) = port.own().filter(|_| config.server_tls_bootstrap) {
        let names = (site.description.name.as_str(), site.host_ips.clone());
        let rotation = ServingRotation::begin(&access, &dirs, names, serving, &waits)?;
        tokio::spawn(rotation.follow());
    }
    let heard = state.subscribe();
    heart(
        access.clone(),
        &site,
        rhythm(&config),
        health.subscribe(),
        state,
    )?;

    let client = access
        .pods()
        .context("no client can be made of the kubeconfig")?;
    let (publisher, reports) = Publisher::new(client.clone());
    let recorder = Recorder::new(client.clone(), &site.description.name);
    let mirrors = Mirrors::new(client.clone(), publisher.clone());
    let outlet = ClusterOutlet::new(
        publisher.clone(),
        mirrors.clone(),
        recorder.clone(),
        dirs.clone(),
    );
    let forgotten = outlet.when_forgotten();
    let objects = ClusterObjects {
        objects: cluster::Objects::new(client.clone()),
        services: cluster::Services::watch(client.clone()),
    };
    let hands = Arc::new(hands(&dirs, host, &site, &config, objects)?);
    collect_code(&hands);
    let clock = Arc::new(TokioClock::default());
    let teller = ToCluster {
        health: health.clone(),
        recorder: recorder.clone(),
    };
    let share = Some(policy::share(&policy, site.allocatable.memory));
    let machine = Machine::new(hands.clone(), dirs.clone(), share, Box::new(teller));
    let ports = Ports {
        machine: Arc::new(machine),
        hands: hands.clone(),
        outlet: Arc::new(Also {
            outlet,
            known: known.clone(),
        }),
        checkpoints: Arc::new(Folder::open(dirs.checkpoints())?),
        clock: clock.clone(),
    };
    let agent = started(&site, policy, ports).await?;
    agent.node_seen(object::registered(&site.description));
    tokio::spawn(object::follow(
        agent.clone(),
        mirrors.clone(),
        heard.clone(),
    ));
    tokio::spawn(object::tell_reboot(
        recorder.clone(),
        site.description.clone(),
        heard.clone(),
    ));
    let volumes = Arc::new(Volumes::new(hands.clone()));
    tokio::spawn(images::follow(hands.clone(), health.clone()));
    StaticPods::new(
        &site.description.name,
        config.static_pod_path.as_deref(),
        agent.clone(),
        mirrors.clone(),
        volumes.clone(),
    )
    .begin(forgotten)?;
    let guests = Guests::new(dirs, hands.clone(), agent.clone(), clock, health.clone());
    let guests = tokio::spawn(guests.follow());
    tokio::spawn(volumes.clone().follow());
    supervisor::ready();
    tokio::spawn(supervisor::follow(heard.clone()));
    tokio::spawn(supervisor::watchdog(pulse.clone()));
    let watched = once_registered(heard.clone(), pods::watch(client, &site.description.name));
    let ended = Node {
        agent: agent.clone(),
        publisher,
        mirrors,
        reports,
        volumes,
        known,
        pulse,
        health,
        heard,
    }
    .work(watched, shutdown)
    .await;
    port.close().await;
    // Before the guest host ends: else another would take its place.
    guests.abort();
    agent.abandon();
    if ended? && let Err(error) = hands.host().shutdown().await {
        tracing::debug!(%error, "the guest host is gone already");
    }
    Ok(())
}

async fn started(site: &Site, policy: Policy, ports: Ports) -> anyhow::Result<Arc<Agent>> {
    let config = Config {
        allocatable: site.allocatable,
        costs: site.costs,
        host_ips: site.host_ips.clone(),
        policy,
    };
    let (agent, damaged) = Agent::start(config, ports).await?;
    for error in damaged {
        tracing::error!(%error, "a checkpoint can't be used; its pod is a new one");
    }
    Ok(Arc::new(agent))
}

fn hands(
    dirs: &Dirs,
    host: Arc<Host>,
    site: &Site,
    config: &NodeConfig,
    objects: ClusterObjects,
) -> anyhow::Result<Hands> {
    let place = Place {
        pod_net: PodNet::Node,
        host_ips: site.host_ips.clone(),
        streams: Streams::Logs,
        local_images: false,
        // As the kubelet's own: what its administrator put there, never the environment of whoever started it.
        auth: image::Auth::of_file(&dirs.registries()),
        objects: Arc::new(objects),
        allocatable: site.allocatable,
        dns: Dns {
            servers: config.cluster_dns.clone(),
            domain: config.cluster_domain.clone(),
            resolv_conf: config.resolv_conf.clone(),
        },
    };
    Ok(Hands::new(
        dirs.clone(),
        image::Store::open(&dirs.images())?,
        program::compiler(dirs)?,
        host,
        place,
        Reporter::new(false),
    ))
}

/// Code that no guest was started from for a month, or that another build of coracle compiled, goes.
fn collect_code(hands: &Hands) {
    let compiler = hands.compiler.clone();
    tokio::task::spawn_blocking(move || match compiler.collect(UNUSED) {
        Ok(collected) => tracing::debug!(?collected, "old code"),
        Err(error) => tracing::warn!(%error, "old code stays"),
    });
}

/// Adopts the guest host that lives in the root folder, or starts one.
async fn guest_host(dirs: &Dirs) -> anyhow::Result<Remote> {
    let (exe, mut args) = program::child("guest-host");
    // Who lists processes wants to know whose it is.
    args.push(dirs.root().into());
    let host = Remote::spawn_or_adopt(dirs.root(), &exe, &args).await?;
    tracing::info!(pid = host.pid(), adopted = host.adopted(), "guest host");
    Ok(host)
}

fn rhythm(config: &NodeConfig) -> heartbeat::Rhythm {
    heartbeat::Rhythm {
        lease_seconds: config.node_lease_duration_seconds,
        update: config.node_status_update_frequency.0,
        report: config.node_status_report_frequency.0,
    }
}

/// The lease and the Node's status, on a thread that nothing else can keep busy.
fn heart(
    access: Access,
    site: &Site,
    rhythm: heartbeat::Rhythm,
    health: watch::Receiver<Health>,
    state: watch::Sender<heartbeat::State>,
) -> anyhow::Result<()> {
    let description = site.description.clone();
    description.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let beat = move || {
        let Err(error) =
            runtime.block_on(heartbeat::run(&access, description, rhythm, health, state));
        tracing::error!(%error, "the heartbeat ended: no client can be made of the kubeconfig");
    };
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(beat)?;
    Ok(())
}

/// What is watched, from when the Node's lease is this agent's on: until then the pods are another's.
fn once_registered(
    mut heard: watch::Receiver<heartbeat::State>,
    watched: impl futures::Stream<Item = PodEvent>,
) -> impl futures::Stream<Item = PodEvent> {
    let registered = async move {
        let _heartbeat_ended = heard.wait_for(|state| state.renewed.is_some()).await;
        watched
    };
    futures::stream::once(registered).flatten()
}

/// Done with the next of the two signals.
async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

impl Node {
    /// Takes in what the API server says, until a signal; then lets go of the guests, or ends them:
    /// true if they have ended.
    async fn work(
        mut self,
        watched: impl futures::Stream<Item = PodEvent>,
        shutdown: Option<Vec<Period>>,
    ) -> anyhow::Result<bool> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut watched = std::pin::pin!(watched);
        self.until(&mut watched, either(&mut terminate, &mut interrupt))
            .await;
        supervisor::stopping();
        let Some(periods) = shutdown else {
            tracing::info!("ending; the guests go on, and the next coracle node here adopts them");
            return Ok(false);
        };
        tracing::info!("ending, and the pods with it; a second signal ends this at once");
        let (health, mut heard) = (self.health.clone(), self.heard.clone());
        let (agent, publisher) = (self.agent.clone(), self.publisher.clone());
        let ended = async {
            drain::not_ready(&health, &mut heard).await;
            agent.shutdown(periods.clone());
            drain::pods(agent.drained(), &periods).await;
            drain::told(|| publisher.behind()).await;
        };
        let again = either(&mut terminate, &mut interrupt);
        let first = async {
            tokio::select! {
                () = ended => {
                    tracing::info!("the pods have ended");
                    true
                }
                () = again => {
                    tracing::warn!("ended at once: pods end with the next coracle node here");
                    false
                }
            }
        };
        Ok(self.until(&mut watched, first).await)
    }

    /// Takes in what comes, until something is done.
    async fn until<T>(
        &mut self,
        watched: &mut (impl futures::Stream<Item = PodEvent> + Unpin),
        done: impl Future<Output = T>,
    ) -> T {
        let mut done = std::pin::pin!(done);
        let mut turns = tokio::time::interval(health::TURN);
        loop {
            self.pulse.beat();
            tokio::select! {
                _ = turns.tick() => {}
                output = &mut done => return output,
                Some(event) = watched.next() => self.take(event),
                Some(Report::Gone { uid }) = self.reports.recv() => self.gone(&uid),
            }
        }
    }

    fn take(&self, event: PodEvent) {
        match event {
            PodEvent::Applied(pod) => {
                self.publisher.observe(&pod);
                self.volumes.applied(&pod);
                match self.agent.apply(Arc::clone(&pod)) {
                    Ok(()) => self.known.applied(&pod),
                    Err(error) => tracing::error!(%error, "a pod was not taken in"),
                }
            }
            PodEvent::Deleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.publisher.deleted(uid);
                self.volumes.deleted(uid);
                self.agent.gone(uid);
            }
            PodEvent::Mirror(pod) => self.mirrors.observe(&pod),
            PodEvent::MirrorDeleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.mirrors.deleted(uid);
            }
            PodEvent::Synced => {
                self.mirrors.synced();
                self.agent.sources_ready();
            }
        }
    }

    /// The API has no pod of this UID, be it a mirror or one to be run.
    fn gone(&self, uid: &str) {
        self.mirrors.deleted(uid);
        self.agent.gone(uid);
    }
}
