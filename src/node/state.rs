//! What a node does, written once: an ordered state machine without IO, clock or randomness.
//!
//! It is the embedded node (a batch is one durable commit), the nodes of the simulation, and the twin that
//! the Lua script is compared with, reply by reply, on real Redis. The script mirrors it line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::{Agreement, Command, Epoch, LockRecord, Marker, Page, Reply};
use crate::lease::{Abstention, AcquireVote, Answer, AttemptId, Ballot, ExtendVote, Holder, InspectVote, LeaseId, LockKey, OwnerLabel, ReleaseVote};

/// Everything a node remembers.
#[derive(Debug, Default)]
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

/// A part of the state that differs from what was last taken with [`State::take_changes`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Marker,
    HighWater,
    Lock(LockKey),
    Fence(LockKey),
}

/// What a gateway says of itself and of the node in a handshake.
#[derive(Clone, Debug)]
pub struct Hello {
    pub agreement: Agreement,
    pub node: String,
    /// Which start of the server this is.
    pub run_id: String,
    /// The median of the nodes' clocks.
    pub reference_us: u64,
    /// Whether every change is on disk before it is answered; none if that can't be told.
    pub durable: Option<bool>,
    /// The operator's word that this cluster has never granted anything.
    pub fresh: bool,
}

/// Why a node is not certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    ClockOff { ahead_us: i64 },
    NewerGeneration(Marker),
    OtherNode(Marker),
    OtherSettings(Marker),
    Corrupt,
}

