//! A node: one of the N independent servers that vote. It has one verb, apply a batch of commands.
//!
//! [`state`] says what a node does, once, as pure code. [`embedded`] makes that durable, [`redis`] is the
//! same behaviour as Lua on a server. In front of every node stands a [`queue`], which gathers the commands
//! of concurrent requests into batches and bounds what is on its way.

mod clock;
mod command;
mod embedded;
mod facts;
mod health;
mod marker;
mod members;
mod name;
mod queue;
mod record;
pub mod redis;
mod state;
mod usual;
mod word;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use clock::ClusterClock;
pub use command::{Acquire, BatchReply, Command, Page, Reply};
pub use embedded::{EmbeddedError, EmbeddedNode};
pub use facts::{NodeFacts, Persistence};
pub use health::{Health, NodeState, NodeStatus};
pub use marker::{Agreement, Epoch, Marker, MarkerError};
pub use members::Members;
pub use name::{NodeName, NodeNameError};
pub use queue::{Call, NodeQueue, PROBE_INTERVAL, QueueSettings, Receiver};
pub use record::{Fence, LockRecord, Record, Sharer, Together};
pub use state::{Change, HandshakeRefusal, Hello, State};
pub use usual::Usual;
pub use word::{Said, Word};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One voting server. Both implementations pass the same contract suite.
pub trait Node: Send + Sync + 'static {
    /// Looks without touching: is the node there, what time is it there, has it ever been part of a cluster.
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Fault>>;

    /// Shakes hands again: certifies the node, starts a quarantine where one is due, moves its high-water mark.
    ///
    /// `fresh` is the operator's word that no node of this cluster has ever granted anything.
    fn probe(&self, fresh: bool) -> BoxFuture<'_, Result<Probe, Fault>>;

    /// Says to other gateways what comes from `to_say`, and passes on what they say, until that is not possible any more.
    /// Never ends where there can't be another gateway.
    fn converse<'a>(&'a self, _to_say: &'a mut mpsc::Receiver<Said>, _heard: &'a mpsc::Sender<Said>) -> BoxFuture<'a, Fault> {
        Box::pin(pending())
    }

    /// What it is reached by; nothing if it is here.
    fn connections(&self) -> Connections {
        Connections::default()
    }

    /// Applies a batch as one atomic step and answers every command, in order, before `deadline`.
    fn apply<'a>(&'a self, batch: &'a [Arc<Command>], deadline: Instant) -> BoxFuture<'a, Result<BatchReply, Fault>>;
}

/// Connections to a node, by whether one is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    pub idle: u32,
    pub busy: u32,
}

/// What [`Node::survey`] saw.
#[derive(Debug)]
pub struct Survey {
    pub facts: NodeFacts,
    /// The text of the marker, if the node has ever been part of a cluster.
    pub marker: Option<String>,
    /// The highest time its clock is known to have shown; 0 if it has never been part of a cluster.
    pub high_water_us: u64,
    pub round_trip: Duration,
}

/// What [`Node::probe`] learned.
#[derive(Debug)]
pub struct Probe {
    /// Zero when the node may vote now.
    pub quarantine_left: Duration,
    pub round_trip: Duration,
    pub facts: NodeFacts,
}

/// Why a node gave no answer to a whole call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// It was sent and may have been carried out.
    #[error("{0}")]
    Lost(String),
    /// The node is there and must not be used as it is. Says what to do.
    #[error("{0}")]
    Refused(String),
}
