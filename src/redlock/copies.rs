//! The copies of fresh leases that the rest of the nodes lack.
//!
//! A majority is a grant. The other nodes are told a moment later, so that the lease outlives the loss of some of the
//! first; a lease that was given back by then never costs them anything.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::flight::Flight;
use crate::lease::{Ballot, LeaseId, LockKey};

/// Long beside a critical section that only touches memory or a database.
const SHORTEST_DELAY: Duration = Duration::from_millis(10);
/// Short beside every ttl, which is 100 ms at least.
const LONGEST_DELAY: Duration = Duration::from_millis(40);
/// A ballot grows too old for a node when it is as old as the window; this share of it leaves clocks their error.
const SHARE_OF_WINDOW: u32 = 4;
/// Those that are due within it go out together.
const TICK: Duration = Duration::from_millis(2);
/// How many may wait: at 100 000 grants a second.
const MAX_WAITING: usize = 4096;

type Lease = (LockKey, LeaseId);

/// Grants whose copies have yet to be sent.
pub struct Copies {
    waiting: Mutex<Waiting>,
    /// The first one waits.
    work: Notify,
    window: Duration,
}

#[derive(Default)]
struct Waiting {
    /// With the ballot of the grant.
    by_lease: HashMap<Lease, (Ballot, Arc<Flight>)>,
    /// In the order in which they came; those that were recalled are still among them.
    due: VecDeque<(Instant, Arc<Flight>)>,
    /// What was due is being sent.
    is_sending: bool,
}

impl Copies {
    pub fn start(window: Duration) -> Arc<Self> {
        let copies = Arc::new(Self { waiting: Mutex::default(), work: Notify::new(), window });
        tokio::spawn(Arc::clone(&copies).send_what_is_due());
        copies
    }

    /// Takes a grant, unless there is no room: then its copies are to be sent at once.
    ///
    /// Where acquires take long (`usual`) releases do, too, and are waited for longer.
    pub fn add(&self, flight: &Arc<Flight>, ballot: Ballot, usual: Duration) -> bool {
        let delay = (3 * usual).clamp(SHORTEST_DELAY, LONGEST_DELAY).min(self.window / SHARE_OF_WINDOW);
        let mut waiting = self.waiting();
        if MAX_WAITING <= waiting.due.len() {
            // An earlier grant of this lease is not what a release would have to know of.
            waiting.by_lease.remove(&flight.lease());
            return false;
        }
        waiting.by_lease.insert(flight.lease(), (ballot, Arc::clone(flight)));
        waiting.due.push_back((Instant::now() + delay, Arc::clone(flight)));
        if waiting.due.len() == 1 {
            self.work.notify_one();
        }
        true
    }

    /// The grant of this lease, up to that ballot, if its copies have not been sent. From now on only the caller can send them.
    pub fn recall(&self, key: &LockKey, lease: &LeaseId, up_to: Ballot) -> Option<Arc<Flight>> {
        let (mut waiting, lease) = (self.waiting(), (key.clone(), lease.clone()));
        waiting.by_lease.get(&lease).filter(|(ballot, _)| *ballot <= up_to)?;
        waiting.by_lease.remove(&lease).map(|(_, flight)| flight)
    }

    /// Sends all that wait, due or not: what is sent to a node after this finds them there.
    pub fn send_all(&self) {
        let waiting: Vec<_> = self.waiting().by_lease.drain().map(|(_, (_, flight))| flight).collect();
        waiting.iter().for_each(|flight| flight.copy(Duration::ZERO));
    }

    pub fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.by_lease.is_empty() && !waiting.is_sending
    }

    async fn send_what_is_due(self: Arc<Self>) {
        loop {
            let first = self.waiting().due.front().map(|(due, _)| *due);
            match first {
                Some(due) => sleep_until(due.max(Instant::now() + TICK)).await,
                None => self.work.notified().await,
            }
            while let Some(flight) = self.next_due() {
                flight.copy(Duration::ZERO);
            }
        }
    }

    /// The next one that is due and was not recalled.
    fn next_due(&self) -> Option<Arc<Flight>> {
        let mut waiting = self.waiting();
        let now = Instant::now();
        while waiting.due.front().is_some_and(|(due, _)| *due <= now) {
            let (_, flight) = waiting.due.pop_front()?;
            let lease = flight.lease();
            // A lease id that was used again belongs to another flight.
            if waiting.by_lease.get(&lease).is_some_and(|(_, current)| Arc::ptr_eq(current, &flight)) {
                waiting.by_lease.remove(&lease);
                waiting.is_sending = true;
                return Some(flight);
            }
        }
        waiting.is_sending = false;
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no code panics while it holds this")
    }
}