/// How many expired records a batch removes beside its own work: more than a batch can add.
const SWEEP: usize = 256;

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
            Command::Release { key, lease, up_to } => Reply::Release(self.release(batch, key, lease, *up_to)),
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

    fn release(&mut self, batch: &Batch, key: &LockKey, lease: &LeaseId, up_to: Ballot) -> ReleaseVote {
        let vote = match self.live(batch, key).map(|held| &held.value) {
            None => ReleaseVote::NotHeld,
            Some(record) if record.lease != *lease => ReleaseVote::HeldByOther,
            Some(record) if up_to < record.ballot => ReleaseVote::Newer { ballot: record.ballot },
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

    /// Certifies the node for a gateway, and starts a quarantine if the node may have forgotten.
    pub fn handshake(&mut self, now_us: u64, hello: &Hello) -> Result<Marker, HandshakeRefusal> {
        let ahead_us = now_us as i64 - hello.reference_us as i64;
        if micros(hello.agreement.window) < ahead_us.unsigned_abs() {
            return Err(HandshakeRefusal::ClockOff { ahead_us });
        }
        let back_us = self.high_water_us.saturating_sub(now_us);
        let stepped_back = micros(Agreement::STEP_BACK) < back_us;
        let mut ready_at_ms = None;
        let mut agreement = hello.agreement;
        if let Some(old) = &self.marker {
            if hello.agreement.generation < old.agreement.generation {
                return Err(HandshakeRefusal::NewerGeneration(old.clone()));
            }
            if hello.agreement.generation == old.agreement.generation {
                if hello.node != old.node {
                    return Err(HandshakeRefusal::OtherNode(old.clone()));
                }
                if hello.agreement != old.agreement {
                    return Err(HandshakeRefusal::OtherSettings(old.clone()));
                }
                if !stepped_back && hello.run_id == old.run_id {
                    let marker = Marker { durable: hello.durable.unwrap_or(old.durable), ..old.clone() };
                    return Ok(self.certify(marker, now_us.max(self.high_water_us)));
                }
                // Restarted with nothing lost: it wrote every change to disk then, and does so now.
                let nothing_lost = !stepped_back && old.durable && hello.durable == Some(true);
                ready_at_ms = nothing_lost.then_some(old.ready_at_ms);
            }
            agreement = agreement.stricter(&old.agreement);
        } else if hello.fresh {
            ready_at_ms = Some(now_us / 1000);
        }
        let high_water_us = if stepped_back { now_us } else { now_us.max(self.high_water_us) };
        let ready_at_ms = ready_at_ms.unwrap_or_else(|| {
            let stepped_ms = if stepped_back { back_us.div_ceil(1000).min(2 * millis(agreement.window)) } else { 0 };
            now_us / 1000 + millis(agreement.quarantine()) + QUARANTINE_SLACK_MS + stepped_ms
        });
        let durable = hello.durable == Some(true);
        let marker = Marker { agreement: hello.agreement, node: hello.node.clone(), run_id: hello.run_id.clone(), ready_at_ms, durable };
        Ok(self.certify(marker, high_water_us))
    }

    fn certify(&mut self, marker: Marker, high_water_us: u64) -> Marker {
        if self.marker.as_ref() != Some(&marker) {
            self.marker = Some(marker.clone());
            self.changes.insert(Change::Marker);
        }
        if self.high_water_us != high_water_us {
            self.set_high_water(high_water_us);
        }
        marker
    }

    /// Takes over the settings of the only gateway there is, so that an embedded node may be restarted with others.
    ///
    /// Nothing is forgotten, so a longer `max_ttl` needs no quarantine. Another window does: fences were kept for the old one.
    pub fn adopt(&mut self, agreement: Agreement, now_us: u64) {
        let Some(old) = self.marker.clone().filter(|old| old.agreement != agreement) else { return };
        let between = old.agreement.stricter(&agreement);
        let windows_ms = millis(6 * between.window + Agreement::STEP_BACK) + QUARANTINE_SLACK_MS;
        let quarantined_ms = if old.agreement.window == agreement.window { 0 } else { now_us / 1000 + windows_ms };
        self.marker = Some(Marker { agreement, ready_at_ms: old.ready_at_ms.max(quarantined_ms), ..old });
        self.changes.insert(Change::Marker);
    }

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
    pub fn lock(&self, key: &LockKey) -> Option<(&LockRecord, u64)> {
        self.locks.get(key).map(|lock| (&lock.value, lock.expires_ms))
    }

    /// The fence of a lock and when it expires, expired or not.
    pub fn fence(&self, key: &LockKey) -> Option<(Ballot, u64)> {
        self.fences.get(key).map(|fence| (fence.value, fence.expires_ms))
    }

    /// Takes back what was written down.
    pub fn restore(&mut self, marker: Option<Marker>, high_water_us: u64) {
        self.marker = marker;
        self.high_water_us = high_water_us;
    }

    /// Takes back a lock that was written down.
    pub fn restore_lock(&mut self, key: LockKey, record: LockRecord, expires_ms: u64) {
        self.expiries.insert((expires_ms, Change::Lock(key.clone())));
        self.locks.insert(key, Expiring { value: record, expires_ms });
    }

    /// Takes back a fence that was written down.
    pub fn restore_fence(&mut self, key: LockKey, ballot: Ballot, expires_ms: u64) {
        self.expiries.insert((expires_ms, Change::Fence(key.clone())));
        self.fences.insert(key, Expiring { value: ballot, expires_ms });
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

    fn set_lock(&mut self, key: &LockKey, record: LockRecord, expires_ms: u64) {
        self.remove_lock(key);
        self.expiries.insert((expires_ms, Change::Lock(key.clone())));
        self.locks.insert(key.clone(), Expiring { value: record, expires_ms });
    }

    fn remove_lock(&mut self, key: &LockKey) {
        if let Some(old) = self.locks.remove(key) {
            self.expiries.remove(&(old.expires_ms, Change::Lock(key.clone())));
        }
        self.changes.insert(Change::Lock(key.clone()));
    }

    fn set_high_water(&mut self, now_us: u64) {
        self.high_water_us = now_us;
        self.changes.insert(Change::HighWater);
    }

    /// Forgets a few of what expired. Only here and only by the batch's own clock, so a clock excursion that
    /// no batch saw removes nothing.
    fn sweep(&mut self, now_us: u64) {
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

/// The node rounds its clock to milliseconds when it compares expiries; this covers the rounding.
const QUARANTINE_SLACK_MS: u64 = 10;

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
