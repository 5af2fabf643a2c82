//! Who holds a lock, in the eyes of a majority.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::poll::{Question, Tally, poll};
use super::{Shortfall, short};
use crate::lease::{Abstention, Answer, Holder, Inspection, InspectionVerdict, LockKey, Sharing};
use crate::node::{Command, Reply};

/// The state of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    Free,
    Held(Holder),
    /// What a set's own lock says: who holds it, and these with it.
    HeldWith {
        holder: Holder,
        members: Arc<[LockKey]>,
    },
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
        InspectionVerdict::Held { holder, members } if members.is_empty() => Ok(Inspected::Held(holder)),
        InspectionVerdict::Held { holder, members } => Ok(Inspected::HeldWith { holder, members }),
        InspectionVerdict::Together { limit, sharers } => Ok(Inspected::Together { limit, sharers }),
        InspectionVerdict::Contended => Ok(Inspected::Contended),
        InspectionVerdict::Undecided { shortage, votes } => {
            Err(short(cluster, shortage, &votes, InspectError::NoQuorum, InspectError::Indeterminate))
        }
        InspectionVerdict::Pending => unreachable!("a tally decides with a verdict that is not pending"),
    }
}

struct Inspecting(Inspection);

impl Tally for Inspecting {
    type Outcome = InspectionVerdict;

    fn answered(&mut self, node: usize, answer: Answer<Reply>, _: Duration) -> Option<InspectionVerdict> {
        let vote = match answer {
            Ok(Reply::Inspect(vote)) => Ok(vote),
            Ok(_) => Err(Abstention::Silent),
            Err(abstention) => Err(abstention),
        };
        Some(self.0.vote(node, vote)).filter(|verdict| *verdict != InspectionVerdict::Pending)
    }
}
