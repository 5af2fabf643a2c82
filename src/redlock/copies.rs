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
use crate::lease::{LeaseId, LockKey};

/// Long beside a critical section that only touches memory or a database.
const SHORTEST_DELAY: Duration = Duration::from_millis(10);
/// Short beside every ttl, which is 100 ms at least.
const LONGEST_DELAY: Duration = Duration::from_millis(40);
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
}

#[derive(Default)]
struct Waiting {
    by_lease: HashMap<Lease, Arc<Flight>>,
    /// In the order in which they become due; those that were recalled are still among them.
    due: VecDeque<(Instant, Arc<Flight>)>,
}

impl Copies {
    pub fn start() -> Arc<Self> {
        let copies = Arc::new(Self { waiting: Mutex::default(), work: Notify::new() });
        tokio::spawn(Arc::clone(&copies).send_what_is_due());
        copies
    }

    /// Takes a grant, unless there is no room: then its copies are to be sent at once.
    ///
    /// Where acquires take long (`usual`) releases do, too, and are waited for longer.
    pub fn add(&self, flight: &Arc<Flight>, usual: Duration) -> bool {
        let mut waiting = self.waiting();
        if MAX_WAITING <= waiting.due.len() {
            return false;
        }
        waiting.by_lease.insert(flight.lease(), Arc::clone(flight));
        waiting.due.push_back((Instant::now() + (3 * usual).clamp(SHORTEST_DELAY, LONGEST_DELAY), Arc::clone(flight)));
        if waiting.due.len() == 1 {
            self.work.notify_one();
        }
        true
    }

    /// The grant of this lease if its copies have not been sent. From now on only the caller can send them.
    pub fn recall(&self, key: &LockKey, lease: &LeaseId) -> Option<Arc<Flight>> {
        self.waiting().by_lease.remove(&(key.clone(), lease.clone()))
    }

    pub fn is_empty(&self) -> bool {
        self.waiting().by_lease.is_empty()
    }

    async fn send_what_is_due(self: Arc<Self>) {
        loop {
            let first = self.waiting().due.front().map(|(due, _)| *due);
            match first {
                Some(due) => sleep_until(due.max(Instant::now() + TICK)).await,
                None => self.work.notified().await,
            }
            while let Some(flight) = self.next_due() {
                flight.copy();
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
            if waiting.by_lease.get(&lease).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
                waiting.by_lease.remove(&lease);
                return Some(flight);
            }
        }
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no code panics while it holds this")
    }
}
