//! What a node does, written once: an ordered state machine without IO, clock or randomness.
//!
//! It is the embedded node (a batch is one durable commit), the nodes of the simulation, and the twin that
//! the Lua script is compared with, reply by reply, on real Redis. The script mirrors it line by line.

mod handshake;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

pub use handshake::{HandshakeRefusal, Hello};
pub use records::Change;

use super::{Agreement, Command, Epoch, LockRecord, Marker, Page, Reply};
use crate::lease::{Abstention, AcquireVote, Answer, AttemptId, Ballot, ExtendVote, Holder, InspectVote, LeaseId, LockKey, OwnerLabel, ReleaseVote};

/// Everything a node remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    marker: Option<Marker>,
    /// The highest time this node's clock is known to have shown.
    high_water_us: u64,
    locks: BTreeMap<LockKey, Expiring<LockRecord>>,
    fences: BTreeMap<LockKey, Expiring<Ballot>>,
    /// What expires when, so that a batch can sweep a few without looking at all.
    expiries: BTreeSet<(u64, Change)>,
    changes: BTreeSet<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expiring<T> {
    value: T,
    /// Milliseconds since 1970. Live up to and including this one, as in Redis.
    expires_ms: u64,
}

/// The clock and the rules that one batch runs under.
struct Batch {
    now_us: u64,
    agreement: Agreement,
    refusal: Option<Abstention>,
}

