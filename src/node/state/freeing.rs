//! Releasing and cancelling on one node: by lease and ballot, or by attempt.

use super::{Batch, State};
use crate::lease::{AttemptId, Ballot, LeaseId, Lifetime, LockKey, ReleaseVote};
use crate::node::record::Together;
use crate::node::{LockRecord, Record};

impl State {
    pub(super) fn release(&mut self, batch: &Batch, key: &LockKey, lease: Option<&LeaseId>, up_to: Ballot) -> ReleaseVote {
        let of_lease = |record: &LockRecord| lease.is_none_or(|lease| record.lease == *lease);
        let vote = match self.live(batch, key).map(|held| held.value.clone()) {
            None => ReleaseVote::NotHeld,
            Some(Record::Together(together)) => self.release_some(batch, key, together, of_lease, up_to),
            Some(Record::Alone(record)) if !of_lease(&record) => {
                // What is kept for a while was released.
                if record.lease.is_kept() { ReleaseVote::NotHeld } else { ReleaseVote::HeldByOther }
            }
            Some(Record::Alone(record)) if up_to < record.ballot => ReleaseVote::Newer { ballot: record.ballot },
            Some(Record::Alone(record)) => {
                let is_one_lock = lease.is_some() && record.members.is_empty();
                if !is_one_lock || !self.keep(batch, key, &record) {
                    self.remove_lock(key);
                    self.remove_members(batch, &record, |member| member.ballot <= up_to);
                }
                // No fence to raise: it was raised with the lock, and is there as long as it refuses more than the window does.
                if record.ballot == up_to {
                    return ReleaseVote::Freed;
                }
                ReleaseVote::Freed
            }
        };
        self.raise_fence(batch, key, up_to);
        vote
    }

    /// Where the lease is none of those that have the lock it is not in anybody's way.
    fn release_some(
        &mut self,
        batch: &Batch,
        key: &LockKey,
        mut together: Together,
        of_lease: impl Fn(&LockRecord) -> bool,
        up_to: Ballot,
    ) -> ReleaseVote {
        let ballots = || together.live(batch.now_ms()).filter(|sharer| of_lease(&sharer.record)).map(|sharer| sharer.record.ballot);
        let (frees, newest) = (ballots().any(|ballot| ballot <= up_to), ballots().max());
        if frees {
            together.sharers.retain(|sharer| !of_lease(&sharer.record) || up_to < sharer.record.ballot);
            self.set_together(batch, key, together);
            return ReleaseVote::Freed;
        }
        newest.map_or(ReleaseVote::NotHeld, |ballot| ReleaseVote::Newer { ballot })
    }

    pub(super) fn cancel(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, attempt: AttemptId, up_to: Ballot) -> bool {
        let is_of_attempt = |record: &LockRecord| record.lease == *lease && record.attempt == Some(attempt);
        let freed = match self.live(batch, key).map(|held| held.value.clone()) {
            Some(Record::Alone(record)) if is_of_attempt(&record) => {
                self.remove_lock(key);
                self.remove_members(batch, &record, |member| member.attempt == Some(attempt));
                true
            }
            Some(Record::Together(mut together)) if together.live(batch.now_ms()).any(|sharer| is_of_attempt(&sharer.record)) => {
                together.sharers.retain(|sharer| !is_of_attempt(&sharer.record));
                self.set_together(batch, key, together);
                true
            }
            _ => false,
        };
        self.raise_fence(batch, key, up_to);
        freed
    }

    /// It is nobody's, and is had by nobody else before it may be, or would have been at its end. Whether it is too early.
    fn keep(&mut self, batch: &Batch, key: &LockKey, released: &LockRecord) -> bool {
        let ends_ms = self.live(batch, key).map_or(0, |held| held.expires_ms);
        let until_ms = released.lifetime.kept_ms.min(ends_ms);
        if until_ms <= batch.now_ms() {
            return false;
        }
        let (lease, lifetime) = (LeaseId::kept(), Lifetime::default());
        self.set_lock(key, Record::Alone(LockRecord { attempt: None, lease, lifetime, ..released.clone() }), until_ms);
        true
    }

    /// The locks of a set go with its own record. Their fences were raised with them, and what would write them again is
    /// refused by the fence of the set.
    fn remove_members(&mut self, batch: &Batch, set: &LockRecord, frees: impl Fn(&LockRecord) -> bool) {
        for member in set.members.iter() {
            let is_of_set = |record: &LockRecord| record.lease == set.lease && frees(record);
            if matches!(self.live(batch, member).map(|held| &held.value), Some(Record::Alone(record)) if is_of_set(record)) {
                self.remove_lock(member);
            }
        }
    }
}
