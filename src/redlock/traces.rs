//! What the nodes know of a lease.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::inspect::{InspectError, view};
use super::locks::Locks;
use super::poll::{Question, Tally, poll};
use super::short;
use crate::lease::{Answer, FencingToken, LeaseId, LockKey, Trace, Traces, TracesVerdict};
use crate::node::{Command, Reply};

/// What was heard of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    traces: Vec<Trace>,
    /// Why there may be more, if too few nodes answered.
    pub doubt: Option<InspectError>,
}

impl Known {
    pub fn is_anything(&self) -> bool {
        !self.traces.is_empty()
    }

    /// All locks of which the lease is, or may be; none if it is of no set that was heard of.
    pub fn set(&self) -> Option<Locks> {
        let mut members: Vec<LockKey> = self.traces.iter().flat_map(|trace| trace.members.iter().cloned()).collect();
        members.sort_unstable();
        members.dedup();
        (!members.is_empty()).then(|| Locks::of_set(members))
    }

    /// The set that was granted under this token.
    pub fn granted(&self, token: FencingToken) -> Option<Locks> {
        let trace = self.traces.iter().find(|trace| trace.ballot == Some(token.ballot()))?;
        Some(Locks::Set(Arc::clone(&trace.members)))
    }
}

pub async fn traces(cluster: &Arc<Cluster>, key: LockKey, lease: LeaseId) -> Known {
    let tally = Searching(Traces::new(cluster.quorum(), lease));
    let question = Question::to_all(cluster, Command::Inspect { key }, cluster.settings().node_timeout);
    match poll(cluster, question, tally).await {
        TracesVerdict::Heard(traces) => Known { traces, doubt: None },
        TracesVerdict::Undecided { shortage, votes, traces } => {
            Known { traces, doubt: Some(short(cluster, shortage, &votes, InspectError::NoQuorum, InspectError::Indeterminate)) }
        }
        TracesVerdict::Pending => unreachable!("a tally decides with a verdict that is not pending"),
    }
}

struct Searching(Traces);

impl Tally for Searching {
    type Outcome = TracesVerdict;

    fn answered(&mut self, node: usize, answer: Answer<Reply>, _: Duration) -> Option<TracesVerdict> {
        Some(self.0.vote(node, view(answer))).filter(|verdict| *verdict != TracesVerdict::Pending)
    }
}
