//! What clients saw, and whether it keeps the promises: leases that exclude each other never overlap, and tokens only grow.
//!
//! Those who share a lock may overlap each other and come in any order among themselves; every one of them excludes, and is
//! ordered against, who has the lock alone. Slots exclude each other by their numbers, and their tokens grow over all of them.
//!
//! One check for every level: the simulation, the faults on real servers, and the load. A request whose outcome nobody
//! knows may have been granted: the lock is possibly held, which others may be refused for, but nobody acts on it, so it
//! is counted and can violate nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// How a lock was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    #[default]
    Alone,
    Shared,
    /// A slot, and how many its holder believes that there are.
    Slot {
        number: u64,
        limit: u64,
    },
}

/// A lease, as its holder knows it. Times are counted from the beginning of the run, by one clock for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub way: Way,
    /// Which lease id: a repeat may be told the same grant again.
    pub lease: u64,
    /// Just before the request was sent; of a slot just before the first of its repeats was, since others may have had
    /// other slots since then.
    pub asked: Duration,
    /// Just after the answer was read: from here on the holder acts.
    pub answered: Duration,
    /// The holder's deadline, or just before it sent the release, if that was earlier.
    pub ended: Duration,
    pub fencing_token: u64,
}

/// Why two grants of a lock should not both be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Both held it at one moment.
    Overlap,
    /// The second was asked for after the first had been answered, and its token is not greater.
    NotGreater,
    /// Two leases have one token.
    Shared,
}

/// Two grants of a lock that should not both be, in the order of their answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub wrong: Wrong,
    pub lock: String,
    pub grants: [Grant; 2],
}

/// How much a run was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub grants: usize,
    /// Of those, how many share a lock.
    pub shared: usize,
    /// And how many are of slots.
    pub slots: usize,
    /// Requests of clients, of every kind.
    pub calls: usize,
    /// Those that nobody knows the outcome of.
    pub unknown: usize,
    pub faults: usize,
}

/// Everything that happened to a set of locks.
#[derive(Clone, Default, Debug)]
pub struct History {
    locks: BTreeMap<String, Vec<Grant>>,
    counts: Counts,
}

impl History {
    pub fn add(&mut self, lock: &str, grant: Grant) {
        self.counts.grants += 1;
        match grant.way {
            Way::Alone => {}
            Way::Shared => self.counts.shared += 1,
            Way::Slot { .. } => self.counts.slots += 1,
        }
        self.locks.entry(lock.to_owned()).or_default().push(grant);
    }

    pub fn add_call(&mut self) {
        self.counts.calls += 1;
    }

    pub fn add_unknown(&mut self) {
        self.counts.unknown += 1;
    }

    pub fn add_faults(&mut self, faults: usize) {
        self.counts.faults += faults;
    }

    pub fn merge(&mut self, other: Self) {
        for (lock, grants) in other.locks {
            self.locks.entry(lock).or_default().extend(grants);
        }
        self.counts += other.counts;
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn violations(&self) -> Vec<Violation> {
        let of_lock = |(lock, grants): (&String, &Vec<Grant>)| {
            let found = [overlaps(grants), falling_tokens(grants), shared_tokens(grants)].concat();
            found.into_iter().map(|(wrong, grants)| Violation { wrong, lock: lock.clone(), grants }).collect::<Vec<_>>()
        };
        self.locks.iter().flat_map(of_lock).collect()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, Self { grants, shared, slots, calls, unknown, faults }: Self) {
        self.grants += grants;
        self.shared += shared;
        self.slots += slots;
        self.calls += calls;
        self.unknown += unknown;
        self.faults += faults;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grants, shared, slots, calls, unknown, faults } = self;
        write!(f, "{grants} grants ({shared} shared, {slots} slots), {calls} calls, {unknown} unknown outcomes, {faults} faults")
    }
}

type Found = (Wrong, [Grant; 2]);

impl Way {
    /// When a grant counts as asked for, that was asked for the first time and in the end then.
    pub fn asked(self, first: Duration, last: Duration) -> Duration {
        if let Self::Slot { .. } = self { first } else { last }
    }

    /// Whether two leases may be valid at one moment.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Shared, Self::Shared) => false,
            (Self::Slot { number: one, limit }, Self::Slot { number, limit: other_limit }) => {
                one == number || limit != other_limit || limit < one.max(number)
            }
            _ => true,
        }
    }

    /// Whether the tokens of two grants say which came first.
    fn is_ordered_with(self, other: Self) -> bool {
        (self, other) != (Self::Shared, Self::Shared)
    }
}

/// Compares each lease with those that began before it and had not ended.
fn overlaps(grants: &[Grant]) -> Vec<Found> {
    // Whoever had to stop before the answer came never acted.
    let mut held: Vec<_> = grants.iter().filter(|grant| grant.answered < grant.ended).collect();
    held.sort_by_key(|grant| grant.answered);
    let mut found = Vec::new();
    let mut earlier: Vec<&Grant> = Vec::new();
    for grant in held {
        earlier.retain(|earlier| grant.answered < earlier.ended);
        let excluded = earlier.iter().filter(|earlier| grant.lease != earlier.lease && grant.way.excludes(earlier.way));
        found.extend(excluded.map(|earlier| (Wrong::Overlap, [**earlier, *grant])));
        earlier.push(grant);
    }
    found
}

