//! Whose turn it is to have a lock for which callers wait in several gateways.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::{Ballot, Holder, LockKey};

/// How long those who wait here may have a lock for which others wait elsewhere. Long beside the few milliseconds in which it
/// goes from one gateway to another.
pub const TURN: Duration = Duration::from_millis(50);
/// For how long it is then left to them.
pub const LEFT_TO_OTHERS: Duration = Duration::from_millis(20);
/// A grant that is as long ago has nothing to do with the next.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// How many locks are remembered. Of more than so many that are handed on within a second, some may stay here longer.
const MAX_TURNS: usize = 10_000;

/// Of which locks it is this gateway's turn, or the others'. A line is too short a memory: with two callers who take turns it is
/// over whenever one has the lock.
#[derive(Default)]
pub struct Turns(HashMap<LockKey, Turn>);

struct Turn {
    /// When ours began; none while it is not ours.
    since: Option<Instant>,
    /// When something last happened to it.
    last: Instant,
    /// By which the lock was last granted here.
    ballot: Option<Ballot>,
    /// Until when it is the others'.
    left_until: Option<Instant>,
}

impl Turns {
    /// Somebody who waited here has got the lock, by this ballot.
    pub fn begin(&mut self, key: &LockKey, ballot: Option<Ballot>) {
        let now = Instant::now();
        if let Some(turn) = self.of(key, now) {
            let is_another = FORGOTTEN < now - turn.last;
            turn.since = turn.since.filter(|_| !is_another).or(Some(now));
            (turn.last, turn.ballot) = (now, ballot);
        }
    }

    /// This one has it, which ends our turn if it is none of ours. Those who share it may be, and are not told apart.
    pub fn see(&mut self, key: &LockKey, holder: &Holder) {
        let is_ours = self.0.get(key).is_some_and(|turn| turn.ballot == holder.ballot);
        if !is_ours && !holder.is_shared {
            self.0.remove(key);
        }
    }

    /// It is the others' now, until the moment that is returned.
    pub fn leave(&mut self, key: &LockKey) -> Instant {
        let now = Instant::now();
        let until = self.left_until(key).unwrap_or(now + LEFT_TO_OTHERS);
        if let Some(turn) = self.of(key, now) {
            (turn.since, turn.last, turn.left_until) = (None, now, Some(until));
        }
        until
    }

    /// Until when it is the others', if it is.
    pub fn left_until(&self, key: &LockKey) -> Option<Instant> {
        self.0.get(key)?.left_until.filter(|until| Instant::now() < *until)
    }

    /// Whether ours has lasted as long as it may if others wait, or is the others' already.
    pub fn is_over(&self, key: &LockKey) -> bool {
        self.left_until(key).is_some() || self.0.get(key).and_then(|turn| turn.since).is_some_and(|since| TURN <= since.elapsed())
    }

    fn of(&mut self, key: &LockKey, now: Instant) -> Option<&mut Turn> {
        if MAX_TURNS <= self.0.len() && !self.0.contains_key(key) {
            self.0.retain(|_, turn| now - turn.last <= FORGOTTEN);
        }
        if MAX_TURNS <= self.0.len() && !self.0.contains_key(key) {
            return None;
        }
        Some(self.0.entry(key.clone()).or_insert(Turn { since: None, last: now, ballot: None, left_until: None }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn key(name: usize) -> LockKey {
        LockKey::new(&name.to_string()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_lasts_from_grant_to_grant_and_is_then_the_others() {
        let (mut turns, lock) = (Turns::default(), key(0));
        turns.begin(&lock, None);
        assert!(!turns.is_over(&lock));
        advance(TURN / 2).await;
        turns.begin(&lock, None);
        advance(TURN / 2).await;
        assert!(turns.is_over(&lock));
        let until = turns.leave(&lock);
        assert!(turns.is_over(&lock) && turns.left_until(&lock) == Some(until) && until == Instant::now() + LEFT_TO_OTHERS);
        advance(LEFT_TO_OTHERS / 2).await;
        // What else is freed of it meanwhile is the others' as well, and no longer.
        assert_eq!(turns.leave(&lock), until);
        advance(LEFT_TO_OTHERS / 2).await;
        assert!(!turns.is_over(&lock) && turns.left_until(&lock).is_none());
        turns.begin(&lock, Some(Ballot::from_micros(7)));
        advance(TURN).await;
        let by = |micros, is_shared| Holder { ballot: Some(Ballot::from_micros(micros)), is_shared, ..Holder::default() };
        for ours in [by(7, false), by(8, true)] {
            turns.see(&lock, &ours);
            assert!(turns.is_over(&lock));
        }
        turns.see(&lock, &by(8, false));
        assert!(!turns.is_over(&lock));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_grant_is_no_part_of_a_turn() {
        let (mut turns, lock) = (Turns::default(), key(0));
        turns.begin(&lock, None);
        advance(FORGOTTEN + TURN).await;
        turns.begin(&lock, None);
        assert!(!turns.is_over(&lock));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_on_what_is_remembered() {
        let mut turns = Turns::default();
        (0..=MAX_TURNS).for_each(|name| turns.begin(&key(name), None));
        assert_eq!(turns.0.len(), MAX_TURNS);
        advance(FORGOTTEN + TURN).await;
        turns.begin(&key(MAX_TURNS), None);
        assert_eq!(turns.0.len(), 1);
    }
}
