//! What a node remembers and forgets, and what of it has to be written down.

use std::collections::BTreeSet;

use super::{Expiring, State};
use crate::lease::LockKey;
use crate::node::{Fence, Marker, Record};

/// A part of the state that differs from what was last taken with [`State::take_changes`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Marker,
    HighWater,
    Lock(LockKey),
    Fence(LockKey),
}

/// How many expired records a batch removes beside its own work: more than a batch can add.
const SWEEP: usize = 256;

impl State {
    /// What differs from the last time, to be written down.
    pub fn take_changes(&mut self) -> BTreeSet<Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn marker(&self) -> Option<&Marker> {
        self.marker.as_ref()
    }

    pub fn high_water_us(&self) -> u64 {
        self.high_water_us
    }

    /// The record of a lock and when it expires, expired or not.
    pub fn lock(&self, key: &LockKey) -> Option<(&Record, u64)> {
        self.locks.get(key).map(|lock| (&lock.value, lock.expires_ms))
    }

    /// The fence of a lock and when it expires, expired or not.
    pub fn fence(&self, key: &LockKey) -> Option<(Fence, u64)> {
        self.fences.get(key).map(|fence| (fence.value, fence.expires_ms))
    }

    /// Takes back what was written down.
    pub fn restore(&mut self, marker: Option<Marker>, high_water_us: u64) {
        self.marker = marker;
        self.high_water_us = high_water_us;
    }

    /// Takes back a lock that was written down.
    pub fn restore_lock(&mut self, key: LockKey, record: Record, expires_ms: u64) {
        self.expiries.insert((expires_ms, Change::Lock(key.clone())));
        self.locks.insert(key, Expiring { value: record, expires_ms });
    }

    /// Takes back a fence that was written down.
    pub fn restore_fence(&mut self, key: LockKey, fence: Fence, expires_ms: u64) {
        self.expiries.insert((expires_ms, Change::Fence(key.clone())));
        self.fences.insert(key, Expiring { value: fence, expires_ms });
    }

    pub(super) fn set_lock(&mut self, key: &LockKey, record: Record, expires_ms: u64) {
        self.remove_lock(key);
        self.expiries.insert((expires_ms, Change::Lock(key.clone())));
        self.locks.insert(key.clone(), Expiring { value: record, expires_ms });
    }

    pub(super) fn remove_lock(&mut self, key: &LockKey) {
        if let Some(old) = self.locks.remove(key) {
            self.expiries.remove(&(old.expires_ms, Change::Lock(key.clone())));
        }
        self.changes.insert(Change::Lock(key.clone()));
    }

    pub(super) fn set_high_water(&mut self, now_us: u64) {
        self.high_water_us = now_us;
        self.changes.insert(Change::HighWater);
    }

    /// Forgets a few of what expired. Only here and only by the batch's own clock, so a clock excursion that
    /// no batch saw removes nothing.
    pub(super) fn sweep(&mut self, now_us: u64) {
        for _ in 0..SWEEP {
            let Some((expires_ms, _)) = self.expiries.first() else { return };
            if now_us / 1000 <= *expires_ms {
                return;
            }
            let Some((_, what)) = self.expiries.pop_first() else { return };
            match &what {
                Change::Lock(key) => drop(self.locks.remove(key)),
                Change::Fence(key) => drop(self.fences.remove(key)),
                Change::Marker | Change::HighWater => {}
            }
            self.changes.insert(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::{AcquireVote, AttemptId, Ballot, ExtendVote, InspectVote, LeaseId, Lifetime, Mode};
    use crate::node::{Acquire, Agreement, Command, Epoch, Hello, Members, Reply};

    #[test]
    fn what_is_over_and_not_swept_yet_is_over_all_the_same() {
        let agreement =
            Agreement { generation: 1, max_ttl: Duration::from_secs(300), window: Duration::from_millis(500), members: Members::of(["n1"], "") };
        let start_us = 1_800_000_000_000_000;
        let hello = Hello { agreement, node: "n1".into(), run_id: "run".into(), reference_us: start_us, durable: Some(true), fresh: true };
        let mut state = State::default();
        let epoch = state.handshake(start_us, &hello).map(|marker| Epoch::from(&marker)).unwrap();
        let key = |n: usize| LockKey::new(&format!("{n:04}")).unwrap();
        let lease = LeaseId::from_random([1; LeaseId::RANDOM]);
        let acquire = |n: usize, now_us: u64| {
            let (ballot, ttl) = (Ballot::from_micros(now_us), Duration::from_secs(1));
            let (lease, attempt) = (lease.clone(), AttemptId(now_us));
            Command::Acquire(Acquire {
                key: key(n),
                lease,
                attempt,
                ballot,
                over: None,
                ttl,
                owner: None,
                lifetime: Lifetime::default(),
                mode: Mode::Exclusive,
                holds_back: Duration::ZERO,
                members: [].into(),
            })
        };
        // Twice as many as one batch forgets; the last of them is the last to be forgotten.
        let locks: Vec<_> = (0..2 * SWEEP).map(|n| acquire(n, start_us)).collect();
        assert!(state.apply(start_us, &epoch, agreement, &locks).iter().all(|answer| *answer == Ok(Reply::Acquire(AcquireVote::Accepted))));
        let late_us = start_us + 100_000_000;
        let (last, ttl) = (2 * SWEEP - 1, Duration::from_secs(1));
        let commands = [Command::Inspect { key: key(last) }, Command::Extend { key: key(last), lease: lease.clone(), ttl }, acquire(last, late_us)];
        let answers = state.apply(late_us, &epoch, agreement, &commands);
        assert!(state.lock(&key(last - 1)).is_some(), "all were swept");
        let expected = [Reply::Inspect(InspectVote::Free), Reply::Extend(ExtendVote::Gone), Reply::Acquire(AcquireVote::Accepted)];
        assert_eq!(answers, expected.map(Ok));
    }
}
