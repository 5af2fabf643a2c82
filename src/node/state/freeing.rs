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
                if lease.is_some() && record.members.is_empty() && batch.now_ms() < record.lifetime.kept_ms {
                    self.keep(key, &record);
                } else {
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

    /// It is nobody's, and is had by nobody else before it may be.
    fn keep(&mut self, key: &LockKey, released: &LockRecord) {
        let (lease, lifetime) = (LeaseId::kept(), Lifetime::default());
        let kept = LockRecord { attempt: None, lease, lifetime, ..released.clone() };
        self.set_lock(key, Record::Alone(kept), released.lifetime.kept_ms);
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