impl State {
    /// Applies a batch at `now_us` for a gateway that shook hands under `epoch`.
    pub fn apply<'a>(
        &mut self,
        now_us: u64,
        epoch: &Epoch,
        agreement: Agreement,
        commands: impl IntoIterator<Item = &'a Command>,
    ) -> Vec<Answer<Reply>> {
        let batch = Batch { now_us, agreement, refusal: self.refusal(now_us, epoch) };
        if batch.refusal.is_none() {
            self.sweep(now_us);
        }
        commands.into_iter().map(|command| self.answer(&batch, command)).collect()
    }

    /// Why this node does not vote in this batch. Moves the high-water mark if it may.
    fn refusal(&mut self, now_us: u64, epoch: &Epoch) -> Option<Abstention> {
        if self.marker.as_ref().map(Marker::to_string).as_deref() != Some(&epoch.text) {
            return Some(Abstention::Epoch);
        }
        if now_us + micros(Agreement::STEP_BACK) < self.high_water_us {
            return Some(Abstention::ClockBack);
        }
        if self.high_water_us + micros(Agreement::HIGH_WATER_LAG) < now_us {
            self.set_high_water(now_us);
        }
        let left_us = (epoch.ready_at_ms * 1000).saturating_sub(now_us);
        (0 < left_us).then(|| Abstention::Quarantined { left: Duration::from_millis(left_us.div_ceil(1000)) })
    }

    fn answer(&mut self, batch: &Batch, command: &Command) -> Answer<Reply> {
        if let Some(refusal) = batch.refusal.as_ref().filter(|_| command.is_voting()) {
            return Err(refusal.clone());
        }
        Ok(match command {
            Command::Acquire { key, lease, attempt, ballot, over, ttl, owner } => {
                let new = LockRecord { ballot: *ballot, attempt: Some(*attempt), lease: lease.clone(), owner: owner.clone() };
                Reply::Acquire(self.acquire(batch, key, *attempt, over.unwrap_or_default(), new, millis(*ttl)))
            }
            Command::Extend { key, lease, ttl } => Reply::Extend(self.extend(batch, key, lease, millis(*ttl))),
            Command::Release { key, lease, up_to } => Reply::Release(self.release(batch, key, lease.as_ref(), *up_to)),
            Command::Cancel { key, lease, attempt, up_to } => Reply::Cancel { freed: self.cancel(batch, key, lease, *attempt, *up_to) },
            Command::Inspect { key } => Reply::Inspect(self.inspect(batch, key)),
            Command::Scan { prefix, cursor, limit } => Reply::Page(self.scan(prefix, cursor, *limit)),
        })
    }

    fn acquire(&mut self, batch: &Batch, key: &LockKey, attempt: AttemptId, over: Ballot, mut new: LockRecord, ttl_ms: u64) -> AcquireVote {
        if batch.now_us + micros(batch.agreement.window) < new.ballot.micros() {
            return AcquireVote::Ahead;
        }
        let floor = self.floor(batch, key);
        let mut lasts_ms = ttl_ms;
        let held = self.live(batch, key).cloned();
        let is_free = held.is_none();
        if let Some(held) = held {
            let left_ms = held.expires_ms - batch.now_ms();
            let old = held.value;
            if old.lease != new.lease {
                return AcquireVote::Busy(holder(&old, left_ms));
            }
            let own = old.attempt == Some(attempt);
            if own && old.ballot == new.ballot {
                return AcquireVote::Accepted;
            }
            // An earlier round that arrives after a later one changes nothing; firm, the record could not be cancelled.
            if own && new.ballot < old.ballot {
                return AcquireVote::Stale { floor: old.ballot };
            }
            if !own && over < old.ballot {
                let (ballot, firm) = (old.ballot, LockRecord { attempt: None, ..old });
                self.set_lock(key, firm, held.expires_ms);
                return AcquireVote::Mine { ballot, left: Duration::from_millis(left_ms) };
            }
            if !own {
                new.attempt = None;
            }
            lasts_ms = lasts_ms.max(left_ms);
        }
        if new.ballot <= floor {
            if is_free {
                self.renew_fence(batch, key);
            }
            return AcquireVote::Stale { floor };
        }
        self.set_fence(batch, key, new.ballot);
        self.set_lock(key, new, batch.now_ms() + lasts_ms);
        AcquireVote::Accepted
    }

    fn extend(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, ttl_ms: u64) -> ExtendVote {
        let Some(held) = self.live(batch, key).cloned() else { return ExtendVote::Gone };
        if held.value.lease != *lease {
            return ExtendVote::HeldByOther;
        }
        let expires_ms = held.expires_ms.max(batch.now_ms() + ttl_ms);
        let ballot = held.value.ballot;
        // Firm: the holder was told that it stands, so no late cancel of the attempt that wrote it may free it.
        self.set_lock(key, LockRecord { attempt: None, ..held.value }, expires_ms);
        ExtendVote::Extended { ballot, left: Duration::from_millis(expires_ms - batch.now_ms()) }
    }

    fn release(&mut self, batch: &Batch, key: &LockKey, lease: Option<&LeaseId>, up_to: Ballot) -> ReleaseVote {
        let vote = match self.live(batch, key).map(|held| &held.value) {
            None => ReleaseVote::NotHeld,
            Some(record) if lease.is_some_and(|lease| record.lease != *lease) => ReleaseVote::HeldByOther,
            Some(record) if up_to < record.ballot => ReleaseVote::Newer { ballot: record.ballot },
            Some(record) if record.ballot == up_to => {
                self.remove_lock(key);
                // No fence to raise: it was raised with the lock, and is there as long as it refuses more than the window does.
                return ReleaseVote::Freed;
            }
            Some(_) => {
                self.remove_lock(key);
                ReleaseVote::Freed
            }
        };
        self.raise_fence(batch, key, up_to);
        vote
    }

    fn cancel(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, attempt: AttemptId, up_to: Ballot) -> bool {
        let freed = self.live(batch, key).is_some_and(|held| held.value.lease == *lease && held.value.attempt == Some(attempt));
        if freed {
            self.remove_lock(key);
        }
        self.raise_fence(batch, key, up_to);
        freed
    }

    fn inspect(&self, batch: &Batch, key: &LockKey) -> InspectVote {
        match self.live(batch, key) {
            None => InspectVote::Free,
            Some(held) => InspectVote::Held { lease: Some(held.value.lease.clone()), holder: holder(&held.value, held.expires_ms - batch.now_ms()) },
        }
    }

    /// A cursor is the last name of the page before. Expired names may be among them; who asks, inspects.
    fn scan(&self, prefix: &str, cursor: &str, limit: usize) -> Page {
        let from = prefix.max(cursor);
        let mut keys: Vec<LockKey> = Vec::new();
        let begin = LockKey::new(from).map_or(Bound::Unbounded, Bound::Included);
        for key in self.locks.range((begin, Bound::Unbounded)).map(|(key, _)| key) {
            if key.as_str() <= cursor && !cursor.is_empty() || key.as_str() < prefix {
                continue;
            }
            if !key.as_str().starts_with(prefix) {
                break;
            }
            if keys.len() == limit {
                let next = keys.last().map(|key| key.as_str().to_owned());
                return Page { keys, next };
            }
            keys.push(key.clone());
        }
        Page { keys, next: None }
    }

    fn live(&self, batch: &Batch, key: &LockKey) -> Option<&Expiring<LockRecord>> {
        self.locks.get(key).filter(|lock| batch.now_ms() <= lock.expires_ms)
    }

    fn live_fence(&self, batch: &Batch, key: &LockKey) -> Option<Ballot> {
        self.fences.get(key).filter(|fence| batch.now_ms() <= fence.expires_ms).map(|fence| fence.value)
    }

    /// The highest ballot that this node refuses for this lock.
    fn floor(&self, batch: &Batch, key: &LockKey) -> Ballot {
        let fence = self.live_fence(batch, key);
        let behind = Ballot::from_micros(batch.now_us.saturating_sub(micros(batch.agreement.window)));
        fence.unwrap_or_default().max(behind)
    }

    /// A tombstone: refuses what a release or a cancel overtook. Capped, so that nobody can poison a fence.
    /// Under a foreign epoch the window may be another, and nothing that its gateway sent can be accepted anyway.
    fn raise_fence(&mut self, batch: &Batch, key: &LockKey, up_to: Ballot) {
        if batch.refusal == Some(Abstention::Epoch) {
            return;
        }
        let up_to = up_to.min(Ballot::from_micros(batch.now_us + micros(batch.agreement.window)));
        if self.floor(batch, key) < up_to {
            self.set_fence(batch, key, up_to);
        }
    }

    /// The script writes before it looks, and puts back what it found: for the full time again, which refuses no less.
    fn renew_fence(&mut self, batch: &Batch, key: &LockKey) {
        if let Some(fence) = self.live_fence(batch, key) {
            self.set_fence(batch, key, fence);
        }
    }

    fn set_fence(&mut self, batch: &Batch, key: &LockKey, ballot: Ballot) {
        let expires_ms = batch.now_ms() + millis(batch.agreement.fence_keep());
        if let Some(old) = self.fences.insert(key.clone(), Expiring { value: ballot, expires_ms }) {
            self.expiries.remove(&(old.expires_ms, Change::Fence(key.clone())));
        }
        self.expiries.insert((expires_ms, Change::Fence(key.clone())));
        self.changes.insert(Change::Fence(key.clone()));
    }
}

impl Batch {
    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }
}

fn holder(record: &LockRecord, left_ms: u64) -> Holder {
    let owner: Option<OwnerLabel> = record.owner.clone();
    Holder { ballot: Some(record.ballot), owner, left: Some(Duration::from_millis(left_ms)) }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
