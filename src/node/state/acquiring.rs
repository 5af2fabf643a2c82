//! Acquiring on one node: one lock, or the locks of a set, all or none.

use std::time::Duration;

use super::{Batch, State, holder, millis, sharer_as_holder};
use crate::lease::{AcquireVote, Ballot, Holder, LockKey, Mode, Slots};
use crate::node::record::{Sharer, Together};
use crate::node::{Acquire, Fence, LockRecord, Record};

/// What a lock is to an acquire, before anything is written.
enum Finding {
    Refused(AcquireVote),
    /// This very request was carried out before.
    Done,
    /// Another attempt of the lease has it.
    Mine(Mine),
    /// Nothing but the fence can stand in the way.
    Clear(Clear),
}

#[derive(Clone, Copy)]
struct Mine {
    ballot: Ballot,
    left_ms: u64,
    slot: u16,
}

#[derive(Clone, Copy, Default)]
struct Clear {
    /// What is left of the lease, which is not shortened.
    left_ms: u64,
    /// No cancel is to free it: another attempt may have been granted it.
    is_firm: bool,
}

impl State {
    pub(super) fn acquire(&mut self, batch: &Batch, acquire: &Acquire) -> AcquireVote {
        if batch.now_us + super::micros(batch.agreement.window) < acquire.ballot.micros() {
            return AcquireVote::Ahead;
        }
        if acquire.members.is_empty() { self.acquire_one(batch, acquire) } else { self.acquire_set(batch, acquire) }
    }

    fn acquire_one(&mut self, batch: &Batch, acquire: &Acquire) -> AcquireVote {
        let key = &acquire.key;
        match self.find(batch, key, acquire) {
            Finding::Refused(vote) => {
                self.hold_back_others(batch, key, acquire);
                vote
            }
            Finding::Done => AcquireVote::Accepted,
            Finding::Mine(Mine { ballot, left_ms, slot }) => {
                self.make_firm(batch, key, acquire);
                AcquireVote::Mine { ballot, left: Duration::from_millis(left_ms), slot }
            }
            Finding::Clear(clear) => {
                let floor = self.floor(batch, key, acquire.mode);
                if acquire.ballot <= floor {
                    if acquire.mode == Mode::Exclusive && self.live(batch, key).is_none() {
                        self.renew_fence(batch, key);
                    }
                    return AcquireVote::Stale { floor };
                }
                self.write(batch, key, acquire, clear, false);
                AcquireVote::Accepted
            }
        }
    }

    /// Its own record first, then the locks that it is of.
    fn acquire_set(&mut self, batch: &Batch, acquire: &Acquire) -> AcquireVote {
        let keys: Vec<&LockKey> = std::iter::once(&acquire.key).chain(acquire.members.iter()).collect();
        let (mut floor, mut mine, mut clear) = (None, Vec::<Mine>::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            match self.find(batch, key, acquire) {
                Finding::Refused(AcquireVote::Busy(holder)) => {
                    self.hold_back_others(batch, key, acquire);
                    // The set's own record is named only if it is of others: what is in its delay is in the way of all of them.
                    let member = if self.is_of_others(batch, key, acquire) { None } else { Some(at.saturating_sub(1)) };
                    return AcquireVote::Busy(Holder { member, ..holder });
                }
                Finding::Refused(AcquireVote::Stale { floor: own }) => floor = floor.max(Some(own)),
                Finding::Refused(vote) => return vote,
                // All were written at once, and its own record first.
                Finding::Done if at == 0 => return AcquireVote::Accepted,
                Finding::Done => clear.push(Clear::default()),
                Finding::Mine(found) => mine.push(found),
                Finding::Clear(found) => clear.push(found),
            }
        }
        if let Some(newest) = mine.iter().map(|mine| mine.ballot).max() {
            let is_whole = mine.len() == keys.len() && mine.iter().all(|mine| mine.ballot == newest);
            if is_whole {
                keys.iter().for_each(|key| self.make_firm(batch, key, acquire));
            }
            // What is left of a part of a set is nothing, so that the whole is asked for in another round.
            let left_ms = mine.iter().map(|mine| mine.left_ms).min().filter(|_| is_whole).unwrap_or_default();
            return AcquireVote::Mine { ballot: newest, left: Duration::from_millis(left_ms), slot: 0 };
        }
        let floors = keys.iter().map(|key| self.floor(batch, key, acquire.mode)).filter(|floor| acquire.ballot <= *floor);
        if let Some(floor) = floors.max().max(floor) {
            return AcquireVote::Stale { floor };
        }
        for (at, (key, clear)) in keys.iter().zip(clear).enumerate() {
            self.write(batch, key, acquire, clear, at == 0);
        }
        AcquireVote::Accepted
    }

    fn find(&self, batch: &Batch, key: &LockKey, acquire: &Acquire) -> Finding {
        let Some(held) = self.live(batch, key) else { return Finding::Clear(Clear::default()) };
        match &held.value {
            Record::Alone(old) => {
                let left_ms = held.expires_ms - batch.now_ms();
                let is_other_set = self.is_of_others(batch, key, acquire);
                let is_own = old.lease == acquire.lease && !old.lifetime.is_over(left_ms);
                if !is_own || acquire.mode != Mode::Exclusive || is_other_set {
                    return Finding::Refused(AcquireVote::Busy(holder(old, left_ms)));
                }
                again(old, left_ms, 0, acquire)
            }
            Record::Together(together) => find_among(together, batch.now_ms(), acquire),
        }
    }

