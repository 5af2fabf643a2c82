//! One attempt to acquire: up to three rounds of votes, and what they add up to.
//!
//! Votes are counted per round, by distinct node, per ballot. `Accepted` and `Mine` are never added up, nor
//! are two ballots: each of these sums has been shown to break the fencing order.

use std::time::Duration;

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Ballot, FencingToken, OwnerLabel, Quorum, Ttl, validity};

/// A node's vote on an acquire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AcquireVote {
    /// Written under this round's ballot.
    Accepted,
    /// Another attempt of the same lease holds it under `ballot`, for `left` more. Its record is firm now.
    Mine { ballot: Ballot, left: Duration },
    /// Held by another lease.
    Busy(Holder),
    /// The ballot is not above what this node has seen or what its clock allows; `floor` is.
    Stale { floor: Ballot },
    /// The ballot is further ahead of this node's clock than the window allows.
    Ahead,
}

impl Vote for AcquireVote {
    fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Mine { .. } => "mine",
            Self::Busy(_) => "busy",
            Self::Stale { .. } => "stale",
            Self::Ahead => "ahead",
        }
    }
}

/// Who stands in the way, as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The holder's token; none if another program wrote the record.
    pub ballot: Option<Ballot>,
    pub owner: Option<OwnerLabel>,
    /// Time until the record expires; none if it never does, which only another program can have written.
    pub left: Option<Duration>,
}

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub ttl: Ttl,
    /// The `clock_jump_margin` of the configuration.
    pub margin: Duration,
}

/// A lease, granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub fencing_token: FencingToken,
    /// How long the holder may rely on it, counted from the start of the attempt.
    pub valid_for: Duration,
    /// How many nodes had said yes when the verdict fell.
    pub granted: usize,
    /// The same grant as an earlier attempt of this lease was given.
    pub replayed: bool,
}

/// Why an attempt was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LossCause {
    /// Enough nodes voted and it went to another; none if several contend and nobody has it for sure.
    Held(Option<Holder>),
    NoQuorum,
    /// Answers were lost or came too late.
    Indeterminate,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    pub cause: LossCause,
    /// One word per node, in the order of the configuration.
    pub votes: Vec<&'static str>,
}

/// What the driver does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pending,
    /// Draw a ballot above `floor`, ask every node again and name `over`.
    NextRound {
        floor: Ballot,
        over: Option<Ballot>,
    },
    Granted(Grant),
    Lost(Loss),
}

/// The state of one attempt.
#[derive(Debug)]
pub struct Attempt {
    terms: Terms,
    ballot: Ballot,
    round: u8,
    votes: Votes<AcquireVote>,
}

impl Attempt {
    /// After three rounds it is contention, not bad luck, and waiting is the better answer.
    pub const MAX_ROUNDS: u8 = 3;

    pub fn new(quorum: Quorum, terms: Terms, ballot: Ballot) -> Self {
        Self { terms, ballot, round: 1, votes: Votes::new(quorum) }
    }

    /// Starts the round that [`Verdict::NextRound`] asked for.
    pub fn begin_round(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        self.round += 1;
        self.votes.clear();
    }

    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub fn round(&self) -> u8 {
        self.round
    }

    /// Counts a node's answer in `round`; answers of an earlier round change nothing.
    ///
    /// `elapsed` is the time since before the first send of the attempt, by a monotonic clock.
    pub fn vote(&mut self, node: usize, round: u8, answer: Answer<AcquireVote>, elapsed: Duration) -> Verdict {
        if round != self.round {
            return Verdict::Pending;
        }
        self.votes.record(node, answer);
        self.verdict(elapsed)
    }

