//! Releasing a lease on a majority, and in the background on the nodes that could not be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::poll::{Question, Tally, poll};
use super::{Shortfall, short, shortfall};
use crate::lease::{Abstention, Answer, Ballot, FencingToken, LeaseId, LockKey, NodeSet, Release, ReleaseVerdict};
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
    /// Too few nodes were heard since the gateway started to know the time by. Nothing was sent.
    #[error("too few nodes were heard yet")]
    NotBegun(Shortfall),
    /// Too few nodes could answer. The release goes on in the background.
    #[error("too few nodes could answer")]
    NoQuorum(Shortfall),
    /// Answers were lost. The release goes on in the background.
    #[error("answers were lost or came too late")]
    Indeterminate(Shortfall),
}

/// Frees records of `lease`, or of whoever holds the lock, up to `token`, or up to any ballot that a node reports.
///
/// No round reaches beyond the nodes' present time: up to there every node can raise its fence, so that a message that
/// is late finds no newer grant within its reach. A record that is ahead of that is waited for, so this must be awaited to
/// its end.
pub async fn release(cluster: &Arc<Cluster>, key: LockKey, lease: Option<LeaseId>, token: Option<FencingToken>) -> Result<Released, ReleaseError> {
    if !cluster.clock().is_settled() {
        let states: Vec<_> = cluster.nodes().iter().map(|node| node.status.state.as_str()).collect();
        return Err(ReleaseError::NotBegun(shortfall(cluster, &states)));
    }
    let reach = token.map_or(Ballot::from_micros(Ballot::MAX), FencingToken::ballot);
    let everybody = NodeSet::all(cluster.quorum());
    // Whoever was not asked for the lease has nothing to give back, and is not asked for it any more.
    let fresh = lease.as_ref().and_then(|lease| cluster.copies().recall(&key, lease, reach));
    let first = fresh.map_or(everybody, |flight| {
        cluster.metrics().copies_spared.inc();
        flight.asked()
    });
    let releasing = Releasing { cluster: Arc::clone(cluster), key, lease, reach };
    // Drawn, so that this gateway's next ballot is above the fence that it raises.
    let up_to = reach.min(cluster.ballots().draw());
    match releasing.ask(Release::new(cluster.quorum(), reach), up_to, first).await {
        ReleaseVerdict::NextRound { up_to, freed } => releasing.go_on(up_to, freed).await,
        verdict => finish(cluster, verdict),
    }
}

fn finish(cluster: &Cluster, verdict: ReleaseVerdict) -> Result<Released, ReleaseError> {
    match verdict {
        ReleaseVerdict::Done { released } => Ok(Released { released }),
        ReleaseVerdict::HeldByOther => Err(ReleaseError::HeldByOther),
        ReleaseVerdict::HeldNewer { ballot } => Err(ReleaseError::HeldNewer(FencingToken::of(ballot))),
        ReleaseVerdict::Undecided { shortage, votes } => Err(short(cluster, shortage, &votes, ReleaseError::NoQuorum, ReleaseError::Indeterminate)),
        ReleaseVerdict::Pending | ReleaseVerdict::NextRound { .. } => unreachable!("a tally decides with a verdict that is final"),
    }
}

struct Releasing {
    cluster: Arc<Cluster>,
    key: LockKey,
    lease: Option<LeaseId>,
    reach: Ballot,
}

impl Releasing {
    async fn go_on(self, mut up_to: Ballot, mut freed: bool) -> Result<Released, ReleaseError> {
        let mut round = 2;
        loop {
            let ahead = up_to.micros().saturating_sub(self.cluster.clock().estimate_us());
            // No record is further ahead of a certified node than the window, nor that of the median.
            sleep(Duration::from_micros(ahead).min(2 * self.cluster.settings().window)).await;
            let tally = Release::again(self.cluster.quorum(), self.reach, round, freed);
            match self.ask(tally, up_to, NodeSet::all(self.cluster.quorum())).await {
                ReleaseVerdict::NextRound { up_to: newer, freed: so_far } => (up_to, freed) = (newer, so_far),
                verdict => return finish(&self.cluster, verdict),
            }
            round += 1;
        }
    }

    async fn ask(&self, tally: Release, up_to: Ballot, first: NodeSet) -> ReleaseVerdict {
        let now = Ballot::from_micros(self.cluster.clock().estimate_us());
        let command = Arc::new(Command::Release { key: self.key.clone(), lease: self.lease.clone(), up_to: up_to.min(now) });
        let round = Round {
            cluster: Arc::clone(&self.cluster),
            tally,
            command: Arc::clone(&command),
            give_up: Instant::now() + self.cluster.settings().max_ttl,
            heard: NodeSet::default(),
        };
        poll(&self.cluster, Question { command, first, call_timeout: self.cluster.settings().node_timeout }, round).await
    }
}

struct Round {
    cluster: Arc<Cluster>,
    tally: Release,
    command: Arc<Command>,
    give_up: Instant,
    /// The nodes that have answered, or were waited for long enough.
    heard: NodeSet,
}

impl Tally for Round {
    type Outcome = ReleaseVerdict;

    fn answered(&mut self, node: usize, answer: Answer<Reply>, _: Duration) -> Option<ReleaseVerdict> {
        if self.heard.contains(node) {
            return None;
        }
        self.heard.insert(node);
        let vote = match answer {
            Ok(Reply::Release(vote)) => Ok(vote),
            Ok(_) => Err(Abstention::Silent),
            Err(abstention) => {
                self.cluster.undo().push(node, Arc::clone(&self.command), self.give_up);
                Err(abstention)
            }
        };
        Some(self.tally.vote(node, vote)).filter(|verdict| *verdict != ReleaseVerdict::Pending)
    }
}
