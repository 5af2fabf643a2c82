//! The nodes that a gateway works with, and what it shares between requests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::ballots::Ballots;
use super::copies::Copies;
use super::held::Held;
use super::neighbours::Neighbours;
use super::patience::{Patience, longer_than_usual};
use super::undo::Undo;
use super::waiters::{WaitBounds, Waiters};
use super::watchers::Watchers;
use crate::lease::{LockKey, NodeSet, Quorum};
use crate::metrics::Metrics;
use crate::node::{Call, ClusterClock, Command, Node, NodeName, NodeQueue, NodeState, NodeStatus, PROBE_INTERVAL, QueueSettings, Receiver};

/// What the engine needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSettings {
    /// W: how far a ballot may be from a node's clock.
    pub window: Duration,
    /// Subtracted from every validity, so that exclusion holds while a minority of clocks jump.
    pub clock_jump_margin: Duration,
    /// The longest that one call to one node may take.
    pub node_timeout: Duration,
    /// After this a lost release need not be repeated: no lease lives longer.
    pub max_ttl: Duration,
    /// Batches in flight per node.
    pub in_flight: u32,
    /// The operator's word that these nodes never granted anything.
    pub bootstrap: bool,
    pub wait_bounds: WaitBounds,
}

/// How long one majority is asked first.
const TURN: Duration = Duration::from_secs(1);

/// N nodes with their queues, the clock and the ballots.
pub struct Cluster {
    queues: Arc<[Arc<NodeQueue>]>,
    quorum: Quorum,
    clock: Arc<ClusterClock>,
    ballots: Ballots,
    patience: Patience,
    copies: Arc<Copies>,
    undo: Arc<Undo>,
    held: Held,
    waiters: Arc<Waiters>,
    watchers: Arc<Watchers>,
    neighbours: Arc<Neighbours>,
    settings: ClusterSettings,
    metrics: Arc<Metrics>,
}

/// A node for `GET /nodes`.
pub struct NodeView {
    pub name: NodeName,
    pub status: NodeStatus,
    pub clock_offset_us: Option<i64>,
}

impl Cluster {
    /// Shakes hands with every node, then keeps probing them. Returns when each has answered or failed once.
    pub async fn start(
        nodes: Vec<(NodeName, Arc<dyn Node>)>,
        clock: Arc<ClusterClock>,
        settings: ClusterSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let quorum = Quorum::of(nodes.len());
        let queue_settings = QueueSettings { in_flight: settings.in_flight };
        let queues: Arc<[_]> = nodes
            .into_iter()
            .enumerate()
            .map(|(index, (name, node))| {
                let series = metrics.node(name.as_str());
                NodeQueue::start(index, name, node, queue_settings, Arc::clone(&clock), series)
            })
            .collect();
        first_contact(&queues, settings.bootstrap).await;
        for queue in queues.iter() {
            tokio::spawn(keep_probing(Arc::clone(queue)));
        }
        let undo = Undo::start(Arc::clone(&queues), settings.node_timeout, Arc::clone(&metrics));
        let ballots = Ballots::new(Arc::clone(&clock), settings.window);
        let (patience, copies, held) = (Patience::default(), Copies::start(settings.window), Held::new(Arc::clone(&metrics)));
        let waiters = Waiters::new(settings.wait_bounds, Arc::clone(&metrics));
        let watchers = Arc::<Watchers>::default();
        let neighbours = Neighbours::start(&queues, Arc::clone(&waiters), Arc::clone(&watchers), Arc::clone(&metrics));
        Arc::new(Self { queues, quorum, clock, ballots, patience, copies, undo, held, waiters, watchers, neighbours, settings, metrics })
    }

    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// How many nodes are certified and vote now.
    pub fn voting(&self) -> usize {
        self.queues.iter().filter(|queue| queue.health().status().state == NodeState::Up).count()
    }

    pub fn nodes(&self) -> Vec<NodeView> {
        let view = |queue: &Arc<NodeQueue>| NodeView {
            name: queue.name().clone(),
            status: queue.health().status(),
            clock_offset_us: self.clock.offset_us(queue.index()),
        };
        self.queues.iter().map(view).collect()
    }

