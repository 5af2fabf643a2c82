//! Who waits for which lock in this gateway: first come, first served, and only the first one contends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::turns::Turns;
use crate::lease::{Holder, LockKey};
use crate::metrics::Metrics;

/// The lines of waiters, one for each lock for which somebody waits.
pub struct Waiters {
    lines: Mutex<Lines>,
    bounds: WaitBounds,
    metrics: Arc<Metrics>,
}

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub struct WaitBounds {
    pub per_lock: usize,
    pub in_all: usize,
}

/// Why nobody may wait, or go on to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// As many wait for this lock as may.
    #[error("{max} wait for this lock")]
    LineIsFull { max: usize },
    /// As many wait for any lock as may.
    #[error("{max} wait in all")]
    AllAreFull { max: usize },
    /// The gateway is shutting down.
    #[error("nobody may wait any more")]
    Closed,
}

#[derive(Default)]
struct Lines {
    by_lock: HashMap<LockKey, Line>,
    turns: Turns,
    waiting: usize,
    is_closed: bool,
}

/// Those who wait for one lock.
struct Line {
    /// Each is woken when something changes for it.
    places: VecDeque<Arc<Notify>>,
    /// When the lock may be free.
    try_at: Instant,
    /// Who held it when it was tried, and when that was.
    holder: Option<(Holder, Instant)>,
    /// How often somebody in the line has got it, alone.
    won: u64,
    /// How often it was said to be free.
    freed: u64,
    /// When other gateways were last to be told that somebody waits here.
    told: Option<Instant>,
}

/// How often other gateways are told, for as long as somebody waits.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(2);

/// A place in a line, which is left when this is dropped.
pub struct Place {
    waiters: Arc<Waiters>,
    key: LockKey,
    wake: Arc<Notify>,
    wants_it_alone: bool,
}

/// Somebody who wants no lock, but word of one, counted among all who wait for as long as this lives.
pub struct Bystander(Arc<Waiters>);

/// What somebody in a line is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the first, and the lock may be free. With how often it was said to be.
    Try { freed: u64 },
    /// Until something changes, or this moment comes.
    Wait { until: Option<Instant> },
}

impl Waiters {
    pub fn new(bounds: WaitBounds, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::default(), bounds, metrics })
    }

    /// The last place in the line for `key`, for one who wants it alone or would share it.
    pub fn join(self: &Arc<Self>, key: &LockKey, wants_it_alone: bool) -> Result<Place, NoPlace> {
        let per_lock = self.bounds.per_lock;
        let mut lines = self.lines();
        self.has_room(&lines)?;
        let wake = Arc::new(Notify::new());
        if !lines.add(key, &wake, per_lock) {
            return Err(NoPlace::LineIsFull { max: per_lock });
        }
        self.enter(&mut lines);
        Ok(Place { waiters: Arc::clone(self), key: key.clone(), wake, wants_it_alone })
    }

    /// Room for one who waits in no line.
    pub fn stand_by(self: &Arc<Self>) -> Result<Bystander, NoPlace> {
        let mut lines = self.lines();
        self.has_room(&lines)?;
        self.enter(&mut lines);
        Ok(Bystander(Arc::clone(self)))
    }

    fn has_room(&self, lines: &Lines) -> Result<(), NoPlace> {
        match self.bounds.in_all {
            _ if lines.is_closed => Err(NoPlace::Closed),
            max if max <= lines.waiting => Err(NoPlace::AllAreFull { max }),
            _ => Ok(()),
        }
    }

    fn enter(&self, lines: &mut Lines) {
        lines.waiting += 1;
        self.metrics.waiting.inc();
    }

    fn leave(&self, lines: &mut Lines) {
        lines.waiting -= 1;
        self.metrics.waiting.dec();
    }

    /// The lock may be free now: whoever is the first in its line is to try. How often the line has won the lock so far.
    pub fn freed(&self, key: &LockKey) -> u64 {
        let mut lines = self.lines();
        let Some(line) = lines.by_lock.get_mut(key) else { return 0 };
        line.free();
        line.won
    }

    /// The same, unless the line has won the lock since [`freed`](Waiters::freed) answered `won`.
    pub fn freed_since(&self, key: &LockKey, won: u64) {
        if let Some(line) = self.lines().by_lock.get_mut(key).filter(|line| line.won == won) {
            line.free();
        }
    }

    /// Whether those who wait here have had the lock for as long as they may if others want it, or have left it to them a moment ago.
    pub fn has_had_its_turn(&self, key: &LockKey) -> bool {
        self.lines().turns.is_over(key)
    }

    /// The lock is free, and nobody here is to try it for a moment: it is the others' turn.
    pub fn leave_to_others(&self, key: &LockKey) {
        let mut lines = self.lines();
        let left_until = lines.turns.leave(key);
        if let Some(line) = lines.by_lock.get_mut(key) {
            line.holder = None;
            line.freed += 1;
            line.try_at = left_until;
            line.tell_first();
        }
    }

    /// The lock may be free, says another gateway, which believes that nobody waits here any more.
    pub fn freed_elsewhere(&self, key: &LockKey) {
        if let Some(line) = self.lines().by_lock.get_mut(key) {
            line.told = None;
            line.free();
        }
    }

    /// Whether anybody waits for the lock.
    pub fn any_for(&self, key: &LockKey) -> bool {
        self.lines().by_lock.contains_key(key)
    }

    /// Sends everybody away, for good.
    pub fn close(&self) {
        let mut lines = self.lines();
        lines.is_closed = true;
        lines.by_lock.values().flat_map(|line| &line.places).for_each(|wake| wake.notify_one());
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lines().waiting
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("no code panics while it holds this")
    }
}

