//! The other gateways on the same nodes: who waits there for a lock that is held here, or watches it, and word for them.
//!
//! Hints only. One that is lost costs a waiter the time until it tries by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::waiters::Waiters;
use super::watchers::Watchers;
use crate::lease::LockKey;
use crate::metrics::Metrics;
use crate::node::{NodeQueue, Said, Word};

/// What this gateway says to the others and knows of them.
pub struct Neighbours {
    /// How it is told apart from the others.
    own: u64,
    /// How much it has said. Locked while something is said, so that words are queued in the order of their numbers.
    said: Mutex<u64>,
    /// A way out through each node.
    ways: Box<[Sender<Said>]>,
    awaited: Wanted,
    watched: Wanted,
    metrics: Arc<Metrics>,
}

/// Locks that somebody in another gateway wants word of, each until when that is believed.
#[derive(Default)]
struct Wanted {
    until: Mutex<HashMap<LockKey, Instant>>,
    /// How many there are: this is looked at first.
    count: AtomicUsize,
}

/// How many hints may wait for a node, and how many that were heard for being dealt with.
const MAX_WAITING: usize = 1024;
/// A gateway says every two seconds what it wants word of, so this outlives two words that were lost.
const BELIEVED: Duration = Duration::from_secs(6);
/// How many locks of others are remembered; for more there is no word when they are freed.
const MAX_LOCKS: usize = 100_000;
/// How many gateways are told apart.
const MAX_GATEWAYS: usize = 1000;
/// Before a node through which nothing could be said is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A way that was open for so long had worked.
const WORKED: Duration = Duration::from_secs(10);

impl Neighbours {
    /// Listens through every node, and tells `waiters` of locks that were freed and `watchers` of what happened.
    pub fn start(queues: &[Arc<NodeQueue>], waiters: Arc<Waiters>, watchers: Arc<Watchers>, metrics: Arc<Metrics>) -> Arc<Self> {
        let (heard, hears) = mpsc::channel(MAX_WAITING);
        let way = |queue: &Arc<NodeQueue>| {
            let (way, to_say) = mpsc::channel(MAX_WAITING);
            tokio::spawn(keep_talking(Arc::clone(queue), to_say, heard.clone()));
            way
        };
        let ways = queues.iter().map(way).collect();
        let (own, said) = (rand::random(), Mutex::default());
        let neighbours = Arc::new(Self { own, said, ways, awaited: Wanted::default(), watched: Wanted::default(), metrics });
        tokio::spawn(Arc::clone(&neighbours).listen(hears, waiters, watchers));
        neighbours
    }

    /// Somebody waits here for a lock that is held.
    pub fn tell_awaited(&self, key: &LockKey) {
        self.say(Word::Awaited(key.clone()));
    }

    /// Whether somebody waits for it in another gateway, as far as is known.
    pub fn await_too(&self, key: &LockKey) -> bool {
        self.awaited.has(key)
    }

    /// A lock was released, and nobody here takes it at once.
    pub fn tell_freed(&self, key: &LockKey) {
        if self.awaited.take(key) {
            self.say(Word::Freed(key.clone()));
        }
    }

    /// Somebody watches a lock here.
    pub fn tell_watched(&self, key: &LockKey) {
        self.say(Word::Watched(key.clone()));
    }

    /// A lock was acquired, extended or released here.
    pub fn tell_changed(&self, key: &LockKey) {
        if self.watched.has(key) {
            self.say(Word::Changed(key.clone()));
        }
    }

    /// Through all nodes, so that it arrives if there is one that both can reach.
    fn say(&self, word: Word) {
        let mut nth = self.said.lock().expect("no code panics while it holds this");
        *nth += 1;
        let said = Said { by: self.own, nth: *nth, word };
        for way in &self.ways {
            // A node that is away keeps none from the others.
            let _ = way.try_send(said.clone());
        }
        self.metrics.words_said.inc();
    }

    async fn listen(self: Arc<Self>, mut hears: Receiver<Said>, waiters: Arc<Waiters>, watchers: Arc<Watchers>) {
        let mut gateways: HashMap<u64, Heard> = HashMap::new();
        while let Some(Said { by, nth, word }) = hears.recv().await {
            if MAX_GATEWAYS <= gateways.len() && !gateways.contains_key(&by) {
                gateways.clear();
            }
            if by == self.own || !gateways.entry(by).or_default().is_news(nth) {
                continue;
            }
            self.metrics.words_heard.inc();
            match word {
                Word::Awaited(key) => self.awaited.add(key),
                Word::Watched(key) => self.watched.add(key),
                Word::Freed(key) => waiters.freed_elsewhere(&key),
                Word::Changed(key) => watchers.changed(&key),
            }
        }
    }
}

