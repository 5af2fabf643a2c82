//! Which locks a set is of, as the nodes know it: their names are nowhere but in its records.

use std::sync::Arc;

use super::votes::{Answer, Shortage, Votes};
use super::{InspectVote, LeaseId, LockKey, Quorum};

/// What the nodes say of the locks of a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipVerdict {
    Pending,
    /// The newest that any of a majority knows, and so no older than the last that was granted.
    Known(Arc<[LockKey]>),
    /// A majority knows nothing of it, so that nobody holds it.
    Unknown,
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
    },
}

/// The state of one question after them.
#[derive(Debug)]
pub struct Membership {
    lease: LeaseId,
    votes: Votes<InspectVote>,
}

impl Membership {
    pub fn new(quorum: Quorum, lease: LeaseId) -> Self {
        Self { lease, votes: Votes::new(quorum) }
    }

    pub fn vote(&mut self, node: usize, answer: Answer<InspectVote>) -> MembershipVerdict {
        self.votes.record(node, answer);
        let heard = self.votes.cast().count();
        if self.votes.quorum().required() <= heard {
            return self.newest().map_or(MembershipVerdict::Unknown, MembershipVerdict::Known);
        }
        if 0 < self.votes.pending() {
            return MembershipVerdict::Pending;
        }
        MembershipVerdict::Undecided { shortage: self.votes.shortage(heard), votes: self.votes.labels() }
    }

    fn newest(&self) -> Option<Arc<[LockKey]>> {
        let of_lease = self.votes.cast().filter_map(|vote| match vote {
            InspectVote::Held { lease: Some(lease), holder, members } if *lease == self.lease => Some((holder.ballot, members)),
            _ => None,
        });
        of_lease.max_by_key(|(ballot, _)| *ballot).map(|(_, members)| Arc::clone(members))
    }
}

#[cfg(test)]
mod tests {
    use super::super::votes::Abstention;
    use super::super::{Ballot, Holder};
    use super::*;

    fn keys(names: &[&str]) -> Arc<[LockKey]> {
        names.iter().map(|name| LockKey::new(name).unwrap()).collect()
    }

    fn lease() -> LeaseId {
        LeaseId::new("0123456789abcdef").unwrap()
    }

    fn held(micros: u64, names: &[&str]) -> Answer<InspectVote> {
        let holder = Holder { ballot: Some(Ballot::from_micros(micros)), ..Holder::default() };
        Ok(InspectVote::Held { lease: Some(lease()), holder, members: keys(names) })
    }

    fn after(answers: Vec<Answer<InspectVote>>) -> MembershipVerdict {
        let mut membership = Membership::new(Quorum::of(3), lease());
        let mut verdict = MembershipVerdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, MembershipVerdict::Pending, "decided before node {node} answered");
            verdict = membership.vote(node, answer);
        }
        verdict
    }

    #[test]
    fn the_newest_that_any_of_a_majority_knows_counts() {
        let gone = || Err(Abstention::Unreachable);
        assert_eq!(after(vec![held(7, &["a", "b"]), held(9, &["c"])]), MembershipVerdict::Known(keys(&["c"])));
        assert_eq!(after(vec![Ok(InspectVote::Free), gone(), held(7, &["a"])]), MembershipVerdict::Known(keys(&["a"])));
        assert_eq!(after(vec![Ok(InspectVote::Free), Ok(InspectVote::Free)]), MembershipVerdict::Unknown);
        let votes = vec!["unreachable", "held", "unreachable"];
        assert_eq!(after(vec![gone(), held(7, &["a"]), gone()]), MembershipVerdict::Undecided { shortage: Shortage::NoQuorum, votes });
    }
}