    /// Whether this is a set's own record, and of other locks.
    fn is_of_others(&self, batch: &Batch, key: &LockKey, acquire: &Acquire) -> bool {
        let held = self.live(batch, key).map(|held| &held.value);
        *key == acquire.key && matches!(held, Some(Record::Alone(record)) if record.members != acquire.members)
    }

    /// Nobody else is to share the lock for a while, if one who waits wants it alone.
    fn hold_back_others(&mut self, batch: &Batch, key: &LockKey, acquire: &Acquire) {
        let how_long_ms = millis(acquire.holds_back);
        if acquire.mode != Mode::Exclusive || how_long_ms == 0 {
            return;
        }
        let mut together = self.together(batch, key);
        if together.live(batch.now_ms()).next().is_some() {
            together.awaited_ms = together.awaited_ms.max(batch.now_ms() + how_long_ms);
            self.set_together(batch, key, together);
        }
    }

    fn make_firm(&mut self, batch: &Batch, key: &LockKey, acquire: &Acquire) {
        let Some(held) = self.live(batch, key).cloned() else { return };
        match held.value {
            Record::Alone(old) => self.set_lock(key, Record::Alone(LockRecord { attempt: None, ..old }), held.expires_ms),
            Record::Together(mut together) => {
                if let Some(own) = together.of(&acquire.lease, batch.now_ms()).cloned() {
                    together.put(Sharer { record: LockRecord { attempt: None, ..own.record }, ..own });
                    self.set_together(batch, key, together);
                }
            }
        }
    }

    fn write(&mut self, batch: &Batch, key: &LockKey, acquire: &Acquire, Clear { left_ms, is_firm }: Clear, is_set: bool) {
        let Acquire { lease, attempt, ballot, ttl, owner, lifetime, mode, members, .. } = acquire;
        let members = if is_set { members.clone() } else { Default::default() };
        let (attempt, lease, owner) = ((!is_firm).then_some(*attempt), lease.clone(), owner.clone());
        let record = LockRecord { ballot: *ballot, attempt, lease, owner, lifetime: *lifetime, members };
        let expires_ms = batch.now_ms() + millis(*ttl).max(left_ms);
        let fence = self.live_fence(batch, key).unwrap_or_default();
        match mode {
            Mode::Shared if *ballot <= fence.high => {}
            Mode::Shared => self.set_fence(batch, key, Fence { high: *ballot, ..fence }),
            Mode::Exclusive | Mode::Slot(_) => self.set_fence(batch, key, Fence::of(*ballot)),
        }
        if *mode == Mode::Exclusive {
            return self.set_lock(key, Record::Alone(record), expires_ms);
        }
        let mut together = self.together(batch, key);
        together.limit = mode.limit();
        together.put(Sharer { expires_ms, slot: mode.slot(), record });
        self.set_together(batch, key, together);
    }

    /// The script writes before it looks, and puts back what it found: for the full time again, which refuses no less.
    fn renew_fence(&mut self, batch: &Batch, key: &LockKey) {
        if let Some(fence) = self.live_fence(batch, key) {
            self.set_fence(batch, key, fence);
        }
    }
}

/// What a lock is that some hold together.
fn find_among(together: &Together, now_ms: u64, acquire: &Acquire) -> Finding {
    let longest = || together.longest(now_ms).map(|sharer| sharer_as_holder(sharer, now_ms)).unwrap_or_default();
    let is_held = together.live(now_ms).next().is_some();
    if acquire.mode == Mode::Exclusive {
        return if is_held { Finding::Refused(AcquireVote::Busy(longest())) } else { Finding::Clear(Clear::default()) };
    }
    if is_held && together.limit != acquire.mode.limit() {
        return Finding::Refused(AcquireVote::OtherLimit { limit: together.limit, holder: longest() });
    }
    let taken = || together.live(now_ms).filter(|sharer| sharer.record.lease != acquire.lease).map(|sharer| sharer.slot).collect::<Slots>();
    let finding = match together.of(&acquire.lease, now_ms) {
        Some(own) if own.is_over(now_ms) => return Finding::Refused(AcquireVote::Busy(sharer_as_holder(own, now_ms))),
        Some(own) => again(&own.record, own.expires_ms - now_ms, own.slot, acquire),
        None if now_ms <= together.awaited_ms => {
            // Nobody is in the way, but for so long.
            let left = Some(Duration::from_millis(together.awaited_ms - now_ms));
            return Finding::Refused(AcquireVote::Busy(Holder { left, is_shared: true, ..Holder::default() }));
        }
        None if together.is_crowded(now_ms) => return Finding::Refused(AcquireVote::Crowded(longest())),
        None => Finding::Clear(Clear::default()),
    };
    if matches!(finding, Finding::Clear(_)) && taken().contains(acquire.mode.slot()) {
        return Finding::Refused(AcquireVote::Taken { slots: taken(), holder: longest() });
    }
    finding
}

/// What the lease has already, in the place `slot`.
fn again(old: &LockRecord, left_ms: u64, slot: u16, acquire: &Acquire) -> Finding {
    let own = old.attempt == Some(acquire.attempt);
    if own && old.ballot == acquire.ballot {
        return Finding::Done;
    }
    // An earlier round that arrives after a later one changes nothing; firm, the record could not be cancelled.
    if own && acquire.ballot < old.ballot {
        return Finding::Refused(AcquireVote::Stale { floor: old.ballot });
    }
    if !own && (acquire.over.unwrap_or_default() < old.ballot || slot != acquire.mode.slot()) {
        return Finding::Mine(Mine { ballot: old.ballot, left_ms: left_ms.saturating_sub(old.lifetime.delay_ms), slot });
    }
    Finding::Clear(Clear { left_ms, is_firm: !own })
}