impl Lines {
    /// At the end of the line, unless that is full. Whether it is there.
    fn add(&mut self, key: &LockKey, wake: &Arc<Notify>, per_lock: usize) -> bool {
        let line = self.by_lock.entry(key.clone()).or_insert_with(|| Line {
            places: VecDeque::new(),
            try_at: self.turns.left_until(key).unwrap_or_else(Instant::now),
            holder: None,
            won: 0,
            freed: 0,
            told: None,
        });
        let has_room = line.places.len() < per_lock;
        if has_room {
            line.places.push_back(Arc::clone(wake));
        }
        has_room
    }

    fn remove(&mut self, key: &LockKey, wake: &Arc<Notify>, wanted_it_alone: bool) {
        let line = self.by_lock.get_mut(key).expect("a line is there as long as anybody is in it");
        let at = line.places.iter().position(|other| Arc::ptr_eq(other, wake)).expect("a place is in the line until it is removed");
        line.places.remove(at);
        if at == 0 {
            // Where some share the lock the next may be let in where this one was not.
            if wanted_it_alone && line.holder.as_ref().is_some_and(|(holder, _)| holder.is_shared) {
                line.try_at = Instant::now();
            }
            line.tell_first();
        }
        if line.places.is_empty() {
            self.by_lock.remove(key);
        }
    }
}

impl Line {
    fn see(&mut self, holder: Option<Holder>) {
        self.holder = holder.map(|holder| (holder, Instant::now()));
    }

    fn free(&mut self) {
        self.freed += 1;
        self.try_at = Instant::now();
        self.tell_first();
    }

    fn tell_first(&self) {
        if let Some(first) = self.places.front() {
            first.notify_one();
        }
    }
}

impl Place {
    pub fn step(&self) -> Result<Step, NoPlace> {
        let mut lines = self.waiters.lines();
        if lines.is_closed {
            return Err(NoPlace::Closed);
        }
        Ok(self.in_line(&mut lines, |line| match line.places.front() {
            Some(first) if Arc::ptr_eq(first, &self.wake) => {
                if line.try_at <= Instant::now() {
                    Step::Try { freed: line.freed }
                } else {
                    Step::Wait { until: Some(line.try_at) }
                }
            }
            _ => Step::Wait { until: None },
        }))
    }

    /// Returns when a [`step`](Place::step) may be another. What changed before this was called counts.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The lock was tried and is held. It is to be tried again after `pause`, or when it is freed; at once if
    /// it was since the [`step`](Place::step) that said `freed`, since nobody knows which came first on the nodes. True if
    /// other gateways are to be told now that somebody waits.
    pub fn lost(&self, holder: Option<Holder>, freed: u64, pause: Duration) -> bool {
        let mut lines = self.waiters.lines();
        if let Some(holder) = &holder {
            lines.turns.see(&self.key, holder);
        }
        self.in_line(&mut lines, |line| {
            line.see(holder);
            let now = Instant::now();
            if line.freed == freed {
                line.try_at = now + pause;
            }
            let is_due = line.told.is_none_or(|told| TELL_EVERY <= now - told);
            if is_due {
                line.told = Some(now);
            }
            is_due
        })
    }

    /// The lock is ours, as `holder` describes: the next is to try after `pause`, or when it is freed. Where it is shared the
    /// next may get it as well, and what was freed before is free for it still.
    pub fn won(&self, holder: Holder, pause: Duration) {
        let mut lines = self.waiters.lines();
        lines.turns.begin(&self.key, holder.ballot);
        self.in_line(&mut lines, |line| {
            line.won += u64::from(!holder.is_shared);
            line.try_at = Instant::now() + pause;
            line.see(Some(holder));
        });
    }

    /// Who held the lock when it was last tried, with the time that is left of that lease.
    pub fn holder(&self) -> Option<Holder> {
        self.in_line(&mut self.waiters.lines(), |line| {
            let (holder, seen) = line.holder.clone()?;
            let left = holder.left.map(|left| left.saturating_sub(seen.elapsed()));
            Some(Holder { left, ..holder }).filter(|_| left != Some(Duration::ZERO))
        })
    }

