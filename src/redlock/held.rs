//! The leases that this gateway handed out, for the metrics: nothing is decided by them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::{LeaseId, LockKey};
use crate::metrics::Metrics;

/// What was handed out and is neither released nor over, as far as this gateway knows: a lease may be released through
/// another one.
pub struct Held {
    leases: Mutex<Leases>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Leases {
    tenures: HashMap<(LockKey, LeaseId), Tenure>,
    /// When it was last looked for those that are over.
    looked: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Tenure {
    since: Instant,
    until: Instant,
}

/// How many are kept, at some 150 bytes each and their names. Those beyond are not counted.
const MAX: usize = 100_000;
/// How long to wait before all are looked at again to make room: a grant must not be slow for the sake of a gauge.
const PAUSE: Duration = Duration::from_secs(1);

impl Held {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { leases: Mutex::default(), metrics }
    }

    /// It was handed out, or once more, and lasts `until` then.
    pub fn begin(&self, key: LockKey, lease: LeaseId, until: Instant) {
        let (mut leases, now) = (self.leases(), Instant::now());
        if MAX <= leases.tenures.len() && leases.looked.is_none_or(|looked| looked + PAUSE <= now) {
            self.forget_what_is_over(&mut leases, now);
        }
        if MAX <= leases.tenures.len() {
            return;
        }
        match leases.tenures.entry((key, lease)) {
            Entry::Occupied(mut known) => known.get_mut().until = until,
            Entry::Vacant(new) => drop(new.insert(Tenure { since: now, until })),
        }
    }

    /// It lasts `until` now.
    pub fn prolong(&self, key: LockKey, lease: LeaseId, until: Instant) {
        if let Some(tenure) = self.leases().tenures.get_mut(&(key, lease)) {
            tenure.until = until;
        }
    }

    /// It was released.
    pub fn end(&self, key: LockKey, lease: LeaseId) {
        if let Some(tenure) = self.leases().tenures.remove(&(key, lease)) {
            self.ended(tenure);
        }
    }

    /// The lock was taken from whoever held it.
    pub fn end_all_of(&self, key: &LockKey) {
        self.leases().tenures.extract_if(|(of, _), _| of == key).for_each(|(_, tenure)| self.ended(tenure));
    }

    /// Counts what was given back, unless that came too late.
    fn ended(&self, tenure: Tenure) {
        if Instant::now() < tenure.until {
            self.metrics.hold_seconds.observe(tenure.since.elapsed().as_secs_f64());
        } else {
            self.metrics.leases_run_out.inc();
        }
    }

    /// Publishes how many there are.
    pub fn show(&self) {
        let mut leases = self.leases();
        self.forget_what_is_over(&mut leases, Instant::now());
        self.metrics.leases_held.set(leases.tenures.len() as i64);
    }

    fn forget_what_is_over(&self, leases: &mut Leases, now: Instant) {
        let before = leases.tenures.len();
        leases.tenures.retain(|_, tenure| now < tenure.until);
        leases.looked = Some(now);
        self.metrics.leases_run_out.inc_by((before - leases.tenures.len()) as u64);
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().expect("no code panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_held_until_it_is_released_or_over() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let held = Held::new(Arc::clone(&metrics));
        let lease = |n: u8| (LockKey::new(&n.to_string()).unwrap(), LeaseId::from_random([n; LeaseId::RANDOM]));
        let in_seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
        for n in 0..3 {
            held.begin(lease(n).0, lease(n).1, in_seconds(10));
        }
        advance(Duration::from_secs(4)).await;
        held.prolong(lease(1).0, lease(1).1, in_seconds(10));
        held.end(lease(2).0, lease(2).1);
        held.end(lease(2).0, lease(2).1);
        held.show();
        assert_eq!((metrics.leases_held.get(), metrics.leases_run_out.get()), (2, 0));
        assert_eq!((metrics.hold_seconds.get_sample_count(), metrics.hold_seconds.get_sample_sum()), (1, 4.0));
        advance(Duration::from_secs(6)).await;
        // Given back too late, before anybody noticed.
        held.end(lease(0).0, lease(0).1);
        held.show();
        assert_eq!((metrics.leases_held.get(), metrics.leases_run_out.get()), (1, 1));
        assert_eq!(metrics.hold_seconds.get_sample_count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_held_a_lock_that_was_taken_holds_it_no_more() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let held = Held::new(Arc::clone(&metrics));
        let [taken, other] = ["taken", "other"].map(|name| LockKey::new(name).unwrap());
        for key in [&taken, &other] {
            held.begin(key.clone(), LeaseId::from_random([0; LeaseId::RANDOM]), Instant::now() + Duration::from_secs(10));
        }
        held.end_all_of(&taken);
        held.show();
        assert_eq!((metrics.leases_held.get(), metrics.hold_seconds.get_sample_count()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_on_what_is_kept() {
        let held = Held::new(Arc::new(Metrics::new().unwrap()));
        let key = LockKey::new("a").unwrap();
        let lease = |n: usize| LeaseId::new(&format!("{n:022}")).unwrap();
        for n in 0..=MAX {
            held.begin(key.clone(), lease(n), Instant::now() + Duration::from_secs(1));
        }
        assert_eq!(held.leases().tenures.len(), MAX);
        advance(Duration::from_secs(1)).await;
        held.begin(key, lease(0), Instant::now() + Duration::from_secs(1));
        assert_eq!(held.leases().tenures.len(), 1);
    }
}
