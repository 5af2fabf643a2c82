//! The engine over nodes in memory, on a clock that the test moves: each fault by name.

mod acquiring;
mod fake_node;
mod majority_first;
mod queueing;
mod releasing;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use fake_node::FakeNode;
use redlockd::lease::{LeaseId, Quorum, Ttl, TtlBounds};
use redlockd::metrics::Metrics;
use redlockd::node::{ClusterClock, Node, NodeName};
use redlockd::redlock::{AcquireError, AcquireRequest, Acquired, Cluster, ClusterSettings, Redlock, WaitBounds};
use tokio::time::Instant;

use crate::support::lock_key;

const NODE_TIMEOUT: Duration = Duration::from_millis(100);
const TTL: Duration = Duration::from_secs(30);
const LOCK: &str = "orders/42";

/// The engine and the nodes that it works with.
struct Engine<const N: usize> {
    redlock: Redlock,
    nodes: [Arc<FakeNode>; N],
    clock: Arc<ClusterClock>,
    in_flight: u32,
}

impl<const N: usize> Engine<N> {
    async fn start() -> Self {
        let in_flight = 2;
        let clock = Arc::new(ClusterClock::new(Quorum::of(N)));
        let nodes: [_; N] = std::array::from_fn(|index| FakeNode::new(index, &clock));
        let redlock = gateway(&nodes, &clock, in_flight).await;
        Self { redlock, nodes, clock, in_flight }
    }

    /// Another gateway on the same nodes, and by the same clock.
    async fn beside(&self) -> Redlock {
        gateway(&self.nodes, &self.clock, self.in_flight).await
    }

    async fn acquire(&self, lease: &str) -> Result<Acquired, AcquireError> {
        self.redlock.acquire(request(LOCK, Some(lease_id(lease)))).await
    }

    /// Acquires it for good; the token.
    async fn hold(&self, lease: &str) -> u64 {
        let acquired = self.acquire(lease).await.unwrap_or_else(|error| panic!("{error:?}"));
        let token = acquired.grant.fencing_token.get();
        acquired.keep();
        token
    }

    /// On which nodes there is a record of the lock.
    fn records(&self) -> Vec<usize> {
        (0..N).filter(|index| self.nodes[*index].holds(LOCK)).collect()
    }

    /// The state of every node, in a word.
    fn states(&self) -> Vec<&'static str> {
        self.redlock.cluster().nodes().iter().map(|node| node.status.state.as_str()).collect()
    }
}

async fn gateway(nodes: &[Arc<FakeNode>], clock: &Arc<ClusterClock>, in_flight: u32) -> Redlock {
    let named = nodes.iter().map(|node| (node.name(), Arc::clone(node) as Arc<dyn Node>)).collect();
    let settings = ClusterSettings {
        window: fake_node::agreement().window,
        clock_jump_margin: Duration::ZERO,
        node_timeout: NODE_TIMEOUT,
        max_ttl: fake_node::agreement().max_ttl,
        in_flight,
        bootstrap: true,
        wait_bounds: WaitBounds { per_lock: 100, in_all: 1000 },
    };
    let cluster = Cluster::start(named, Arc::clone(clock), settings, Arc::new(Metrics::new().unwrap())).await;
    assert_eq!(cluster.voting(), nodes.len());
    Redlock::new(cluster)
}

fn request(lock: &str, lease: Option<LeaseId>) -> AcquireRequest {
    AcquireRequest::of(lock_key(lock), lease, ttl(TTL), None)
}

fn ttl(ttl: Duration) -> Ttl {
    Ttl::new(ttl, TtlBounds::new(fake_node::agreement().max_ttl, Duration::ZERO)).unwrap()
}

fn lease_id(name: &str) -> LeaseId {
    LeaseId::new(&format!("lease-of-{name:-<16}")).unwrap()
}

fn name_of(index: usize) -> NodeName {
    NodeName::new(&format!("n{}", index + 1)).unwrap()
}

/// Lets time pass until it is so, but not as long as a lease lasts, which would end by itself.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TTL / 3, "{what}: not in {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
