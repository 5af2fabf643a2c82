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
    pub record: Option<Record>,
    pub fence: Option<Fence>,
    /// When the canary expires; none when it is gone.
    pub canary: Option<Ticks>,
    /// What a restart with old data would find.
    pub before: Option<(Option<Record>, Option<Fence>)>,
    pub inbox: Vec<Message>,
    /// What each request's gateway has heard from this node in its present round.
    pub heard: Vec<Vote>,
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
    pub ballot: Ticks,
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
            record: None,
            fence: None,
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
        let before = (self.record, self.fence);
        let is_foreign = of_earlier_epoch || self.ready_at.is_none();
        let refuses = is_foreign || !self.may_vote(now, c);
        let lease = c.lease(message.request());
        let vote = match message {
            _ if refuses && message.is_voting() => Vote::Refused,
            Message::Acquire { request, ballot, over } => self.acquire(now, lease, request, ballot, over, c),
            Message::Extend { request } => self.extend(now, lease, request, c),
            Message::Release { up_to, .. } => self.release(now, lease, up_to, is_foreign, c),
            Message::Cancel { request, up_to } => self.cancel(now, lease, request, up_to, is_foreign, c),
        };
        if c.old_data && before != (self.record, self.fence) {
            self.before = Some(before);
        }
        vote
    }

    fn acquire(&mut self, now: Ticks, lease: u8, request: u8, ballot: Ticks, over: Ticks, c: &Configuration) -> Vote {
        if now + c.window < ballot && !c.breaks(Mutant::AheadIsNotRefused) {
            return Vote::Refused;
        }
        let mut new = Record { lease, ballot, attempt: Some(request), expires: now + c.ttl };
        let held = self.live(now);
        if let Some(old) = held {
            if old.lease != lease {
                return Vote::Refused;
            }
            let own = old.attempt == Some(request);
            if own && old.ballot == ballot {
                return Vote::Accepted { times: 1 };
            }
            let is_earlier_round = own && ballot < old.ballot;
            if is_earlier_round && !c.breaks(Mutant::EarlierRoundMakesFirm) {
                return Vote::Stale { floor: old.ballot };
            }
            if is_earlier_round || !own && over < old.ballot {
                self.record = Some(firm(old, c));
                return Vote::Mine { ballot: old.ballot, left: old.expires - now };
            }
            if !own && !c.breaks(Mutant::RaisedRecordStaysCancellable) {
                new = firm(new, c);
            }
            new.expires = new.expires.max(old.expires);
        }
        let floor = self.floor(now, c);
        if ballot < floor || ballot == floor && !c.breaks(Mutant::EqualBallotIsNotStale) {
            if held.is_none() {
                self.renew_fence(now, c);
            }
            return Vote::Stale { floor };
        }
        self.record = Some(new);
        self.set_fence(now, ballot, c);
        Vote::Accepted { times: 1 }
    }

    fn extend(&mut self, now: Ticks, lease: u8, request: u8, c: &Configuration) -> Vote {
        let Verb::Extend { ttl } = c.requests[request as usize].verb else { return Vote::Refused };
        let until = now + ttl;
        let old = match self.live(now) {
            None if c.breaks(Mutant::ExtendCreates) => Record { lease, ballot: self.floor(now, c), attempt: None, expires: until },
            Some(old) if old.lease == lease => old,
            _ => return Vote::NotHeld,
        };
        let expires = if c.breaks(Mutant::ExtendShortens) { until } else { until.max(old.expires) };
        let kept = if c.breaks(Mutant::ExtendLeavesRecordCancellable) { old } else { firm(old, c) };
        self.record = Some(Record { expires, ..kept });
        Vote::Extended { ballot: old.ballot, left: expires - now }
    }

    fn release(&mut self, now: Ticks, lease: u8, up_to: Ticks, is_foreign: bool, c: &Configuration) -> Vote {
        let vote = match self.live(now).filter(|old| old.lease == lease) {
            Some(old) if up_to < old.ballot => Vote::Newer { ballot: old.ballot },
            Some(_) => {
                self.record = None;
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
        let frees = |old: &Record| old.lease == lease && (old.attempt == Some(request) || c.breaks(Mutant::CancelByLease));
        let freed = self.live(now).is_some_and(|old| frees(&old));
        if freed {
            self.record = None;
        }
        if !(c.breaks(Mutant::NoTombstone) || freed && c.breaks(Mutant::CancelThatFreesRaisesNoFence)) {
            self.raise_fence(now, up_to, is_foreign, c);
        }
        Vote::Unheard
    }

    fn raise_fence(&mut self, now: Ticks, up_to: Ticks, is_foreign: bool, c: &Configuration) {
        let up_to = up_to.min(now + c.window);
        if !is_foreign && self.floor(now, c) < up_to {
            self.set_fence(now, up_to, c);
        }
    }

    /// The script has overwritten the fence before it looks, and puts it back for the full time.
    fn renew_fence(&mut self, now: Ticks, c: &Configuration) {
        if let Some(fence) = self.fence.filter(|fence| now <= fence.expires) {
            self.set_fence(now, fence.ballot, c);
        }
    }

    fn live(&self, now: Ticks) -> Option<Record> {
        self.record.filter(|record| now <= record.expires)
    }

    fn floor(&self, now: Ticks, c: &Configuration) -> Ticks {
        let fence = self.fence.filter(|fence| now <= fence.expires).map_or(0, |fence| fence.ballot);
        if c.breaks(Mutant::NothingIsTooOld) { fence } else { fence.max(now - c.window) }
    }

    fn set_fence(&mut self, now: Ticks, ballot: Ticks, c: &Configuration) {
        self.fence = Some(Fence { ballot, expires: now + c.fence_keep });
    }

    /// Redis expires what its clock has passed, whether or not a script looks.
    pub fn expire_keys(&mut self, now: Ticks) {
        self.record = self.live(now);
        self.fence = self.fence.filter(|fence| now <= fence.expires);
    }

    /// Forgets what can make no difference any more, so that fewer states differ. Not for a clock that may come back.
    pub fn forget_what_is_over(&mut self, now: Ticks, c: &Configuration) {
        self.expire_keys(now);
        let floor = now - c.window;
        self.fence = self.fence.filter(|fence| floor < fence.ballot || c.breaks(Mutant::NothingIsTooOld));
        self.ready_at = self.ready_at.map(|ready_at| if ready_at <= now { 0 } else { ready_at });
        self.high_water = 0;
    }
}

/// The same record, which no cancel can free.
fn firm(record: Record, c: &Configuration) -> Record {
    if c.breaks(Mutant::NothingBecomesFirm) { record } else { Record { attempt: None, ..record } }
}