/// Compares each grant with the greatest token that was known before it was asked for: of all, or for one that shares the
/// lock of those that did not.
fn falling_tokens(grants: &[Grant]) -> Vec<Found> {
    let mut by_answer: Vec<_> = grants.iter().collect();
    by_answer.sort_by_key(|grant| grant.answered);
    let mut by_question = by_answer.clone();
    by_question.sort_by_key(|grant| grant.asked);
    let mut answered = by_answer.into_iter().peekable();
    let [mut of_all, mut of_sole]: [Option<&Grant>; 2] = [None, None];
    let mut found = Vec::new();
    for grant in by_question {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered < grant.asked) {
            let greater = |known: Option<&'_ Grant>| known.is_none_or(|known| known.fencing_token <= earlier.fencing_token);
            if greater(of_all) {
                of_all = Some(earlier);
            }
            if earlier.way != Way::Shared && greater(of_sole) {
                of_sole = Some(earlier);
            }
        }
        let is_repeat = |earlier: &Grant| earlier.lease == grant.lease && earlier.fencing_token == grant.fencing_token;
        let greatest = if grant.way == Way::Shared { of_sole } else { of_all };
        if let Some(earlier) = greatest.filter(|earlier| grant.fencing_token <= earlier.fencing_token && !is_repeat(earlier)) {
            found.push((Wrong::NotGreater, [*earlier, *grant]));
        }
    }
    found
}

