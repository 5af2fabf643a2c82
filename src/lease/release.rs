//! Releasing a lease: done when a majority answered that the caller does not hold it (any more).

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Ballot, Quorum};

/// A node's vote on a release up to some ballot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReleaseVote {
    /// The lease held the lock here and does not any more.
    Freed,
    /// Nobody holds the lock here.
    NotHeld,
    HeldByOther,
    /// The lease holds the lock here under a ballot above the end of the release.
    Newer {
        ballot: Ballot,
    },
}

impl Vote for ReleaseVote {
    fn label(&self) -> &'static str {
        match self {
            Self::Freed => "freed",
            Self::NotHeld => "not_held",
            Self::HeldByOther => "held_by_other",
            Self::Newer { .. } => "newer",
        }
    }
}

/// What the votes on a release add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReleaseVerdict {
    Pending,
    /// Ask every node again, up to this ballot; `freed` if some node has freed a record already.
    NextRound {
        up_to: Ballot,
        freed: bool,
    },
    /// A majority does not hold it for the caller; `released` if any of them did until now.
    Done {
        released: bool,
    },
    /// A majority holds it for somebody else.
    HeldByOther,
    /// A majority holds it for this lease, under a newer token than the caller named.
    HeldNewer {
        ballot: Ballot,
    },
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
    },
}

/// The state of one round of a release.
#[derive(Debug)]
pub struct Release {
    votes: Votes<ReleaseVote>,
    /// Records above it are none of this release's business.
    reach: Ballot,
    may_go_on: bool,
    /// An earlier round freed a record.
    freed: bool,
}

impl Release {
    /// A lease that is acquired again and again while it is released is the client's to sort out.
    pub const MAX_ROUNDS: u8 = 3;

    /// `reach` is the token that the caller named, or [`Ballot::MAX`].
    pub fn new(quorum: Quorum, reach: Ballot) -> Self {
        Self { votes: Votes::new(quorum), reach, may_go_on: true, freed: false }
    }

    /// The round after one that answered [`ReleaseVerdict::NextRound`].
    pub fn again(quorum: Quorum, reach: Ballot, round: u8, freed: bool) -> Self {
        Self { may_go_on: round < Self::MAX_ROUNDS, freed, ..Self::new(quorum, reach) }
    }

    pub fn vote(&mut self, node: usize, answer: Answer<ReleaseVote>) -> ReleaseVerdict {
        self.votes.record(node, answer);
        let required = self.votes.quorum().required();
        let pending = self.votes.pending();
        let other = self.votes.count(|vote| *vote == ReleaseVote::HeldByOther);
        let above = |reach| move |vote: &ReleaseVote| matches!(vote, ReleaseVote::Newer { ballot } if reach < *ballot);
        let (newer, beyond) = (self.votes.count(above(Ballot::default())), self.votes.count(above(self.reach)));
        let within = newer - beyond;
        let not_held = self.votes.cast().count() - within;

        if let Some(up_to) = self.newest_within_reach().filter(|_| self.may_go_on && pending == 0) {
            return ReleaseVerdict::NextRound { up_to, freed: self.freed() };
        }
        if required <= other {
            return ReleaseVerdict::HeldByOther;
        }
        if let Some(ballot) = self.newest().filter(|_| required <= beyond) {
            return ReleaseVerdict::HeldNewer { ballot };
        }
        let may_be_anothers = !self.freed() && 0 < other && required <= other + pending;
        let may_be_newer = 0 < within || (0 < beyond && required <= beyond + pending);
        if required <= not_held && !may_be_anothers && !may_be_newer {
            return ReleaseVerdict::Done { released: self.freed() };
        }
        if 0 < pending && (required <= not_held + pending || may_be_newer) {
            return ReleaseVerdict::Pending;
        }
        if required <= not_held {
            return ReleaseVerdict::Done { released: self.freed() };
        }
        ReleaseVerdict::Undecided { shortage: self.votes.shortage(not_held), votes: self.votes.labels() }
    }

    fn freed(&self) -> bool {
        self.freed || 0 < self.votes.count(|vote| *vote == ReleaseVote::Freed)
    }

    /// The greatest ballot under which the lease still holds the lock somewhere.
    fn newest(&self) -> Option<Ballot> {
        self.newer().max()
    }

    fn newest_within_reach(&self) -> Option<Ballot> {
        self.newer().filter(|ballot| *ballot <= self.reach).max()
    }

