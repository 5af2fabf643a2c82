//! Extending a lease: it must still be live, under one and the same ballot, on a majority.

use std::time::Duration;

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Ballot, FencingToken, Quorum, validity};

/// A node's vote on an extend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExtendVote {
    /// Live here under `ballot`, and now for `left`, which is never less than before.
    Extended { ballot: Ballot, left: Duration },
    /// Nobody holds the lock here.
    Gone,
    /// Another lease holds the lock here.
    HeldByOther,
}

impl Vote for ExtendVote {
    fn label(&self) -> &'static str {
        match self {
            Self::Extended { .. } => "extended",
            Self::Gone => "gone",
            Self::HeldByOther => "held_by_other",
        }
    }
}

/// What the votes on an extend add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExtensionVerdict {
    Pending,
    /// The token, and how long the holder may rely on it from the start of the extend.
    Extended {
        fencing_token: FencingToken,
        valid_for: Duration,
        granted: usize,
    },
    /// The lease is gone, and nobody has the lock for sure. A minority may have prolonged it.
    Expired,
    /// Another lease holds the lock. A minority may have prolonged this one.
    HeldByOther,
    /// Too few answers: the old deadline stands.
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
    },
}

/// The state of one extend.
#[derive(Debug)]
pub struct Extension {
    margin: Duration,
    votes: Votes<ExtendVote>,
}

impl Extension {
    /// `margin` is the `clock_jump_margin` of the configuration.
    pub fn new(quorum: Quorum, margin: Duration) -> Self {
        Self { margin, votes: Votes::new(quorum) }
    }

    /// Counts a node's answer. `elapsed` is the time since before the first send.
    pub fn vote(&mut self, node: usize, answer: Answer<ExtendVote>, elapsed: Duration) -> ExtensionVerdict {
        self.votes.record(node, answer);
        let (required, blocking) = (self.votes.quorum().required(), self.votes.quorum().blocking());
        let pending = self.votes.pending();
        let extended = self.most_of_one_ballot();
        let same = extended.map_or(0, |(_, same)| same);
        let other = self.votes.count(|vote| *vote == ExtendVote::HeldByOther);
        let refused = other + self.votes.count(|vote| *vote == ExtendVote::Gone);

        if let Some((ballot, same)) = extended.filter(|(_, same)| required <= *same) {
            return self.extended(ballot, same, elapsed);
        }
        if required <= other {
            return ExtensionVerdict::HeldByOther;
        }
        if required <= same.max(other) + pending {
            return ExtensionVerdict::Pending;
        }
        if blocking <= refused {
            return ExtensionVerdict::Expired;
        }
        if blocking <= refused + pending {
            return ExtensionVerdict::Pending;
        }
        ExtensionVerdict::Undecided { shortage: self.votes.shortage(same), votes: self.votes.labels() }
    }

    fn extended(&self, ballot: Ballot, granted: usize, elapsed: Duration) -> ExtensionVerdict {
        let mut left: Vec<_> = self.live().filter(|(other, _)| *other == ballot).map(|(_, left)| left).collect();
        left.sort_unstable_by(|a, b| b.cmp(a));
        let valid_for = validity(left[self.votes.quorum().required() - 1], self.margin);
        // Too late, or it may last no longer; but it may be there still for as long as clocks differ.
        if valid_for <= elapsed {
            return ExtensionVerdict::Undecided { shortage: Shortage::Indeterminate, votes: self.votes.labels() };
        }
        ExtensionVerdict::Extended { fencing_token: FencingToken::of(ballot), valid_for, granted }
    }

    fn live(&self) -> impl Iterator<Item = (Ballot, Duration)> {
        self.votes.cast().filter_map(|vote| match vote {
            ExtendVote::Extended { ballot, left } => Some((*ballot, *left)),
            _ => None,
        })
    }

    fn most_of_one_ballot(&self) -> Option<(Ballot, usize)> {
        self.live().map(|(ballot, _)| (ballot, self.live().filter(|(other, _)| *other == ballot).count())).max_by_key(|(_, same)| *same)
    }
}

#[cfg(test)]
mod tests {
    use super::super::votes::Abstention;
    use super::ExtendVote::{Gone, HeldByOther};
    use super::*;

    fn extended(ballot: u64, left_s: u64) -> Answer<ExtendVote> {
        Ok(ExtendVote::Extended { ballot: Ballot::from_micros(ballot), left: Duration::from_secs(left_s) })
    }

    fn after(nodes: usize, answers: Vec<Answer<ExtendVote>>) -> ExtensionVerdict {
        let mut extension = Extension::new(Quorum::of(nodes), Duration::ZERO);
        let mut verdict = ExtensionVerdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, ExtensionVerdict::Pending, "decided before node {node} answered");
            verdict = extension.vote(node, answer, Duration::from_millis(1));
        }
        verdict
    }

    #[test]
    fn a_majority_under_one_ballot_extends_for_as_long_as_its_shortest_record() {
        let token = FencingToken::of(Ballot::from_micros(90));
        let verdict = after(5, vec![extended(90, 30), extended(80, 60), extended(90, 10), extended(90, 30)]);
        assert_eq!(verdict, ExtensionVerdict::Extended { fencing_token: token, valid_for: Duration::from_millis(9_898), granted: 3 });
    }

    #[test]
    fn what_has_nothing_left_may_be_there_still() {
        let undecided = |votes: &[&'static str]| ExtensionVerdict::Undecided { shortage: Shortage::Indeterminate, votes: votes.to_vec() };
        assert_eq!(after(3, vec![extended(90, 0), extended(90, 0)]), undecided(&["extended", "extended", "pending"]));
    }

    #[test]
    fn definite_refusals_lose_the_lease() {
        assert_eq!(after(3, vec![Ok(Gone), extended(90, 1), Ok(Gone)]), ExtensionVerdict::Expired);
        assert_eq!(after(3, vec![Ok(HeldByOther), Ok(HeldByOther)]), ExtensionVerdict::HeldByOther);
        assert_eq!(after(5, vec![Ok(Gone), Ok(HeldByOther), Ok(Gone), Ok(HeldByOther), Ok(HeldByOther)]), ExtensionVerdict::HeldByOther);
    }

    #[test]
    fn too_few_answers_decide_nothing() {
        let undecided = |shortage, votes: [&'static str; 3]| ExtensionVerdict::Undecided { shortage, votes: votes.to_vec() };
        let (gone, lost) = (|| Err(Abstention::Unreachable), || Err(Abstention::Silent));
        assert_eq!(after(3, vec![extended(90, 9), lost(), gone()]), undecided(Shortage::Indeterminate, ["extended", "silent", "unreachable"]));
        assert_eq!(after(3, vec![gone(), extended(90, 9), gone()]), undecided(Shortage::NoQuorum, ["unreachable", "extended", "unreachable"]));
        assert_eq!(after(3, vec![extended(90, 9), extended(80, 9), gone()]), undecided(Shortage::NoQuorum, ["extended", "extended", "unreachable"]));
    }
}
