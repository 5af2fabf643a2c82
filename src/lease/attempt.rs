//! One attempt to acquire: up to three rounds of votes, and what they add up to.
//!
//! Votes are counted per round, by distinct node, per ballot. `Accepted` and `Mine` are never added up, nor
//! are two ballots: each of these sums has been shown to break the fencing order.

use std::time::Duration;

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Ballot, FencingToken, Mode, OwnerLabel, Quorum, Slots, Ttl, validity};

/// A node's vote on an acquire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AcquireVote {
    /// Written under this round's ballot.
    Accepted,
    /// Another attempt of the same lease holds it under `ballot`, for `left` more, in the place `slot` where there are
    /// some. Its record is firm now. Nothing is left where it holds a part of a set only.
    Mine { ballot: Ballot, left: Duration, slot: u16 },
    /// Held by another lease.
    Busy(Holder),
    /// Held in this slot by another lease, and so are these. `holder` is the one who stays longest.
    Taken { slots: Slots, holder: Holder },
    /// Held by others who agree on another number of slots; 0 if they have none.
    OtherLimit { limit: u16, holder: Holder },
    /// Held together by as many as may.
    Crowded(Holder),
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
            Self::Taken { .. } => "taken",
            Self::OtherLimit { .. } => "other_limit",
            Self::Crowded(_) => "crowded",
            Self::Stale { .. } => "stale",
            Self::Ahead => "ahead",
        }
    }
}

/// Who stands in the way, as one node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// The holder's token; none if another program wrote the record.
    pub ballot: Option<Ballot>,
    pub owner: Option<OwnerLabel>,
    /// Time until the record expires; none if it never does, which only another program can have written.
    pub left: Option<Duration>,
    /// Others hold the lock as well, or may.
    pub is_shared: bool,
    /// Which lock of the set that was asked for; none where it is no set, or another set of the same lease.
    pub member: Option<usize>,
}

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub ttl: Ttl,
    pub mode: Mode,
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
    /// With the slot that was got.
    pub mode: Mode,
}

/// Why an attempt was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LossCause {
    /// Enough nodes voted and it went to another; none if several contend and nobody has it for sure.
    Held(Option<Holder>),
    /// The slot is another's, and so are these.
    Taken {
        slots: Slots,
        holder: Option<Holder>,
    },
    /// Those who hold it agree on another number of slots.
    OtherLimit {
        limit: u16,
        holder: Option<Holder>,
    },
    /// As many hold it together as may.
    Crowded(Option<Holder>),
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
    mode: Mode,
    ballot: Ballot,
    round: u8,
    votes: Votes<AcquireVote>,
}

impl Attempt {
    /// After three rounds it is contention, not bad luck, and waiting is the better answer.
    pub const MAX_ROUNDS: u8 = 3;

    pub fn new(quorum: Quorum, terms: Terms, ballot: Ballot) -> Self {
        Self { terms, mode: terms.mode, ballot, round: 1, votes: Votes::new(quorum) }
    }

