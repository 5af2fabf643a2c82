//! Who holds a lock, in the eyes of a majority.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::poll::{Question, Tally, poll};
use super::{Shortfall, short};
use crate::lease::{Abstention, Answer, Holder, InspectVote, Inspection, InspectionVerdict, LockKey, Sharing};
use crate::node::{Command, Reply};

/// The state of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    Free,
    Held(Holder),
    /// These hold it together. `limit` is the number of slots, 0 where they are not numbered.
    Together {
        limit: u16,
        sharers: Vec<Sharing>,
    },
    /// Attempts are under way, or a failed one left something on a few nodes; no majority agrees.
    Contended,
}

/// Why the state of a lock is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    #[error("too few nodes could answer")]
    NoQuorum(Shortfall),
    #[error("answers were lost or came too late")]
    Indeterminate(Shortfall),
}

pub async fn inspect(cluster: &Arc<Cluster>, key: LockKey) -> Result<Inspected, InspectError> {
    let tally = Inspecting(Inspection::new(cluster.quorum()));
    let question = Question::to_all(cluster, Command::Inspect { key }, cluster.settings().node_timeout);
    match poll(cluster, question, tally).await {
        InspectionVerdict::Free => Ok(Inspected::Free),
        InspectionVerdict::Held { holder } => Ok(Inspected::Held(holder)),
        InspectionVerdict::Together { limit, sharers } => Ok(Inspected::Together { limit, sharers }),
        InspectionVerdict::Contended => Ok(Inspected::Contended),
        InspectionVerdict::Undecided { shortage, votes } => {
            Err(short(cluster, shortage, &votes, InspectError::NoQuorum, InspectError::Indeterminate))
        }
        InspectionVerdict::Pending => unreachable!("a tally decides with a verdict that is not pending"),
    }
}

struct Inspecting(Inspection);

/// A node's answer to the question.
pub fn view(answer: Answer<Reply>) -> Answer<InspectVote> {
    match answer? {
        Reply::Inspect(vote) => Ok(vote),
        _ => Err(Abstention::Silent),
    }
}

impl Tally for Inspecting {
    type Outcome = InspectionVerdict;

    fn answered(&mut self, node: usize, answer: Answer<Reply>, _: Duration) -> Option<InspectionVerdict> {
        Some(self.0.vote(node, view(answer))).filter(|verdict| *verdict != InspectionVerdict::Pending)
    }
}