    fn verdict(&self, elapsed: Duration) -> Verdict {
        let required = self.votes.quorum().required();
        let pending = self.votes.pending();
        let accepted = self.votes.count(|vote| *vote == AcquireVote::Accepted);
        if required <= accepted {
            return self.granted(accepted, elapsed);
        }
        let mine = self.most_of_one_ballot();
        if let Some((ballot, same)) = mine.filter(|(_, same)| required <= *same) {
            return self.replayed(ballot, same, elapsed);
        }
        if required <= accepted.max(mine.map_or(0, |(_, same)| same)) + pending {
            return Verdict::Pending;
        }
        let movable = self.votes.count(|vote| matches!(vote, AcquireVote::Accepted | AcquireVote::Mine { .. } | AcquireVote::Stale { .. }));
        if required <= movable {
            return self.next_round();
        }
        if required <= movable + pending {
            return Verdict::Pending;
        }
        self.lost(accepted + mine.map_or(0, |(_, same)| same))
    }

    /// The ballot that most nodes answered `Mine` with, and how many.
    fn most_of_one_ballot(&self) -> Option<(Ballot, usize)> {
        self.mine().map(|(ballot, _)| (ballot, self.mine().filter(|(other, _)| *other == ballot).count())).max_by_key(|(_, same)| *same)
    }

    fn mine(&self) -> impl Iterator<Item = (Ballot, Duration)> {
        self.votes.cast().filter_map(|vote| match vote {
            AcquireVote::Mine { ballot, left } => Some((*ballot, *left)),
            _ => None,
        })
    }

    fn granted(&self, granted: usize, elapsed: Duration) -> Verdict {
        let ttl = self.terms.ttl.get();
        let valid_for = validity(ttl, self.terms.margin);
        // A grant of which half is gone would expire while its holder still believes that it has just begun.
        if valid_for.saturating_sub(elapsed) <= ttl / 2 {
            return self.too_late();
        }
        Verdict::Granted(Grant { fencing_token: FencingToken::of(self.ballot), valid_for, granted, replayed: false })
    }

    /// The same grant again: it lasts as long as a majority of the records do.
    fn replayed(&self, ballot: Ballot, granted: usize, elapsed: Duration) -> Verdict {
        let mut left: Vec<_> = self.mine().filter(|(other, _)| *other == ballot).map(|(_, left)| left).collect();
        left.sort_unstable_by(|a, b| b.cmp(a));
        let valid_for = validity(left[self.votes.quorum().required() - 1], self.terms.margin);
        if valid_for <= elapsed {
            return self.too_late();
        }
        Verdict::Granted(Grant { fencing_token: FencingToken::of(ballot), valid_for, granted, replayed: true })
    }

    fn next_round(&self) -> Verdict {
        if self.round == Self::MAX_ROUNDS {
            return Verdict::Lost(Loss { cause: LossCause::Held(self.holder()), votes: self.votes.labels() });
        }
        let over = self.mine().map(|(ballot, _)| ballot).max();
        let floors = self.votes.cast().filter_map(|vote| match vote {
            AcquireVote::Stale { floor } => Some(*floor),
            _ => None,
        });
        Verdict::NextRound { floor: floors.chain(over).max().unwrap_or_default().max(self.ballot), over }
    }

    fn too_late(&self) -> Verdict {
        Verdict::Lost(Loss { cause: LossCause::Indeterminate, votes: self.votes.labels() })
    }

    fn lost(&self, yes: usize) -> Verdict {
        let short_of_voters = self.votes.quorum().blocking() <= self.votes.abstained() + self.votes.count(|vote| *vote == AcquireVote::Ahead);
        let cause = match self.votes.shortage(yes) {
            _ if !short_of_voters => LossCause::Held(self.holder()),
            Shortage::NoQuorum => LossCause::NoQuorum,
            Shortage::Indeterminate => LossCause::Indeterminate,
        };
        Verdict::Lost(Loss { cause, votes: self.votes.labels() })
    }