fn shared_tokens(grants: &[Grant]) -> Vec<Found> {
    let mut by_token: Vec<_> = grants.iter().collect();
    by_token.sort_by_key(|grant| (grant.fencing_token, grant.answered));
    let shared = |pair: &&[&Grant]| {
        let [one, other] = [pair[0], pair[1]];
        one.fencing_token == other.fencing_token && one.lease != other.lease && one.way.is_ordered_with(other.way)
    };
    by_token.windows(2).filter(shared).map(|pair| (Wrong::Shared, [*pair[0], *pair[1]])).collect()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = match self.wrong {
            Wrong::Overlap => "two leases at one moment",
            Wrong::NotGreater => "a token that is not greater than one that was known before it was asked for",
            Wrong::Shared => "two leases with one token",
        };
        write!(f, "lock {:?}: {wrong}", self.lock)?;
        for Grant { way, lease, asked, answered, ended, fencing_token } in &self.grants {
            write!(f, "\n  {way:?}, token {fencing_token} of lease {lease:x}: asked at {asked:?}, answered at {answered:?}, held until {ended:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one lock and leases of their own: when it was asked for, answered and ended, and its token.
    fn violations(grants: &[(u64, u64, u64, u64)]) -> Vec<(Wrong, u64, u64)> {
        let leases: Vec<_> =
            grants.iter().enumerate().map(|(lease, (asked, answered, ended, token))| (lease as u64, *asked, *answered, *ended, *token)).collect();
        violations_of(&leases)
    }

    fn violations_of(grants: &[(u64, u64, u64, u64, u64)]) -> Vec<(Wrong, u64, u64)> {
        let at = Duration::from_millis;
        let mut history = History::default();
        for (lease, asked, answered, ended, fencing_token) in grants {
            let way = Way::Alone;
            let grant = Grant { way, lease: *lease, asked: at(*asked), answered: at(*answered), ended: at(*ended), fencing_token: *fencing_token };
            history.add("lock", grant);
        }
        history.violations().iter().map(|found| (found.wrong, found.grants[0].fencing_token, found.grants[1].fencing_token)).collect()
    }

    #[test]
    fn one_holder_after_the_other_is_right() {
        assert_eq!(violations(&[(0, 1, 5, 10), (2, 6, 9, 11), (9, 10, 12, 12)]), []);
        assert_eq!(violations(&[(9, 10, 12, 12), (0, 1, 5, 10), (2, 5, 9, 11)]), []);
    }

    #[test]
    fn an_overlap_is_caught_whatever_lies_between() {
        assert_eq!(violations(&[(0, 1, 5, 10), (0, 4, 9, 11)]), [(Wrong::Overlap, 10, 11)]);
        assert_eq!(violations(&[(0, 1, 50, 10), (0, 51, 52, 11), (0, 49, 50, 12)]), [(Wrong::Overlap, 10, 12)]);
        assert_eq!(violations(&[(0, 1, 50, 10), (0, 2, 3, 11), (0, 40, 60, 12)]), [(Wrong::Overlap, 10, 11), (Wrong::Overlap, 10, 12)]);
    }

    #[test]
    fn a_lease_that_was_over_before_its_answer_came_overlaps_with_nothing() {
        assert_eq!(violations(&[(0, 8, 5, 10), (0, 6, 9, 11)]), []);
    }

    #[test]
    fn a_token_that_falls_in_real_time_is_caught() {
        assert_eq!(violations(&[(0, 1, 2, 11), (3, 4, 5, 10)]), [(Wrong::NotGreater, 11, 10)]);
        assert_eq!(violations(&[(0, 1, 2, 11), (3, 4, 5, 12), (6, 7, 8, 10)]), [(Wrong::NotGreater, 12, 10)]);
    }

    #[test]
    fn requests_that_were_under_way_together_may_be_granted_in_any_order() {
        assert_eq!(violations(&[(0, 3, 4, 11), (2, 5, 6, 10)]), []);
    }

    #[test]
    fn a_token_that_two_share_is_caught() {
        assert_eq!(violations(&[(0, 3, 4, 11), (2, 5, 6, 11)]), [(Wrong::Shared, 11, 11)]);
    }

    #[test]
    fn a_repeat_is_told_the_same_grant_and_a_new_grant_of_its_lease_is_greater() {
        assert_eq!(violations_of(&[(7, 0, 1, 9, 10), (7, 2, 3, 9, 10), (7, 4, 5, 9, 11)]), []);
        assert_eq!(violations_of(&[(7, 0, 1, 9, 10), (7, 2, 3, 9, 9)]), [(Wrong::NotGreater, 10, 9)]);
        assert_eq!(violations_of(&[(7, 0, 1, 9, 10), (8, 2, 3, 9, 10)]).len(), 3);
    }

    /// When it was asked for, answered and ended, and its token.
    type Times = (u64, u64, u64, u64);

    /// The same, each in a way of its own.
    fn violations_among(grants: &[(Way, Times)]) -> Vec<(Wrong, u64, u64)> {
        let at = Duration::from_millis;
        let mut history = History::default();
        for (lease, (way, (asked, answered, ended, token))) in grants.iter().enumerate() {
            let (asked, answered, ended) = (at(*asked), at(*answered), at(*ended));
            history.add("lock", Grant { way: *way, lease: lease as u64, asked, answered, ended, fencing_token: *token });
        }
        history.violations().iter().map(|found| (found.wrong, found.grants[0].fencing_token, found.grants[1].fencing_token)).collect()
    }

    #[test]
    fn those_who_share_a_lock_exclude_only_who_has_it_alone() {
        use Way::{Alone, Shared};
        let readers = [(Shared, (0, 1, 9, 10)), (Shared, (2, 3, 9, 10)), (Shared, (4, 5, 9, 8))];
        assert_eq!(violations_among(&readers), []);
        let writer = |asked, token| [&readers[..], &[(Alone, (asked, asked + 1, 20, token))]].concat();
        assert_eq!(violations_among(&writer(9, 11)), []);
        assert_eq!(violations_among(&writer(7, 11)).iter().filter(|found| found.0 == Wrong::Overlap).count(), 3);
        assert_eq!(violations_among(&writer(9, 9)), [(Wrong::NotGreater, 10, 9)]);
        assert_eq!(violations_among(&[(Alone, (0, 1, 2, 10)), (Shared, (3, 4, 5, 9))]), [(Wrong::NotGreater, 10, 9)]);
        assert_eq!(violations_among(&[(Alone, (0, 3, 4, 10)), (Shared, (2, 5, 6, 10))]), [(Wrong::Shared, 10, 10)]);
    }

    #[test]
    fn slots_exclude_each_other_by_number_and_limit_and_grow_over_all() {
        let slot = |number, limit| Way::Slot { number, limit };
        let with_another = |number, limit, token| violations_among(&[(slot(1, 2), (0, 1, 9, 10)), (slot(number, limit), (2, 3, 9, token))]);
        assert_eq!(with_another(2, 2, 11), []);
        assert_eq!(with_another(1, 2, 11), [(Wrong::Overlap, 10, 11)]);
        assert_eq!(with_another(2, 3, 11), [(Wrong::Overlap, 10, 11)]);
        assert_eq!(with_another(3, 2, 11), [(Wrong::Overlap, 10, 11)]);
        assert_eq!(with_another(2, 2, 9), [(Wrong::NotGreater, 10, 9)]);
    }

    #[test]
    fn locks_have_nothing_to_do_with_each_other() {
        let grant =
            Grant { way: Way::Alone, lease: 1, asked: Duration::ZERO, answered: Duration::ZERO, ended: Duration::from_secs(1), fencing_token: 1 };
        let mut history = History::default();
        for (lock, lease) in [("a", 1), ("b", 2)] {
            history.add(lock, Grant { lease, ..grant });
        }
        assert_eq!((history.violations(), history.counts().grants), (vec![], 2));
    }

    #[test]
    fn what_was_counted_is_merged() {
        let mut history = History::default();
        history.add_call();
        history.add_unknown();
        history.merge(history.clone());
        history.add_faults(3);
        assert_eq!(history.counts(), Counts { calls: 2, unknown: 2, faults: 3, ..Counts::default() });
    }
}
