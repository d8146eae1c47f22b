//! `coracle node`: joins a cluster, and runs the pods that are bound to it, until it is told to
//! end. Its guests go on without it, for the next one to adopt.

mod amounts;
pub(crate) mod config;
mod describe;
mod drain;
mod guests;
mod health;
mod heart;
pub(crate) mod identity;
mod images;
mod intake;
mod known;
mod object;
mod policy;
mod port;
mod preflight;
mod statics;
mod supervisor;
mod teller;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, Config, Folder, Ports, TokioClock};
use anyhow::Context;
use cluster::{Health, Mirrors, Publisher, Recorder, heartbeat, pods};
use runtime::Host;
use tokio::sync::watch;

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
use guests::{Guests, guest_host};
use health::Pulse;
use identity::{ServingRotation, Waits};
use intake::{Node, once_registered};
use known::{Also, Known};
use lifecycle::node::Policy;
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
    heart::begin(access.clone(), &site, &config, health.subscribe(), state)?;

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