/// What was heard of a gateway, which comes through every node, from one sooner than from another.
#[derive(Default)]
struct Heard {
    last: u64,
    /// Which of the 64 up to the last were heard, the last in the lowest bit.
    recent: u64,
}

impl Heard {
    /// Whether it is heard for the first time. What is far behind is not.
    fn is_news(&mut self, nth: u64) -> bool {
        if self.last < nth {
            self.recent = u32::try_from(nth - self.last).ok().and_then(|by| self.recent.checked_shl(by)).unwrap_or(0);
            self.last = nth;
        }
        let bit = u32::try_from(self.last - nth).ok().and_then(|by| 1_u64.checked_shl(by)).unwrap_or(0);
        let is_news = self.recent & bit == 0 && bit != 0;
        self.recent |= bit;
        is_news
    }
}

impl Wanted {
    fn add(&self, key: LockKey) {
        let now = Instant::now();
        let mut until = self.until.lock().expect("no code panics while it holds this");
        if MAX_LOCKS <= until.len() {
            until.retain(|_, until| now < *until);
        }
        if until.len() < MAX_LOCKS {
            until.insert(key, now + BELIEVED);
        }
        self.count.store(until.len(), Ordering::Relaxed);
    }

    /// Whether somebody wants word of it.
    fn has(&self, key: &LockKey) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut until = self.until.lock().expect("no code panics while it holds this");
        let has = until.get(key).is_some_and(|until| Instant::now() < *until);
        if !has && until.remove(key).is_some() {
            self.count.store(until.len(), Ordering::Relaxed);
        }
        has
    }

    /// Whether somebody waits for it. Whoever still does after this says so again.
    fn take(&self, key: &LockKey) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut until = self.until.lock().expect("no code panics while it holds this");
        let found = until.remove(key).is_some_and(|until| Instant::now() < until);
        self.count.store(until.len(), Ordering::Relaxed);
        found
    }
}

/// Talks through a node for as long as there is a gateway.
async fn keep_talking(queue: Arc<NodeQueue>, mut to_say: Receiver<Said>, heard: Sender<Said>) {
    let mut is_news = true;
    loop {
        let begun = Instant::now();
        let fault = queue.node().converse(&mut to_say, &heard).await;
        // Where it works for a moment only it is told once.
        is_news |= WORKED <= begun.elapsed();
        if std::mem::take(&mut is_news) {
            warn!(node = %queue.name(), "waiters in other gateways can't be told of releases through this node, and learn of them later: {fault}");
        }
        sleep(RETRY).await;
        // What was to be said meanwhile is old news.
        while to_say.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn key(name: &str) -> LockKey {
        LockKey::new(name).unwrap()
    }

    #[test]
    fn a_word_is_news_once_in_whatever_order_it_comes() {
        let mut heard = Heard::default();
        let news = [1, 1, 3, 2, 3, 2, 100, 99, 37, 36, 1].map(|nth| heard.is_news(nth));
        assert_eq!(news, [true, false, true, true, false, false, true, true, true, false, false]);
        assert!(Heard::default().is_news(u64::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_is_believed_to_wait_for_a_while_and_told_once() {
        let awaited = Wanted::default();
        assert!(!awaited.take(&key("a")) && !awaited.has(&key("a")));
        awaited.add(key("a"));
        awaited.add(key("b"));
        assert_eq!([awaited.has(&key("a")), awaited.has(&key("a"))], [true, true]);
        assert_eq!([awaited.take(&key("a")), awaited.take(&key("a"))], [true, false]);
        advance(BELIEVED).await;
        assert!(!awaited.has(&key("b")) && !awaited.take(&key("b")));
        assert_eq!(awaited.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_and_what_is_over_makes_room() {
        let awaited = Wanted::default();
        (0..=MAX_LOCKS).for_each(|n| awaited.add(key(&n.to_string())));
        assert!(awaited.take(&key("0")) && !awaited.take(&key(&MAX_LOCKS.to_string())));
        advance(BELIEVED).await;
        (0..2).for_each(|n| awaited.add(key(&n.to_string())));
        assert!(awaited.take(&key("1")));
    }
}