    /// The holder that most nodes name; a minority may still hold what a failed attempt left.
    fn holder(&self) -> Option<Holder> {
        let holders = || {
            self.votes.cast().filter_map(|vote| match vote {
                AcquireVote::Busy(holder) => Some(holder),
                _ => None,
            })
        };
        let named = |holder: &Holder| holders().filter(|other| other.ballot == holder.ballot).count();
        holders().max_by_key(|holder| (named(holder), holder.left)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::votes::Abstention;
    use super::AcquireVote::{Accepted, Ahead};
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn ballot(micros: u64) -> Ballot {
        Ballot::from_micros(micros)
    }

    fn attempt(nodes: usize) -> Attempt {
        let bounds = super::super::TtlBounds::new(TTL, Duration::ZERO);
        let terms = Terms { ttl: Ttl::new(TTL, bounds).unwrap(), margin: Duration::ZERO };
        Attempt::new(Quorum::of(nodes), terms, ballot(100))
    }

    fn busy(token: u64) -> Answer<AcquireVote> {
        Ok(AcquireVote::Busy(Holder { ballot: Some(ballot(token)), owner: None, left: Some(TTL) }))
    }

    fn mine(token: u64, left_s: u64) -> Answer<AcquireVote> {
        Ok(AcquireVote::Mine { ballot: ballot(token), left: Duration::from_secs(left_s) })
    }

    fn stale(floor: u64) -> Answer<AcquireVote> {
        Ok(AcquireVote::Stale { floor: ballot(floor) })
    }

    /// The verdict after nodes 0, 1, 2 … have answered in round 1.
    fn after(nodes: usize, answers: Vec<Answer<AcquireVote>>) -> Verdict {
        let mut attempt = attempt(nodes);
        let mut verdict = Verdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, Verdict::Pending, "decided before node {node} answered");
            verdict = attempt.vote(node, 1, answer, Duration::from_millis(1));
        }
        verdict
    }

    fn cause(verdict: Verdict) -> LossCause {
        match verdict {
            Verdict::Lost(loss) => loss.cause,
            other => panic!("not lost: {other:?}"),
        }
    }

    fn token(verdict: Verdict) -> (u64, Duration, bool) {
        match verdict {
            Verdict::Granted(grant) => (grant.fencing_token.get(), grant.valid_for, grant.replayed),
            other => panic!("not granted: {other:?}"),
        }
    }

    #[test]
    fn a_majority_of_accepts_is_a_grant_of_the_ballot() {
        assert_eq!(token(after(3, vec![Ok(Accepted), Ok(Accepted)])), (100, Duration::from_millis(9_898), false));
        assert_eq!(token(after(5, vec![busy(1), busy(1), Ok(Accepted), Ok(Accepted), Ok(Accepted)])).0, 100);
        assert_eq!(after(5, vec![Ok(Accepted), Ok(Accepted)]), Verdict::Pending);
    }

    #[test]
    fn the_margin_for_clocks_that_jump_is_taken_off_a_grant_and_off_its_repeat() {
        let margin = Duration::from_secs(2);
        let bounds = super::super::TtlBounds::new(TTL, margin);
        let valid_for = |answers: [Answer<AcquireVote>; 2]| {
            let mut attempt = Attempt::new(Quorum::of(3), Terms { ttl: Ttl::new(TTL, bounds).unwrap(), margin }, ballot(100));
            let [first, second] = answers;
            attempt.vote(0, 1, first, Duration::ZERO);
            token(attempt.vote(1, 1, second, Duration::ZERO)).1
        };
        assert_eq!(valid_for([Ok(Accepted), Ok(Accepted)]), Duration::from_millis(9_898) - margin);
        assert_eq!(valid_for([mine(50, 8), mine(50, 9)]), Duration::from_millis(7_918) - margin);
    }

    #[test]
    fn one_node_counts_once() {
        let mut attempt = attempt(3);
        attempt.vote(0, 1, Ok(Accepted), Duration::ZERO);
        assert_eq!(attempt.vote(0, 1, Ok(Accepted), Duration::ZERO), Verdict::Pending);
    }

