//! Extending on one node: a live record of the lease, and with a set's own record those of its locks.

use std::sync::Arc;
use std::time::Duration;

use super::{Batch, State, millis};
use crate::lease::{Ballot, ExtendVote, LeaseId, LockKey};
use crate::node::record::Sharer;
use crate::node::{LockRecord, Record};

impl State {
    /// All of a set or nothing.
    pub(super) fn extend(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, ttl_ms: u64) -> ExtendVote {
        if let Some(refusal) = self.why_not_extended(batch, key, lease, None) {
            return refusal;
        }
        let (members, of) = self.set_at(key);
        if let Some(refusal) = members.iter().find_map(|member| self.why_not_extended(batch, member, lease, Some(of))) {
            return refusal;
        }
        let Some((ballot, left_ms)) = self.extend_one(batch, key, lease, ttl_ms) else { return ExtendVote::Gone };
        let lefts = members.iter().filter_map(|member| self.extend_one(batch, member, lease, ttl_ms)).map(|(_, left_ms)| left_ms);
        ExtendVote::Extended { ballot, left: Duration::from_millis(lefts.fold(left_ms, u64::min)) }
    }

    /// The locks that are held with this one, and the ballot of all of them.
    fn set_at(&self, key: &LockKey) -> (Arc<[LockKey]>, Ballot) {
        match self.locks.get(key).map(|held| &held.value) {
            Some(Record::Alone(record)) => (record.members.clone(), record.ballot),
            _ => Default::default(),
        }
    }

    /// None if the lease has the lock; as one `of` a set, since that was granted and alone.
    fn why_not_extended(&self, batch: &Batch, key: &LockKey, lease: &LeaseId, of: Option<Ballot>) -> Option<ExtendVote> {
        let Some(held) = self.live(batch, key) else { return Some(ExtendVote::Gone) };
        match &held.value {
            Record::Alone(record) if record.lease == *lease => {
                let is_over = record.lifetime.is_over(held.expires_ms - batch.now_ms());
                (is_over || of.is_some_and(|of| of != record.ballot)).then_some(ExtendVote::Gone)
            }
            Record::Alone(record) if record.lease.is_kept() => Some(ExtendVote::Gone),
            Record::Alone(_) => Some(ExtendVote::HeldByOther),
            // Others of them have nothing to do with it.
            Record::Together(together) => {
                let own = together.of(lease, batch.now_ms()).filter(|own| !own.is_over(batch.now_ms()));
                (own.is_none() || of.is_some()).then_some(ExtendVote::Gone)
            }
        }
    }

    /// The ballot and what is left; none if the lease does not have the lock.
    fn extend_one(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, ttl_ms: u64) -> Option<(Ballot, u64)> {
        let (held, now_ms, max_ttl_ms) = (self.live(batch, key)?.clone(), batch.now_ms(), millis(batch.agreement.max_ttl));
        // Firm: the holder was told that it stands, so no late cancel of the attempt that wrote it may free it.
        let (ballot, delay_ms, expires_ms) = match held.value {
            Record::Alone(record) if record.lease == *lease => {
                let LockRecord { ballot, lifetime, .. } = record;
                let expires_ms = held.expires_ms.max(lifetime.extended(now_ms, ttl_ms, max_ttl_ms));
                self.set_lock(key, Record::Alone(LockRecord { attempt: None, ..record }), expires_ms);
                (ballot, lifetime.delay_ms, expires_ms)
            }
            Record::Alone(_) => return None,
            Record::Together(mut together) => {
                let own = together.of(lease, now_ms)?.clone();
                let LockRecord { ballot, lifetime, .. } = own.record;
                let expires_ms = own.expires_ms.max(lifetime.extended(now_ms, ttl_ms, max_ttl_ms));
                together.put(Sharer { expires_ms, record: LockRecord { attempt: None, ..own.record }, ..own });
                self.set_together(batch, key, together);
                (ballot, lifetime.delay_ms, expires_ms)
            }
        };
        Some((ballot, (expires_ms - now_ms).saturating_sub(delay_ms)))
    }
}
