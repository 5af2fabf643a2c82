//! Servers, gateways and clients of one run, and the order in which things happen to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redlockd::lease::Quorum;
use redlockd::metrics::Metrics;
use redlockd::node::{Agreement, ClusterClock, Node, NodeName, PROBE_INTERVAL};
use redlockd::redlock::{Cluster, ClusterSettings, Redlock, WaitBounds};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::faults::{self, FURTHEST_JUMP};
use super::link::{Link, LinkNode, Network};
use super::scenario::{Fault, Scenario};
use super::server::Server;
use crate::history::History;
use crate::support::Chance;

/// As in production, but shorter, so that a run has time for many.
const NODE_TIMEOUT: Duration = Duration::from_millis(40);

pub struct World {
    pub scenario: Arc<Scenario>,
    pub servers: Vec<Arc<Server>>,
    network: Arc<Network>,
    began: Instant,
    ends: Mutex<Option<Instant>>,
    gateways: Mutex<Vec<Arc<Gateway>>>,
    history: Mutex<History>,
    metrics: Arc<Metrics>,
}

/// A gateway and its links to all servers.
pub struct Gateway {
    pub redlock: Redlock,
    pub links: Vec<Arc<Link>>,
    is_alive: Arc<AtomicBool>,
}

impl Gateway {
    pub fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    /// From now on it sends and hears nothing; what it sent may still arrive.
    pub fn die(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
    }
}

impl World {
    /// Runs a scenario to its end. The history of what clients saw, or what did not work again once all was well.
    pub async fn run(scenario: Scenario, mut chance: Chance, metrics: Arc<Metrics>) -> Result<History, String> {
        let server = |chance: &mut Chance| {
            // A lease is allowed one percent between two clocks.
            let fastest = (scenario.agreement.window.as_micros() as u64 / 12).min(9900);
            let (fast, off) = (chance.below(2 * fastest + 1) as i64 - fastest as i64, chance.below(scenario.skew_us + 1) as i64);
            Server::new(fast, off, chance.one_in(3), scenario.quarantine)
        };
        let servers = (0..scenario.nodes).map(|_| server(&mut chance)).collect();
        let scenario = Arc::new(scenario);
        let network = Network { scenario: Arc::clone(&scenario), chance: Arc::new(Mutex::new(chance)), is_calm: AtomicBool::new(true) };
        let network = Arc::new(network);
        let world = Arc::new(Self {
            scenario,
            servers,
            network,
            began: Instant::now(),
            ends: Mutex::default(),
            gateways: Mutex::default(),
            history: Mutex::default(),
            metrics,
        });
        for _ in 0..world.scenario.gateways {
            let gateway = world.start_gateway(true).await;
            world.gateways().push(gateway);
        }
        world.begin();
        let faults = tokio::spawn(faults::inject(Arc::clone(&world)));
        let clients: Vec<_> = (0..world.scenario.clients).map(|index| tokio::spawn(Client::new(&world, index).run())).collect();
        for client in clients {
            client.await.map_err(|error| format!("a client failed: {error}"))?;
        }
        faults.await.map_err(|error| format!("the faults failed: {error}"))?;
        world.network.is_calm.store(true, Ordering::Relaxed);
        world.works_again().await?;
        Ok(world.history().clone())
    }

    /// Whether nothing goes wrong any more, or yet.
    pub fn is_calm(&self) -> bool {
        self.network.is_calm.load(Ordering::Relaxed)
    }

    /// From now on clients ask and things go wrong.
    fn begin(&self) {
        *self.ends.lock().unwrap() = Some(Instant::now() + self.scenario.length);
        self.network.is_calm.store(false, Ordering::Relaxed);
    }

    /// `bootstrap` is the word that these servers never granted anything, which is true only at the very beginning.
    pub async fn start_gateway(&self, bootstrap: bool) -> Arc<Gateway> {
        let clock = Arc::new(ClusterClock::new(Quorum::of(self.servers.len())));
        let is_alive = Arc::new(AtomicBool::new(true));
        let link = |(index, server)| Link::new(index, name_of(index), server, &clock, &self.network, &is_alive);
        let links: Vec<Arc<Link>> = self.servers.iter().enumerate().map(link).collect();
        let nodes = links.iter().enumerate().map(|(index, link)| (name_of(index), Arc::new(LinkNode(Arc::clone(link))) as Arc<dyn Node>));
        let settings = ClusterSettings {
            window: self.scenario.agreement.window,
            clock_jump_margin: self.scenario.clock_jump_margin,
            node_timeout: NODE_TIMEOUT,
            max_ttl: self.scenario.agreement.max_ttl,
            in_flight: 2,
            bootstrap,
            wait_bounds: WaitBounds { per_lock: 100, in_all: 1000 },
        };
        let cluster = Cluster::start(nodes.collect(), clock, settings, Arc::clone(&self.metrics)).await;
        Arc::new(Gateway { redlock: Redlock::new(cluster), links, is_alive })
    }

    /// One of the gateways that run now.
    pub fn some_gateway(&self) -> Arc<Gateway> {
        let index = self.chance().below(self.scenario.gateways as u64);
        Arc::clone(&self.gateways()[index as usize])
    }

    pub fn gateways(&self) -> MutexGuard<'_, Vec<Arc<Gateway>>> {
        self.gateways.lock().unwrap()
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    pub fn chance(&self) -> MutexGuard<'_, Chance> {
        self.network.chance.lock().unwrap()
    }

    /// Since the beginning of the run.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn is_over(&self) -> bool {
        self.ends.lock().unwrap().is_some_and(|ends| ends <= Instant::now())
    }

    /// Once all faults are mended every lock can be had again, through every gateway, as soon as quarantines and leases are
    /// over: nothing is held longer than the longest lease.
    async fn works_again(self: &Arc<Self>) -> Result<(), String> {
        let Agreement { max_ttl, window, .. } = self.scenario.agreement;
        // A quarantine may begin with the next probe, and after a step back lasts longer by two windows.
        let mut patience = self.scenario.agreement.quarantine() + 2 * window + max_ttl + 2 * PROBE_INTERVAL;
        if self.scenario.faults.contains(&Fault::Jump) {
            // On a node whose clock was set back a record lasts longer by as much.
            patience += FURTHEST_JUMP;
        }
        for index in 0..self.scenario.gateways {
            let gateway = Arc::clone(&self.gateways()[index]);
            for lock in 0..self.scenario.locks {
                let begun = Instant::now();
                while !Client::new(self, 1000 + index).has_once(&gateway, lock).await {
                    if patience < begun.elapsed() {
                        let states: Vec<_> = gateway.redlock.cluster().nodes().iter().map(|node| node.status.state.as_str()).collect();
                        return Err(format!("lock {lock} could not be had through gateway {index} in {patience:?}, whose nodes are {states:?}"));
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
        Ok(())
    }
}

fn name_of(index: usize) -> NodeName {
    NodeName::new(&format!("n{}", index + 1)).unwrap()
}
