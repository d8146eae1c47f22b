//! Finds or starts the guest host and follows it: tells the agent what runs and how guests end, and
//! puts another in the place of one that died.

use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, Clock};
use cluster::Health;
use runtime::{Host, Phase, Remote};
use tokio::sync::watch;

use crate::dirs::Dirs;
use crate::facts;
use crate::hands::Hands;
use crate::program;

/// Between two tries to start a guest host.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Guests {
    dirs: Dirs,
    hands: Arc<Hands>,
    agent: Arc<Agent>,
    clock: Arc<dyn Clock>,
    health: watch::Sender<Health>,
}

impl Guests {
    pub(super) fn new(
        dirs: Dirs,
        hands: Arc<Hands>,
        agent: Arc<Agent>,
        clock: Arc<dyn Clock>,
        health: watch::Sender<Health>,
    ) -> Guests {
        Guests {
            dirs,
            hands,
            agent,
            clock,
            health,
        }
    }

    /// Never ends.
    pub(super) async fn follow(self) {
        loop {
            let host = self.hands.host();
            self.until_gone(&host).await;
            if let Host::Remote(remote) = &*host {
                let reason = remote.gone().await;
                tracing::error!(reason, "the guest host is gone, and its guests with it");
                self.say(Some(format!("the guest host is gone: {reason}")));
            }
            self.hands.replace_host(self.another().await);
            self.say(None);
        }
    }

    /// Exits that are kept come before what runs, so that nothing that ended is taken for lost.
    async fn until_gone(&self, host: &Host) {
        let as_of = self.clock.now();
        let mut exits = host.events();
        let Ok(guests) = host.list().await else {
            return;
        };
        for guest in &guests {
            if let Phase::Exited(exited) = &guest.phase {
                facts::tell(&self.agent, &self.hands, exited).await;
            }
        }
        let running: Vec<agent::Guest> = guests.iter().filter_map(facts::running).collect();
        tracing::info!(running = running.len(), "guests known");
        self.agent.guests_known(host.instance(), running, as_of);
        while let Some(exited) = exits.next().await {
            facts::tell(&self.agent, &self.hands, &exited).await;
        }
    }

    async fn another(&self) -> Arc<Host> {
        loop {
            match guest_host(&self.dirs).await {
                Ok(remote) => return Arc::new(Host::Remote(remote)),
                Err(error) => {
                    let text = format!("no guest host can be started: {error:#}");
                    tracing::error!("{text}; trying again");
                    self.say(Some(text));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn say(&self, not_ready: Option<String>) {
        self.health
            .send_modify(|health| health.not_ready = not_ready);
    }
}

/// Adopts the guest host that lives in the root folder, or starts one.
pub(super) async fn guest_host(dirs: &Dirs) -> anyhow::Result<Remote> {
    let (exe, mut args) = program::child("guest-host");
    // Who lists processes wants to know whose it is.
    args.push(dirs.root().into());
    let host = Remote::spawn_or_adopt(dirs.root(), &exe, &args).await?;
    tracing::info!(pid = host.pid(), adopted = host.adopted(), "guest host");
    Ok(host)
}
