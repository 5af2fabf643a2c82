//! How many connections there can be at once.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bound. Clones share it.
#[derive(Clone)]
pub struct Places {
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    max: usize,
    taken: IntGauge,
}

/// One connection's place, until it is dropped.
pub struct Place {
    /// The bound that it is over, if it is: it is told so, and then closed.
    pub is_over: Option<usize>,
    taken: IntGauge,
    _permit: OwnedSemaphorePermit,
}

/// How many may be told at once that there is no place for them; those beyond are closed without a word.
const TURNED_AWAY: usize = 64;

impl Places {
    /// Room for `max` connections. `taken` shows how many there are, those that are turned away among them.
    pub fn new(max: usize, taken: IntGauge) -> Self {
        Self { served: Arc::new(Semaphore::new(max)), turned_away: Arc::new(Semaphore::new(TURNED_AWAY)), max, taken }
    }

    /// None if even those that are turned away are too many.
    pub fn take(&self) -> Option<Place> {
        let (is_over, permit) = match Arc::clone(&self.served).try_acquire_owned() {
            Ok(permit) => (None, permit),
            Err(_) => (Some(self.max), Arc::clone(&self.turned_away).try_acquire_owned().ok()?),
        };
        self.taken.inc();
        Some(Place { is_over, taken: self.taken.clone(), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let taken = IntGauge::new("taken", "taken").unwrap();
        let places = Places::new(1, taken.clone());
        let first = places.take();
        assert_eq!(first.as_ref().map(|place| place.is_over), Some(None));
        let away: Vec<_> = (0..TURNED_AWAY).map(|_| places.take().unwrap()).collect();
        assert!(away.iter().all(|place| place.is_over == Some(1)));
        assert!(places.take().is_none());
        assert_eq!(taken.get(), 1 + TURNED_AWAY as i64);
        drop(first);
        assert_eq!(places.take().map(|place| place.is_over), Some(None));
        drop(away);
        assert_eq!(taken.get(), 0);
    }
}
