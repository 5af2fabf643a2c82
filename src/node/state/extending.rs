//! Extending on one node: a live record of the lease, and with a set's own record those of its locks.

use std::time::Duration;

use super::{Batch, State};
use crate::lease::{Ballot, ExtendVote, LeaseId, LockKey};
use crate::node::record::Sharer;
use crate::node::{LockRecord, Record};

impl State {
    pub(super) fn extend(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, ttl_ms: u64) -> ExtendVote {
        let members = match self.live(batch, key).map(|held| &held.value) {
            Some(Record::Alone(record)) if record.lease == *lease => record.members.clone(),
            _ => Default::default(),
        };
        if let Some(refusal) = members.iter().find_map(|member| self.why_not_extended(batch, member, lease)) {
            return refusal;
        }
        let shortest = members.iter().filter_map(|member| self.extend_one(batch, member, lease, ttl_ms)).map(|(_, left_ms)| left_ms).min();
        match self.extend_one(batch, key, lease, ttl_ms) {
            Some((ballot, left_ms)) => {
                let left_ms = shortest.map_or(left_ms, |shortest| shortest.min(left_ms));
                ExtendVote::Extended { ballot, left: Duration::from_millis(left_ms) }
            }
            None => self.why_not_extended(batch, key, lease).unwrap_or(ExtendVote::Gone),
        }
    }

    /// None if the lease has the lock.
    fn why_not_extended(&self, batch: &Batch, key: &LockKey, lease: &LeaseId) -> Option<ExtendVote> {
        match self.live(batch, key).map(|held| &held.value) {
            None => Some(ExtendVote::Gone),
            Some(Record::Alone(record)) if record.lease.is_kept() => Some(ExtendVote::Gone),
            Some(Record::Alone(record)) => (record.lease != *lease).then_some(ExtendVote::HeldByOther),
            // Others of them have nothing to do with it.
            Some(Record::Together(together)) => together.of(lease, batch.now_ms()).is_none().then_some(ExtendVote::Gone),
        }
    }

    /// The ballot and what is left; none if the lease does not have the lock.
    fn extend_one(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, ttl_ms: u64) -> Option<(Ballot, u64)> {
        let (held, now_ms) = (self.live(batch, key)?.clone(), batch.now_ms());
        // Firm: the holder was told that it stands, so no late cancel of the attempt that wrote it may free it.
        let (ballot, delay_ms, expires_ms) = match held.value {
            Record::Alone(record) if record.lease == *lease => {
                let (ballot, expires_ms) = (record.ballot, held.expires_ms.max(record.lifetime.extended(now_ms, ttl_ms)));
                let delay_ms = record.lifetime.delay_ms;
                self.set_lock(key, Record::Alone(LockRecord { attempt: None, ..record }), expires_ms);
                (ballot, delay_ms, expires_ms)
            }
            Record::Alone(_) => return None,
            Record::Together(mut together) => {
                let own = together.of(lease, now_ms)?.clone();
                let (ballot, lifetime) = (own.record.ballot, own.record.lifetime);
                let expires_ms = own.expires_ms.max(lifetime.extended(now_ms, ttl_ms));
                together.put(Sharer { expires_ms, record: LockRecord { attempt: None, ..own.record }, ..own });
                self.set_together(batch, key, together);
                (ballot, lifetime.delay_ms, expires_ms)
            }
        };
        Some((ballot, (expires_ms - now_ms).saturating_sub(delay_ms)))
    }
}