    /// Starts the round that [`Verdict::NextRound`] asked for. Where the lease has a slot it is asked for that one.
    pub fn begin_round(&mut self, ballot: Ballot) {
        let slot = self.mine().max_by_key(|(ballot, ..)| *ballot).map(|(_, _, slot)| slot);
        self.mode = slot.map_or(self.mode, |slot| self.mode.at(slot));
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

    /// With the slot that this round asks for.
    pub fn mode(&self) -> Mode {
        self.mode
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

    /// The ballot that most nodes answered `Mine` with, and how many. Of a part of a set none is a grant.
    fn most_of_one_ballot(&self) -> Option<(Ballot, usize)> {
        let whole = || self.mine().filter(|(_, left, _)| !left.is_zero()).map(|(ballot, ..)| ballot);
        whole().map(|ballot| (ballot, whole().filter(|other| *other == ballot).count())).max_by_key(|(_, same)| *same)
    }

    fn mine(&self) -> impl Iterator<Item = (Ballot, Duration, u16)> {
        self.votes.cast().filter_map(|vote| match vote {
            AcquireVote::Mine { ballot, left, slot } => Some((*ballot, *left, *slot)),
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
        Verdict::Granted(Grant { fencing_token: FencingToken::of(self.ballot), valid_for, granted, replayed: false, mode: self.mode })
    }

    /// The same grant again: it lasts as long as a majority of the records do.
    fn replayed(&self, ballot: Ballot, granted: usize, elapsed: Duration) -> Verdict {
        let same = || self.mine().filter(|(other, left, _)| *other == ballot && !left.is_zero());
        let mut left: Vec<_> = same().map(|(_, left, _)| left).collect();
        left.sort_unstable_by(|a, b| b.cmp(a));
        // One ballot is one request of one attempt, and so of one slot.
        let mode = same().next().map_or(self.mode, |(.., slot)| self.mode.at(slot));
        let valid_for = validity(left[self.votes.quorum().required() - 1], self.terms.margin);
        if valid_for <= elapsed {
            return self.too_late();
        }
        Verdict::Granted(Grant { fencing_token: FencingToken::of(ballot), valid_for, granted, replayed: true, mode })
    }

    fn next_round(&self) -> Verdict {
        if self.round == Self::MAX_ROUNDS {
            return Verdict::Lost(Loss { cause: LossCause::Held(self.holder()), votes: self.votes.labels() });
        }
        let over = self.mine().map(|(ballot, ..)| ballot).max();
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
            _ if !short_of_voters => self.in_the_way(),
            Shortage::NoQuorum => LossCause::NoQuorum,
            Shortage::Indeterminate => LossCause::Indeterminate,
        };
        Verdict::Lost(Loss { cause, votes: self.votes.labels() })
    }

    fn in_the_way(&self) -> LossCause {
        let (holder, votes) = (self.holder(), || self.votes.cast());
        let taken = || votes().filter_map(|vote| if let AcquireVote::Taken { slots, .. } = vote { Some(*slots) } else { None });
        let limit = votes().find_map(|vote| if let AcquireVote::OtherLimit { limit, .. } = vote { Some(*limit) } else { None });
        if let Some(slots) = taken().reduce(Slots::union) {
            return LossCause::Taken { slots, holder };
        }
        match limit {
            Some(limit) => LossCause::OtherLimit { limit, holder },
            None if votes().any(|vote| matches!(vote, AcquireVote::Crowded(_))) => LossCause::Crowded(holder),
            None => LossCause::Held(holder),
        }
    }

    /// The holder that most nodes name; a minority may still hold what a failed attempt left.
    fn holder(&self) -> Option<Holder> {
        let holders = || {
            self.votes.cast().filter_map(|vote| match vote {
                AcquireVote::Busy(holder) | AcquireVote::Crowded(holder) => Some(holder),
                AcquireVote::Taken { holder, .. } | AcquireVote::OtherLimit { holder, .. } => Some(holder),
                _ => None,
            })
        };
        let named = |holder: &Holder| holders().filter(|other| other.ballot == holder.ballot).count();
        holders().max_by_key(|holder| (named(holder), holder.left)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slot;
    use super::super::votes::Abstention;
    use super::AcquireVote::{Accepted, Ahead};
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn ballot(micros: u64) -> Ballot {
        Ballot::from_micros(micros)
    }

    fn attempt(nodes: usize) -> Attempt {
        let bounds = super::super::TtlBounds::new(TTL, Duration::ZERO);
        let terms = Terms { ttl: Ttl::new(TTL, bounds).unwrap(), mode: Mode::Exclusive, margin: Duration::ZERO };
        Attempt::new(Quorum::of(nodes), terms, ballot(100))
    }

    fn busy(token: u64) -> Answer<AcquireVote> {
        Ok(AcquireVote::Busy(Holder { ballot: Some(ballot(token)), left: Some(TTL), ..Holder::default() }))
    }

    fn mine(token: u64, left_s: u64) -> Answer<AcquireVote> {
        Ok(AcquireVote::Mine { ballot: ballot(token), left: Duration::from_secs(left_s), slot: 0 })
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
            let mut attempt = Attempt::new(Quorum::of(3), Terms { ttl: Ttl::new(TTL, bounds).unwrap(), mode: Mode::Exclusive, margin }, ballot(100));
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
    fn what_is_left_of_a_part_of_a_set_is_no_grant_and_is_raised() {
        let raise = Verdict::NextRound { floor: ballot(100), over: Some(ballot(90)) };
        assert_eq!(after(3, vec![mine(90, 0), mine(90, 0)]), raise);
        assert_eq!(token(after(3, vec![mine(90, 0), mine(90, 5), mine(90, 5)])).0, 90);
    }

    #[test]
    fn a_lease_that_has_a_slot_is_granted_that_one_again_or_asks_for_it() {
        let slot = |number| Mode::Slot(Slot { number, limit: 5 });
        let mine = |token, slot| Ok(AcquireVote::Mine { ballot: ballot(token), left: Duration::from_secs(5), slot });
        let mut attempt = attempt(3);
        (attempt.mode, attempt.terms.mode) = (slot(1), slot(1));
        attempt.vote(0, 1, mine(90, 4), Duration::ZERO);
        let mut again = Attempt { votes: Votes::new(Quorum::of(3)), ..attempt };
        again.vote(0, 1, mine(90, 4), Duration::ZERO);
        let Verdict::Granted(grant) = again.vote(1, 1, mine(90, 4), Duration::ZERO) else { panic!("not the same again") };
        assert_eq!((grant.mode, grant.replayed), (slot(4), true));
        let mut other = Attempt { votes: Votes::new(Quorum::of(3)), ..again };
        other.vote(0, 1, mine(90, 4), Duration::ZERO);
        other.vote(1, 1, Ok(Accepted), Duration::ZERO);
        assert!(matches!(other.vote(2, 1, mine(91, 2), Duration::ZERO), Verdict::NextRound { .. }));
        other.begin_round(ballot(200));
        assert_eq!(other.mode(), slot(2));
    }

    #[test]
    fn losses_among_many_say_what_would_help() {
        let holder = Holder { ballot: Some(ballot(7)), is_shared: true, ..Holder::default() };
        let taken = |slots: &[u16]| Ok(AcquireVote::Taken { slots: slots.iter().copied().collect(), holder: holder.clone() });
        let other_limit = || Ok(AcquireVote::OtherLimit { limit: 3, holder: holder.clone() });
        let crowded = || Ok(AcquireVote::Crowded(holder.clone()));
        let found = Some(holder.clone());
        for (answers, expected) in [
            (vec![taken(&[1, 2]), taken(&[1, 4])], LossCause::Taken { slots: [1, 2, 4].into_iter().collect(), holder: found.clone() }),
            (vec![taken(&[1]), other_limit()], LossCause::Taken { slots: [1].into_iter().collect(), holder: found.clone() }),
            (vec![other_limit(), crowded()], LossCause::OtherLimit { limit: 3, holder: found.clone() }),
            (vec![crowded(), crowded()], LossCause::Crowded(found.clone())),
        ] {
            assert_eq!(cause(after(3, answers.clone())), expected, "{answers:?}");
        }
    }

    #[test]
    fn losses_say_why() {
        let gone = || Err(Abstention::Unreachable);
        let silent = || Err(Abstention::Silent);
        let held = |token| LossCause::Held(Some(Holder { ballot: Some(ballot(token)), left: Some(TTL), ..Holder::default() }));
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
