//! Extending a lease on a majority.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::inspect::InspectError;
use super::poll::{Question, Tally, poll};
use super::{Shortfall, call_timeout, short};
use crate::lease::{Abstention, Answer, Ballot, Extension, ExtensionVerdict, FencingToken, LeaseId, LockKey, Ttl};
use crate::node::{Command, Reply};

/// A lease that lasts longer than before, or at least as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    pub fencing_token: FencingToken,
    /// How long the holder may rely on it, counted from the start of the extend.
    pub valid_for: Duration,
    pub granted: usize,
    /// When the holder has to stop, in microseconds since 1970 by the nodes' clocks.
    pub expires_at_us: u64,
}

/// Why a lease was not extended. Nothing was created in any case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    #[error("the lease is gone")]
    Expired,
    #[error("another lease holds the lock")]
    HeldByOther,
    /// Too few nodes could answer. The old deadline stands.
    #[error("too few nodes could answer")]
    NoQuorum(Shortfall),
    /// Answers were lost or came too late. The old deadline stands.
    #[error("answers were lost or came too late")]
    Indeterminate(Shortfall),
}

impl From<InspectError> for ExtendError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::NoQuorum(shortfall) => Self::NoQuorum(shortfall),
            InspectError::Indeterminate(shortfall) => Self::Indeterminate(shortfall),
        }
    }
}

pub async fn extend(cluster: &Arc<Cluster>, key: LockKey, lease: LeaseId, ttl: Ttl) -> Result<Extended, ExtendError> {
    let started_us = cluster.clock().estimate_us();
    let extending = Extending(Extension::new(cluster.quorum(), cluster.settings().clock_jump_margin));
    let timeout = call_timeout(cluster, ttl.get());
    // A lease that goes on has to be where it can outlive some nodes. The extend overtakes the copies, which is why they last as long.
    if let Some(flight) = cluster.copies().recall(&key, &lease, Ballot::from_micros(Ballot::MAX)) {
        flight.copy(ttl.get());
    }
    let question = Question::to_all(cluster, Command::Extend { key, lease, ttl: ttl.get() }, timeout);
    match poll(cluster, question, extending).await {
        ExtensionVerdict::Extended { fencing_token, valid_for, granted } => {
            Ok(Extended { fencing_token, valid_for, granted, expires_at_us: started_us + valid_for.as_micros() as u64 })
        }
        ExtensionVerdict::Expired => Err(ExtendError::Expired),
        ExtensionVerdict::HeldByOther => Err(ExtendError::HeldByOther),
        ExtensionVerdict::Undecided { shortage, votes } => Err(short(cluster, shortage, &votes, ExtendError::NoQuorum, ExtendError::Indeterminate)),
        ExtensionVerdict::Pending => unreachable!("a tally decides with a verdict that is not pending"),
    }
}

/// What a minority prolonged of a lease that turned out lost is left to its ttl. To free it would be wrong: the answer
/// may be late and of a newer grant, which the holder of the same lease id has been given meanwhile.
struct Extending(Extension);

impl Tally for Extending {
    type Outcome = ExtensionVerdict;

    fn answered(&mut self, node: usize, answer: Answer<Reply>, elapsed: Duration) -> Option<ExtensionVerdict> {
        let vote = match answer {
            Ok(Reply::Extend(vote)) => Ok(vote),
            Ok(_) => Err(Abstention::Silent),
            Err(abstention) => Err(abstention),
        };
        Some(self.0.vote(node, vote, elapsed)).filter(|verdict| *verdict != ExtensionVerdict::Pending)
    }
}
