//! Extending a lease on a majority.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::poll::{Step, Tally, poll};
use super::{Shortfall, call_timeout, release, short};
use crate::lease::{Abstention, Answer, Ballot, ExtendVote, Extension, ExtensionVerdict, FencingToken, LeaseId, LockKey, Ttl};
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

pub async fn extend(cluster: &Arc<Cluster>, key: LockKey, lease: LeaseId, ttl: Ttl) -> Result<Extended, ExtendError> {
    let started_us = cluster.clock().estimate_us();
    let extending = Extending {
        cluster: Arc::clone(cluster),
        tally: Extension::new(cluster.quorum(), cluster.settings().clock_jump_margin),
        key: key.clone(),
        lease: lease.clone(),
        is_lost: false,
    };
    let timeout = call_timeout(cluster, ttl.get());
    let command = Command::Extend { key: key.clone(), lease: lease.clone(), ttl: ttl.get() };
    match poll(cluster, command, extending, timeout).await {
        ExtensionVerdict::Extended { fencing_token, valid_for, granted } => {
            Ok(Extended { fencing_token, valid_for, granted, expires_at_us: started_us + valid_for.as_micros() as u64 })
        }
        ExtensionVerdict::Expired { left_over } => {
            free_left_over(cluster, key, lease, left_over);
            Err(ExtendError::Expired)
        }
        ExtensionVerdict::HeldByOther { left_over } => {
            free_left_over(cluster, key, lease, left_over);
            Err(ExtendError::HeldByOther)
        }
        ExtensionVerdict::Undecided { shortage, votes } => Err(short(cluster, shortage, &votes, ExtendError::NoQuorum, ExtendError::Indeterminate)),
        ExtensionVerdict::Pending => unreachable!("a tally decides with a verdict that is not pending"),
    }
}

/// A lost lease may have been prolonged on a minority, where it would stand in the way of the next one.
fn free_left_over(cluster: &Arc<Cluster>, key: LockKey, lease: LeaseId, left_over: Option<Ballot>) {
    if let Some(up_to) = left_over {
        let cluster = Arc::clone(cluster);
        tokio::spawn(async move { release::release(&cluster, key, lease, Some(FencingToken::of(up_to))).await });
    }
}

struct Extending {
    cluster: Arc<Cluster>,
    tally: Extension,
    key: LockKey,
    lease: LeaseId,
    /// The verdict was that the lease is gone.
    is_lost: bool,
}

impl Extending {
    /// A node that prolonged the lease after the verdict, so that nobody else will free it there.
    fn free_straggler(&self, node: usize, up_to: Ballot) {
        let command = Command::Release { key: self.key.clone(), lease: self.lease.clone(), up_to };
        self.cluster.undo().push(node, Arc::new(command), Instant::now() + self.cluster.settings().max_ttl);
    }
}

impl Tally for Extending {
    type Outcome = ExtensionVerdict;

    fn answered(&mut self, node: usize, _: u8, answer: Answer<Reply>, elapsed: Duration) -> Step<ExtensionVerdict> {
        let vote = match answer {
            Ok(Reply::Extend(vote)) => Ok(vote),
            Ok(_) => Err(Abstention::Silent),
            Err(abstention) => Err(abstention),
        };
        if let (true, Ok(ExtendVote::Extended { ballot, .. })) = (self.is_lost, &vote) {
            self.free_straggler(node, *ballot);
        }
        match self.tally.vote(node, vote, elapsed) {
            ExtensionVerdict::Pending => Step::Wait,
            verdict => {
                self.is_lost |= matches!(verdict, ExtensionVerdict::Expired { .. } | ExtensionVerdict::HeldByOther { .. });
                Step::Decided(verdict)
            }
        }
    }
}