    fn newer(&self) -> impl Iterator<Item = Ballot> {
        self.votes.cast().filter_map(|vote| match vote {
            ReleaseVote::Newer { ballot } => Some(*ballot),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::votes::Abstention;
    use super::ReleaseVote::{Freed, HeldByOther, NotHeld};
    use super::*;

    fn newer(micros: u64) -> Answer<ReleaseVote> {
        Ok(ReleaseVote::Newer { ballot: Ballot::from_micros(micros) })
    }

    /// The verdict on a release with the token 5, or with none.
    fn after(token_named: bool, nodes: usize, answers: Vec<Answer<ReleaseVote>>) -> ReleaseVerdict {
        let mut release = Release::new(Quorum::of(nodes), Ballot::from_micros(if token_named { 5 } else { Ballot::MAX }));
        let mut verdict = ReleaseVerdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, ReleaseVerdict::Pending, "decided before node {node} answered");
            verdict = release.vote(node, answer);
        }
        verdict
    }

    #[test]
    fn a_majority_that_does_not_hold_it_completes_a_release() {
        let done = |released| ReleaseVerdict::Done { released };
        assert_eq!(after(true, 3, vec![Ok(Freed), Ok(Freed)]), done(true));
        assert_eq!(after(true, 3, vec![Ok(NotHeld), Ok(Freed)]), done(true));
        assert_eq!(after(true, 3, vec![Ok(NotHeld), Ok(NotHeld)]), done(false));
        assert_eq!(after(false, 3, vec![Ok(HeldByOther), Ok(HeldByOther)]), ReleaseVerdict::HeldByOther);
    }

    #[test]
    fn another_holder_on_a_minority_does_not_decide_before_all_have_answered() {
        let others = vec![Ok(NotHeld), Ok(HeldByOther), Ok(NotHeld), Ok(HeldByOther), Ok(HeldByOther)];
        assert_eq!(after(true, 5, others), ReleaseVerdict::HeldByOther);
        assert_eq!(after(true, 5, vec![Ok(NotHeld), Ok(HeldByOther), Ok(NotHeld), Ok(NotHeld)]), ReleaseVerdict::Done { released: false });
    }

    #[test]
    fn a_lease_that_a_majority_holds_under_a_newer_token_is_not_released_by_an_older_one() {
        let held = ReleaseVerdict::HeldNewer { ballot: Ballot::from_micros(9) };
        assert_eq!(after(true, 3, vec![newer(9), newer(8)]), held);
        assert_eq!(after(true, 3, vec![newer(9), Ok(NotHeld), newer(9)]), held);
        assert_eq!(after(true, 5, vec![newer(9), Ok(NotHeld), Ok(NotHeld), Ok(Freed)]), ReleaseVerdict::Done { released: true });
        assert_eq!(after(true, 3, vec![newer(9), Ok(NotHeld), Err(Abstention::Silent)]), ReleaseVerdict::Done { released: false });
    }

    #[test]
    fn a_newer_ballot_within_reach_is_followed() {
        let next = |up_to, freed| ReleaseVerdict::NextRound { up_to: Ballot::from_micros(up_to), freed };
        assert_eq!(after(false, 3, vec![Ok(Freed), newer(8), newer(9)]), next(9, true));
        assert_eq!(after(true, 3, vec![newer(4), Ok(NotHeld), newer(9)]), next(4, false));
        let mut release = Release::again(Quorum::of(3), Ballot::from_micros(Ballot::MAX), 2, true);
        release.vote(0, Ok(NotHeld));
        assert_eq!(release.vote(1, Ok(NotHeld)), ReleaseVerdict::Done { released: true });
    }

    #[test]
    fn a_lease_that_is_acquired_again_and_again_is_not_followed_for_ever() {
        let mut release = Release::again(Quorum::of(3), Ballot::from_micros(Ballot::MAX), Release::MAX_ROUNDS, false);
        release.vote(0, newer(7));
        release.vote(1, newer(7));
        let shortage = Shortage::NoQuorum;
        assert_eq!(release.vote(2, Ok(NotHeld)), ReleaseVerdict::Undecided { shortage, votes: vec!["newer", "newer", "not_held"] });
    }

    #[test]
    fn too_few_answers_do_not_complete_a_release() {
        let lost = || Err(Abstention::Silent);
        let verdict = after(true, 3, vec![Ok(Freed), lost(), lost()]);
        assert_eq!(verdict, ReleaseVerdict::Undecided { shortage: Shortage::Indeterminate, votes: vec!["freed", "silent", "silent"] });
    }
}
