//! What clients saw, and whether it keeps the promises: leases of a lock never overlap, and its tokens only grow.

use std::collections::BTreeMap;
use std::time::Instant;

/// A lease, as its holder knows it.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Just before the request was sent.
    pub asked: Instant,
    /// Just after the answer was read: from here on the holder acts.
    pub answered: Instant,
    /// The holder's deadline, or just before it sent the release, if that was earlier.
    pub ended: Instant,
    pub fencing_token: u64,
}

/// Two grants of a lock that should not both be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Both held it at one moment.
    Overlap(u64, u64),
    /// The second was asked for after the first had been answered, and its token is not greater.
    NotGreater(u64, u64),
    /// Both have this token.
    Shared(u64),
}

/// Everything that happened to a set of locks.
#[derive(Default, Debug)]
pub struct History {
    locks: BTreeMap<String, Vec<Grant>>,
}

impl History {
    pub fn add(&mut self, lock: &str, grant: Grant) {
        self.locks.entry(lock.to_owned()).or_default().push(grant);
    }

    pub fn merge(&mut self, other: Self) {
        for (lock, grants) in other.locks {
            self.locks.entry(lock).or_default().extend(grants);
        }
    }

    pub fn grants(&self) -> usize {
        self.locks.values().map(Vec::len).sum()
    }

    pub fn violations(&self) -> Vec<Violation> {
        self.locks.values().flat_map(|grants| [overlaps(grants), falling_tokens(grants), shared_tokens(grants)].concat()).collect()
    }
}

/// Compares each lease with the one that lasted longest of those that began before it.
fn overlaps(grants: &[Grant]) -> Vec<Violation> {
    // Whoever had to stop before the answer came never acted.
    let mut held: Vec<_> = grants.iter().filter(|grant| grant.answered < grant.ended).collect();
    held.sort_by_key(|grant| grant.answered);
    let mut found = Vec::new();
    let mut longest: Option<&Grant> = None;
    for grant in held {
        if let Some(earlier) = longest.filter(|earlier| grant.answered < earlier.ended) {
            found.push(Violation::Overlap(earlier.fencing_token, grant.fencing_token));
        }
        longest = longest.filter(|earlier| grant.ended < earlier.ended).or(Some(grant));
    }
    found
}

/// Compares each grant with the greatest token that was known before it was asked for.
fn falling_tokens(grants: &[Grant]) -> Vec<Violation> {
    let mut by_answer: Vec<_> = grants.iter().collect();
    by_answer.sort_by_key(|grant| grant.answered);
    let mut by_question = by_answer.clone();
    by_question.sort_by_key(|grant| grant.asked);
    let mut answered = by_answer.into_iter().peekable();
    let mut greatest = 0;
    let mut found = Vec::new();
    for grant in by_question {
        while let Some(earlier) = answered.next_if(|earlier| earlier.answered < grant.asked) {
            greatest = greatest.max(earlier.fencing_token);
        }
        if grant.fencing_token <= greatest {
            found.push(Violation::NotGreater(greatest, grant.fencing_token));
        }
    }
    found
}

fn shared_tokens(grants: &[Grant]) -> Vec<Violation> {
    let mut tokens: Vec<u64> = grants.iter().map(|grant| grant.fencing_token).collect();
    tokens.sort_unstable();
    tokens.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| Violation::Shared(pair[0])).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Of one lock: when it was asked for, answered and ended, and its token.
    fn violations(grants: &[(u64, u64, u64, u64)]) -> Vec<Violation> {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut history = History::default();
        for (asked, answered, ended, fencing_token) in grants {
            history.add("lock", Grant { asked: at(*asked), answered: at(*answered), ended: at(*ended), fencing_token: *fencing_token });
        }
        history.violations()
    }

    #[test]
    fn one_holder_after_the_other_is_right() {
        assert_eq!(violations(&[(0, 1, 5, 10), (2, 6, 9, 11), (9, 10, 12, 12)]), []);
        assert_eq!(violations(&[(9, 10, 12, 12), (0, 1, 5, 10), (2, 5, 9, 11)]), []);
    }

    #[test]
    fn an_overlap_is_caught_whatever_lies_between() {
        assert_eq!(violations(&[(0, 1, 5, 10), (0, 4, 9, 11)]), [Violation::Overlap(10, 11)]);
        assert_eq!(violations(&[(0, 1, 50, 10), (0, 51, 52, 11), (0, 49, 50, 12)]), [Violation::Overlap(10, 12)]);
        assert_eq!(violations(&[(0, 1, 50, 10), (0, 2, 3, 11), (0, 40, 60, 12)]), [Violation::Overlap(10, 11), Violation::Overlap(10, 12)]);
    }

    #[test]
    fn a_lease_that_was_over_before_its_answer_came_overlaps_with_nothing() {
        assert_eq!(violations(&[(0, 8, 5, 10), (0, 6, 9, 11)]), []);
    }

    #[test]
    fn a_token_that_falls_in_real_time_is_caught() {
        assert_eq!(violations(&[(0, 1, 2, 11), (3, 4, 5, 10)]), [Violation::NotGreater(11, 10)]);
        assert_eq!(violations(&[(0, 1, 2, 11), (3, 4, 5, 12), (6, 7, 8, 10)]), [Violation::NotGreater(12, 10)]);
    }

    #[test]
    fn requests_that_were_under_way_together_may_be_granted_in_any_order() {
        assert_eq!(violations(&[(0, 3, 4, 11), (2, 5, 6, 10)]), []);
    }

    #[test]
    fn a_token_that_two_share_is_caught() {
        assert_eq!(violations(&[(0, 3, 4, 11), (2, 5, 6, 11)]), [Violation::Shared(11)]);
    }

    #[test]
    fn locks_have_nothing_to_do_with_each_other() {
        let now = Instant::now();
        let mut history = History::default();
        for lock in ["a", "b"] {
            history.add(lock, Grant { asked: now, answered: now, ended: now + Duration::from_secs(1), fencing_token: 1 });
        }
        assert_eq!(history.violations(), []);
        assert_eq!(history.grants(), 2);
    }
}