    /// Waits until no node has anything left to do or to undo. Takes as long as a node is away; the caller bounds it.
    pub async fn settled(&self) {
        let mut tick = interval(Duration::from_millis(10));
        let busy = |queue: &Arc<NodeQueue>| !queue.is_idle() || !self.undo.is_empty(queue.index());
        while !self.copies.is_empty() || self.queues.iter().any(busy) {
            tick.tick().await;
        }
    }

    /// The majority that is asked first: nodes that are likely to answer at once, or all if those are too few.
    ///
    /// For a while it is the same one, so that batches are large; then the next node's turn begins. By the nodes' time,
    /// so that two gateways that want one lock meet on the same nodes and the later one writes nothing.
    pub(super) fn lead(&self) -> NodeSet {
        let nodes = self.quorum.nodes();
        let turn = (self.clock.estimate_us() as u128 / TURN.as_micros()) as usize;
        let promising = |node: &usize| self.queues[*node].health().is_promising();
        let quickest = (0..nodes).filter(promising).map(|node| self.queues[node].usual()).min().unwrap_or_default();
        let quick = |node: &usize| self.queues[*node].usual() <= longer_than_usual(quickest);
        let in_turn = (0..nodes).map(|place| (turn + place) % nodes);
        let lead: NodeSet = in_turn.filter(promising).filter(quick).take(self.quorum.required()).collect();
        if lead.len() < self.quorum.required() { NodeSet::all(self.quorum) } else { lead }
    }

    /// Asks `nodes` `command` in `round`. A node that takes nothing has answered with that.
    ///
    /// The receiver may be answered, and may ask again, before this returns; it must hold no lock of its own.
    pub(super) fn ask<R: Receiver>(&self, receiver: &Arc<R>, nodes: NodeSet, round: u8, command: &Arc<Command>, deadline: Instant) {
        for node in nodes.iter() {
            let call = Call { command: Arc::clone(command), receiver: Arc::clone(receiver) as _, tag: round, deadline };
            if let Err(abstention) = self.queues[node].submit(call) {
                Arc::clone(receiver).receive(node, round, Err(abstention));
            }
        }
    }

    pub(super) fn queues(&self) -> &Arc<[Arc<NodeQueue>]> {
        &self.queues
    }

    pub(super) fn clock(&self) -> &ClusterClock {
        &self.clock
    }

    pub(super) fn ballots(&self) -> &Ballots {
        &self.ballots
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    pub(super) fn copies(&self) -> &Arc<Copies> {
        &self.copies
    }

    pub(super) fn undo(&self) -> &Arc<Undo> {
        &self.undo
    }

    /// The leases that this gateway handed out.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Those who wait for a lock.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    pub(super) fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    pub(super) fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// Word of a free lock to the other gateways, unless somebody takes it here: those try by themselves now and then, which
    /// is what shares a lock between gateways.
    pub(super) fn tell_others(&self, key: &LockKey) {
        if !self.waiters.any_for(key) {
            self.neighbours.tell_freed(key);
        }
    }

    pub(super) fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Hears every node's clock before any handshake needs the median, and honours `--bootstrap` only if no node
/// has ever been part of a cluster.
async fn first_contact(queues: &[Arc<NodeQueue>], bootstrap: bool) {
    let surveys = join_all(queues.iter().map(|queue| queue.node().survey())).await;
    let virgin = surveys.iter().all(|survey| matches!(survey, Ok(survey) if survey.marker.is_none()));
    if bootstrap && virgin {
        info!("bootstrap: no node has a marker, so none is quarantined");
    } else if bootstrap {
        warn!("bootstrap is ignored: some nodes are down, or have been used by a gateway before");
    }
    join_all(queues.iter().map(|queue| queue.probe(bootstrap && virgin))).await;
}

async fn keep_probing(queue: Arc<NodeQueue>) {
    let mut tick = interval(PROBE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        queue.probe(false).await;
    }
}
