//! What a node does, written once: an ordered state machine without IO, clock or randomness.
//!
//! It is the embedded node (a batch is one durable commit), the nodes of the simulation, and the twin that
//! the Lua script is compared with, reply by reply, on real Redis. The script mirrors it line by line.

mod acquiring;
mod extending;
mod freeing;
mod handshake;
mod records;
mod viewing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use handshake::{HandshakeRefusal, Hello};
pub use records::Change;

use super::record::{Sharer, Together};
use super::{Agreement, Command, Epoch, Fence, LockRecord, Marker, Record, Reply};
use crate::lease::{Abstention, Answer, Ballot, Holder, LockKey, Mode};

/// Everything a node remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    marker: Option<Marker>,
    /// The highest time this node's clock is known to have shown.
    high_water_us: u64,
    locks: BTreeMap<LockKey, Expiring<Record>>,
    fences: BTreeMap<LockKey, Expiring<Fence>>,
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
            Command::Acquire(acquire) => Reply::Acquire(self.acquire(batch, acquire)),
            Command::Extend { key, lease, ttl } => Reply::Extend(self.extend(batch, key, lease, millis(*ttl))),
            Command::Release { key, lease, up_to } => Reply::Release(self.release(batch, key, lease.as_ref(), *up_to)),
            Command::Cancel { key, lease, attempt, up_to } => Reply::Cancel { freed: self.cancel(batch, key, lease, *attempt, *up_to) },
            Command::Inspect { key } => Reply::Inspect(self.inspect(batch, key)),
            Command::Scan { prefix, cursor, limit } => Reply::Page(self.scan(prefix, cursor, *limit)),
        })
    }

    fn live(&self, batch: &Batch, key: &LockKey) -> Option<&Expiring<Record>> {
        self.locks.get(key).filter(|lock| batch.now_ms() <= lock.expires_ms)
    }

    fn live_fence(&self, batch: &Batch, key: &LockKey) -> Option<Fence> {
        self.fences.get(key).filter(|fence| batch.now_ms() <= fence.expires_ms).map(|fence| fence.value)
    }

    /// The highest ballot that this node refuses to whoever wants the lock in this mode.
    fn floor(&self, batch: &Batch, key: &LockKey, mode: Mode) -> Ballot {
        self.live_fence(batch, key).unwrap_or_default().below(mode).max(batch.too_old())
    }

    /// A tombstone: refuses what a release or a cancel overtook. Capped, so that nobody can poison a fence.
    /// Under a foreign epoch the window may be another, and nothing that its gateway sent can be accepted anyway.
    fn raise_fence(&mut self, batch: &Batch, key: &LockKey, up_to: Ballot) {
        if batch.refusal == Some(Abstention::Epoch) {
            return;
        }
        let up_to = up_to.min(Ballot::from_micros(batch.now_us + micros(batch.agreement.window)));
        let fence = self.live_fence(batch, key).unwrap_or_default();
        if fence.low.max(batch.too_old()) < up_to {
            self.set_fence(batch, key, Fence { high: fence.high.max(up_to), low: up_to });
        }
    }

    fn set_fence(&mut self, batch: &Batch, key: &LockKey, fence: Fence) {
        let expires_ms = batch.now_ms() + millis(batch.agreement.fence_keep());
        if let Some(old) = self.fences.insert(key.clone(), Expiring { value: fence, expires_ms }) {
            self.expiries.remove(&(old.expires_ms, Change::Fence(key.clone())));
        }
        self.expiries.insert((expires_ms, Change::Fence(key.clone())));
        self.changes.insert(Change::Fence(key.clone()));
    }

    /// Those who hold the lock together; nobody if it is not held so.
    fn together(&self, batch: &Batch, key: &LockKey) -> Together {
        match self.live(batch, key).map(|held| &held.value) {
            Some(Record::Together(together)) => together.clone(),
            _ => Together::default(),
        }
    }

    /// Writes down those whose leases are not over; nothing if there are none, and nobody waits for that.
    fn set_together(&mut self, batch: &Batch, key: &LockKey, mut together: Together) {
        together.reap(batch.now_ms());
        let ends_ms = together.ends_ms();
        if ends_ms <= batch.now_ms() {
            self.remove_lock(key);
        } else {
            self.set_lock(key, Record::Together(together), ends_ms);
        }
    }
}

impl Batch {
    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// The highest ballot that the clock alone refuses.
    fn too_old(&self) -> Ballot {
        Ballot::from_micros(self.now_us.saturating_sub(micros(self.agreement.window)))
    }
}

fn holder(record: &LockRecord, left_ms: u64) -> Holder {
    let left = Some(Duration::from_millis(left_ms));
    Holder { ballot: Some(record.ballot), owner: record.owner.clone(), left, ..Holder::default() }
}

/// One of those who hold a lock together.
fn sharer_as_holder(sharer: &Sharer, now_ms: u64) -> Holder {
    Holder { is_shared: true, ..holder(&sharer.record, sharer.expires_ms - now_ms) }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
