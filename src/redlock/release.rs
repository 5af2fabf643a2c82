//! Releasing a lease on a majority, and in the background on the nodes that could not be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use super::poll::{Step, Tally, poll};
use super::{Shortfall, short, shortfall};
use crate::lease::{Abstention, Answer, Ballot, FencingToken, LeaseId, LockKey, Release, ReleaseVerdict};
use crate::node::{Command, Reply};

/// A release that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Whether the lease held the lock until now.
    pub released: bool,
}

/// Why a release is not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The lock stays as it is.
    #[error("another lease holds the lock")]
    HeldByOther,
    /// The lease holds the lock under this token, which is newer than the one that was named. It keeps it.
    #[error("the lease holds the lock under a newer token")]
    HeldNewer(FencingToken),
    /// Too few nodes could answer. The release goes on in the background.
    #[error("too few nodes could answer")]
    NoQuorum(Shortfall),
    /// Answers were lost. The release goes on in the background.
    #[error("answers were lost or came too late")]
    Indeterminate(Shortfall),
}

/// Without a token the release reaches up to now, and further if a node holds a newer ballot of this lease.
pub async fn release(cluster: &Arc<Cluster>, key: LockKey, lease: LeaseId, token: Option<FencingToken>) -> Result<Released, ReleaseError> {
    if !cluster.clock().is_settled() {
        // By a clock that may be wrong it could reach beyond what fences can be raised to, and free a later grant.
        let states: Vec<_> = cluster.nodes().iter().map(|node| node.status.state.as_str()).collect();
        return Err(ReleaseError::NoQuorum(shortfall(cluster, &states)));
    }
    // Drawn rather than read, so that this gateway's next ballot is above the fence that it raises.
    let up_to = token.map_or_else(|| cluster.ballots().draw(), |token| token.ballot().min(cluster.ballots().highest()));
    let releasing = Releasing {
        cluster: Arc::clone(cluster),
        tally: Release::new(cluster.quorum(), token.is_some()),
        give_up: Instant::now() + cluster.settings().max_ttl,
        key,
        lease,
        up_to,
    };
    let command = releasing.command(up_to);
    match poll(cluster, command, releasing, cluster.settings().node_timeout).await {
        ReleaseVerdict::Done { released } => Ok(Released { released }),
        ReleaseVerdict::HeldByOther => Err(ReleaseError::HeldByOther),
        ReleaseVerdict::HeldNewer { ballot } => Err(ReleaseError::HeldNewer(FencingToken::of(ballot))),
        ReleaseVerdict::Undecided { shortage, votes } => Err(short(cluster, shortage, &votes, ReleaseError::NoQuorum, ReleaseError::Indeterminate)),
        ReleaseVerdict::Pending | ReleaseVerdict::NextRound { .. } => unreachable!("a tally decides with a verdict that is final"),
    }
}

struct Releasing {
    cluster: Arc<Cluster>,
    tally: Release,
    key: LockKey,
    lease: LeaseId,
    up_to: Ballot,
    give_up: Instant,
}

impl Releasing {
    fn command(&self, up_to: Ballot) -> Command {
        Command::Release { key: self.key.clone(), lease: self.lease.clone(), up_to }
    }
}

impl Tally for Releasing {
    type Outcome = ReleaseVerdict;

    fn answered(&mut self, node: usize, round: u8, answer: Answer<Reply>, _: Duration) -> Step<ReleaseVerdict> {
        let vote = match answer {
            Ok(Reply::Release(vote)) => Ok(vote),
            Ok(_) => Err(Abstention::Silent),
            Err(abstention) => {
                self.cluster.undo().push(node, Arc::new(self.command(self.up_to)), self.give_up);
                Err(abstention)
            }
        };
        match self.tally.vote(node, round, vote) {
            ReleaseVerdict::Pending => Step::Wait,
            ReleaseVerdict::NextRound { up_to } => {
                self.tally.begin_round();
                self.up_to = up_to;
                Step::Ask(self.command(up_to))
            }
            verdict => Step::Decided(verdict),
        }
    }
}
