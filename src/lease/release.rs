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
    /// Ask every node again, up to this ballot.
    NextRound {
        up_to: Ballot,
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

/// The state of one release.
#[derive(Debug)]
pub struct Release {
    votes: Votes<ReleaseVote>,
    /// The caller named its token, so records above it are none of this release's business.
    token_named: bool,
    rounds: u8,
    /// An earlier round freed a record.
    freed: bool,
}

impl Release {
    /// A lease that is acquired again and again while it is released is the client's to sort out.
    const MAX_ROUNDS: u8 = 3;

    pub fn new(quorum: Quorum, token_named: bool) -> Self {
        Self { votes: Votes::new(quorum), token_named, rounds: 1, freed: false }
    }

    /// Starts the round that [`ReleaseVerdict::NextRound`] asked for.
    pub fn begin_round(&mut self) {
        self.freed |= self.freed();
        self.rounds += 1;
        self.votes.clear();
    }

    pub fn vote(&mut self, node: usize, round: u8, answer: Answer<ReleaseVote>) -> ReleaseVerdict {
        if round != self.rounds {
            return ReleaseVerdict::Pending;
        }
        self.votes.record(node, answer);
        let required = self.votes.quorum().required();
        let pending = self.votes.pending();
        let other = self.votes.count(|vote| *vote == ReleaseVote::HeldByOther);
        let newer = self.votes.count(|vote| matches!(vote, ReleaseVote::Newer { .. }));
        let not_held = self.votes.cast().count() - if self.token_named { 0 } else { newer };

        if let Some(up_to) = self.newest().filter(|_| !self.token_named && self.rounds < Self::MAX_ROUNDS && pending == 0) {
            return ReleaseVerdict::NextRound { up_to };
        }
        if required <= other {
            return ReleaseVerdict::HeldByOther;
        }
        if let Some(ballot) = self.newest().filter(|_| self.token_named && required <= newer) {
            return ReleaseVerdict::HeldNewer { ballot };
        }
        let may_be_anothers = !self.freed() && 0 < other && required <= other + pending;
        let may_be_newer = 0 < newer && (!self.token_named || required <= newer + pending);
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

    /// The greatest ballot above the end of this release under which the lease holds the lock somewhere.
    fn newest(&self) -> Option<Ballot> {
        let above = self.votes.cast().filter_map(|vote| match vote {
            ReleaseVote::Newer { ballot } => Some(*ballot),
            _ => None,
        });
        above.max()
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

    fn after(token_named: bool, nodes: usize, answers: Vec<Answer<ReleaseVote>>) -> ReleaseVerdict {
        let mut release = Release::new(Quorum::of(nodes), token_named);
        let mut verdict = ReleaseVerdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, ReleaseVerdict::Pending, "decided before node {node} answered");
            verdict = release.vote(node, 1, answer);
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
    fn without_a_token_a_newer_ballot_is_followed() {
        let mut release = Release::new(Quorum::of(3), false);
        release.vote(0, 1, Ok(Freed));
        release.vote(1, 1, newer(8));
        assert_eq!(release.vote(2, 1, newer(9)), ReleaseVerdict::NextRound { up_to: Ballot::from_micros(9) });
        release.begin_round();
        release.vote(0, 2, Ok(NotHeld));
        assert_eq!(release.vote(1, 2, Ok(NotHeld)), ReleaseVerdict::Done { released: true });
    }

    #[test]
    fn too_few_answers_do_not_complete_a_release() {
        let lost = || Err(Abstention::Silent);
        let verdict = after(true, 3, vec![Ok(Freed), lost(), lost()]);
        assert_eq!(verdict, ReleaseVerdict::Undecided { shortage: Shortage::Indeterminate, votes: vec!["freed", "silent", "silent"] });
    }
}