    /// The first in its line was refused for another lock of its set, which `holder` has: to the end of the line of that one.
    /// If that is full, to the end of its own, whose next is to try after `pause`. Whether it has moved. It waits all the
    /// while, so no other bound counts.
    pub fn move_to(&mut self, key: &LockKey, holder: &Holder, pause: Duration) -> bool {
        let waiters = Arc::clone(&self.waiters);
        let mut lines = waiters.lines();
        let has_moved = lines.add(key, &self.wake, waiters.bounds.per_lock);
        if has_moved {
            lines.remove(&self.key, &self.wake, self.wants_it_alone);
            self.key = key.clone();
            lines.turns.see(key, holder);
            self.in_line(&mut lines, |line| line.see(Some(holder.clone())));
        } else {
            self.in_line(&mut lines, |line| {
                line.places.rotate_left(1);
                line.try_at = Instant::now() + pause;
                line.tell_first();
            });
        }
        has_moved
    }

    fn in_line<T>(&self, lines: &mut Lines, look: impl FnOnce(&mut Line) -> T) -> T {
        look(lines.by_lock.get_mut(&self.key).expect("a line is there as long as anybody is in it"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.waiters.lines();
        self.waiters.leave(&mut lines);
        lines.remove(&self.key, &self.wake, self.wants_it_alone);
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.leave(&mut self.0.lines());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::super::turns::{LEFT_TO_OTHERS, TURN};
    use super::*;
    use crate::lease::Ballot;

    const SECOND: Duration = Duration::from_secs(1);

    fn waiters() -> Arc<Waiters> {
        Waiters::new(WaitBounds { per_lock: 3, in_all: 4 }, Arc::new(Metrics::new().unwrap()))
    }

    fn key(name: &str) -> LockKey {
        LockKey::new(name).unwrap()
    }

    fn is_told(place: &Place) -> bool {
        place.changed().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_tries_and_the_next_is_told_when_it_leaves() {
        let waiters = waiters();
        let [first, second, third] = [(); 3].map(|()| waiters.join(&key("a"), true).unwrap());
        assert_eq!([&first, &second].map(|place| place.step()), [Ok(Step::Try { freed: 0 }), Ok(Step::Wait { until: None })]);
        drop(second);
        assert!(!is_told(&third));
        drop(first);
        assert!(is_told(&third));
        assert_eq!(third.step(), Ok(Step::Try { freed: 0 }));
        drop(third);
        assert!(waiters.lines().by_lock.is_empty());
        assert_eq!(waiters.metrics.waiting.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_first_learned_holds_for_the_next_until_the_lock_is_freed() {
        let waiters = waiters();
        let [first, second] = [(); 2].map(|()| waiters.join(&key("a"), true).unwrap());
        let now = Instant::now();
        first.won(Holder { left: Some(10 * SECOND), ..Holder::default() }, 10 * SECOND);
        drop(first);
        assert!(is_told(&second));
        assert_eq!(second.step(), Ok(Step::Wait { until: Some(now + 10 * SECOND) }));
        advance(4 * SECOND).await;
        assert_eq!(second.holder().unwrap().left, Some(6 * SECOND));
        waiters.freed(&key("b"));
        assert!(!is_told(&second));
        // Said by a release that began before the first one won.
        waiters.freed_since(&key("a"), 0);
        assert!(!is_told(&second));
        waiters.freed_since(&key("a"), 1);
        assert!(is_told(&second));
        assert_eq!(second.step(), Ok(Step::Try { freed: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn where_some_share_the_lock_the_next_is_to_try_at_once() {
        let waiters = waiters();
        let [first, second, third] = [(); 3].map(|()| waiters.join(&key("a"), true).unwrap());
        let shared = || Holder { is_shared: true, left: Some(10 * SECOND), ..Holder::default() };
        first.lost(Some(shared()), 0, SECOND);
        // It gives up, and may have wanted the lock alone.
        drop(first);
        assert_eq!(second.step(), Ok(Step::Try { freed: 0 }));
        assert_eq!(waiters.freed(&key("a")), 0);
        second.won(shared(), Duration::ZERO);
        drop(second);
        assert_eq!(third.step(), Ok(Step::Try { freed: 1 }));
        let reader = waiters.join(&key("b"), false).unwrap();
        reader.lost(Some(shared()), 0, SECOND);
        // What it was refused for another who would share it is refused as well.
        let next = waiters.join(&key("b"), false).unwrap();
        drop(reader);
        assert_eq!(next.step(), Ok(Step::Wait { until: Some(Instant::now() + SECOND) }));
        third.lost(Some(shared()), 1, SECOND);
        // The release that was told above is complete, and what it freed nobody has got.
        waiters.freed_since(&key("a"), 0);
        assert_eq!(third.step(), Ok(Step::Try { freed: 2 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_has_had_its_turn_leaves_the_lock_to_others_for_a_moment() {
        let waiters = waiters();
        let [first, second] = [(); 2].map(|()| waiters.join(&key("a"), true).unwrap());
        first.won(Holder::default(), SECOND);
        drop(first);
        advance(TURN).await;
        assert!(waiters.has_had_its_turn(&key("a")));
        waiters.leave_to_others(&key("a"));
        let until = Some(Instant::now() + LEFT_TO_OTHERS);
        assert_eq!(second.step(), Ok(Step::Wait { until }));
        // Nor does one try who comes to a new line.
        drop(second);
        let third = waiters.join(&key("a"), true).unwrap();
        assert_eq!(third.step(), Ok(Step::Wait { until }));
        advance(LEFT_TO_OTHERS).await;
        third.won(Holder::default(), SECOND);
        advance(TURN).await;
        assert!(waiters.has_had_its_turn(&key("a")));
        // Somebody else was there in between.
        third.lost(Some(Holder { ballot: Some(Ballot::from_micros(7)), ..Holder::default() }), 1, SECOND);
        assert!(!waiters.has_had_its_turn(&key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_freed_while_it_is_tried_is_tried_again() {
        let waiters = waiters();
        let place = waiters.join(&key("a"), true).unwrap();
        assert_eq!(place.step(), Ok(Step::Try { freed: 0 }));
        assert_eq!(waiters.freed(&key("a")), 0);
        assert!(place.lost(None, 0, SECOND));
        assert_eq!(place.step(), Ok(Step::Try { freed: 1 }));
        assert!(!place.lost(None, 1, SECOND));
        assert_eq!(place.step(), Ok(Step::Wait { until: Some(Instant::now() + SECOND) }));
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_told_of_a_line_now_and_then_and_after_they_said_that_the_lock_is_free() {
        let waiters = waiters();
        let place = waiters.join(&key("a"), true).unwrap();
        let is_told = || place.lost(None, 0, SECOND);
        assert_eq!([is_told(), is_told()], [true, false]);
        advance(TELL_EVERY).await;
        assert_eq!([is_told(), is_told()], [true, false]);
        waiters.freed(&key("a"));
        assert!(!is_told());
        waiters.freed_elsewhere(&key("a"));
        assert!(is_told());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_the_line_of_another_lock_full_lets_the_next_in_its_own_try() {
        let waiters = Waiters::new(WaitBounds { per_lock: 2, in_all: 4 }, Arc::new(Metrics::new().unwrap()));
        let mut set = waiters.join(&key("a"), true).unwrap();
        let [next, _first, _second] = ["a", "b", "b"].map(|lock| waiters.join(&key(lock), true).unwrap());
        let holder = Holder { ballot: None, owner: None, left: Some(SECOND), is_shared: false, member: Some(1) };
        assert!(!set.move_to(&key("b"), &holder, SECOND));
        assert_eq!((set.step(), next.step()), (Ok(Step::Wait { until: None }), Ok(Step::Wait { until: Some(Instant::now() + SECOND) })));
        assert!(is_told(&next));
        // It is another lock that this one has.
        assert_eq!(next.holder(), None);
        advance(SECOND).await;
        assert_eq!(next.step(), Ok(Step::Try { freed: 0 }));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_on_each_line_and_on_all_and_an_end() {
        let waiters = waiters();
        let places: Vec<_> = (0..3).map(|_| waiters.join(&key("a"), true).unwrap()).collect();
        assert_eq!(waiters.join(&key("a"), true).err(), Some(NoPlace::LineIsFull { max: 3 }));
        let mut other = waiters.join(&key("b"), true).unwrap();
        assert_eq!(waiters.join(&key("c"), true).err(), Some(NoPlace::AllAreFull { max: 4 }));
        // Whoever waits already has a place wherever there is room.
        let holder = Holder { ballot: None, owner: None, left: Some(SECOND), is_shared: false, member: Some(0) };
        assert!(!other.move_to(&key("a"), &holder, Duration::ZERO) && other.move_to(&key("c"), &holder, SECOND));
        assert_eq!(other.holder(), Some(holder));
        assert_eq!((other.step(), waiters.count(), waiters.any_for(&key("b"))), (Ok(Step::Try { freed: 0 }), 4, false));
        drop(other);
        assert!(waiters.join(&key("c"), true).is_ok());
        waiters.close();
        assert!(places.iter().all(|place| is_told(place) && place.step() == Err(NoPlace::Closed)));
        assert_eq!(waiters.join(&key("c"), true).err(), Some(NoPlace::Closed));
    }
}