    #[test]
    fn accepted_and_mine_are_never_added_up_nor_two_ballots() {
        assert_eq!(after(3, vec![Ok(Accepted), mine(90, 5)]), Verdict::Pending);
        assert_eq!(after(3, vec![mine(90, 5), mine(91, 5)]), Verdict::Pending);
        let raise = |over| Verdict::NextRound { floor: ballot(100), over: Some(ballot(over)) };
        assert_eq!(after(3, vec![Ok(Accepted), mine(90, 5), busy(1)]), raise(90));
        assert_eq!(after(3, vec![mine(90, 5), mine(91, 5), busy(1)]), raise(91));
    }

    #[test]
    fn a_replay_lasts_as_long_as_the_record_that_completes_the_majority() {
        let verdict = after(5, vec![mine(90, 2), mine(90, 9), mine(90, 5)]);
        assert_eq!(token(verdict), (90, Duration::from_millis(1_978), true));
    }

    #[test]
    fn stale_votes_ask_for_a_round_above_their_floor() {
        assert_eq!(after(3, vec![stale(250), stale(300)]), Verdict::NextRound { floor: ballot(300), over: None });
        assert_eq!(after(3, vec![stale(250), mine(260, 3), busy(1)]), Verdict::NextRound { floor: ballot(260), over: Some(ballot(260)) });
    }

    #[test]
    fn a_late_answer_of_an_earlier_round_changes_nothing() {
        let mut attempt = attempt(3);
        attempt.vote(0, 1, stale(200), Duration::ZERO);
        attempt.vote(1, 1, stale(200), Duration::ZERO);
        attempt.begin_round(ballot(201));
        attempt.vote(0, 2, Ok(Accepted), Duration::ZERO);
        assert_eq!(attempt.vote(2, 1, Ok(Accepted), Duration::ZERO), Verdict::Pending);
        assert_eq!(token(attempt.vote(1, 2, Ok(Accepted), Duration::ZERO)).0, 201);
    }

    #[test]
    fn the_third_round_is_the_last() {
        let mut attempt = attempt(1);
        assert!(matches!(attempt.vote(0, 1, stale(200), Duration::ZERO), Verdict::NextRound { .. }));
        attempt.begin_round(ballot(201));
        assert!(matches!(attempt.vote(0, 2, stale(300), Duration::ZERO), Verdict::NextRound { .. }));
        attempt.begin_round(ballot(301));
        assert_eq!(cause(attempt.vote(0, 3, stale(400), Duration::ZERO)), LossCause::Held(None));
    }

    #[test]
    fn no_grant_unless_more_than_half_the_ttl_is_left() {
        for (elapsed_ms, granted) in [(4_897, true), (4_898, false)] {
            let verdict = attempt(1).vote(0, 1, Ok(Accepted), Duration::from_millis(elapsed_ms));
            assert_eq!(matches!(verdict, Verdict::Granted(_)), granted, "{verdict:?}");
        }
        assert_eq!(cause(attempt(1).vote(0, 1, mine(90, 1), Duration::from_secs(1))), LossCause::Indeterminate);
    }

    #[test]
    fn losses_say_why() {
        let gone = || Err(Abstention::Unreachable);
        let silent = || Err(Abstention::Silent);
        let held = |token| LossCause::Held(Some(Holder { ballot: Some(ballot(token)), owner: None, left: Some(TTL) }));
        for (answers, expected) in [
            (vec![busy(7), busy(7), busy(7)], held(7)),
            (vec![busy(6), busy(7), busy(7)], held(7)),
            (vec![gone(), gone(), busy(7)], held(7)),
            (vec![gone(), gone(), gone()], LossCause::NoQuorum),
            (vec![Ok(Accepted), Ok(Accepted), gone(), gone(), gone()], LossCause::NoQuorum),
            (vec![Ok(Ahead), Ok(Ahead), Ok(Ahead)], LossCause::NoQuorum),
            (vec![Ok(Accepted), Ok(Accepted), gone(), gone(), silent()], LossCause::Indeterminate),
            (vec![gone(), silent(), gone()], LossCause::NoQuorum),
            (vec![silent(), silent(), silent()], LossCause::Indeterminate),
        ] {
            assert_eq!(cause(after(5, answers.clone())), expected, "{answers:?}");
        }
    }
}
