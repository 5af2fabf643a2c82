//! One node and one lock: the rules of `node/state.rs`, in ticks.

use super::configuration::{Configuration, Mutant, START, Ticks, Verb};
use super::message::{Message, Vote};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node {
    pub may_jump: bool,
    pub offset: Ticks,
    pub high_water: Ticks,
    /// From when on it votes, by its own clock; none before a gateway shook hands with this incarnation.
    pub ready_at: Option<Ticks>,
    /// An undoing may still be under way that was sent under an epoch before this one.
    pub has_changed_epoch: bool,
    pub kept: Kept,
    /// When the canary expires; none when it is gone.
    pub canary: Option<Ticks>,
    /// What a restart with old data would find.
    pub before: Option<Kept>,
    pub inbox: Vec<Message>,
    /// What each request's gateway has heard from this node in its present round.
    pub heard: Vec<Vote>,
}

/// What a restart may bring back or lose.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Kept {
    /// Of who has the lock alone.
    pub record: Option<Record>,
    /// Of those who share it, in the order of their leases.
    pub sharers: Vec<Record>,
    pub fence: Option<Fence>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Record {
    pub lease: u8,
    pub ballot: Ticks,
    /// The request that wrote it; none when it is firm.
    pub attempt: Option<u8>,
    /// Live up to and including this tick, as in Redis.
    pub expires: Ticks,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fence {
    /// For whoever wants the lock alone.
    pub high: Ticks,
    /// For whoever shares it.
    pub low: Ticks,
    pub expires: Ticks,
}

impl Node {
    pub fn new(index: usize, c: &Configuration) -> Self {
        let (may_jump, offset) = (index < c.jumpers, c.offsets.get(index).copied().unwrap_or_default());
        let mut node = Self {
            may_jump,
            offset,
            high_water: 0,
            ready_at: Some(0),
            has_changed_epoch: false,
            kept: Kept::default(),
            canary: None,
            before: None,
            inbox: Vec::new(),
            heard: vec![Vote::Unheard; c.requests.len()],
        };
        if may_jump {
            node.set_high_water(START + offset, c);
        }
        node
    }

    pub fn send(&mut self, message: Message) {
        self.inbox.push(message);
        self.inbox.sort_unstable();
    }

    pub fn take(&mut self, message: Message) {
        if let Ok(place) = self.inbox.binary_search(&message) {
            self.inbox.remove(place);
        }
    }

    /// Carries out one command at `now` by this node's clock, sent under the node's epoch or an earlier one.
    pub fn answer(&mut self, message: Message, now: Ticks, of_earlier_epoch: bool, c: &Configuration) -> Vote {
        let before = self.kept.clone();
        let is_foreign = of_earlier_epoch || self.ready_at.is_none();
        let refuses = is_foreign || !self.may_vote(now, c);
        let lease = c.lease(message.request());
        let vote = match message {
            _ if refuses && message.is_voting() => Vote::Refused,
            Message::Acquire { request, ballot, over } => self.acquire(now, lease, request, ballot, over, c),
            Message::Extend { request } => self.extend(now, lease, request, c),
            Message::Release { request, up_to } => self.release(now, lease, up_to, is_foreign, c.shares(request), c),
            Message::Cancel { request, up_to } => self.cancel(now, lease, request, up_to, is_foreign, c),
        };
        if c.old_data && before != self.kept {
            self.before = Some(before);
        }
        vote
    }

    fn acquire(&mut self, now: Ticks, lease: u8, request: u8, ballot: Ticks, over: Ticks, c: &Configuration) -> Vote {
        if now + c.window < ballot && !c.breaks(Mutant::AheadIsNotRefused) {
            return Vote::Refused;
        }
        let shares = c.shares(request);
        let mut new = Record { lease, ballot, attempt: Some(request), expires: now + c.ttl };
        let is_held_alone = self.live(now).is_some();
        if self.is_in_the_way(now, lease, shares, c) {
            return Vote::Refused;
        }
        let held = self.own(now, lease, shares, c);
        if let Some(old) = held {
            let own = old.attempt == Some(request);
            if own && old.ballot == ballot {
                return Vote::Accepted { times: 1 };
            }
            let is_earlier_round = own && ballot < old.ballot;
            if is_earlier_round && !c.breaks(Mutant::EarlierRoundMakesFirm) {
                return Vote::Stale { floor: old.ballot };
            }
            if is_earlier_round || !own && over < old.ballot {
                self.put(firm(old, c), shares, c);
                return Vote::Mine { ballot: old.ballot, left: old.expires - now };
            }
            if !own && !c.breaks(Mutant::RaisedRecordStaysCancellable) {
                new = firm(new, c);
            }
            new.expires = new.expires.max(old.expires);
        }
        let floor = self.floor(now, shares, c);
        if ballot < floor || ballot == floor && !c.breaks(Mutant::EqualBallotIsNotStale) {
            if !is_held_alone && !shares {
                self.renew_fence(now, c);
            }
            return Vote::Stale { floor };
        }
        self.put(new, shares, c);
        let fence = self.live_fence(now);
        match shares {
            true if ballot <= fence.high || c.breaks(Mutant::ReaderRaisesNoFence) => {}
            true => self.set_fence(now, Fence { high: ballot, ..fence }, c),
            false => self.set_fence(now, Fence { high: ballot, low: ballot, ..fence }, c),
        }
        Vote::Accepted { times: 1 }
    }

    /// Somebody holds the lock who does not bear this lease beside it.
    fn is_in_the_way(&self, now: Ticks, lease: u8, shares: bool, c: &Configuration) -> bool {
        if shares {
            return self.live(now).is_some() && !c.breaks(Mutant::ReaderIgnoresWriter);
        }
        let is_shared = self.kept.sharers.iter().any(|sharer| now <= sharer.expires);
        is_shared && !c.breaks(Mutant::WriterIgnoresReaders) || self.live(now).is_some_and(|old| old.lease != lease)
    }

    fn extend(&mut self, now: Ticks, lease: u8, request: u8, c: &Configuration) -> Vote {
        let Verb::Extend { ttl } = c.requests[request as usize].verb else { return Vote::Refused };
        let (until, shares) = (now + ttl, c.shares(request));
        let old = match self.own(now, lease, shares, c) {
            None if c.breaks(Mutant::ExtendCreates) => Record { lease, ballot: self.floor(now, shares, c), attempt: None, expires: until },
            Some(old) => old,
            None => return Vote::NotHeld,
        };
        let expires = if c.breaks(Mutant::ExtendShortens) { until } else { until.max(old.expires) };
        let kept = if c.breaks(Mutant::ExtendLeavesRecordCancellable) { old } else { firm(old, c) };
        self.put(Record { expires, ..kept }, shares, c);
        Vote::Extended { ballot: old.ballot, left: expires - now }
    }

    fn release(&mut self, now: Ticks, lease: u8, up_to: Ticks, is_foreign: bool, shares: bool, c: &Configuration) -> Vote {
        let vote = match self.own(now, lease, shares, c) {
            Some(old) if up_to < old.ballot => Vote::Newer { ballot: old.ballot },
            Some(_) => {
                self.remove(lease, shares, c);
                Vote::NotHeld
            }
            None => Vote::NotHeld,
        };
        if !c.breaks(Mutant::ReleaseRaisesNoFence) {
            self.raise_fence(now, up_to, is_foreign, c);
        }
        vote
    }

    fn cancel(&mut self, now: Ticks, lease: u8, request: u8, up_to: Ticks, is_foreign: bool, c: &Configuration) -> Vote {
        let shares = c.shares(request);
        let frees = |old: &Record| old.attempt == Some(request) || c.breaks(Mutant::CancelByLease);
        let freed = self.own(now, lease, shares, c).is_some_and(|old| frees(&old));
        if freed {
            self.remove(lease, shares, c);
        }
        if !(c.breaks(Mutant::NoTombstone) || freed && c.breaks(Mutant::CancelThatFreesRaisesNoFence)) {
            self.raise_fence(now, up_to, is_foreign, c);
        }
        Vote::Unheard
    }

    /// What the lease has.
    fn own(&self, now: Ticks, lease: u8, shares: bool, c: &Configuration) -> Option<Record> {
        if !shares {
            return self.live(now).filter(|record| record.lease == lease);
        }
        let is_own = |record: &&Record| now <= record.expires && (record.lease == lease || c.breaks(Mutant::ReadersAreOneRecord));
        self.kept.sharers.iter().find(is_own).copied()
    }

    /// In place of what the lease had.
    fn put(&mut self, record: Record, shares: bool, c: &Configuration) {
        self.remove(record.lease, shares, c);
        if !shares {
            self.kept.record = Some(record);
            return;
        }
        self.kept.sharers.push(record);
        self.kept.sharers.sort_unstable();
    }

    fn remove(&mut self, lease: u8, shares: bool, c: &Configuration) {
        if shares {
            self.kept.sharers.retain(|sharer| sharer.lease != lease && !c.breaks(Mutant::ReadersAreOneRecord));
        } else {
            self.kept.record = None;
        }
    }

    fn raise_fence(&mut self, now: Ticks, up_to: Ticks, is_foreign: bool, c: &Configuration) {
        let up_to = up_to.min(now + c.window);
        let fence = self.live_fence(now);
        let too_old = if c.breaks(Mutant::NothingIsTooOld) { 0 } else { now - c.window };
        if !is_foreign && fence.low.max(too_old) < up_to {
            self.set_fence(now, Fence { high: fence.high.max(up_to), low: up_to, ..fence }, c);
        }
    }

    /// The script has overwritten the fence before it looks, and puts it back for the full time.
    fn renew_fence(&mut self, now: Ticks, c: &Configuration) {
        if let Some(fence) = self.kept.fence.filter(|fence| now <= fence.expires) {
            self.set_fence(now, fence, c);
        }
    }

    fn live(&self, now: Ticks) -> Option<Record> {
        self.kept.record.filter(|record| now <= record.expires)
    }

    fn live_fence(&self, now: Ticks) -> Fence {
        self.kept.fence.filter(|fence| now <= fence.expires).unwrap_or(Fence { high: 0, low: 0, expires: 0 })
    }

    fn floor(&self, now: Ticks, shares: bool, c: &Configuration) -> Ticks {
        let fence = self.live_fence(now);
        let fence = match shares {
            true if c.breaks(Mutant::ReaderIgnoresFence) => 0,
            true => fence.low,
            false => fence.high,
        };
        if c.breaks(Mutant::NothingIsTooOld) { fence } else { fence.max(now - c.window) }
    }

    fn set_fence(&mut self, now: Ticks, fence: Fence, c: &Configuration) {
        self.kept.fence = Some(Fence { expires: now + c.fence_keep, ..fence });
    }

    /// Redis expires what its clock has passed, whether or not a script looks.
    pub fn expire_keys(&mut self, now: Ticks) {
        self.kept.record = self.live(now);
        self.kept.sharers.retain(|sharer| now <= sharer.expires);
        self.kept.fence = self.kept.fence.filter(|fence| now <= fence.expires);
    }

    /// Forgets what can make no difference any more, so that fewer states differ. Not for a clock that may come back.
    pub fn forget_what_is_over(&mut self, now: Ticks, c: &Configuration) {
        self.expire_keys(now);
        let floor = now - c.window;
        if !c.breaks(Mutant::NothingIsTooOld) {
            let forgotten = |ballot: Ticks| if floor < ballot { ballot } else { 0 };
            let fence = self.kept.fence.map(|fence| Fence { high: forgotten(fence.high), low: forgotten(fence.low), ..fence });
            self.kept.fence = fence.filter(|fence| 0 < fence.high);
        }
        self.ready_at = self.ready_at.map(|ready_at| if ready_at <= now { 0 } else { ready_at });
        self.high_water = 0;
    }
}

/// The same record, which no cancel can free.
fn firm(record: Record, c: &Configuration) -> Record {
    if c.breaks(Mutant::NothingBecomesFirm) { record } else { Record { attempt: None, ..record } }
}
