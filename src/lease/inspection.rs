//! Who holds a lock, in the eyes of a majority. Never from the first answer.

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Holder, LeaseId, Quorum};

/// What one node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectVote {
    Free,
    /// The lease tells two holders of one ballot apart; it never leaves the gateway.
    /// None if another program wrote the record.
    Held {
        lease: Option<LeaseId>,
        holder: Holder,
    },
}

impl Vote for InspectVote {
    fn label(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held { .. } => "held",
        }
    }
}

/// What the nodes' views add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectionVerdict {
    Pending,
    Free,
    Held(Holder),
    /// No majority agrees: attempts are under way, or a failed one left something on a few nodes.
    Contended,
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
    },
}

/// The state of one inspection.
#[derive(Debug)]
pub struct Inspection {
    votes: Votes<InspectVote>,
}

impl Inspection {
    pub fn new(quorum: Quorum) -> Self {
        Self { votes: Votes::new(quorum) }
    }

    pub fn vote(&mut self, node: usize, answer: Answer<InspectVote>) -> InspectionVerdict {
        self.votes.record(node, answer);
        let required = self.votes.quorum().required();
        let most = self.votes.cast().map(|vote| (vote, self.votes.count(|other| same(vote, other)))).max_by_key(|(_, same)| *same);
        let (vote, agreed) = match most {
            Some((vote, agreed)) => (Some(vote), agreed),
            None => (None, 0),
        };
        match vote {
            Some(InspectVote::Free) if required <= agreed => InspectionVerdict::Free,
            Some(held @ InspectVote::Held { .. }) if required <= agreed => InspectionVerdict::Held(self.lasting(held)),
            _ if required <= agreed + self.votes.pending() => InspectionVerdict::Pending,
            _ if self.votes.quorum().blocking() <= self.votes.abstained() => {
                InspectionVerdict::Undecided { shortage: self.votes.shortage(agreed), votes: self.votes.labels() }
            }
            _ => InspectionVerdict::Contended,
        }
    }

    /// The holder, for as long as a majority of the records last.
    fn lasting(&self, held: &InspectVote) -> Holder {
        let mut holders: Vec<_> = self.votes.cast().filter(|other| same(held, other)).filter_map(holder).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.left));
        holders[self.votes.quorum().required() - 1].clone()
    }
}

fn holder(vote: &InspectVote) -> Option<&Holder> {
    match vote {
        InspectVote::Held { holder, .. } => Some(holder),
        InspectVote::Free => None,
    }
}

fn same(one: &InspectVote, other: &InspectVote) -> bool {
    match (one, other) {
        (InspectVote::Free, InspectVote::Free) => true,
        (InspectVote::Held { lease: a, holder: x }, InspectVote::Held { lease: b, holder: y }) => a == b && x.ballot == y.ballot,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ballot, votes::Abstention};
    use super::*;
    use std::time::Duration;

    fn held(lease: &str, token: u64, left_s: u64) -> InspectVote {
        let holder = Holder { ballot: Some(Ballot::from_micros(token)), owner: None, left: Some(Duration::from_secs(left_s)) };
        InspectVote::Held { lease: Some(LeaseId::new(&lease.repeat(16)).unwrap()), holder }
    }

    fn after(nodes: usize, views: Vec<Answer<InspectVote>>) -> InspectionVerdict {
        let mut inspection = Inspection::new(Quorum::of(nodes));
        let mut verdict = InspectionVerdict::Pending;
        for (node, answer) in views.into_iter().enumerate() {
            assert_eq!(verdict, InspectionVerdict::Pending, "decided before node {node} answered");
            verdict = inspection.vote(node, answer);
        }
        verdict
    }

    #[test]
    fn a_majority_of_equal_views_decides() {
        assert_eq!(after(3, vec![Ok(InspectVote::Free), Ok(InspectVote::Free)]), InspectionVerdict::Free);
        let InspectionVerdict::Held(holder) = after(3, vec![Ok(held("a", 7, 3)), Ok(InspectVote::Free), Ok(held("a", 7, 9))]) else {
            panic!("not held")
        };
        assert_eq!((holder.ballot, holder.left), (Some(Ballot::from_micros(7)), Some(Duration::from_secs(3))));
    }

    #[test]
    fn two_leases_under_one_ballot_are_not_one_holder() {
        let views = vec![Ok(held("a", 7, 3)), Ok(held("b", 7, 3)), Ok(held("a", 7, 3)), Ok(held("b", 7, 3)), Ok(InspectVote::Free)];
        assert_eq!(after(5, views), InspectionVerdict::Contended);
    }

    #[test]
    fn too_few_views_decide_nothing() {
        let gone = || Err(Abstention::Unreachable);
        let verdict = after(3, vec![gone(), gone()]);
        assert_eq!(verdict, InspectionVerdict::Undecided { shortage: Shortage::NoQuorum, votes: vec!["unreachable", "unreachable", "pending"] });
    }
}
