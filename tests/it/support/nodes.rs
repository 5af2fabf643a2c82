//! Nodes of both kinds, ready to be asked.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{Answer, Ballot, Quorum};
use redlockd::node::redis::{Greeter, LastSeen, NodeAddress, RedisNode, RedisSettings};
use redlockd::node::{Agreement, BatchReply, ClusterClock, Command, EmbeddedError, EmbeddedNode, Fault, Members, Node, Probe, Reply};
use tokio::time::Instant;

use super::{RedisServer, eventually, eventually_async};

/// Far longer than a call on loopback takes; a test that wants a silent node waits this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A disk that others write to at the same time may take seconds to write anything down.
const BUSY_DISK: Duration = Duration::from_secs(30);

/// The settings that tests use unless they are about settings.
pub fn agreement() -> Agreement {
    Agreement { generation: 1, max_ttl: Duration::from_secs(300), window: Duration::from_millis(500), members: Members::of(["n1", "n2", "n3"], "") }
}

/// The clock of a cluster of one node.
pub fn lone_clock() -> Arc<ClusterClock> {
    Arc::new(ClusterClock::new(Quorum::of(1)))
}

/// The node `name` of a cluster of one on `server`, whose disk is trusted. Not yet probed.
pub fn redis_node(server: &RedisServer, name: &str, agreement: Agreement, clock: &Arc<ClusterClock>) -> RedisNode {
    redis_node_that(true, server, name, agreement, clock)
}

/// The same, where the disk of the server counts only if it is to.
pub fn redis_node_that(trusts_persistence: bool, server: &RedisServer, name: &str, agreement: Agreement, clock: &Arc<ClusterClock>) -> RedisNode {
    let address = NodeAddress::parse(&format!("{name}={}", server.url())).unwrap();
    let (clock, last) = (Arc::clone(clock), LastSeen::default());
    let greeter = Greeter { index: 0, address, agreement, clock, trusts_persistence, last };
    RedisNode::new(RedisSettings { greeter, lock_prefix: "redlockd:lock:".into(), pool_size: 1 }).unwrap()
}

/// The embedded node in `data_dir`. One that was just dropped may still be closing its database.
pub fn embedded_node(data_dir: &Path, agreement: Agreement, clock: &Arc<ClusterClock>) -> EmbeddedNode {
    eventually("the data directory is free", || match EmbeddedNode::open(data_dir, agreement, "run".into(), Arc::clone(clock)) {
        Ok(node) => Some(node),
        Err(EmbeddedError::InUse(_)) => None,
        Err(other) => panic!("{other}"),
    })
}

/// What a node that is up says at first. On a machine that is busy with something else it may not answer in time.
pub async fn first_probe(node: &dyn Node, fresh: bool) -> Result<Probe, Fault> {
    let answered = async || {
        // It reads the clock even where it can't read more, as in cluster mode.
        let _ = node.survey().await;
        Some(node.probe(fresh).await).filter(|outcome| !matches!(outcome, Err(Fault::NotSent(_) | Fault::Lost(_))))
    };
    eventually_async("the node answers", answered).await
}

/// A node under test, with the clock to draw ballots from and whatever must live as long as it.
pub struct Subject {
    pub node: Arc<dyn Node>,
    pub clock: Arc<ClusterClock>,
    _kept: Box<dyn Any>,
}

impl Subject {
    pub fn new(node: impl Node, clock: Arc<ClusterClock>, kept: impl Any) -> Self {
        Self { node: Arc::new(node), clock, _kept: Box::new(kept) }
    }

    /// An embedded node in a new directory, which votes at once.
    pub async fn embedded() -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), lone_clock());
        let node = embedded_node(directory.path(), agreement(), &clock);
        Self::new(node, clock, directory).certified().await
    }

    /// A Redis node on a new server, which votes at once.
    pub async fn redis() -> Self {
        let server = RedisServer::start();
        let Self { node, clock, .. } = Self::redis_on(&server).await;
        Self { node, clock, _kept: Box::new(server) }
    }

    /// A Redis node on a server that is empty, or that this node knows already.
    pub async fn redis_on(server: &RedisServer) -> Self {
        let clock = lone_clock();
        Self::new(redis_node(server, "n1", agreement(), &clock), clock, ()).certified().await
    }

    async fn certified(self) -> Self {
        let probe = first_probe(&*self.node, true).await.unwrap();
        assert_eq!(probe.quarantine_left, Duration::ZERO);
        self
    }

    /// The node's time as a ballot.
    pub fn now(&self) -> Ballot {
        Ballot::from_micros(self.clock.estimate_us())
    }

    /// As [`Subject::now`], but `by` later.
    pub fn ahead(&self, by: Duration) -> Ballot {
        Ballot::from_micros(self.clock.estimate_us() + by.as_micros() as u64)
    }

    /// As [`Subject::now`], but `by` earlier.
    pub fn behind(&self, by: Duration) -> Ballot {
        Ballot::from_micros(self.clock.estimate_us() - by.as_micros() as u64)
    }

    pub async fn try_batch(&self, commands: Vec<Command>) -> Result<BatchReply, Fault> {
        self.apply_within(CALL_TIMEOUT, commands).await
    }

    /// The answers to one batch, which must come.
    pub async fn batch(&self, commands: Vec<Command>) -> Vec<Answer<Reply>> {
        self.apply_within(BUSY_DISK, commands).await.unwrap().answers
    }

    async fn apply_within(&self, timeout: Duration, commands: Vec<Command>) -> Result<BatchReply, Fault> {
        let commands: Vec<_> = commands.into_iter().map(Arc::new).collect();
        self.node.apply(&commands, Instant::now() + timeout).await
    }

    /// The answer to a batch of one.
    pub async fn ask(&self, command: Command) -> Answer<Reply> {
        self.batch(vec![command]).await.remove(0)
    }
}
